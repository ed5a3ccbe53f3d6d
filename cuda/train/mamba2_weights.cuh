/* mamba2_weights.cuh -- the weights m[t][s] of a chunk, as the kernels forward
 * and backward make them: the same bits both times.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_WEIGHTS_CUH
#define MAMBYTE_MAMBA2_WEIGHTS_CUH

#include "cuda/train/mamba2_chunk.cuh"
#include "cuda/train/row_scale.cuh"

/* Of every result of 64 x 64 a warp has a band of 16 rows and half of the
 * columns. */
enum {
    HALVES = 2,
    BANDS = SIDE_WARPS,
    HALF_WARPS = HALVES * BANDS,
    HALF_THREADS = HALF_WARPS * WARP,
    HALF = SIDE / HALVES, /* columns of a warp                            */
    PIECES = HALF / 8     /* the same in columns of a product             */
};

#ifdef __CUDACC__

/* Waits for the other warp of the band that starts at a row. */
static __device__ __forceinline__ void wait_for_band(int row)
{
    barrier_sync(1 + row / 16, HALVES * WARP);
}

/* g[t][s] = sum over n of C^[t][n] B^[s][n], for the 16 rows t from row on,
 * and s up to their end.  b, c: [state_tiles] tiles. */
/* n_end: of the columns, from those of g on. */
template <int N, typename T>
static __device__ __forceinline__ void multiply_cb(float (&g)[N][4], const T *c,
                                                   const T *b, int row,
                                                   int n_end, int n_tiles)
{
    clear(g);
#pragma unroll 1
    for (int i = 0; i < n_tiles; i++)
        multiply_tiles<false, false>(g, c + i * tile_size<T>(), row,
                                     b + i * tile_size<T>(), 0, SIDE, n_end);
}

/* The decay from place s to place t: 0 where s comes after t. */
static __device__ __forceinline__ float decay_between(float cum_t, float cum_s,
                                                      int t, int s)
{
    float decay = fast_exp2(cum_t - cum_s);
    return s <= t ? decay : 0.0f;
}

/* The largest m of a row's half. */
static __device__ __forceinline__ void
share_largest(float largest[SIDE], const float m[PIECES][4], int row)
{
    float amax[2] = {0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < PIECES; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            amax[e / 2] = fmaxf(amax[e / 2], fabsf(m[j][e]));
    for (int r = 0; r < 2; r++) {
        amax[r] = row_max(amax[r]);
        if (lane_of() % 4 == 0)
            largest[row + lane_of() / 4 + 8 * r] = amax[r];
    }
}

#endif
#endif
