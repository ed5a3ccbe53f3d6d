/* decode_mamba2_strip.cuh -- vectors that are multiplied without passing
 * through shared memory as int8.
 *
 * A warp multiplies by a strip of 512 elements, of which lane l has elements
 * l + 32 k, k < 16.  In this order it receives them, adds up their squares,
 * quantises them and multiplies by them; the columns of the packed matrices are
 * in the same order.  So only the sums of heads need a barrier between the
 * arrival of a vector and the end of its product.
 *
 * For shapes whose vectors are strips, in heads of 64, of one group.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_MAMBA2_STRIP_CUH
#define MAMBYTE_DECODE_MAMBA2_STRIP_CUH

#include "cuda/decode/decode_mamba2_block.cuh"

enum {
    STRIP_EACH = 16, /* elements of a strip that a lane has */
    STRIP_HEADS = STRIP_BYTES / (2 * WARP) /* heads of 64 in a strip */
};

/* Element k of a warp's strip, counted from its first one for this lane. */
static __device__ __forceinline__ int
strip_element(const struct decode_block *b, int k)
{
    return k * WARP + b->lane;
}

/* receive(), which also tells all warps that the weights have come for which
 * one has waited, and that the sums are cleared. */
static __device__ __forceinline__ void
receive_strips(struct decode_block *block, int vector, const uint64_t *words,
               int n, int n_ahead, uint32_t epoch)
{
#ifdef HAS_CLUSTER
    float *values = vector == VECTOR_H ? block->h : block->v;
    cluster_gather(values, block->complete + vector, words, n, epoch,
                   &block->shares[vector], block->plan->cluster, block->thread,
                   N_THREADS);
    if (block->warp == WAITING_WARP)
        weights_wait(&block->weights, n_ahead);
    compute_barrier(); /* weights are there, sums cleared; all this while the
                        * words are on their way to the cluster */
    mbarrier_wait(block->complete + vector, block->parity >> vector & 1);
    block->parity ^= 1u << vector;
#endif
}

/* The first n_rows rows at the place of the weights, times q; the rest of the
 * matrix after that, as multiply() does it.  The sums are cleared, and the
 * first rows are there. */
template <class S, int n_strips>
static __device__ __forceinline__ void
multiply_strip(struct decode_block *block, const struct matrix_share *m, int4 q,
               int ahead, int32_t *sums)
{
    const int stride = n_strips * STRIP_BYTES;
    const int n_groups = N_WARPS / n_strips, strip = block->warp % n_strips;
    int left = m->rows;
#pragma unroll 1
    for (;;) {
        const int n = min(m->rows_at_once, left);
        const struct warp_part p = {
            q, strip * STRIP_BYTES + block->lane * COPY_ALIGN, stride, n,
            n_groups};
        int row = block->warp / n_strips;
        if (row >= n_groups)
            row = n; /* a warp that is left over */
#pragma unroll 1
        for (; S::has_many_rows && row + 4 * n_groups < n; row += 8 * n_groups)
            multiply_some<8>(block, &p, row, sums + m->rows - left);
#pragma unroll 1
        for (; row < n; row += 4 * n_groups)
            multiply_some<4>(block, &p, row, sums + m->rows - left);
        compute_barrier(); /* sums are complete */
        weights_advance(&block->weights, n * stride);
        left -= n;
        if (left <= 0)
            break;
        free_weights(block);
        if (block->warp == WAITING_WARP)
            weights_wait(&block->weights, next_bytes(m, stride, left, ahead));
        compute_barrier(); /* weights are there */
    }
}

/* ---- h ------------------------------------------------------------------- */

/* The lane's weights of a norm. */
template <int n>
static __device__ __forceinline__ void
strip_weights(float w[n], const struct decode_block *block, weight_place norm,
              int first)
{
#pragma unroll
    for (int k = 0; k < n; k++)
        w[k] = share_float(block, norm, first + strip_element(block, k));
}

