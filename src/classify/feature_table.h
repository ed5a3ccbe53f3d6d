/* feature_table.h -- the features of examples, and the evidence of their grams.
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

struct feature_table {
    float *x;        /* [n][n_features] */
    float *evidence; /* [][n_labels], of feature_table_weigh_grams */
    int *labels;     /* [n] */
    float *weights;  /* [n] */
    size_t n, n_features;
};

/* Lets the model read the examples, which come from path; without a reader,
 * NULL, there are no features. */
enum status feature_table_read(struct feature_table *table,
                               const struct examples *examples,
                               struct record_reader *reader, const char *path);

/* Finds the evidence of the grams of the first n examples, in place of what the
 * table had.  The first n_counted examples, or those they were cut from, are
 * counted in grams: each is left out of the counts that its own evidence comes
 * from, so that it looks like a new record.  E_INTERRUPTED when a signal came.
 */
enum status feature_table_weigh_grams(struct feature_table *table,
                                      const struct examples *examples, size_t n,
                                      struct grams *grams, size_t n_counted);
void feature_table_free(struct feature_table *table);

/* The mean of each feature over whole records, and 1 over its standard
 * deviation, or 0 when that is next to none: [n_features] each. */
enum status feature_table_measure(const struct feature_table *table,
                                  float *mean, float *inverse);

#endif
