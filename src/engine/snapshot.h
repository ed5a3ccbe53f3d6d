/* snapshot.h -- the state of one stream, to and from a file.
 *
 * A snapshot holds what engine_state_get gives, how many bytes the stream has
 * read, and the fingerprint of its model, without which it means nothing.
 * mambyte.5 specifies the file; it is the same on every machine, and any can
 * go on from it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SNAPSHOT_H
#define MAMBYTE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/model.h"

/* How the file of each version begins. */
#define SNAPSHOT_START "MBYTSTAT"

struct snapshot {
    struct fingerprint model;
    uint64_t n_bytes; /* that the stream has read */
    size_t n_floats, n_int8s;
    float *floats; /* [n_floats], and the int8 after them: an image, see
                    * engine_state_get */
};

/* Writes a whole snapshot or leaves path as it was: the bytes go to a file
 * beside it, which then takes its name.  What is not a regular file
 * (/dev/stdout, a pipe) is written directly. */
enum status snapshot_save(const char *path, const struct snapshot *snapshot);

/* Reads a snapshot ("-": from standard input) of this model, with n_floats
 * floats and n_int8s int8 numbers; every other file is refused.  On success the
 * floats are the caller's: see snapshot_free().  On failure *snapshot is all
 * zero. */
enum status snapshot_load(struct snapshot *snapshot, const char *path,
                          const struct fingerprint *model, size_t n_floats,
                          size_t n_int8s);

/* The same from n bytes in memory; sentences do not name a file. */
enum status snapshot_parse(struct snapshot *snapshot, const uint8_t *bytes,
                           size_t n, const struct fingerprint *model,
                           size_t n_floats, size_t n_int8s);

/* The model of a snapshot that starts with these bytes; false when none does,
 * or too few are here to tell. */
bool snapshot_find_model(struct fingerprint *model, const uint8_t *bytes,
                         size_t n);

/* Frees what snapshot_load allocated, and makes *snapshot all zero. */
void snapshot_free(struct snapshot *snapshot);

#endif
