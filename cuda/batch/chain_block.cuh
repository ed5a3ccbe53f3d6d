/* chain_block.cuh -- a block that takes a byte of a stream through the mixer of
 * a layer: its arrays, and which rows a lane has.
 *
 * Rows are channels of a head, or bytes of the chunk: 64 of them.  A lane has
 * rows 2 lane and 2 lane + 1.  With g = lane / 4 and t = lane % 4, as tensor
 * cores count, these are 8 g + 2 t and the next.
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
    LOADS = 8, /* of a warp: 64 bytes of eight rows each                    */
    WARPS_MAX = 16
};

/* Offsets of the arrays of a block in its shared memory. */
struct heads_memory {
    int v;                /* f32 [d_inner]                                 */
    int b, c;             /* i8 [CHUNK][n_groups][d_state], [n_groups][..] */
    int b_scale, c_scale; /* f32 [n_groups]                                */
    int delta, alpha, e;  /* f32 [n_heads]                                 */
    int squares, largest; /* f32, u32 [n_heads]                            */
    int mix;              /* i8 [warps][CHUNK]: m^                         */
    /* Of chain_streams.cu: */
    int s;         /* i8 [warps][HEADDIM][d_state]: S^                  */
    int x, x_row;  /* i8 [CHUNK][x_row], HEADDIM of a warp: x^          */
    int come;      /* u64 [warps]: mbarriers that count bytes of S^     */
    int ahead;     /* f32 [rows][ahead_row / 4], HEADDIM of a warp      */
    int ahead_row; /* in bytes                                          */
};

static __host__ __device__ __forceinline__ struct heads_memory
memory_of(const struct mamba2_batch &m, int d_inner, int d_state)
{
    struct heads_memory at = {};
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
    at.mix = round_up(at.largest + m.n_heads * f, 16);
    return at;
}

struct byte_block {
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    const struct cuda_layer &layer;
    struct mamba2_layer_state state;
    struct heads_memory at;
    char *shared;
    size_t out_row;  /* of u_q                                             */
    const float *zx; /* z | x | B | C | dt of the row                      */
    int place;       /* of the byte in its chunk                           */
    int warp, n_warps;
    int lane, g, t;
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
    __device__ __forceinline__ int8_t *mix(void) const
    {
        return bytes(at.mix) + warp * CHUNK;
    }
};

/* A stream of the launch. */
struct chain_stream {
    int row;
    float *image;
    int place; /* of the byte in its chunk */
};

static __device__ __forceinline__ struct chain_stream
stream_of(const struct prefill_batch &b, const struct chain_rows &rows, int row)
{
    return {row, b.slots->spans[row].image, rows.places[row]};
}

static __device__ __forceinline__ struct byte_block
block_of(const struct prefill_batch &b, const struct mamba2_batch &m,
         const struct cuda_layer &layer, const struct tick &tick,
         const struct chain_stream &stream, const struct heads_memory &at,
         char *shared)
{
    const int lane = threadIdx.x % WARP;
    const size_t row = (size_t)tick.first * b.rows + stream.row;
    return {b,
            m,
            layer,
            mamba2_layer_state(stream.image, m.state, tick.number),
            at,
            shared,
            row,
            b.uz + row * m.zx_stride,
            stream.place,
            (int)threadIdx.x / WARP,
            (int)blockDim.x / WARP,
            lane,
            lane / 4,
            lane % 4,
            m.n_groups == 1 ? m.n_heads : m.n_heads / m.n_groups};
}

/* Sums of products of 64 rows with a vector: lanes of a g have those of
 * rows[j], j from 0 on. */
struct row_sums {
    int32_t sum[LOADS];
};

/* Adds those of 64 numbers a row.  Lanes of a g have numbers 16 t on of a row
 * in rows[j], and of the vector.  The tensor cores get words 0 and 2 of them as
 * row g, words 1 and 3 as row g + 8, and the vector's so as even and as odd
 * columns.  So a load is an operand as it is. */
static __device__ __forceinline__ void
add_rows(struct row_sums &s, const uint4 rows[LOADS], uint4 vector)
{
    const bool is_odd = threadIdx.x / 4 % 2;
    const uint32_t v[2] = {is_odd ? vector.y : vector.x,
                           is_odd ? vector.w : vector.z};
#pragma unroll
    for (int j = 0; j < LOADS; j++) {
        const uint32_t a[4] = {rows[j].x, rows[j].y, rows[j].z, rows[j].w};
        int32_t c[4] = {};
        product_16x8x32(c, a, v);
        s.sum[j] += c[0] + c[3];
    }
}

/* The sums of rows[2 t] and rows[2 t + 1].  Where rows[j] is row 8 g + j, these
 * are the lane's. */
static __device__ __forceinline__ int2 own_sums(const struct row_sums &s, int t)
{
    int2 low =
        t & 1 ? make_int2(s.sum[2], s.sum[3]) : make_int2(s.sum[0], s.sum[1]);
    int2 high =
        t & 1 ? make_int2(s.sum[6], s.sum[7]) : make_int2(s.sum[4], s.sum[5]);
    return t & 2 ? high : low;
}

/* The sums of the lane's rows where rows[j] is row 8 j + g: then a load touches
 * all of eight rows that follow each other, but the sums of the lane's rows are
 * with lanes 8 t + g / 2 and that + 4. */
static __device__ __forceinline__ int2 sums_from(const struct row_sums &s,
                                                 int lane)
{
    const int2 own = own_sums(s, lane % 4);
    const int from = 8 * (lane % 4) + lane / 8;
    int2 low, high;
    low.x = __shfl_sync(WHOLE_WARP, own.x, from);
    low.y = __shfl_sync(WHOLE_WARP, own.x, from + 4);
    high.x = __shfl_sync(WHOLE_WARP, own.y, from);
    high.y = __shfl_sync(WHOLE_WARP, own.y, from + 4);
    return lane & 4 ? high : low;
}

/* int8 of two numbers: -127 to 127. */
static __device__ __forceinline__ int2 quantised(float2 x, struct exact_scale s)
{
    if (s.scale == 0.0f)
        return make_int2(0, 0);
    return make_int2(exact_quantise(x.x, s.inverse),
                     exact_quantise(x.y, s.inverse));
}

static __device__ __forceinline__ void store_pair(int8_t *to, int2 q)
{
    *(uint16_t *)to = (uint16_t)((q.x & 0xff) | (q.y & 0xff) << 8);
}

static __device__ __forceinline__ uint32_t magnitude2(float2 x)
{
    return max(magnitude_bits(x.x), magnitude_bits(x.y));
}

#endif
