/* chain_streams.cuh -- a block that takes a stream after the other: its memory,
 * and what its warps copy there.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHAIN_STREAMS_CUH
#define MAMBYTE_CHAIN_STREAMS_CUH

#include "cuda/batch/chain_sums.cuh"

enum {
    X_BYTES = CHUNK * HEADDIM, /* x^ of a head                              */
    X_CELL = 16,
    TAP_ROWS = TAPS + 1 /* weights of the convolution, and its bias         */
};

/* The arrays of a block. */
struct streams_memory {
    struct heads_memory at; /* of one of two streams; b, and from mix on: of
                             * both                                         */
    int scores;             /* i32 [n_groups][CHUNK], of that stream: g     */
    int d, norm;            /* f32 [d_inner], of the layer                  */
    int end;
    int taps; /* f32 [warps][TAP_ROWS][HEADDIM]                             */
    int end_of_taps;
};

/* heads: warps that have one.  parity: which of two streams. */
static __host__ __device__ __forceinline__ struct streams_memory
streams_memory_of(const struct mamba2_batch &m, int d_inner, int d_state,
                  int heads, int parity)
{
    struct streams_memory a = {};
    struct heads_memory &at = a.at;
    const int f = sizeof(float), groups = m.n_groups;
    const int b = CHUNK * groups * d_state;
    const int one = round_up(
        d_inner * f + groups * (d_state + (CHUNK + 2) * f) + 5 * m.n_heads * f,
        16);
    at.b = 0;
    at.v = b + parity * one;
    at.c = at.v + d_inner * f;
    a.scores = at.c + groups * d_state;
    at.b_scale = a.scores + groups * CHUNK * f;
    at.c_scale = at.b_scale + groups * f;
    at.delta = at.c_scale + groups * f;
    at.alpha = at.delta + m.n_heads * f;
    at.e = at.alpha + m.n_heads * f;
    at.squares = at.e + m.n_heads * f;
    at.largest = at.squares + m.n_heads * f;
    a.d = b + 2 * one;
    a.norm = a.d + d_inner * f;
    at.mix = a.norm + d_inner * f;
    at.s = round_up(at.mix + heads * CHUNK, 128);
    at.x = at.s + heads * HEADDIM * d_state;
    at.come = at.x + heads * X_BYTES;
    a.end = at.come + heads * (int)sizeof(uint64_t);
    a.taps = round_up(a.end, 16);
    a.end_of_taps = a.taps + heads * TAP_ROWS * HEADDIM * f;
    return a;
}

/* ---- S^ ------------------------------------------------------------------ */

static __device__ __forceinline__ uint64_t *come_of(const struct byte_block &k)
{
    return (uint64_t *)(k.shared + k.at.come) + k.warp;
}

static __device__ __forceinline__ void make_mbarrier(const struct byte_block &k)
{
#ifdef HAS_CLUSTER
    if (k.lane == 0) {
        mbarrier_init(come_of(k));
        mbarrier_publish();
    }
#endif
    __syncwarp(); /* the mbarrier is made */
}

/* Starts to copy S^ of a head. */
template <int n_states>
static __device__ __forceinline__ void fetch_states(const struct byte_block &k,
                                                    int h)
{
#ifdef HAS_CLUSTER
    enum { BYTES = HEADDIM * n_states };
    if (k.lane == 0) {
        mbarrier_expect(come_of(k), BYTES);
        bulk_copy(k.bytes(k.at.s) + k.warp * BYTES,
                  k.state.s_q + (size_t)h * BYTES, BYTES, come_of(k));
    }
#endif
}

static __device__ __forceinline__ void await_states(const struct byte_block &k,
                                                    uint32_t parity)
{
#ifdef HAS_CLUSTER
    mbarrier_wait(come_of(k), parity);
#endif
}