/* Four numbers of each word, quantised. */
static __device__ __forceinline__ int4 quantise_strip(const float x[STRIP_EACH],
                                                      struct exact_scale scale,
                                                      float inverse)
{
    const int mask = scale.scale == 0.0f ? 0 : ~0; /* a branch costs more */
    int word[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float4 four = {x[4 * i], x[4 * i + 1], x[4 * i + 2],
                             x[4 * i + 3]};
        word[i] = (int)quantise4(four, inverse) & mask;
    }
    return make_int4(word[0], word[1], word[2], word[3]);
}

/* a, or b where the mask is not 0 but all ones.  (An array whose elements were
 * chosen by ?: would be put into memory.) */
static __device__ __forceinline__ int either(int mask, int a, int b)
{
    return (a & ~mask) | (b & mask);
}

static __device__ __forceinline__ int4 either(int mask, int4 a, int4 b)
{
    return make_int4(either(mask, a.x, b.x), either(mask, a.y, b.y),
                     either(mask, a.z, b.z), either(mask, a.w, b.w));
}

/* The norm of h [n], with weights w, without a bias: q is all of it.  Returns
 * the scale. */
template <int n>
static __device__ __forceinline__ float
normalise_strip(int4 q[n / STRIP_BYTES], const struct decode_block *block,
                const float w[n / WARP])
{
    enum { EACH = n / WARP, N_STRIPS = n / STRIP_BYTES };
    float x[EACH], low = 0.0f, high = 0.0f;
#pragma unroll
    for (int k = 0; k < EACH; k++)
        x[k] = block->h[strip_element(block, k)];
#pragma unroll
    for (int k = 0; k < EACH; k += 2) {
        low = fmaf(x[k], x[k], low);
        high = fmaf(x[k + 1], x[k + 1], high);
    }
    const float mean = strided_sum(low, high) / (float)n;
    const float r = 1.0f / sqrtf(mean + block->plan->config.norm_epsilon);
    uint32_t amax = 0;
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        x[k] = normed(x[k], r, w[k]);
        amax = max(amax, magnitude_bits(x[k]));
    }
    const struct exact_scale scale = scale_of(warp_max(amax));
#pragma unroll
    for (int s = 0; s < N_STRIPS; s++)
        q[s] = quantise_strip(x + s * STRIP_EACH, scale, scale.inverse);
    return scale.scale;
}

/* ---- v ------------------------------------------------------------------- */

/* x[i] += x[i + s], for this s and then all smaller powers of two. */
template <int s> static __device__ __forceinline__ void add_tree(float *x)
{
#pragma unroll
    for (int i = 0; i < s; i++)
        x[i] += x[i + s];
    if constexpr (s > 1)
        add_tree<s / 2>(x);
}

/* The sum of squares [n] of heads, n >= 2, in the order of exact.h; and their
 * largest |u|.  A power of two up to 32 is added by each thread, others by
 * each warp. */
template <int n>
static __device__ __forceinline__ float add_heads(const float *squares,
                                                  const uint32_t *largest,
                                                  int lane, uint32_t *amax)
{
    if constexpr (n > WARP || (n & (n - 1)) != 0) {
        static_assert(n <= 2 * WARP, "a lane has two at most");
        const int high = lane + WARP;
        *amax = warp_max(
            max(lane < n ? largest[lane] : 0, high < n ? largest[high] : 0));
        return strided_sum(lane < n ? squares[lane] : 0.0f,
                           high < n ? squares[high] : 0.0f);
    } else {
        float sum[n];
        *amax = 0;
#pragma unroll
        for (int i = 0; i < n; i += 4) {
            const float4 four = *(const float4 *)(squares + i);
            const uint4 most = *(const uint4 *)(largest + i);
            sum[i] = four.x;
            sum[i + 1] = four.y;
            sum[i + 2] = four.z;
            sum[i + 3] = four.w;
            *amax = max(max(*amax, max(most.x, most.y)), max(most.z, most.w));
        }
        add_tree<n / 2>(sum);
        return sum[0];
    }
}

