/* mamba2_chunk.cuh -- the part of a chunk that is in a span, and how x^, B^ and
 * sums of products become sides of products.
 *
 * x^ and B^ lie in rows, a row a byte of the stream, but some products sum over
 * bytes.  A transposing load brings a lane two bytes of two neighbouring
 * channels (or states) each; so the even channels make one side of a product,
 * and the odd ones another.  The 32 terms of a product of a warp are bytes
 *
 *     2 t, 2 t + 1, 8 + 2 t, 9 + 2 t      and those + 16,     t = lane % 4
 *
 * in this order, for both sides; the sums of a product that has the bytes as
 * its columns lie so as well.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_CHUNK_CUH
#define MAMBYTE_MAMBA2_CHUNK_CUH

#include "cuda/common/exact_vector.cuh"
#include "cuda/common/tensor.cuh"
#include "cuda/prefill/mamba2_batch.cuh"

enum {
    SIDE = 16,       /* channels, states or bytes that a warp has    */
    DEPTH = 32,      /* of a product                                 */
    STATE_TILE = 64, /* states of a tile of S^                       */
    BYTE_STEPS = CHUNK / DEPTH
};

/* ---- chunks -------------------------------------------------------------- */

/* Bytes [place, end) of a chunk are in a span; none where end <= place.  Byte i
 * is in row `row + i`; the row of byte 0 may be before the first of all. */
struct span_chunk {
    int place, end;
    ptrdiff_t row;
};

/* Chunk number `index` of those that the span touches; place: of its first
 * byte; layer_row: of the microbatch. */
static __device__ __forceinline__ struct span_chunk
chunk_of_span(const struct span &span, int place, int index, size_t layer_row)
{
    struct span_chunk c;
    c.place = index == 0 ? place : 0;
    c.end = min(place + span.n - index * CHUNK, (int)CHUNK);
    c.row = (ptrdiff_t)layer_row + span.row + index * CHUNK - place;
    return c;
}

/* ---- rows in shared memory ----------------------------------------------- */

/* Bytes between rows of n bytes: a multiple of 16, and an odd one, so that
 * eight rows lie in different banks. */
static inline __host__ __device__ int row_stride(int n)
{
    return (ceil_div(n, 16) | 1) * 16;
}

/* Some columns of the rows of a stream: x^, B^ or C^. */
struct stream_rows {
    const int8_t *kept; /* of the bytes before the span: of place 0        */
    const int8_t *rows; /* of place 0, if it were in the span              */
    size_t kept_ld, ld;
    int n;    /* bytes of a row                                            */
    int unit; /* 16 or 8: what addresses of rows, and n, are multiples of  */
};

/* Starts to copy the rows of a chunk; those before the span are there at
 * once. */
static __device__ __forceinline__ void fetch_rows(int8_t *to, int stride,
                                                  const struct stream_rows &r,
                                                  const struct span_chunk &c,
                                                  bool has_kept)
{
    int each = r.n / r.unit, shift = each > 1 ? 32 - __clz(each - 1) : 0;
    int k = ((int)threadIdx.x & ((1 << shift) - 1)) * r.unit;
    for (int s = c.place + ((int)threadIdx.x >> shift); s < c.end && k < r.n;
         s += (int)blockDim.x >> shift) {
        const int8_t *from = r.rows + (ptrdiff_t)s * (ptrdiff_t)r.ld + k;
        if (r.unit == 16)
            copy16(to + s * stride + k, from, true);
        else
            copy_bytes<8>(to + s * stride + k, from);
    }
    for (int i = threadIdx.x; has_kept && i < c.place * r.n / 4;
         i += blockDim.x) {
        int s = i / (r.n / 4), at = i % (r.n / 4) * 4;
        *(uint32_t *)(to + s * stride + at) =
            *(const uint32_t *)(r.kept + s * r.kept_ld + at);
    }
}

/* The same for n bytes of the rows of a whole chunk, with fewer instructions:
 * from place 0 on, rows ld apart. */
template <int n, int threads>
static __device__ __forceinline__ void
fetch_whole(int8_t *to, int stride, const int8_t *from, size_t ld)
{
    constexpr int cells = n / 16, step = threads / cells;
    int s = threadIdx.x / cells, k = threadIdx.x % cells * 16;
    to += s * stride + k;
    from += s * ld + k;
#pragma unroll
    for (int i = 0; i < CHUNK; i += step) {
        if (i + step <= CHUNK || s + i < CHUNK)
            copy16(to + i * stride, from + i * ld, true);
    }
}

static __device__ __forceinline__ struct stream_rows
x_rows(const struct prefill_batch &b, const struct mamba2_batch &m,
       const struct mamba2_layer_state &state, const struct span_chunk &c,
       int first, int n)
{
    ptrdiff_t d_inner = b.d_inner;
    return {state.x + first,
            m.x + c.row * d_inner + first,
            (size_t)d_inner,
            (size_t)d_inner,
            n,
            m.headdim % 16 == 0 ? 16 : 8};
}

/* B^ of a group. */
static __device__ __forceinline__ struct stream_rows
b_rows(const struct prefill_batch &b, const struct mamba2_batch &m,
       const struct mamba2_layer_state &state, const struct span_chunk &c,
       int group)
{
    ptrdiff_t n = m.n_groups * b.d_state, first = group * b.d_state;
    return {state.b + first, m.bc + c.row * 2 * n + first,
            (size_t)n,       (size_t)(2 * n),
            b.d_state,       16};
}

/* ---- sides of products --------------------------------------------------- */

/* Bytes s to s + 31 of 16 channels, `at` on: r[i] has bytes s + 8 i + 2 t and
 * the next one, of channels 2 g and 2 g + 1 each; t = lane % 4, g = lane / 4.
 */
static __device__ __forceinline__ void
load_turned(uint32_t r[4], const int8_t *rows, int stride, int s, int at)
{
    load_transposed(r, rows + (s + (int)threadIdx.x % WARP) * stride + at);
}

/* The right sides that these make: of the even channels, of the odd ones. */
static __device__ __forceinline__ void
split_turned(uint32_t even[2], uint32_t odd[2], const uint32_t r[4])
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        even[i] = __byte_perm(r[2 * i], r[2 * i + 1], 0x6420);
        odd[i] = __byte_perm(r[2 * i], r[2 * i + 1], 0x7531);
    }
}

/* Byte i of four, which are signed, as a float: it is put into the low bits of
 * 2^23. */
static __device__ __forceinline__ float byte_of(uint32_t four, int i)
{
    return exact_float(
               __byte_perm(four ^ 0x80808080u, 0x4b000000u, 0x7440u + i)) -
           (0x1p23f + 128.0f);
}

enum { SUM_START = 0x4b400000 };

/* Sums that start at the bits of EXACT_ROUND are floats: those of products of
 * int8, over at most 256 terms, are below 2^22. */
static __device__ __forceinline__ void start_sums(int32_t sum[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum[i] = SUM_START;
}

static __device__ __forceinline__ float value_of(int32_t sum)
{
    return exact_float((uint32_t)sum) - EXACT_ROUND;
}

/* Four neighbouring columns of row g + 8 half, of the sums of the even and of
 * the odd channels. */
static __device__ __forceinline__ float4 values_of(const int32_t even[4],
                                                   const int32_t odd[4],
                                                   int half)
{
    return make_float4(value_of(even[2 * half]), value_of(odd[2 * half]),
                       value_of(even[2 * half + 1]),
                       value_of(odd[2 * half + 1]));
}

#endif
