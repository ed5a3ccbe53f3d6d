/* quantise.h -- float32 to int8, with one scale for a row.
 *
 * Weights and activations have one rule, so that training imitates, export
 * writes and the engine multiplies the same numbers.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_QUANTISE_H
#define MAMBYTE_QUANTISE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/exact.h"

/* The bits of the largest magnitude of x: [n]. */
static inline uint32_t quantise_amax(const float *x, int n)
{
    uint32_t amax = 0;
    for (int i = 0; i < n; i++) {
        uint32_t magnitude = exact_bits(x[i]) & EXACT_ABS_MASK;
        amax = magnitude > amax ? magnitude : amax;
    }
    return amax;
}

/* Rounds x: [n] to q: [n] and its *scale; all zero if an element is not
 * finite. */
static inline void quantise_row(int8_t *q, float *scale, const float *x, int n)
{
    struct exact_scale s = exact_scale_of(quantise_amax(x, n));
    *scale = s.scale;
    if (s.scale == 0.0f) {
        memset(q, 0, (size_t)n);
        return;
    }
    for (int i = 0; i < n; i++)
        q[i] = exact_quantise(x[i], s.inverse);
}

#endif
