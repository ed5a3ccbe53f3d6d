/* mamba2_tile.cuh -- tiles of 64 x 64 numbers in shared memory, and their
 * products on tensor cores.
 *
 * A block of four warps works on tiles; warp i has rows 16 i .. 16 i + 15 of
 * a result, in registers: float c[8][4].  With g = lane / 4 and q = lane % 4
 *     c[j][0], c[j][1]   row g,     columns 8 j + 2 q and 8 j + 2 q + 1
 *     c[j][2], c[j][3]   row g + 8, the same columns
 * which is also how a left operand of a further product lies, so that one
 * product's result becomes the next one's operand without leaving registers.
 *
 * bf16 numbers go to the tensor cores as they are.  Float32 numbers, which
 * tests use, are split into three bf16 each: the same kernels, and products
 * good to 2^-22.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_TILE_CUH
#define MAMBYTE_MAMBA2_TILE_CUH

#include "cuda/common/device.cuh"
#include "cuda/common/reduce.cuh"
#include "cuda/common/tensor.cuh"
#include "cuda/train/number.cuh"

enum {
    SIDE = 64,          /* of a tile                             */
    SIDE_WARPS = 4,     /* of a block that works on tiles        */
    SIDE_THREADS = 128, /* the same in threads                   */
    SIDE_STEPS = 4      /* products of 16 terms that make a tile */
};

/* Numbers from one row of a tile to the next: 16 bytes more than the row, so
 * that eight rows lie in different banks. */
template <typename T> static __host__ __device__ constexpr int tile_ld(void)
{
    return SIDE + 16 / (int)sizeof(T);
}

/* Numbers of a tile. */
template <typename T> static __host__ __device__ constexpr int tile_size(void)
{
    return SIDE * tile_ld<T>();
}

#ifdef __CUDACC__

/* ---- operands ------------------------------------------------------------ */

/* Two neighbours of a row. */
template <typename T> struct pair;
template <> struct pair<float> {
    float2 x;
};
template <> struct pair<__nv_bfloat16> {
    uint32_t x;
};

static __device__ __forceinline__ float2 get(const pair<float> &p)
{
    return p.x;
}

static __device__ __forceinline__ float2 get(const pair<__nv_bfloat16> &p)
{
    return make_float2(exact_float(p.x << 16), exact_float(p.x & 0xffff0000u));
}

static __device__ __forceinline__ void put(pair<float> &p, float x, float y)
{
    p.x = make_float2(x, y);
}

static __device__ __forceinline__ void put(pair<__nv_bfloat16> &p, float x,
                                           float y)
{
    p.x = pack2(x, y);
}

/* 16 x 16, left: pair i is of row g + 8 (i % 2), terms 2 q + 8 (i / 2) and
 * the next. */
template <typename T> struct left {
    pair<T> at[4];
};

/* 16 x 8, right: pair i is of column g, terms 2 q + 8 i and the next. */
template <typename T> struct right {
    pair<T> at[2];
};

static __device__ __forceinline__ int lane_of(void)
{
    return threadIdx.x % WARP;
}

/* Rows row .. row + 15 and terms k .. k + 15 of a left operand that lies in
 * a tile as [row][k], or as [k][row] when transposed. */
template <bool TRANSPOSED>
static __device__ __forceinline__ void
load_left(left<__nv_bfloat16> &a, const __nv_bfloat16 *tile, int row, int k)
{
    const int ld = tile_ld<__nv_bfloat16>(), lane = lane_of();
    uint32_t r[4];
    if (TRANSPOSED)
        load_transposed(r, tile + (k + lane / 16 * 8 + lane % 8) * ld + row +
                               lane / 8 % 2 * 8);
    else
        load_matrices(r, tile + (row + lane % 16) * ld + k + lane / 16 * 8);
#pragma unroll
    for (int i = 0; i < 4; i++)
        a.at[i].x = r[i];
}

