/* exact.h -- float arithmetic that gives the same bits everywhere.
 *
 * Compiled verbatim by the C compiler (-ffp-contract=off) and the CUDA
 * compiler (-fmad=false).  A function here uses only + - * / sqrt and an
 * explicit fmaf in a stated order, IEEE-754 binary32, round to nearest
 * even, subnormals kept; hence one input has one result on every machine.
 * The SIMD levels repeat the text in their own instructions
 * (cpu_vector.h) and are held to this file by memcmp.
 *
 * A change of any result in this file is a change of EXACT_VERSION, which
 * is part of every fingerprint: old files are then refused, not misread.
 *
 * This file includes nothing of ours.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_EXACT_H
#define MAMBYTE_EXACT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define EXACT_VERSION 1

#ifdef __CUDACC__
#define EXACT_FN static __host__ __device__ __forceinline__
#else
#define EXACT_FN static inline
#endif

EXACT_FN uint32_t exact_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

EXACT_FN float exact_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* The value of a binary16, which is not checked to be finite: the exponent
 * of its bits, seen as a binary32, is too small by 112. */
#define EXACT_HALF_SCALE 0x1p112f

EXACT_FN float exact_half(uint32_t half)
{
    float magnitude = exact_float((half & 0x7fffu) << 13) * EXACT_HALF_SCALE;
    return exact_float(exact_bits(magnitude) | (half & 0x8000u) << 16);
}

/* The larger, and the smaller, of a and a bound; the bound when a is NaN, or a
 * zero and equal to it.  The bound must be a number, and not -0. */
EXACT_FN float exact_max(float a, float bound)
{
    return a > bound ? a : bound;
}

EXACT_FN float exact_min(float a, float bound)
{
    return a < bound ? a : bound;
}

/* ---- exponentials -------------------------------------------------------
 *
 * Adding EXACT_ROUND = 1.5 * 2^23 to |x| < 2^22 leaves x rounded to the
 * nearest integer (ties to even) in the low bits of the sum.
 */
#define EXACT_ROUND 12582912.0f

/* 2^f for |f| <= 0.5 as 1 + f q(f), q the minimax polynomial of degree 4:
 * 2^0 is 1 exactly, and a slow decay keeps its relative precision. */
#define EXACT_EXP2_C1 0x1.62e424p-1f
#define EXACT_EXP2_C2 0x1.ebf99ep-3f
#define EXACT_EXP2_C3 0x1.c6ad26p-5f
#define EXACT_EXP2_C4 0x1.3cff12p-7f
#define EXACT_EXP2_C5 0x1.61cd9ep-10f

/* 2^(r + f), r an integer in [-126, 127] given as t = EXACT_ROUND + r. */
EXACT_FN float exact_exp2_reduced(float t, float f)
{
    float p = EXACT_EXP2_C5;
    p = fmaf(p, f, EXACT_EXP2_C4);
    p = fmaf(p, f, EXACT_EXP2_C3);
    p = fmaf(p, f, EXACT_EXP2_C2);
    p = fmaf(p, f, EXACT_EXP2_C1);
    p = fmaf(p, f, 1.0f);
    return exact_float(exact_bits(p) + (exact_bits(t) << 23));
}

/* 2^x for x <= 0; never below 2^-126.  The decay of a state. */
#define EXACT_EXP2_MIN (-126.0f)

EXACT_FN float exact_exp2_neg(float x)
{
    x = exact_max(x, EXACT_EXP2_MIN);
    float t = x + EXACT_ROUND;
    float f = x - (t - EXACT_ROUND);
    return exact_exp2_reduced(t, f);
}

/* e^x for x clamped to [EXACT_EXP_MIN, EXACT_EXP_MAX]. */
#define EXACT_EXP_MIN   (-87.0f)
#define EXACT_EXP_MAX   88.0f
#define EXACT_LOG2E     0x1.715476p+0f
#define EXACT_LOG2E_LOW 0x1.4ae0bep-26f

EXACT_FN float exact_exp(float x)
{
    x = exact_min(exact_max(x, EXACT_EXP_MIN), EXACT_EXP_MAX);
    float t = fmaf(x, EXACT_LOG2E, EXACT_ROUND);
    float f = fmaf(x, EXACT_LOG2E, -(t - EXACT_ROUND));
    f = fmaf(x, EXACT_LOG2E_LOW, f);
    return exact_exp2_reduced(t, f);
}

/* silu(x) = x / (1 + e^-x) */
EXACT_FN float exact_silu(float x)
{
    return x / (1.0f + exact_exp(-x));
}

