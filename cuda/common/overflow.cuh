/* overflow.cuh -- a model whose activations overflow: how kernels say so.
 *
 * A word in pinned memory of the host is 0.  Whoever computes the final norm or
 * the logits stores 1 there when a number is not finite; the host, which waits
 * for results anyway, looks at the word then.  It costs nothing else.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_OVERFLOW_CUH
#define MAMBYTE_OVERFLOW_CUH

#include "cuda/common/device.cuh"

/* x is a logit, or the sum of squares of a final norm. */
static __device__ __forceinline__ void check_finite(uint32_t *overflow, float x)
{
    if ((exact_bits(x) & EXACT_ABS_MASK) >= EXACT_INF_BITS)
        *overflow = 1;
}

/* Of two logits. */
static __device__ __forceinline__ void check_finite(uint32_t *overflow,
                                                    float2 x)
{
    uint32_t bits =
        max(exact_bits(x.x) & EXACT_ABS_MASK, exact_bits(x.y) & EXACT_ABS_MASK);
    check_finite(overflow, exact_float(bits));
}

/* The word, owned. */
static inline enum status overflow_open(uint32_t **overflow)
{
    CUDA_TRY(cudaMallocHost(overflow, sizeof **overflow), "memory for results");
    **overflow = 0;
    return OK;
}

/* For the host, when no kernel runs that could store to it: E_MODEL if one
 * has; forgets it. */
static inline enum status overflow_take(uint32_t *overflow,
                                        const struct model *model)
{
    bool has_overflown = *overflow != 0;
    *overflow = 0;
    return has_overflown ? model_overflows(model) : OK;
}

#endif