template <bool TRANSPOSED>
static __device__ __forceinline__ void
load_left(left<float> &a, const float *tile, int row, int k)
{
    const int ld = tile_ld<float>(), g = lane_of() / 4, q = lane_of() % 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int r = row + g + i % 2 * 8, c = k + 2 * q + i / 2 * 8;
        const float *at = tile + (TRANSPOSED ? c * ld + r : r * ld + c);
        a.at[i].x = make_float2(at[0], at[TRANSPOSED ? ld : 1]);
    }
}

/* Terms k .. k + 15 and columns n .. n + 15 of a right operand that lies in
 * a tile as [n][k], or as [k][n] when transposed. */
template <bool TRANSPOSED>
static __device__ __forceinline__ void
load_right(right<__nv_bfloat16> b[2], const __nv_bfloat16 *tile, int k, int n)
{
    const int ld = tile_ld<__nv_bfloat16>(), lane = lane_of();
    uint32_t r[4];
    if (TRANSPOSED)
        load_transposed(r, tile + (k + lane / 8 % 2 * 8 + lane % 8) * ld + n +
                               lane / 16 * 8);
    else
        load_matrices(r, tile + (n + lane / 16 * 8 + lane % 8) * ld + k +
                             lane / 8 % 2 * 8);
#pragma unroll
    for (int i = 0; i < 4; i++)
        b[i / 2].at[i % 2].x = r[i];
}

template <bool TRANSPOSED>
static __device__ __forceinline__ void
load_right(right<float> b[2], const float *tile, int k, int n)
{
    const int ld = tile_ld<float>(), g = lane_of() / 4, q = lane_of() % 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int r = n + g + i / 2 * 8, c = k + 2 * q + i % 2 * 8;
        const float *at = tile + (TRANSPOSED ? c * ld + r : r * ld + c);
        b[i / 2].at[i % 2].x = make_float2(at[0], at[TRANSPOSED ? ld : 1]);
    }
}

/* ---- products ------------------------------------------------------------ */

static __device__ __forceinline__ void multiply(float c[4],
                                                const left<__nv_bfloat16> &a,
                                                const right<__nv_bfloat16> &b)
{
    const uint32_t x[4] = {a.at[0].x, a.at[1].x, a.at[2].x, a.at[3].x};
    const uint32_t y[2] = {b.at[0].x, b.at[1].x};
    product_16x8x16(c, x, y);
}

/* The next bf16 of each of two floats, which lose it. */
static __device__ __forceinline__ uint32_t split(float2 &x)
{
    uint32_t bits = pack2(x.x, x.y);
    x.x -= exact_float(bits << 16);
    x.y -= exact_float(bits & 0xffff0000u);
    return bits;
}

/* The products of parts that are not below 2^-24 of the whole, the small ones
 * first. */
static __device__ __forceinline__ void
multiply(float c[4], const left<float> &a, const right<float> &b)
{
    uint32_t x[3][4], y[3][2];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 rest = a.at[i].x;
        for (int k = 0; k < 3; k++)
            x[k][i] = split(rest);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float2 rest = b.at[i].x;
        for (int k = 0; k < 3; k++)
            y[k][i] = split(rest);
    }
    product_16x8x16(c, x[2], y[0]);
    product_16x8x16(c, x[0], y[2]);
    product_16x8x16(c, x[1], y[1]);
    product_16x8x16(c, x[1], y[0]);
    product_16x8x16(c, x[0], y[1]);
    product_16x8x16(c, x[0], y[0]);
}

template <int N> static __device__ __forceinline__ void clear(float (&c)[N][4])
{
#pragma unroll
    for (int j = 0; j < N; j++)
        c[j][0] = c[j][1] = c[j][2] = c[j][3] = 0.0f;
}

/* c += a b for the columns below n_end, a multiple of 16: a has the terms
 * k .. k + 15 of b. */
