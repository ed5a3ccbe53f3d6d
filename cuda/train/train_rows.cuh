/* train_rows.cuh -- what training does row by row: weights made ready,
 * quantisation; and sums down the columns.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_ROWS_CUH
#define MAMBYTE_TRAIN_ROWS_CUH

#include "cuda/train/replica.cuh"

/* q, seen and scale of n weights, n up to WEIGHTS_MAX. */
void launch_prepare_weights(const struct replica *r,
                            const struct train_weight *weights, int n);
void launch_fill(const struct replica *r, float *x, size_t n, float value);

/* y, [t][d] numbers, becomes q in place, and its scale that of r->amax: the
 * bits of the largest magnitude of each row.  Nothing without imitation. */
void launch_quantise_rows(const struct replica *r, void *y,
                          struct row_scale scale, int d);

/* The sums over p of partial[p * ld + i], in a fixed order: the first columns
 * go to out of the first of `to`, the next ones to the next. */
enum { SUMS_MAX = 3 };
struct column_sums {
    float *out; /* [n] */
    int n;
};
void launch_column_sums(const struct replica *r, const struct column_sums *to,
                        int n, const float *partial, int n_partial, int ld);

#endif
