/* scalar.h -- sums as exact.h has them, in plain C.
 *
 * For the definition (cpu_scalar.c, cpu_scalar_mamba2.c) and for training.
 * Lanes do not depend on each other, so a compiler may make vectors of them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SCALAR_H
#define MAMBYTE_SCALAR_H

#include <stdint.h>

#include "base/exact.h"

/* The sum of a[i] b[i]. */
static inline int32_t dot(const int8_t *a, const int8_t *b, int n)
{
    int32_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* lane[i] += lane[i + s] for s = n_lanes / 2, .. 2, 1; the sum is lane[0]. */
static inline float lanes_total(float *lane, int n_lanes)
{
    for (int s = n_lanes / 2; s > 0; s /= 2) {
        for (int i = 0; i < s; i++)
            lane[i] += lane[i + s];
    }
    return lane[0];
}

/* How many of n elements the lanes take, from element i on. */
static inline int lanes_used(int n, int i)
{
    return n - i < EXACT_LANES ? n - i : EXACT_LANES;
}

static inline float sum_of(const float *x, int n)
{
    float lane[EXACT_LANES] = {0};
    for (int i = 0; i < n; i += EXACT_LANES) {
        for (int j = 0; j < lanes_used(n, i); j++)
            lane[j] += x[i + j];
    }
    return lanes_total(lane, EXACT_LANES);
}

/* The sum of (x - centre)^2. */
static inline float sum_of_squares(const float *x, float centre, int n)
{
    float lane[EXACT_LANES] = {0};
    for (int i = 0; i < n; i += EXACT_LANES) {
        for (int j = 0; j < lanes_used(n, i); j++) {
            float c = x[i + j] - centre;
            lane[j] = fmaf(c, c, lane[j]);
        }
    }
    return lanes_total(lane, EXACT_LANES);
}

#endif
