/* batch_projections.cuh -- in_proj, x_proj and out_proj.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_PROJECTIONS_CUH
#define MAMBYTE_BATCH_PROJECTIONS_CUH

#include "cuda/batch/batch_weights.cuh"

#ifdef HAS_CLUSTER

/* ---- in_proj ------------------------------------------------------------- */

template <class T> using in_stream = unit_stream<T, T::in_tiles, T::in_ahead>;

template <class T>
static __device__ __forceinline__ void
start_in(in_stream<T> &s, const batch_block<T> &k, int layer)
{
    s.start(k, layer, 0, k.m.share.in_units);
}

template <class T>
static __device__ __forceinline__ void batch_in(in_stream<T> &s,
                                                batch_block<T> &k)
{
    constexpr int half = T::in_tiles / 2;
    int32_t sum[T::deep][T::in_tiles][4] = {};
    const float *scale = k.template place<float>(k.m.at.scale);
    s.multiply(k, sum, operand(k), UNIT_DEPTH, k.m.share.in_units);
#pragma unroll
    for (int j = 0; j < T::in_tiles; j++) {
        int column = (k.warp * half + j % half) * 8 + k.lane % 4 * 2 +
                     (j < half ? 0 : T::channels);
        float2 w = *(const float2 *)(k.resident(k.m.share.in_scale) + column);
#pragma unroll
        for (int i = 0; i < 2 * T::deep; i++) {
            const int32_t *c = sum[i / 2][j] + i % 2 * 2;
            int row = i * 8 + k.lane / 4;
            if (row < k.n)
                *(float2 *)(k.uz(row) + column) =
                    make_float2(exact_dequantise(c[0], scale[row], w.x),
                                exact_dequantise(c[1], scale[row], w.y));
        }
    }
}

/* ---- x_proj: its rows are dealt out to the blocks, its depth to the warps  */

template <class T> using x_stream = unit_stream<T, 1, 4>;

/* The i-th tile of eight rows of this block. */
template <class T>
static __device__ __forceinline__ int x_tile(const batch_block<T> &k, int i)
{
    return k.rank + i * k.m.size;
}

template <class T>
static __device__ __forceinline__ void
start_x(x_stream<T> &s, const batch_block<T> &k, int layer, int i)
{
    const struct batch_share &at = k.m.share;
    s.start(k, layer, at.in_units * T::in_tiles + i * at.x_stages, at.x_stages);
}

/* Clears the sums to which all warps add: integers, in any order. */
template <class T>
static __device__ __forceinline__ void clear_x(const batch_block<T> &k)
{
    int n = k.m.share.n_x_tiles * k.m.rows * 8;
    for (int i = k.thread; i < n; i += BATCH_THREADS)
        k.template place<int32_t>(k.m.at.sums)[i] = 0;
}

/* Adds this warp's part of tile i.  The weights are zeros where there is no
 * such tile, or no such part. */
template <class T>
static __device__ __forceinline__ void add_x(x_stream<T> &s, batch_block<T> &k,
                                             int i)
{
    int32_t sum[T::deep][1][4] = {};
    s.multiply(k, sum, operand(k) + k.warp * UNIT_DEPTH,
               BATCH_WARPS * UNIT_DEPTH, k.m.share.x_stages);
    int *to =
        k.template place<int>(k.m.at.sums) + i * k.m.rows * 8 + k.lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < 4 * T::deep; j++) {
        int row = j / 2 * 8 + k.lane / 4;
        if (row < k.n)
            atomicAdd(to + row * 8 + j % 2, sum[j / 4][0][j % 4]);
    }
}

