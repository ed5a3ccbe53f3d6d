/* fast_math.cuh -- exponentials and what is made of them, for training, which
 * does not promise equal bits: a few instructions each, good to about 2 ulp.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FAST_MATH_CUH
#define MAMBYTE_FAST_MATH_CUH

#include "base/exact.h"
#include "cuda/common/ptx.cuh"

static __device__ __forceinline__ float fast_sigmoid(float x)
{
    return fast_inverse(1.0f + fast_exp2(-x * EXACT_LOG2E));
}

/* log(1 + e^x), as exact.h has it but for the exponential: w = e^-|x| */
static __device__ __forceinline__ float fast_softplus_of(float w, float x)
{
    float p = EXACT_LOG1P_C8;
    p = fmaf(p, w, EXACT_LOG1P_C7);
    p = fmaf(p, w, EXACT_LOG1P_C6);
    p = fmaf(p, w, EXACT_LOG1P_C5);
    p = fmaf(p, w, EXACT_LOG1P_C4);
    p = fmaf(p, w, EXACT_LOG1P_C3);
    p = fmaf(p, w, EXACT_LOG1P_C2);
    p = fmaf(p, w, EXACT_LOG1P_C1);
    p = fmaf(p, w, 1.0f);
    return fmaf(p, w, fmaxf(x, 0.0f));
}

static __device__ __forceinline__ float fast_softplus(float x)
{
    return fast_softplus_of(fast_exp2(-fabsf(x) * EXACT_LOG2E), x);
}

static __device__ __forceinline__ float fast_silu(float x)
{
    return x * fast_sigmoid(x);
}

/* silu'(x) = sigmoid(x) (1 + x (1 - sigmoid(x))) */
static __device__ __forceinline__ float fast_silu_slope(float x)
{
    float s = fast_sigmoid(x);
    return s * fmaf(x, 1.0f - s, 1.0f);
}

#endif
