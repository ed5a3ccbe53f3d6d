/* batch_norm.cuh -- the norm of a block's own rows of h, a group of warps a
 * row.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_NORM_CUH
#define MAMBYTE_BATCH_NORM_CUH

#include "cuda/batch/batch_block.cuh"
#include "cuda/common/exact_vector.cuh"
#include "cuda/common/overflow.cuh"

#ifdef HAS_CLUSTER

enum {
    NORM_WARPS = 4, /* of a group; a thread has four elements at a time      */
    NORM_THREADS = NORM_WARPS * WARP,
    NORM_GROUPS = BATCH_WARPS / NORM_WARPS
};

/* What the warps of a group tell each other. */
struct norm_words {
    float upper[WARP], sum; /* strided sums 32 to 63; of all */
    uint32_t amax[NORM_WARPS];
};

template <class T>
static __device__ __forceinline__ struct norm_words *
own_norm_words(const batch_block<T> &k)
{
    return k.template place<struct norm_words>(k.m.at.norm) +
           k.warp / NORM_WARPS;
}

/* A barrier of the group.  0 is __syncthreads. */
template <class T>
static __device__ __forceinline__ void norm_sync(const batch_block<T> &k)
{
    barrier_sync(1 + k.warp / NORM_WARPS, NORM_THREADS);
}

/* Own row r of h: the embedding of its byte, or its old value plus dv. */
template <class T>
static __device__ __forceinline__ const float *own_h(const batch_block<T> &k,
                                                     int r, bool is_first)
{
    const int d = k.m.d_model;
    float *h = k.template place<float>(k.m.at.h) + r * d;
    const float *from = k.template place<float>(k.m.at.dv) + r * d;
    if (is_first)
        from = k.m.embedding + (size_t)k.byte(k.rank * k.own + r) * d;
    for (int i = k.thread % NORM_THREADS * 4; i < d; i += NORM_THREADS * 4) {
        float4 v = *(const float4 *)(from + i);
        float4 old = is_first ? make_float4(0.0f, 0.0f, 0.0f, 0.0f)
                              : *(const float4 *)(h + i);
        if (!is_first)
            v = make_float4(old.x + v.x, old.y + v.y, old.z + v.z, old.w + v.w);
        *(float4 *)(h + i) = v;
    }
    norm_sync(k); /* h is written */
    return h;
}

/* The sum of (h - centre)^2, or of h, in the order of exact.h: each thread of
 * two warps has one of the 64 strided sums.  The whole group gets it. */
template <bool is_squared, class T>
static __device__ __forceinline__ float sum_own(const batch_block<T> &k,
                                                const float *h, float centre)
{
    struct norm_words *words = own_norm_words(k);
    const int warp = k.warp % NORM_WARPS;
    float sum = 0.0f;
    if (warp < 2) {
#pragma unroll 8
        for (int i = warp * WARP + k.lane; i < k.m.d_model; i += EXACT_LANES) {
            float a = h[i] - centre;
            sum = is_squared ? fmaf(a, a, sum) : sum + a;
        }
    }
    if (warp == 1)
        words->upper[k.lane] = sum;
    norm_sync(k); /* the upper sums are written */
    if (warp == 0) {
        sum = strided_sum(sum, words->upper[k.lane]);
        if (k.lane == 0)
            words->sum = sum;
    }
    norm_sync(k); /* the sum is written */
    return words->sum;
}

/* The largest amax of the group. */
template <class T>
static __device__ __forceinline__ uint32_t norm_max(const batch_block<T> &k,
                                                    uint32_t amax)
{
    struct norm_words *words = own_norm_words(k);
    amax = warp_max(amax);
    if (k.lane == 0)
        words->amax[k.warp % NORM_WARPS] = amax;
    norm_sync(k); /* the maxima are written */
    return max(max(words->amax[0], words->amax[1]),
               max(words->amax[2], words->amax[3]));
}

/* The words of this lane and of the next three; every fourth lane uses them. */
static __device__ __forceinline__ uint4 gather_words(uint32_t word)
{
    return make_uint4(word, __shfl_down_sync(WHOLE_WARP, word, 1),
                      __shfl_down_sync(WHOLE_WARP, word, 2),
                      __shfl_down_sync(WHOLE_WARP, word, 3));
}

/* Sends q = norm(h) of own rows, quantised, and its scale to all blocks.
 * norm, norm_bias: places in the resident part.  overflow: NULL but for the
 * final norm. */
template <class T>
static __device__ __forceinline__ void
batch_norm(const batch_block<T> &k, bool is_first, int norm, int norm_bias,
           uint32_t *overflow)
{
    const int d = k.m.d_model, n = k.n_own();
    const float *weight = k.resident(norm), *bias = k.resident(norm_bias);
#pragma unroll 1
    for (int r = k.warp / NORM_WARPS; r < n; r += NORM_GROUPS) {
        const float *h = own_h(k, r, is_first);
        float mean = 0.0f;
        if (k.m.has_norm_bias)
            mean = sum_own<false>(k, h, 0.0f) / (float)d;
        float variance = sum_own<true>(k, h, mean) / (float)d;
        float by = 1.0f / sqrtf(variance + k.m.epsilon);
        if (overflow)
            check_finite(overflow, variance);
        auto norm_at = [&](float x, int i) {
            return k.m.has_norm_bias ? fmaf((x - mean) * by, weight[i], bias[i])
                                     : x * by * weight[i];
        };
        auto norm4_at = [&](int i) {
            float4 x = *(const float4 *)(h + i);
            return make_float4(norm_at(x.x, i), norm_at(x.y, i + 1),
                               norm_at(x.z, i + 2), norm_at(x.w, i + 3));
        };
        const int first = k.thread % NORM_THREADS * 4;
        uint32_t amax = 0;
        for (int i = first; i < d; i += NORM_THREADS * 4) {
            float4 x = norm4_at(i);
            amax = max(amax, magnitude4(x));
        }
        struct exact_scale s = exact_scale_of(norm_max(k, amax));
        const int row = k.rank * k.own + r;
        for (int i = first; i < round_up(d, WARP * 4); i += NORM_THREADS * 4) {
            uint32_t word = i < d && s.scale != 0.0f
                                ? quantise4(norm4_at(i), s.inverse)
                                : 0;
            uint4 words = gather_words(word);
            if (k.lane % 4 == 0 && i < d)
                batch_send_all(k, X_COMES, k.m.at.q + row * k.m.at.q_pitch + i,
                               words);
        }
        if (k.thread % NORM_THREADS == 0)
            batch_send_all(k, X_COMES, k.m.at.scale + row * 4,
                           exact_bits(s.scale));
        norm_sync(k); /* the words have been read */
    }
}

#endif

#endif