template <bool TRANSPOSED, int N, typename T>
static __device__ __forceinline__ void
multiply_step(float (&c)[N][4], const left<T> &a, const T *b, int k, int n_end)
{
#pragma unroll
    for (int j = 0; j < N; j += 2) {
        right<T> two[2];
        if (8 * j >= n_end)
            continue;
        load_right<TRANSPOSED>(two, b, k, 8 * j);
        multiply(c[j], a, two[0]);
        multiply(c[j + 1], a, two[1]);
    }
}

/* c += a b over the terms k_begin .. k_end, multiples of 16, for the rows
 * from row on and the columns below n_end. */
template <bool A_TRANSPOSED, bool B_TRANSPOSED, int N, typename T>
static __device__ __forceinline__ void
multiply_tiles(float (&c)[N][4], const T *a, int row, const T *b, int k_begin,
               int k_end, int n_end)
{
#pragma unroll
    for (int k = 0; k < SIDE; k += 16) {
        left<T> x;
        if (k < k_begin || k >= k_end)
            continue;
        load_left<A_TRANSPOSED>(x, a, row, k);
        multiply_step<B_TRANSPOSED>(c, x, b, k, n_end);
    }
}

/* ---- to and from memory -------------------------------------------------- */

/* Starts copying rows of cols numbers, cols a multiple of 8, to a tile; what
 * there is not of 64 x 64 becomes 0. */
template <int THREADS = SIDE_THREADS, typename T>
static __device__ __forceinline__ void copy_tile(T *tile, const T *from,
                                                 size_t ld, int rows, int cols)
{
    const int each = 16 / sizeof(T), pieces = SIDE / each;
#pragma unroll
    for (int k = 0; k < SIDE * pieces / THREADS; k++) {
        int i = threadIdx.x + k * THREADS;
        int row = i / pieces, col = i % pieces * each;
        bool is_there = row < rows && col < cols;
        copy16(tile + row * tile_ld<T>() + col,
               is_there ? from + row * ld + col : from, is_there);
    }
}

/* Two neighbours of a tile. */
template <typename T>
static __device__ __forceinline__ float2 pair_at(const T *tile, int row,
                                                 int col)
{
    return get(*(const pair<T> *)(tile + row * tile_ld<T>() + col));
}

template <typename T>
static __device__ __forceinline__ void put_pair(T *tile, int row, int col,
                                                float x, float y)
{
    put(*(pair<T> *)(tile + row * tile_ld<T>() + col), x, y);
}

/* Stores a warp's 16 rows and 8 N columns, of which the first `rows` and
 * `cols` exist, through as much of a tile that is the warp's own. */
template <int N, typename T>
static __device__ __forceinline__ void store_rows(T *to, size_t ld, int rows,
                                                  int cols, T *room,
                                                  const float (&c)[N][4])
{
    const int each = 16 / sizeof(T), pieces = 8 * N / each;
    const int lane = lane_of(), g = lane / 4, q = lane % 4;
    __syncwarp();
#pragma unroll
    for (int j = 0; j < N; j++) {
        put_pair(room, g, 8 * j + 2 * q, c[j][0], c[j][1]);
        put_pair(room, g + 8, 8 * j + 2 * q, c[j][2], c[j][3]);
    }
    __syncwarp();
#pragma unroll
    for (int k = 0; k < 16 * pieces / WARP; k++) {
        int i = lane + k * WARP, row = i / pieces, col = i % pieces * each;
        if (row < rows && col < cols)
            *(int4 *)(to + row * ld + col) =
                *(const int4 *)(room + row * tile_ld<T>() + col);
    }
}

/* The largest, and the sum, of the four lanes that have a row. */
static __device__ __forceinline__ float row_max(float x)
{
    return lanes_max(x, 4);
}

static __device__ __forceinline__ float row_sum(float x)
{
    return lanes_sum(x, 4);
}

#endif
#endif
