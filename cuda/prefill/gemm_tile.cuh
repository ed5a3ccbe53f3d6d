/* gemm_tile.cuh -- a block's tile of an int8 product, on its way through shared
 * memory and the tensor cores.
 *
 * x and W stream through shared memory in sections of DEPTH bytes of their
 * rows, some at a time.  The 16-byte cells of a section are placed so
 * that the eight rows that a matrix load touches lie in different banks, and as
 * products of a warpgroup want them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GEMM_TILE_CUH
#define MAMBYTE_GEMM_TILE_CUH

#include "cuda/common/exact_vector.cuh"
#include "cuda/common/tensor.cuh"
#include "cuda/prefill/prefill_batch.cuh"

enum { DEPTH = 128, CELL = 16, CELLS = DEPTH / CELL };

/* A tile of a block and of a warp, and the sections in shared memory. */
template <int rows_, int cols_, int warp_rows_, int warp_cols_, int stages_>
struct tile {
    static constexpr int rows = rows_, cols = cols_, stages = stages_;
    static constexpr int warp_rows = warp_rows_, warp_cols = warp_cols_;
    static constexpr int warps_down = rows / warp_rows;
    static constexpr int warps_across = cols / warp_cols;
    static constexpr int threads = warps_down * warps_across * WARP;
    static constexpr int stage = (rows + cols) * DEPTH;
    static constexpr int shared = stage * stages;
    static constexpr bool is_for_groups = warp_rows == 16 && warp_cols == 128;
};

/* Where the 16-byte cell c of row r lies in a section. */
static __device__ __forceinline__ int place(int r, int c)
{
    return r * DEPTH + (c ^ (r & (CELLS - 1))) * CELL;
}

/* Brings rows of a matrix to shared memory, section by section: a thread has
 * the same cell of every `step`-th row.  Rows past the last repeat it. */
template <int rows, int threads> struct loader {
    static constexpr int step = threads / CELLS, count = rows / step;
    static_assert(rows % step == 0 && step % 8 == 0, "cells keep their place");
    const int8_t *from[count];
    int at, stride;

    __device__ __forceinline__ loader(const int8_t *m, int stride_, int first,
                                      int last)
        : at(threadIdx.x % CELLS * CELL), stride(stride_)
    {
#pragma unroll
        for (int i = 0; i < count; i++) {
            int row = min(first + (int)threadIdx.x / CELLS + i * step, last);
            from[i] = m + (size_t)row * stride;
        }
    }

    /* Bytes [k, k + DEPTH) of the rows; zeros past their end. */
    __device__ __forceinline__ void load(int8_t *section, int k) const
    {
        int to = place(threadIdx.x / CELLS, threadIdx.x % CELLS);
        bool is_valid = k + at < stride;
        int offset = is_valid ? k + at : 0;
#pragma unroll
        for (int i = 0; i < count; i++)
            copy16(section + to + i * step * DEPTH, from[i] + offset, is_valid);
    }
};

/* A warp's part of a section: its rows of x, its rows of w. */
template <class T>
static __device__ __forceinline__ void
multiply_section(int32_t sum[T::warp_rows / 16][T::warp_cols / 8][4],
                 const int8_t *x, const int8_t *w)
{
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int k = 0; k < DEPTH; k += 32) {
        uint32_t a[T::warp_rows / 16][4], b[T::warp_cols / 8][2];
#pragma unroll
        for (int i = 0; i < T::warp_rows / 16; i++)
            load_matrices(a[i],
                          x + place(i * 16 + lane % 16, k / CELL + lane / 16));
#pragma unroll
        for (int j = 0; j < T::warp_cols / 16; j++)
            load_matrices(b[2 * j], w + place(j * 16 + lane % 8 + lane / 16 * 8,
                                              k / CELL + lane / 8 % 2));
#pragma unroll
        for (int i = 0; i < T::warp_rows / 16; i++) {
#pragma unroll
            for (int j = 0; j < T::warp_cols / 8; j++)
                product_16x8x32(sum[i][j], a[i], b[j]);
        }
    }
}

#if HAVE_WARPGROUP_PRODUCT
/* sum = products, or sum += products where it adds, for the warpgroup that this
 * warp belongs to; between group_begin() and group_commit(), and under way
 * until group_wait. */
static __device__ __forceinline__ void
group_multiply_section(int32_t sum[1][16][4], const int8_t *x, const int8_t *w,
                       bool adds)
{
    uint64_t a = group_rows(x), b = group_rows(w);
#pragma unroll
    for (int k = 0; k < DEPTH; k += 32)
        group_product_64x128x32(sum[0], a + k / 16, b + k / 16, adds || k > 0);
}
#endif

#endif
