/* chain_block.cuh -- a block that takes a byte of a stream through the mixer of
 * a layer: its arrays, and which rows a lane has.
 *
 * Rows are channels of a head, or bytes of the chunk: 64 of them.  With g =
 * lane / 4 and t = lane % 4 a lane has rows 16 t + g and that + 8.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHAIN_BLOCK_CUH
#define MAMBYTE_CHAIN_BLOCK_CUH

#include "cuda/batch/chain.cuh"
#include "cuda/common/exact_vector.cuh"
#include "cuda/common/tensor.cuh"

enum {
    HEADDIM = CHAIN_HEADDIM,
    TAPS = CHAIN_TAPS,
    LOADS = 8 /* of a warp: eight rows of 64 bytes each                     */
};

/* What a warp hands from lane to lane. */
struct warp_room {
    int sums[2][HEADDIM]; /* of m^ x^, of half of the bytes each           */
    int8_t mix[CHUNK];    /* m^                                            */
};

/* Offsets of the arrays of a block in its shared memory. */
struct heads_memory {
    int v;                /* f32 [d_inner]                                 */
    int b, c;             /* i8 [CHUNK][n_groups][d_state], [n_groups][..] */
    int b_scale, c_scale; /* f32 [n_groups]                                */
    int delta, alpha, e;  /* f32 [n_heads]                                 */
    int squares, largest; /* f32, u32 [n_heads]                            */
    int rooms;            /* struct warp_room [warps]                      */
};

static __host__ __device__ __forceinline__ struct heads_memory
memory_of(const struct mamba2_batch &m, int d_inner, int d_state)
{
    struct heads_memory at;
    const int f = sizeof(float);
    at.v = 0;
    at.b = at.v + d_inner * f;
    at.c = at.b + CHUNK * m.n_groups * d_state;
    at.b_scale = at.c + m.n_groups * d_state;
    at.c_scale = at.b_scale + m.n_groups * f;
    at.delta = at.c_scale + m.n_groups * f;
    at.alpha = at.delta + m.n_heads * f;
    at.e = at.alpha + m.n_heads * f;
    at.squares = at.e + m.n_heads * f;
    at.largest = at.squares + m.n_heads * f;
    at.rooms = round_up(at.largest + m.n_heads * f, 16);
    return at;
}

struct byte_block {
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    const struct cuda_layer &layer;
    struct mamba2_layer_state state;
    struct heads_memory at;
    char *shared;
    const float *zx; /* z | x | B | C | dt of the row                      */
    int place;       /* of the byte in its chunk                           */
    int warp, n_warps;
    int lane, g, t;
    int first;      /* of the lane's rows                                  */
    int heads_each; /* of a group                                          */

    /* Divisions take long. */
    __device__ __forceinline__ int group_of(int h) const
    {
        return m.n_groups == 1 ? 0 : h / heads_each;
    }

    __device__ __forceinline__ float *floats(int offset) const
    {
        return (float *)(shared + offset);
    }
    __device__ __forceinline__ int8_t *bytes(int offset) const
    {
        return (int8_t *)(shared + offset);
    }
    __device__ __forceinline__ struct warp_room *room(void) const
    {
        return (struct warp_room *)(shared + at.rooms) + warp;
    }
};

/* Sums of products of 64 rows with a vector. */
struct row_sums {
    int32_t sum[4][4];
};

/* Adds those of 64 numbers a row.  A lane has numbers 16 t on of row 8 j + g in
 * rows[j], and of the vector.  The tensor cores get that as eight equal
 * columns, so that all lanes of a row have its sum. */
static __device__ __forceinline__ void
add_rows(struct row_sums &s, const uint4 rows[LOADS], uint4 vector)
{
    const uint32_t low[2] = {vector.x, vector.y};
    const uint32_t high[2] = {vector.z, vector.w};
#pragma unroll
    for (int i = 0; i < LOADS / 2; i++) {
        const uint4 a = rows[2 * i], b = rows[2 * i + 1];
        const uint32_t first[4] = {a.x, b.x, a.y, b.y};
        const uint32_t second[4] = {a.z, b.z, a.w, b.w};
        product_16x8x32(s.sum[i], first, low);
        product_16x8x32(s.sum[i], second, high);
    }
}

/* The sums of the lane's rows. */
static __device__ __forceinline__ int2 own_sums(const struct row_sums &s, int t)
{
    int2 low = t & 1 ? make_int2(s.sum[1][0], s.sum[1][2])
                     : make_int2(s.sum[0][0], s.sum[0][2]);
    int2 high = t & 1 ? make_int2(s.sum[3][0], s.sum[3][2])
                      : make_int2(s.sum[2][0], s.sum[2][2]);
    return t & 2 ? high : low;
}

static __device__ __forceinline__ int quantised(float x, struct exact_scale s)
{
    return s.scale == 0.0f ? 0 : exact_quantise(x, s.inverse);
}

#endif