/* Words [4] moved up by so many places, of which each word is one; those at the
 * end come first. */
static __device__ __forceinline__ int4 rotated(int4 w, int places)
{
    w = either(places & 1 ? ~0 : 0, w, make_int4(w.w, w.x, w.y, w.z));
    return either(places & 2 ? ~0 : 0, w, make_int4(w.z, w.w, w.x, w.y));
}

/* The norm of v [n], with weights w: q is the warp's strip of it.  Returns the
 * scale.  The warps of a strip measure its heads together; a warp has its
 * elements in an order that begins with those of its own heads.  Of an odd
 * number of strips a warp is left over: it does as others do, but for what it
 * stores. */
template <int n>
static __device__ __forceinline__ float
normalise_heads(int4 *q, const struct decode_block *block,
                const float w[STRIP_EACH])
{
    enum {
        N_STRIPS = n / STRIP_BYTES,
        N_HEADS = n / (2 * WARP),
        SHARERS = N_WARPS / N_STRIPS, /* of a strip */
        OWN_HEADS = STRIP_HEADS / SHARERS
    };
    const struct mamba2_memory *m = &block->plan->memory.mamba2;
    float *squares = (float *)(block->memory + m->squares);
    uint32_t *largest = (uint32_t *)(block->memory + m->largest);
    const int strip = block->warp % N_STRIPS, turn = block->warp / N_STRIPS;
    float u[STRIP_EACH];
    float sum[OWN_HEADS];
#pragma unroll
    for (int k = 0; k < STRIP_EACH; k++) {
        const int at = (k + 2 * OWN_HEADS * turn) % STRIP_EACH;
        u[k] = block->v[strip * STRIP_BYTES + strip_element(block, at)];
    }
#pragma unroll
    for (int i = 0; i < OWN_HEADS; i++)
        sum[i] = u[2 * i] * u[2 * i] + u[2 * i + 1] * u[2 * i + 1];
#pragma unroll
    for (int k = 0; k < STRIP_EACH; k++)
        u[k] = u[k] * w[k];
#pragma unroll
    for (int i = 0; i < OWN_HEADS; i++) {
        sum[i] = warp_sum(sum[i]);
        const uint32_t most = warp_max(
            max(magnitude_bits(u[2 * i]), magnitude_bits(u[2 * i + 1])));
        if (block->lane == 0 && turn < SHARERS) {
            const int h = strip * STRIP_HEADS + OWN_HEADS * turn + i;
            squares[h] = sum[i];
            largest[h] = most;
        }
    }
    compute_barrier(); /* every warp reads what all measured; the state of the
                        * next layer has come */
    uint32_t amax;
    const float mean =
        add_heads<N_HEADS>(squares, largest, block->lane, &amax) / (float)n;
    const float r = 1.0f / sqrtf(mean + block->plan->config.norm_epsilon);
    const struct exact_scale scale =
        scale_of(magnitude_bits(exact_float(amax) * r));
    *q = rotated(quantise_strip(u, scale, r * scale.inverse),
                 2 * OWN_HEADS / 4 * turn);
    return scale.scale;
}

/* The lane's weights of the norm of v, in that order. */
template <int n>
static __device__ __forceinline__ void
head_weights(float w[STRIP_EACH], const struct decode_block *block,
             weight_place norm)
{
    enum { N_STRIPS = n / STRIP_BYTES, SHARERS = N_WARPS / N_STRIPS };
    const int turn = block->warp / N_STRIPS;
    const int first = block->warp % N_STRIPS * STRIP_BYTES;
#pragma unroll
    for (int k = 0; k < STRIP_EACH; k++)
        w[k] = share_float(
            block, norm,
            first + strip_element(block, (k + STRIP_EACH / SHARERS * turn) %
                                             STRIP_EACH));
}

#endif
