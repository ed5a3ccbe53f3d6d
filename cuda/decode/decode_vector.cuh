/* decode_vector.cuh -- what a block does to whole vectors: receive, normalise
 * and quantise them.  Results have the bits of exact.h.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_VECTOR_CUH
#define MAMBYTE_DECODE_VECTOR_CUH

#include "cuda/common/exact_vector.cuh"
#include "cuda/decode/decode_block.cuh"

/* Waits for a vector of this epoch from all blocks of the grid, which goes into
 * v or h; and meanwhile for the next n_ahead bytes of weights, so that no time
 * is lost on them afterwards.  Then every thread may read the whole vector. */
static __device__ __forceinline__ void receive(struct decode_block *block,
                                               int vector,
                                               const uint64_t *words, int n,
                                               int n_ahead, uint32_t epoch)
{
    float *values = vector == VECTOR_H ? block->h : block->v;
#ifdef HAS_CLUSTER
    if (block->plan->cluster > 0) {
        cluster_gather(values, block->complete + vector, words, n, epoch,
                       &block->shares[vector], block->plan->cluster,
                       block->thread, N_THREADS);
        if (block->warp == WAITING_WARP)
            weights_wait(&block->weights, n_ahead);
        mbarrier_wait(block->complete + vector, block->parity >> vector & 1);
        block->parity ^= 1u << vector;
        return;
    }
#endif
    words_gather(values, words, n, epoch, block->thread, N_THREADS);
    if (block->warp == WAITING_WARP)
        weights_wait(&block->weights, n_ahead);
    compute_barrier(); /* values are complete */
}

/* The largest magnitude among this thread's share of values [n]. */
static __device__ __forceinline__ uint32_t
share_amax(const struct decode_block *block, const float *values, int n)
{
    uint32_t amax = 0;
#pragma unroll 4
    for (int first = 0; first < n; first += 4 * N_THREADS) {
        const int i = first + 4 * block->thread;
        if (first + 4 * N_THREADS > n && i >= n)
            break;
        const float4 x = *(const float4 *)(values + i);
        amax = max(max(amax, max(magnitude_bits(x.x), magnitude_bits(x.y))),
                   max(magnitude_bits(x.z), magnitude_bits(x.w)));
    }
    return amax;
}

/* Quantises values [n] into q, and returns the scale.  amax: the largest
 * magnitude that this thread has seen.  Clears the sums for the product that
 * follows. */
static __device__ __forceinline__ float
quantise(const struct decode_block *block, const float *values, int n,
         uint32_t amax, int n_sums)
{
    amax = warp_max(amax);
    if (block->lane == 0)
        block->maxima[block->warp] = amax;
    compute_barrier(); /* values and maxima are written, old sums read */
    amax = 0;
#pragma unroll
    for (int i = 0; i < N_WARPS; i += 4) {
        const uint4 m = *(const uint4 *)(block->maxima + i);
        amax = max(amax, max(max(m.x, m.y), max(m.z, m.w)));
    }
    const struct exact_scale scale = scale_of(amax);
    for (int i = block->thread; i < n_sums; i += N_THREADS)
        block->sums[i] = 0;
#pragma unroll 4
    for (int first = 0; first < n; first += 4 * N_THREADS) {
        const int i = first + 4 * block->thread;
        if (first + 4 * N_THREADS > n && i >= n)
            break;
        const float4 v = *(const float4 *)(values + i);
        const uint32_t q = quantise4(v, scale.inverse);
        *(uint32_t *)(block->q + i) = scale.scale == 0.0f ? 0 : q;
    }
    return scale.scale;
}

/* The mean of h, in the order of exact.h; every warp computes it. */
static __device__ __forceinline__ float
norm_mean(const struct decode_block *block, int n)
{
    float low = 0.0f, high = 0.0f;
#pragma unroll 1
    for (int i = block->lane; i < n; i += EXACT_LANES) {
        low = low + block->h[i];
        if (i + WARP < n)
            high = high + block->h[i + WARP];
    }
    return strided_sum(low, high) / (float)n;
}

/* The sum of (h - mean)^2, in the order of exact.h.  Every warp computes it:
 * handing it on would take longer. */
static __device__ __forceinline__ float
norm_sum(const struct decode_block *block, int n, float mean)
{
    const int whole = n / EXACT_LANES * EXACT_LANES;
    float low = 0.0f, high = 0.0f;
#pragma unroll 8
    for (int i = 0; i < whole; i += EXACT_LANES) {
        const float a = block->h[i + block->lane] - mean;
        const float b = block->h[i + block->lane + WARP] - mean;
        low = fmaf(a, a, low);
        high = fmaf(b, b, high);
    }
    if (whole + block->lane < n) {
        const float a = block->h[whole + block->lane] - mean;
        low = fmaf(a, a, low);
    }
    if (whole + block->lane + WARP < n) {
        const float b = block->h[whole + block->lane + WARP] - mean;
        high = fmaf(b, b, high);
    }
    return strided_sum(low, high);
}

/* x <- norm(h), with the factors at the place of the weights.  Returns the
 * largest magnitude that this thread wrote. */
static __device__ __forceinline__ uint32_t normalise(struct decode_block *block,
                                                     int n)
{
    const struct decode_plan *p = block->plan;
    const bool has_bias = p->config.has_norm_bias;
    /* Where there is no mean, h - 0 is h. */
    const float mean = has_bias ? norm_mean(block, n) : 0.0f;
    const float sum = norm_sum(block, n, mean);
    block->squares = sum;
    const float r = 1.0f / sqrtf(sum / (float)n + p->config.norm_epsilon);
    uint32_t amax = 0;
#pragma unroll 4
    for (int first = 0; first < n; first += 4 * N_THREADS) {
        const int i = first + 4 * block->thread;
        if (first + 4 * N_THREADS > n && i >= n)
            break;
        const float4 h = *(const float4 *)(block->h + i);
        const float4 w = *(const float4 *)weights_at(
            &block->weights, block->weights.at, i * sizeof(float));
        float4 x = {(h.x * r) * w.x, (h.y * r) * w.y, (h.z * r) * w.z,
                    (h.w * r) * w.w};
        if (has_bias) {
            const float4 b = *(const float4 *)weights_at(
                &block->weights, block->weights.at, (n + i) * sizeof(float));
            x.x = fmaf((h.x - mean) * r, w.x, b.x);
            x.y = fmaf((h.y - mean) * r, w.y, b.y);
            x.z = fmaf((h.z - mean) * r, w.z, b.z);
            x.w = fmaf((h.w - mean) * r, w.w, b.w);
        }
        *(float4 *)(block->x + i) = x;
        amax = max(max(amax, max(magnitude_bits(x.x), magnitude_bits(x.y))),
                   max(magnitude_bits(x.z), magnitude_bits(x.w)));
    }
    weights_advance(&block->weights, p->norm_bytes);
    return amax;
}

#endif