/* log(1 + w) / w for 0 <= w <= 1: minimax of degree 8, 1 at 0. */
#define EXACT_LOG1P_C1 (-0x1.ffff14p-2f)
#define EXACT_LOG1P_C2 0x1.5535dap-2f
#define EXACT_LOG1P_C3 (-0x1.fd1320p-3f)
#define EXACT_LOG1P_C4 0x1.884452p-3f
#define EXACT_LOG1P_C5 (-0x1.19ad8cp-3f)
#define EXACT_LOG1P_C6 0x1.446c02p-4f
#define EXACT_LOG1P_C7 (-0x1.ec9926p-6f)
#define EXACT_LOG1P_C8 0x1.5f96e6p-8f

/* softplus(x) = log(1 + e^x) = max(x, 0) + log(1 + e^-|x|); w is
 * exact_exp(-|x|). */
EXACT_FN float exact_softplus_of(float x, float w)
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
    return fmaf(p, w, exact_max(x, 0.0f));
}

EXACT_FN float exact_softplus(float x)
{
    float a = exact_float(exact_bits(x) | 0x80000000u);
    return exact_softplus_of(x, exact_exp(a));
}

/* log2(x) for finite x >= 2^-126.  x = 2^e m with m in [0.6875, 1.375), so
 * that e = 0 near 1 and the logarithm there loses nothing. */
EXACT_FN float exact_log2(float x)
{
    uint32_t u = exact_bits(x) - 0x3f300000u; /* 0.6875 */
    int32_t e = (int32_t)u >> 23;
    float z = exact_float((u & 0x007fffffu) + 0x3f300000u) - 1.0f;
    float p = -0x1.22cbf0p-3f;
    p = fmaf(p, z, 0x1.963846p-3f);
    p = fmaf(p, z, -0x1.7bb724p-3f);
    p = fmaf(p, z, 0x1.9ecc00p-3f);
    p = fmaf(p, z, -0x1.eb6de2p-3f);
    p = fmaf(p, z, 0x1.279a72p-2f);
    p = fmaf(p, z, -0x1.715848p-2f);
    p = fmaf(p, z, 0x1.ec7022p-2f);
    p = fmaf(p, z, -0x1.715472p-1f);
    p = fmaf(p, z, 0x1.715476p+0f);
    return fmaf(p, z, (float)e);
}

/* ---- int8 ---------------------------------------------------------------
 *
 * A vector x is stored as q = round(x * 127 / amax), amax its largest
 * magnitude, and multiplied back by scale = amax / 127.  amax is found on
 * the bit patterns (unsigned, sign removed): order-free, and an infinity or
 * a NaN wins.  A vector that holds one becomes all zeros with scale 0, so
 * that a model that overflows has the same, uniform, prediction everywhere.
 */
#define EXACT_AMAX_MIN 1e-8f
#define EXACT_ABS_MASK 0x7fffffffu
#define EXACT_INF_BITS 0x7f800000u

struct exact_scale {
    float scale;   /* what one unit of q is worth; 0 when not finite */
    float inverse; /* what x is multiplied with before it is rounded */
};

EXACT_FN struct exact_scale exact_scale_of(uint32_t amax_bits)
{
    struct exact_scale s = {0.0f, 0.0f};
    if (amax_bits < EXACT_INF_BITS) {
        float amax = exact_max(exact_float(amax_bits), EXACT_AMAX_MIN);
        s.scale = amax / 127.0f;
        s.inverse = 127.0f / amax;
    }
    return s;
}

/* x is finite, |x * inverse| <= 127.  Not to be called when the scale is 0. */
EXACT_FN int8_t exact_quantise(float x, float inverse)
{
    return (int8_t)(uint8_t)exact_bits(fmaf(x, inverse, EXACT_ROUND));
}

/* The value of an int32 sum of products: row_scale of the weights, scale of
 * the activations. */
EXACT_FN float exact_dequantise(int32_t sum, float scale, float row_scale)
{
    return (float)sum * (scale * row_scale);
}

/* ---- Mamba-2 ------------------------------------------------------------
 *
 * kernels/mamba2.h says what these are for.  Decays and products of decays
 * below EXACT_DECAY_MIN are 0, and so are weights and states whose magnitude
 * is below EXACT_WEIGHT_MIN.  Hence no product of a decay with one of them is
 * ever subnormal, which some CPUs compute a hundred times slower.  Weights
 * that are not below EXACT_WEIGHT_MAX (of a model whose scales overflow) are 0
 * too, so that a state stays finite.
 */
#define EXACT_DECAY_MIN  0x1p-40f
#define EXACT_WEIGHT_MIN 0x1p-80f
#define EXACT_WEIGHT_MAX 0x1p60f

/* The step size: softplus, clamped to its limits.  0 <= min <= max; max may be
 * infinite. */
