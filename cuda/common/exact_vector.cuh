/* exact_vector.cuh -- exact.h for a thread that has several numbers of a
 * vector, and for a warp that has a row: the same bits.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_EXACT_VECTOR_CUH
#define MAMBYTE_EXACT_VECTOR_CUH

#include "base/exact.h"
#include "cuda/common/ptx.cuh"
#include "cuda/common/reduce.cuh"

/* ---- int8 ---------------------------------------------------------------- */

/* The magnitude of x as bits: their maximum needs no order. */
static __device__ __forceinline__ uint32_t magnitude_bits(float x)
{
    return exact_bits(x) & EXACT_ABS_MASK;
}

/* The largest magnitude of four. */
static __device__ __forceinline__ uint32_t magnitude4(float4 x)
{
    return max(max(magnitude_bits(x.x), magnitude_bits(x.y)),
               max(magnitude_bits(x.z), magnitude_bits(x.w)));
}

/* exact_quantise() of four numbers. */
static __device__ __forceinline__ uint32_t quantise4(float4 v, float inverse)
{
    uint32_t x = exact_bits(fmaf(v.x, inverse, EXACT_ROUND));
    uint32_t y = exact_bits(fmaf(v.y, inverse, EXACT_ROUND));
    uint32_t z = exact_bits(fmaf(v.z, inverse, EXACT_ROUND));
    uint32_t w = exact_bits(fmaf(v.w, inverse, EXACT_ROUND));
    return __byte_perm(__byte_perm(x, y, 0x0040), __byte_perm(z, w, 0x0040),
                       0x5410);
}

/* amax / 127 and 127 / amax, both normal numbers, correctly rounded, without
 * branches.  A division branches for results that are not normal.  Here a large
 * amax, whose reciprocal would not be, is first scaled down by a power of two.
 */
static __device__ __forceinline__ struct exact_scale scale_of_normal(float amax)
{
    const float shrink = amax > 0x1p64f ? 0x1p-64f : 1.0f;
    const float b = amax * shrink, r = 1.0f / 127.0f;
    struct exact_scale s;
    s.scale = amax * r;
    s.scale = fmaf(fmaf(-127.0f, s.scale, amax), r, s.scale);
    float y = fast_inverse(b);
    y = fmaf(y, fmaf(-b, y, 1.0f), y);
    s.inverse = 127.0f * y;
    s.inverse = fmaf(fmaf(-b, s.inverse, 127.0f), y, s.inverse) * shrink;
    return s;
}

/* exact_scale_of() */
static __device__ __forceinline__ struct exact_scale
scale_of(uint32_t amax_bits)
{
    const bool is_finite = amax_bits < EXACT_INF_BITS;
    struct exact_scale s = scale_of_normal(
        exact_max(exact_float(is_finite ? amax_bits : 0), EXACT_AMAX_MIN));
    s.scale = is_finite ? s.scale : 0.0f;
    s.inverse = is_finite ? s.inverse : 0.0f;
    return s;
}

/* exact_scale_of_products() */
static __device__ __forceinline__ struct exact_scale
scale_of_products(uint32_t amax_bits)
{
    const uint32_t one = 0x3f800000u;
    const bool is_fine =
        amax_bits >= 0x17800000u && amax_bits < EXACT_INF_BITS; /* 2^-80 */
    struct exact_scale s =
        scale_of_normal(exact_float(is_fine ? amax_bits : one));
    s.scale = is_fine ? s.scale : 0.0f;
    s.inverse = is_fine ? s.inverse : 0.0f;
    return s;
}

/* The same where the scale may be 0. */
static __device__ __forceinline__ uint32_t quantised4(float4 v,
                                                      struct exact_scale s)
{
    return s.scale == 0.0f ? 0 : quantise4(v, s.inverse);
}

/* ---- norms --------------------------------------------------------------- */

/* The sum of the 64 strided sums of exact.h.  A thread has two of them: `low`
 * is number `lane`, `high` is number lane + 32.  Every thread gets the result.
 */
static __device__ __forceinline__ float strided_sum(float low, float high)
{
    return warp_sum(low + high);
}

/* The sum of (h - centre)^2, or of h, over d elements, in the order of exact.h.
 */
template <bool is_squared>
static __device__ __forceinline__ float sum_row(const float *h, float centre,
                                                int d, int lane)
{
    float low = 0.0f, high = 0.0f;
#pragma unroll 8
    for (int i = lane; i < d; i += EXACT_LANES) {
        float a = h[i] - centre;
        low = is_squared ? fmaf(a, a, low) : low + a;
        if (i + WARP < d) {
            float c = h[i + WARP] - centre;
            high = is_squared ? fmaf(c, c, high) : high + c;
        }
    }
    return strided_sum(low, high);
}

/* An element of the norm.  r: 1 over the root of the mean square. */
static __device__ __forceinline__ float normed(float h, float r, float weight)
{
    return h * r * weight;
}

/* The same where the norm has a mean and a bias. */
static __device__ __forceinline__ float normed(float h, float mean, float r,
                                               float weight, float bias)
{
    return fmaf((h - mean) * r, weight, bias);
}

static __device__ __forceinline__ float4 normed(float4 h, float r,
                                                float4 weight)
{
    return make_float4(normed(h.x, r, weight.x), normed(h.y, r, weight.y),
                       normed(h.z, r, weight.z), normed(h.w, r, weight.w));
}