/* The sum of S^ C^ for the lane's channels. */
template <int n_states>
static __device__ __forceinline__ int2
read_own_states(const struct byte_block &k, struct head_rows &rows, int group)
{
    const int8_t *s = k.bytes(k.at.s) + k.warp * HEADDIM * n_states +
                      k.g * n_states + k.t * 16;
    struct row_sums sums = {};
#pragma unroll
    for (int part = 0; part < n_states / 64; part++) {
#pragma unroll
        for (int j = 0; j < LOADS; j++)
            rows.s[j] = *(const uint4 *)(s + part * 64 + 8 * j * n_states);
        add_rows(sums, rows.s, c_quarter<n_states>(k, group, part));
    }
    return sums_from(sums, k.lane);
}

/* ---- x^ ------------------------------------------------------------------ */

/* Where the warp's x^ of channels c to c + 15 is, of a byte.  Cells change
 * places in two of four rows, so that lanes read from different banks. */
static __device__ __forceinline__ int8_t *x_cell(const struct byte_block &k,
                                                 int byte, int c)
{
    return k.bytes(k.at.x) + k.warp * X_BYTES + byte * HEADDIM +
           ((c / X_CELL) ^ (byte & 2)) * X_CELL;
}

/* Starts to copy x^ of a head, of the chunk so far: eight bytes at a time,
 * after which the order of cells is the same. */
static __device__ __forceinline__ void fetch_bytes(const struct byte_block &k,
                                                   int h)
{
    const int c = k.t * X_CELL;
    const int8_t *from =
        k.state.x + (size_t)k.g * k.b.d_inner + h * HEADDIM + c;
    int8_t *to = x_cell(k, k.g, c);
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        if (8 * i + k.g < k.place)
            copy16(to + 8 * i * HEADDIM, from + (size_t)(8 * i) * k.b.d_inner,
                   true);
    }
    copy_commit();
}

/* The lane's part of x^; past the byte it is anything. */
static __device__ __forceinline__ void take_bytes(struct head_rows &rows,
                                                  const struct byte_block &k)
{
    const int8_t *x = x_cell(k, k.t, 8 * k.g) + 8 * k.g % X_CELL;
#pragma unroll
    for (int j = 0; j < 2 * LOADS; j++)
        rows.x[j] = *(const uint2 *)(x + 4 * j * HEADDIM);
}

/* x^ of the byte, to the state and to shared memory. */
static __device__ __forceinline__ void
keep_own_byte(const struct byte_block &k, const struct head_byte &byte, int h)
{
    const int c = 2 * k.lane;
    store_pair(k.state.x + (size_t)k.place * k.b.d_inner + h * HEADDIM + c,
               byte.x);
    store_pair(x_cell(k, k.place, c) + c % X_CELL, byte.x);
}

/* ---- of the layer -------------------------------------------------------- */

/* The taps of a head's convolution, a row after the other.  A lane stores what
 * it loads later. */
static __device__ __forceinline__ void
keep_taps(float *rows, const struct byte_block &k, int h)
{
    const int c = h * HEADDIM + 2 * k.lane;
    float2 *to = (float2 *)rows + k.lane;
#pragma unroll
    for (int j = 0; j < TAPS; j++)
        to[j * WARP] =
            *(const float2 *)(k.layer.conv + j * k.m.conv_channels + c);
    to[TAPS * WARP] = *(const float2 *)(k.layer.conv_bias + c);
}

/* D and the norm of all heads, by the warps that have heads.  From global
 * memory a warp would get them behind what it asks for its next head. */
static __device__ __forceinline__ void
keep_layer(float *d, float *norm, const struct byte_block &k, int heads)
{
#pragma unroll 1
    for (int i = threadIdx.x; i < k.b.d_inner / 2; i += heads * WARP) {
        ((float2 *)d)[i] = ((const float2 *)k.layer.d)[i];
        ((float2 *)norm)[i] = ((const float2 *)k.layer.gate_norm)[i];
    }
}

#endif
