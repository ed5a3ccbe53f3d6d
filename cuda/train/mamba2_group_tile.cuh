/* mamba2_group_tile.cuh -- tiles of 64 x 64 bf16 numbers in shared memory as
 * products of a warpgroup take them, and those products.
 *
 * A block is a warpgroup: four warps, of which warp i has rows 16 i .. 16 i +
 * 15 of a result, held as mamba2_tile.cuh says: float c[8][4].  A tile is 64
 * rows of eight cells of 16 bytes; cell c of row r lies at place c ^ (r % 8),
 * so that neither rows nor columns meet in a bank.
 *
 * Compute capability 9.0, built for 90a; elsewhere mamba2_tile.cuh does it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_GROUP_TILE_CUH
#define MAMBYTE_MAMBA2_GROUP_TILE_CUH

#include "cuda/train/mamba2_tile.cuh"

enum {
    GROUP_THREADS = 128,
    GROUP_TILE = SIDE * SIDE, /* numbers                                    */
    CELL = 8                  /* the same, of 16 bytes                      */
};

#if HAVE_WARPGROUP_PRODUCT

/* ---- places -------------------------------------------------------------- */

/* Columns 8 j + 2 q and the next of a row. */
static __device__ __forceinline__ uint32_t *group_pair(__nv_bfloat16 *tile,
                                                       int row, int j, int q)
{
    const int first = row * 2 * SIDE + row % 8 * 2 * CELL + 4 * q;
    return (uint32_t *)((char *)tile + (first ^ j * 2 * CELL));
}

/* The number of this thread's warp, the same register for all of it. */
static __device__ __forceinline__ int warp_of(void)
{
    return __shfl_sync(WHOLE_WARP, (int)threadIdx.x / WARP, 0);
}

static __device__ __forceinline__ float2 get_pair(uint32_t x)
{
    return make_float2(exact_float(x << 16), exact_float(x & 0xffff0000u));
}

/* Starts copying 64 rows of 64 numbers; those from `rows` on become 0. */
static __device__ __forceinline__ void
copy_group_tile(__nv_bfloat16 *tile, const __nv_bfloat16 *from, size_t ld,
                int rows)
{
    const int first = threadIdx.x / 8, cell = threadIdx.x % 8;
    __nv_bfloat16 *to = tile + first * SIDE + (cell ^ first % 8) * CELL;
    from += first * ld + cell * CELL;
#pragma unroll
    for (int i = 0; i < SIDE; i += GROUP_THREADS / 8) {
        bool is_there = first + i < rows;
        copy16(to + i * SIDE, is_there ? from + i * ld : from - first * ld,
               is_there);
    }
}

/* The same in fewer instructions, where all rows are there. */
static __device__ __forceinline__ void
copy_group_rows(__nv_bfloat16 *tile, const __nv_bfloat16 *from, size_t ld,
                int rows)
{
    const int first = threadIdx.x / 8, cell = threadIdx.x % 8;
    __nv_bfloat16 *to = tile + first * SIDE + (cell ^ first % 8) * CELL;
    if (rows >= SIDE) {
        from += first * ld + cell * CELL;
#pragma unroll
        for (int i = 0; i < SIDE; i += GROUP_THREADS / 8)
            copy16(to + i * SIDE, from + i * ld, true);
    } else {
        copy_group_tile(tile, from, ld, rows);
    }
}

/* Rows 16 w .. 16 w + 15 of warp w as the left side of a product: terms 16 k ..
 * 16 k + 15 in a[k]. */
static __device__ __forceinline__ void
load_group_left(uint32_t a[SIDE_STEPS][4], const __nv_bfloat16 *tile, int row)
{
    const int lane = lane_of(), r = row + lane % 16;
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++)
        load_matrices(a[k],
                      tile + r * SIDE + (2 * k + lane / 16 ^ r % 8) * CELL);
}

/* Stores the rows of a warp, of which the first `rows` exist, by way of its
 * rows of a tile. */
static __device__ __forceinline__ void
store_group_rows(__nv_bfloat16 *to, size_t ld, int rows, __nv_bfloat16 *tile,
                 int row, const float c[8][4])
{
    const int lane = lane_of(), g = lane / 4, q = lane % 4;
    const int first = lane / 8, cell = lane % 8;
    int4 x[4];
    __syncwarp();
#pragma unroll
    for (int j = 0; j < 8; j++) {
        *group_pair(tile, row + g, j, q) = pack2(c[j][0], c[j][1]);
        *group_pair(tile, row + g + 8, j, q) = pack2(c[j][2], c[j][3]);
    }
    __syncwarp();
    tile += (row + first) * SIDE;
    to += (row + first) * ld + cell * CELL;
#pragma unroll
    for (int i = 0; i < 4; i++)
        x[i] = *(const int4 *)(tile + 4 * i * SIDE +
                               (cell ^ (first + 4 * i) % 8) * CELL);
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (first + 4 * i < rows)
            *(int4 *)(to + 4 * i * ld) = x[i];
}

/* ---- products ------------------------------------------------------------ */

/* c = a b, or c += a b where adds.  A side lies in its tile by its own rows, or
 * where TRANSPOSED by those of the terms. */
template <bool A_TRANSPOSED, bool B_TRANSPOSED>
static __device__ __forceinline__ void
group_multiply(float (&c)[8][4], const __nv_bfloat16 *a, const __nv_bfloat16 *b,
               bool adds)
{
    const uint64_t rows_a = group_rows(a), rows_b = group_rows(b);
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++)
        group_product_64x64x16<A_TRANSPOSED, B_TRANSPOSED>(
            c, rows_a + k * (A_TRANSPOSED ? 128 : 2),
            rows_b + k * (B_TRANSPOSED ? 128 : 2), adds || k > 0);
}

template <bool B_TRANSPOSED>
static __device__ __forceinline__ void
group_multiply(float (&c)[8][4], const uint32_t a[SIDE_STEPS][4],
               const __nv_bfloat16 *b, bool adds)
{
    const uint64_t rows_b = group_rows(b);
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++)
        group_product_64x64x16<B_TRANSPOSED>(
            c, a[k], rows_b + k * (B_TRANSPOSED ? 128 : 2), adds || k > 0);
}

#endif
#endif
