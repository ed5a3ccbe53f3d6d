/* feature_table.h -- the features and grams of examples.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FEATURE_TABLE_H
#define MAMBYTE_FEATURE_TABLE_H

#include <stddef.h>

#include "base/status.h"
#include "classify/examples.h"
#include "classify/grams.h"
#include "classify/record_reader.h"
#include "classify/sparse.h"

struct feature_table {
    float *x;            /* [n][n_features] */
    struct sparse grams; /* [n] rows, of feature_table_read_grams */
    int *labels;         /* [n] */
    float *weights;      /* [n] */
    size_t n, n_features;
};

/* Lets the model read the examples, which come from path. */
enum status feature_table_read(struct feature_table *table,
                               const struct examples *examples,
                               struct record_reader *reader, const char *path);

/* Counts their grams, in place of those that the table had. */
enum status feature_table_read_grams(struct feature_table *table,
                                     const struct examples *examples,
                                     struct grams *grams);
void feature_table_free(struct feature_table *table);

/* The mean of each feature over whole records, and 1 over its standard
 * deviation, or 0 when that is next to none: [n_features] each. */
enum status feature_table_measure(const struct feature_table *table,
                                  float *mean, float *inverse);

#endif
