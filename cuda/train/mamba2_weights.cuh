/* mamba2_weights.cuh -- the weights m[t][s] of a chunk, as the kernels forward
 * and backward make them: the same bits both times.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_WEIGHTS_CUH
#define MAMBYTE_MAMBA2_WEIGHTS_CUH

#include "cuda/train/mamba2_chunk.cuh"
#include "cuda/train/row_scale.cuh"

#ifdef __CUDACC__

/* g[t][s] = sum over n of C^[t][n] B^[s][n], for the 16 rows t from row on,
 * and s up to their end.  b, c: [state_tiles] tiles. */
template <typename T>
static __device__ __forceinline__ void
multiply_cb(float g[SIDE / 8][4], const T *c, const T *b, int row, int n_tiles)
{
    clear(g);
    for (int i = 0; i < n_tiles; i++)
        multiply_tiles<false, false>(g, c + i * tile_size<T>(), row,
                                     b + i * tile_size<T>(), 0, SIDE, row + 16);
}

/* The decay from place s to place t: 0 where s comes after t. */
static __device__ __forceinline__ float decay_between(float cum_t, float cum_s,
                                                      int t, int s)
{
    float decay = fast_exp2(cum_t - cum_s);
    return s <= t ? decay : 0.0f;
}

#endif
#endif
