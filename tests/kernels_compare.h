/* kernels_compare.h -- holds a level of kernels to cpu_scalar by memcmp.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_KERNELS_COMPARE_H
#define MAMBYTE_KERNELS_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/cpu_kernels.h"

/* One comparison on random sizes and values that follow from seed.  Both
 * levels work on equal copies of the same memory, which must be equal as a
 * whole afterwards: what a kernel must not touch is compared too. */
typedef bool kernels_case(const struct cpu_kernels *level, uint64_t seed);

kernels_case compare_quantise;
kernels_case compare_norm_quantise;
kernels_case compare_matmul;
kernels_case compare_norm;
kernels_case compare_float_matmul;
kernels_case compare_conv_silu;
kernels_case compare_scan;
kernels_case compare_mamba2;
kernels_case compare_mamba2_floats;

/* Infinities and NaN among the values; two NaN count as equal. */
kernels_case compare_conv_silu_special;
kernels_case compare_scan_special;
kernels_case compare_cost;
kernels_case compare_mamba2_special;

struct kernels_test {
    const char *name;
    kernels_case *compare;
};

/* All of them, ended by a NULL name. */
extern const struct kernels_test kernels_tests[];

#endif
