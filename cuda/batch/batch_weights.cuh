/* batch_weights.cuh -- the weights of a layer, on their way to the warps that
 * multiply by them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_WEIGHTS_CUH
#define MAMBYTE_BATCH_WEIGHTS_CUH

#include "cuda/batch/batch_block.cuh"
#include "cuda/common/tensor.cuh"

#ifdef HAS_CLUSTER

/* ---- the ring of weights ------------------------------------------------- */

/* Fetches stage number i of all tiles. */
template <class T>
static __device__ __forceinline__ void ring_fetch(const batch_block<T> &k,
                                                  int i)
{
    const int slot = i % k.m.at.ring_stages;
    const int layer = i / k.m.share.n_stages % k.m.n_layer;
    uint64_t *full = k.template place<uint64_t>(k.m.at.full) + slot;
    mbarrier_expect(full, STAGE_BYTES);
    bulk_copy(k.template place<char>(k.m.at.ring) + slot * STAGE_BYTES,
              k.share(layer) + k.m.share.stages +
                  (size_t)(i % k.m.share.n_stages) * STAGE_BYTES,
              STAGE_BYTES, full);
}

/* Fetches as many stages as there is room for.  The last warp does it, a stage
 * for each lane, after a barrier of the block: all warps have used the stages
 * before k.used. */
template <class T>
static __device__ __forceinline__ void ring_fill(const batch_block<T> &k)
{
    if (!T::has_ring || k.warp != BATCH_WARPS - 1)
        return;
    int *filled = k.template place<int>(k.m.at.filled);
    int first = *filled;
    int end = min(k.used + k.m.at.ring_stages, k.n_stages);
    __syncwarp();
    if (first + k.lane < end)
        ring_fetch(k, first + k.lane);
    if (k.lane == 0)
        *filled = max(first, end);
    __syncwarp();
}

/* Waits for the next stage; returns this lane's part of it. */
template <class T>
static __device__ __forceinline__ uint4 ring_next(batch_block<T> &k)
{
    mbarrier_wait(k.template place<uint64_t>(k.m.at.full) + k.slot, k.lap);
    uint4 w =
        k.template place<uint4>(k.m.at.ring + k.slot * STAGE_BYTES)[k.thread];
    k.used++;
    if (++k.slot == k.m.at.ring_stages) {
        k.slot = 0;
        k.lap ^= 1;
    }
    return w;
}

/* ---- products ------------------------------------------------------------ */

/* sum += q W^T for `tiles` units of W and sixteen rows of q. */
template <int tiles>
static __device__ __forceinline__ void
multiply_unit(int32_t sum[tiles][4], const uint4 w[tiles], const int8_t *q)
{
    uint32_t low[4], high[4];
    load_matrices(low, q);
    load_matrices(high, q + 32);
#pragma unroll
    for (int j = 0; j < tiles; j++) {
        const uint32_t b[4] = {w[j].x, w[j].y, w[j].z, w[j].w};
        product_16x8x32(sum[j], low, b);
        product_16x8x32(sum[j], high, b + 2);
    }
}

/* The units of a warp in consecutive stages.  `tiles` at a time are multiplied
 * by the same part of q.  They come through the ring, or straight to registers,
 * `ahead` of them at a time. */
template <class T, int tiles, int ahead> struct unit_stream {
    const uint4 *from; /* this lane's, of the first unit */
    uint4 next[ahead][tiles];

    __device__ __forceinline__ void fetch(int i, int unit)
    {
#pragma unroll
        for (int j = 0; j < tiles; j++)
            next[i][j] =
                load_once(from + (unit * tiles + j) * (STAGE_BYTES / 16));
    }

    /* Starts at a stage of the layer; there are n times `tiles` stages.  Past
     * the last one it fetches that again, so that no old value is kept alive.
     */
    __device__ __forceinline__ void start(const batch_block<T> &k, int layer,
                                          int stage, int n)
    {
        if (T::has_ring)
            return;
        from = (const uint4 *)(k.share(layer) + k.m.share.stages +
                               (size_t)stage * STAGE_BYTES) +
               k.thread;
#pragma unroll
        for (int i = 0; i < ahead; i++)
            fetch(i, min(i, n - 1));
    }

    /* sum += q W^T.  q: operand() of the first unit; pitch: bytes from there to
     * the next unit. */
    __device__ __forceinline__ void multiply(batch_block<T> &k,
                                             int32_t sum[T::deep][tiles][4],
                                             const int8_t *q, int pitch, int n)
    {
        if constexpr (T::has_ring) {
            multiply_ring(k, sum, q, pitch, n);
        } else {
#pragma unroll 1
            for (int u0 = 0; u0 < n; u0 += ahead) {
#pragma unroll
                for (int i = 0; i < ahead; i++) {
                    if (u0 + i >= n)
                        break;
                    multiply_rows(k, sum, next[i], q + (u0 + i) * pitch);
                    if (u0 + i + ahead < n)
                        fetch(i, u0 + i + ahead);
                }
            }
        }
    }

    /* At most half of the ring is used between two barriers; the other half is
     * on its way. */
    static __device__ __forceinline__ void
    multiply_ring(batch_block<T> &k, int32_t sum[T::deep][tiles][4],
                  const int8_t *q, int pitch, int n)
    {
        const int at_most = k.m.at.ring_stages / 2 / tiles;
#pragma unroll 1
        for (int u = 0, since = 0; u < n; u++, since++) {
            uint4 w[tiles];
            if (since == at_most) {
                __syncthreads(); /* all have used these stages */
                ring_fill(k);
                since = 0;
            }
#pragma unroll
            for (int j = 0; j < tiles; j++)
                w[j] = ring_next(k);
            multiply_rows(k, sum, w, q + u * pitch);
        }
    }

    static __device__ __forceinline__ void
    multiply_rows(const batch_block<T> &k, int32_t sum[T::deep][tiles][4],
                  const uint4 w[tiles], const int8_t *q)
    {
#pragma unroll
        for (int t = 0; t < T::deep; t++) {
            if (t * ROW_TILE < k.n)
                multiply_unit<tiles>(sum[t], w,
                                     q + t * ROW_TILE * k.m.at.q_pitch);
        }
    }
};

/* The address in q that this lane gives load_matrices. */
template <class T>
static __device__ __forceinline__ const int8_t *operand(const batch_block<T> &k)
{
    return k.template place<int8_t>(k.m.at.q) + k.lane % 16 * k.m.at.q_pitch +
           k.lane / 16 * 16;
}

#endif

#endif