EXACT_FN float exact_delta(float dt, float min, float max)
{
    return exact_min(exact_max(exact_softplus(dt), min), max);
}

/* p, or 0 where it is below min. */
EXACT_FN float exact_or_zero(float p, float min)
{
    return p >= min ? p : 0.0f;
}

/* exp(delta A) */
EXACT_FN float exact_alpha(float delta, float a_log2e)
{
    return exact_or_zero(exact_exp2_neg(delta * a_log2e), EXACT_DECAY_MIN);
}

/* delta times the scales of x and B. */
EXACT_FN float exact_weight(float delta, float x_scale, float b_scale)
{
    float k = delta * (x_scale * b_scale);
    return k < EXACT_WEIGHT_MAX ? exact_or_zero(k, EXACT_WEIGHT_MIN) : 0.0f;
}

/* A state after a chunk: what is left of it, and the sum that is added. */
EXACT_FN float exact_state(float decay, float s, int32_t sum, float scale)
{
    s = fmaf(decay, s, (float)sum * scale);
    return fabsf(s) >= EXACT_WEIGHT_MIN ? s : 0.0f;
}

/* The scale of a vector of products of weights, or of states.  These may all
 * be small, so there is no least one; 0 for a vector of zeros. */
EXACT_FN struct exact_scale exact_scale_of_products(uint32_t amax_bits)
{
    struct exact_scale s = {0.0f, 0.0f};
    if (amax_bits >= 0x17800000u && amax_bits < EXACT_INF_BITS) { /* 2^-80 */
        float amax = exact_float(amax_bits);
        s.scale = amax / 127.0f;
        s.inverse = 127.0f / amax;
    }
    return s;
}

/* ---- sums ---------------------------------------------------------------
 *
 * A sum over d_model runs in EXACT_LANES strided lanes, lane i taking the
 * elements i, i + 64, ... in rising order by fmaf from 0; then the lanes are
 * added in a tree, lane[i] += lane[i + s] for s = 32, 16, 8, 4, 2, 1.
 *
 * A product of floats runs over its columns in EXACT_FLOAT_LANES strided lanes
 * by fmaf from 0, and then in such a tree, from s = 8 on.
 *
 * The squares of a head of Mamba-2 are added like a sum over d_model, and then
 * the sums of the heads of a group.
 *
 * A sum over d_state of Mamba-1 runs in groups of EXACT_GROUP neighbouring
 * states, one product and three fmaf in rising order; then neighbouring groups
 * are added pairwise, p[i] = p[2 i] + p[2 i + 1], until one is left.
 */
#define EXACT_LANES       64
#define EXACT_FLOAT_LANES 16
#define EXACT_GROUP       4

/* ---- probabilities ------------------------------------------------------
 *
 * Logits become integer frequencies that are at least 1 and sum to
 * EXACT_TOTAL.  With m the largest logit:
 *     w[i] = round(2^29 e^((logit[i] - m) / T)),  S = sum w[i]  (integers)
 *     f[i] = 1 + (w[i] R >> 37),  R = (2^24 - 256) 2^37 / S
 * and what rounding leaves of 2^24 goes to the first i with the largest w.
 * Everything after the exponential is integer, hence order-free.
 */
#define EXACT_TOTAL_BITS 24
#define EXACT_TOTAL      (1u << EXACT_TOTAL_BITS)

/* A logit that is not finite (a model whose scales overflow) counts as 0. */
EXACT_FN float exact_logit(float x)
{
    return (exact_bits(x) & EXACT_ABS_MASK) < EXACT_INF_BITS ? x : 0.0f;
}

/* difference = logit - m <= 0, inverse_temperature > 0 and finite. */
EXACT_FN uint32_t exact_odds_weight(float difference, float inverse_temperature)
{
    float e = exact_exp(difference * inverse_temperature);
    return (uint32_t)(e * 536870912.0f + 0.5f);
}

/* sum in [2^29, 2^37]; the result is below 2^32. */
EXACT_FN uint64_t exact_odds_reciprocal(uint64_t sum)
{
    return ((uint64_t)(EXACT_TOTAL - 256) << 37) / sum;
}

EXACT_FN uint32_t exact_odds_frequency(uint32_t weight, uint64_t reciprocal)
{
    return 1 + (uint32_t)((weight * reciprocal) >> 37);
}

/* -log2 of the softmax at a logit, in bits: difference = logit - m, sum = S
 * at temperature 1.  What a byte would cost a coder if frequencies could be
 * below one in 2^24. */
EXACT_FN float exact_cost(float difference, uint64_t sum)
{
    return fmaf(-difference, EXACT_LOG2E,
                exact_log2((float)sum * (1.0f / 536870912.0f)));
}

#endif
