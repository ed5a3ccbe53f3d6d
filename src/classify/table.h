/* table.h -- what a classifier is given of labelled records.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TABLE_H
#define MAMBYTE_TABLE_H

#include <stddef.h>

#include "base/status.h"
#include "classify/examples.h"
#include "classify/grams.h"
#include "classify/sparse.h"
#include "classify/record_reader.h"

struct table {
    float *x;            /* [n][n_features] */
    struct sparse grams; /* [n] rows, of table_read_grams */
    int *labels;         /* [n] */
    float *weights;      /* [n] */
    size_t n, n_features;
};

/* Reads the examples, which come from path, by the model. */
enum status table_read(struct table *table, const struct examples *examples,
                       struct record_reader *reader, const char *path);

/* Their grams, in place of those that the table had. */
enum status table_read_grams(struct table *table,
                             const struct examples *examples,
                             struct grams *grams);
void table_free(struct table *table);

/* The mean of each feature over whole records, and 1 over its spread, or 0
 * where it has next to none: [n_features] each. */
enum status table_measure(const struct table *table, float *mean,
                          float *inverse);

#endif
