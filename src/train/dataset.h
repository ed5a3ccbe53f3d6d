/* dataset.h -- the bytes to learn from: data sources, each of many
 * documents.
 *
 * A data source is one operand of the command: a file, all files below a
 * folder, or standard input.  Its documents follow each other in the order of
 * their names, with a NUL after each that lacks one; a document may hold
 * several that are separated by NULs already.  Large files are mapped, small
 * ones read.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DATASET_H
#define MAMBYTE_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file_place.h"
#include "base/status.h"

struct document {
    uint8_t *bytes; /* [n] */
    size_t n;
    bool is_mapped; /* else allocated */
    uint64_t begin; /* in the source */
};

struct data_source {
    char *name;    /* the operand without its weight */
    double weight; /* of the operand; 0 when it has none */
    struct document *documents;
    size_t n_documents, room;
    uint64_t n_bytes; /* with a NUL after each document that lacks one */
};

struct dataset {
    struct data_source *sources; /* [n] */
    int n;
};

/* operands: PATH or PATH=WEIGHT; "-" is standard input.  own: the files of the
 * run itself; an operand that is one of them is refused.  In folders these are
 * left out, and so are names that begin with a dot and links to folders.  On
 * failure the dataset is empty. */
enum status dataset_open(struct dataset *dataset, const char *const *operands,
                         int n, const struct file_places *own);
void dataset_close(struct dataset *dataset);

/* Cuts the weight off an operand, unless all of it is the name of a file: 0. */
enum status dataset_parse_weight(char *operand, double *weight);

/* The n bytes of a source from position on; position + n <= n_bytes. */
void data_source_read(const struct data_source *source, uint64_t position,
                      uint8_t *bytes, size_t n);

/* A hash of the sizes and of samples of the bytes, but not of the weights: it
 * changes when the data do; with has_names, also when their names do. */
uint64_t dataset_fingerprint(const struct dataset *dataset, bool has_names);

#endif