/* Sends dt, B and C of the rows, from the sums, to all blocks: four by four. */
template <class T>
static __device__ __forceinline__ void share_x(const batch_block<T> &k)
{
    const float *scale = k.template place<float>(k.m.at.scale);
    int n = k.m.share.n_x_tiles * k.n * 2;
    for (int i = k.thread; i < n; i += BATCH_THREADS) {
        int half = i % 2, row = i / 2 % k.n, tile = i / 2 / k.n;
        int at = x_tile(k, tile) * 8 + half * 4;
        if (at >= k.m.dtbc_stride)
            continue;
        const int32_t *sum = k.template place<int32_t>(k.m.at.sums) +
                             (tile * k.m.rows + row) * 8 + half * 4;
        const float *w = k.resident(k.m.share.x_scale) + at;
        float v[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            v[j] = exact_dequantise(sum[j], scale[row], w[j]);
        batch_send_all(k, DTBC_COMES,
                       k.m.at.dtbc + (row * k.m.dtbc_stride + at) * 4,
                       words_of(v));
    }
}

template <class T>
static __device__ __forceinline__ void batch_x(x_stream<T> &s,
                                               batch_block<T> &k, int layer)
{
    for (int i = 0; i < k.m.share.n_x_tiles; i++) {
        if (i > 0)
            start_x(s, k, layer, i);
        add_x(s, k, i);
    }
    __syncthreads(); /* the sums are complete, the stages used */
    ring_fill(k);
    share_x(k);
}

/* ---- out_proj ------------------------------------------------------------ */

template <class T> using out_stream = unit_stream<T, 1, 8>;

template <class T>
static __device__ __forceinline__ void
start_out(out_stream<T> &s, const batch_block<T> &k, int layer)
{
    const struct batch_share &at = k.m.share;
    s.start(k, layer, at.in_units * T::in_tiles + at.n_x_tiles * at.x_stages,
            at.out_units);
}

/* Sends dv, which is to be added to h, to the blocks that have its rows.  Lanes
 * 2 i and 2 i + 1 have neighbouring pairs of columns of two rows, and exchange
 * them, so that each has four columns of one row. */
template <class T>
static __device__ __forceinline__ void send_out(const batch_block<T> &k,
                                                const int32_t sum[4], int row,
                                                int column, float2 w)
{
    const bool is_odd = k.lane & 1;
    const float *scale = k.template place<float>(k.m.at.scale);
    float low = scale[min(row, k.n - 1)], high = scale[min(row + 8, k.n - 1)];
    float2 a = make_float2(exact_dequantise(sum[0], low, w.x),
                           exact_dequantise(sum[1], low, w.y));
    float2 b = make_float2(exact_dequantise(sum[2], high, w.x),
                           exact_dequantise(sum[3], high, w.y));
    float2 give = is_odd ? a : b, keep = is_odd ? b : a, got;
    got.x = __shfl_xor_sync(WHOLE_WARP, give.x, 1);
    got.y = __shfl_xor_sync(WHOLE_WARP, give.y, 1);
    float v[4] = {is_odd ? got.x : keep.x, is_odd ? got.y : keep.y,
                  is_odd ? keep.x : got.x, is_odd ? keep.y : got.y};
    row += is_odd ? 8 : 0;
    if (row < k.n)
        batch_send(k, DV_COMES,
                   k.m.at.dv + (row % k.own * k.m.d_model + column / 4 * 4) * 4,
                   row / k.own, words_of(v));
}

/* Warps with the second half of the depth hand their sums to those with the
 * first half, through the place of u and z, which is free.  The sums of 16 rows
 * of all warps come first, then those of the next 16: for few rows there is
 * room for no more. */
template <class T>
static __device__ __forceinline__ void join_out(int32_t sum[T::deep][1][4],
                                                const batch_block<T> &k)
{
    enum { EACH = BATCH_WARPS / 2 * WARP }; /* of 16 rows */
    static_assert(EACH * sizeof(int4) <= 8 * T::uz_pitch * sizeof(float),
                  "they have room where a tile has 8 rows");
    const bool is_second = k.warp >= BATCH_WARPS / 2;
    int4 *at = k.template place<int4>(k.m.at.uz) +
               k.warp % (BATCH_WARPS / 2) * WARP + k.lane;
#pragma unroll
    for (int i = 0; i < T::deep; i++) {
        if (is_second && i * ROW_TILE < k.n)
            at[i * EACH] = make_int4(sum[i][0][0], sum[i][0][1], sum[i][0][2],
                                     sum[i][0][3]);
    }
    __syncthreads(); /* the sums of the second halves are written */
#pragma unroll
    for (int i = 0; i < T::deep; i++) {
        if (is_second || i * ROW_TILE >= k.n)
            continue;
        int4 v = at[i * EACH];
        sum[i][0][0] += v.x;
        sum[i][0][1] += v.y;
        sum[i][0][2] += v.z;
        sum[i][0][3] += v.w;
    }
}

template <class T>
static __device__ __forceinline__ void batch_out(out_stream<T> &s,
                                                 batch_block<T> &k, int layer)
{
    const int tiles = k.m.share.n_out_tiles;
    const bool is_shared = out_is_shared(tiles);
    const bool is_second = is_shared && k.warp >= BATCH_WARPS / 2;
    const int tile = is_shared ? k.warp % (BATCH_WARPS / 2) : k.warp;
    const int pair = min(tile, tiles - 1) * 8 + k.lane % 4 * 2;
    float2 w =
        *(const float2 *)(k.share(layer) + k.m.share.out_scale + pair * 4);
    int32_t sum[T::deep][1][4] = {};
    s.multiply(k, sum,
               operand(k) + (is_second ? k.m.share.out_units * UNIT_DEPTH : 0),
               UNIT_DEPTH, k.m.share.out_units);
    if (is_shared)
        join_out<T>(sum, k);
    else if (T::has_ring)
        __syncthreads(); /* all have used the stages */
    ring_fill(k);
    if (tile >= tiles || is_second)
        return;
#pragma unroll
    for (int i = 0; i < T::deep; i++) {
        if (i * ROW_TILE < k.n)
            send_out(k, sum[i][0], i * ROW_TILE + k.lane / 4,
                     k.rank * tiles * 8 + pair, w);
    }
}

#endif

#endif