static __device__ __forceinline__ float4 normed(float4 h, float mean, float r,
                                                float4 weight, float4 bias)
{
    return make_float4(normed(h.x, mean, r, weight.x, bias.x),
                       normed(h.y, mean, r, weight.y, bias.y),
                       normed(h.z, mean, r, weight.z, bias.z),
                       normed(h.w, mean, r, weight.w, bias.w));
}

/* ---- functions of several numbers ---------------------------------------
 *
 * Each operation is written for all n numbers before the next one, so that
 * their chains of dependent operations run side by side.  Tests for unusual
 * values are made once for all.
 */

/* exact_exp2_reduced() of t and f, into x. */
template <int n>
static __device__ __forceinline__ void exp2_all(float *x, const float *t,
                                                const float *f)
{
    constexpr float c[] = {EXACT_EXP2_C4, EXACT_EXP2_C3, EXACT_EXP2_C2,
                           EXACT_EXP2_C1, 1.0f};
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = EXACT_EXP2_C5;
#pragma unroll
    for (int k = 0; k < 5; k++) {
#pragma unroll
        for (int i = 0; i < n; i++)
            x[i] = fmaf(x[i], f[i], c[k]);
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = exact_float(exact_bits(x[i]) + (exact_bits(t[i]) << 23));
}

/* exact_exp() of numbers in the range that it clamps to. */
template <int n> static __device__ __forceinline__ void exp_all(float *x)
{
    float t[n], f[n];
#pragma unroll
    for (int i = 0; i < n; i++)
        t[i] = fmaf(x[i], EXACT_LOG2E, EXACT_ROUND);
#pragma unroll
    for (int i = 0; i < n; i++)
        f[i] = fmaf(x[i], EXACT_LOG2E, -(t[i] - EXACT_ROUND));
#pragma unroll
    for (int i = 0; i < n; i++)
        f[i] = fmaf(x[i], EXACT_LOG2E_LOW, f[i]);
    exp2_all<n>(x, t, f);
}

/* x /= d, correctly rounded, where d = 1 + e^-x and |x| < 64.  The reciprocal
 * is correctly rounded; then one correction is enough for every such x (all of
 * them were tried), where a division of any two numbers takes two.  The signs
 * are such that -0 stays -0. */
template <int n>
static __device__ __forceinline__ void silu_divide_all(float *x, const float *d)
{
    float y[n], q[n];
#pragma unroll
    for (int i = 0; i < n; i++)
        y[i] = fast_inverse(d[i]);
#pragma unroll
    for (int i = 0; i < n; i++)
        y[i] = fmaf(y[i], fmaf(-d[i], y[i], 1.0f), y[i]);
#pragma unroll
    for (int i = 0; i < n; i++)
        q[i] = x[i] * y[i];
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = fmaf(-y[i], fmaf(d[i], q[i], -x[i]), q[i]);
}

/* A call for all of several numbers, which keeps this out of the way of the
 * usual case: a call for each made a tenth of the code of in_proj. */
static __device__ __noinline__ void silu_unusual(float *x, int n)
{
#pragma unroll 1
    for (int i = 0; i < n; i++)
        x[i] = exact_silu(x[i]);
}

static __device__ __noinline__ float silu_unusual(float x)
{
    return exact_silu(x);
}

/* exact_silu().  Usual is |x| < 64: there the divisor is at most 1 + e^64, and
 * the exponential needs no clamp. */
template <int n> static __device__ __forceinline__ void silu_all(float *x)
{
    float y[n], d[n];
    bool is_usual = true;
#pragma unroll
    for (int i = 0; i < n; i++) {
        is_usual &= fabsf(x[i]) < 64.0f;
        y[i] = x[i];
        d[i] = -x[i];
    }
    exp_all<n>(d);
#pragma unroll
    for (int i = 0; i < n; i++)
        d[i] = 1.0f + d[i];
    silu_divide_all<n>(y, d);
    if (n == 1 && !is_usual) {
        y[0] = silu_unusual(x[0]);
    } else if (!is_usual) {
        float z[n];
#pragma unroll
        for (int i = 0; i < n; i++)
            z[i] = x[i];
        silu_unusual(z, n);
#pragma unroll
        for (int i = 0; i < n; i++)
            y[i] = z[i];
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = y[i];
}

/* exact_softplus() */
template <int n> static __device__ __forceinline__ void softplus_all(float *x)
{
    constexpr float c[] = {
        EXACT_LOG1P_C7, EXACT_LOG1P_C6, EXACT_LOG1P_C5, EXACT_LOG1P_C4,
        EXACT_LOG1P_C3, EXACT_LOG1P_C2, EXACT_LOG1P_C1, 1.0f};
    float w[n], p[n];
#pragma unroll
    for (int i = 0; i < n; i++)
        w[i] = fmaxf(-fabsf(x[i]), EXACT_EXP_MIN); /* of a NaN, the bound */
    exp_all<n>(w);
#pragma unroll
    for (int i = 0; i < n; i++)
        p[i] = EXACT_LOG1P_C8;
#pragma unroll
    for (int k = 0; k < 8; k++) {
#pragma unroll
        for (int i = 0; i < n; i++)
            p[i] = fmaf(p[i], w[i], c[k]);
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = fmaf(p[i], w[i], exact_max(x[i], 0.0f));
}

#endif
