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
    PAST_ROWS = TAPS - 1
};

/* Rows of a warp's numbers ahead: past inputs, .., taps of the convolution, and
 * its bias. */
enum {
    AHEAD_W = PAST_ROWS,
    AHEAD_S_SCALE,
    AHEAD_X,
    AHEAD_Z,
    AHEAD_TAPS,
    AHEAD_BIAS = AHEAD_TAPS + TAPS,
    AHEAD_ROWS
};

/* The arrays of a block: those of the first of two streams that it works on, or
 * of both. */
struct streams_memory {
    struct heads_memory at; /* b, and from mix on: of both                  */
    int scores;             /* i32 [n_groups][CHUNK], of a stream: g        */
    int step;               /* from arrays of a stream to those of the other */
    int d, norm;            /* f32 [d_inner], of the layer                  */
    int is_shared, is_v; /* u64 [2]: mbarriers, see struct stream_signals   */
    int end;
    /* Where a block takes a stream after the other: */
    int ahead; /* f32 [warps][AHEAD_ROWS][HEADDIM]                          */
    int end_of_ahead;
};

/* heads: warps that have one. */
static inline struct streams_memory
streams_memory_of(const struct mamba2_batch &m, int d_inner, int d_state,
                  int heads)
{
    struct streams_memory a = {};
    struct heads_memory &at = a.at;
    const int f = sizeof(float), groups = m.n_groups;
    at.b = 0;
    at.v = CHUNK * groups * d_state;
    at.c = at.v + d_inner * f;
    a.scores = at.c + groups * d_state;
    at.b_scale = a.scores + groups * CHUNK * f;
    at.c_scale = at.b_scale + groups * f;
    at.delta = at.c_scale + groups * f;
    at.alpha = at.delta + m.n_heads * f;
    at.e = at.alpha + m.n_heads * f;
    at.squares = at.e + m.n_heads * f;
    at.largest = at.squares + m.n_heads * f;
    a.step = round_up(at.largest + m.n_heads * f - at.v, 16);
    a.d = at.v + 2 * a.step;
    a.norm = a.d + d_inner * f;
    at.mix = a.norm + d_inner * f;
    at.s = round_up(at.mix + heads * CHUNK, 128);
    at.x = at.s + heads * HEADDIM * d_state;
    at.come = at.x + heads * X_BYTES;
    a.is_shared = at.come + heads * (int)sizeof(uint64_t);
    a.is_v = a.is_shared + 2 * (int)sizeof(uint64_t);
    a.end = a.is_v + 2 * (int)sizeof(uint64_t);
    a.ahead = round_up(a.end, 16);
    a.end_of_ahead = a.ahead + heads * AHEAD_ROWS * HEADDIM * f;
    return a;
}

/* The arrays for stream `number` of the block. */
static __device__ __forceinline__ struct streams_memory
memory_of_stream(const struct streams_memory &first, int number)
{
    struct streams_memory a = first;
    const int by = number & 1 ? first.step : 0;
    a.at.v += by;
    a.at.c += by;
    a.scores += by;
    a.at.b_scale += by;
    a.at.c_scale += by;
    a.at.delta += by;
    a.at.alpha += by;
    a.at.e += by;
    a.at.squares += by;
    a.at.largest += by;
    return a;
}

/* Bytes from the image of a stream to what it has of a layer: see struct
 * mamba2_layer_state. */
struct layer_offsets {
    ptrdiff_t past, w, e, x, b, place, s_scale, s_q;
};

static inline struct layer_offsets
layer_offsets_of(const struct mamba2_layout &l, int layer)
{
    const ptrdiff_t f = sizeof(float);
    struct layer_offsets o;
    o.past = layer * (ptrdiff_t)l.layer_floats * f;
    o.w = o.past + (ptrdiff_t)l.w * f;
    o.e = o.past + (ptrdiff_t)l.e * f;
    o.x = (ptrdiff_t)l.int8s + layer * (ptrdiff_t)l.layer_int8s;
    o.b = o.x + (ptrdiff_t)l.b;
    o.place = (ptrdiff_t)l.derived + layer * (ptrdiff_t)l.layer_derived;
    o.s_scale = o.place + (ptrdiff_t)l.s_scale;
    o.s_q = o.place + (ptrdiff_t)l.s_q;
    return o;
}

/* What the host knows of a launch, so that no thread has to find it. */
struct streams_shape {
    struct streams_memory memory;
    struct layer_offsets offsets;
    int row;        /* of uz and u_q: of the first stream                   */
    int heads_each; /* of a group                                           */
};

static __device__ __forceinline__ struct mamba2_layer_state
layer_state_of(float *image, const struct layer_offsets &o)
{
    char *at = (char *)image;
    struct mamba2_layer_state s;
    s.past = (float *)(at + o.past);
    s.s = NULL; /* not used here */
    s.w = (float *)(at + o.w);
    s.e = (float *)(at + o.e);
    s.x = (int8_t *)(at + o.x);
    s.b = (int8_t *)(at + o.b);
    s.place = (int *)(at + o.place);
    s.s_scale = (float *)(at + o.s_scale);
    s.s_q = (int8_t *)(at + o.s_q);
    return s;
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

/* ---- roles that wait for each other --------------------------------------
 *
 * Streams of a block are numbered from 0 on.  Both mbarriers of a pair take
 * every other stream.
 */
struct stream_signals {
    uint64_t *is_shared; /* what heads share is there: one helper arrives   */
    uint64_t *is_v;      /* v is there: each warp with heads arrives        */

    /* By one thread, before a barrier of the block. */
    __device__ __forceinline__ void make(int heads) const
    {
#ifdef HAS_CLUSTER
        for (int i = 0; i < 2; i++) {
            mbarrier_init(is_shared + i, 1);
            mbarrier_init(is_v + i, heads);
        }
        mbarrier_publish();
#endif
    }
    /* By one thread of those that signal, after a barrier of them. */
    static __device__ __forceinline__ void signal(uint64_t *pair, int number)
    {
#ifdef HAS_CLUSTER
        mbarrier_arrive(pair + number % 2);
#endif
    }
    static __device__ __forceinline__ void await(uint64_t *pair, int number)
    {
#ifdef HAS_CLUSTER
        mbarrier_wait(pair + number % 2, number / 2 % 2);
#endif
    }
};

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
 * after which the order of cells is the same.  The caller ends the group. */
static __device__ __forceinline__ void fetch_bytes(const struct byte_block &k,
                                                   int h)
{
    const int c = k.t * X_CELL;
    const size_t step = (size_t)8 * k.b.d_inner;
    const int8_t *from =
        k.state.x + (size_t)k.g * k.b.d_inner + h * HEADDIM + c;
    int8_t *to = x_cell(k, k.g, c);
#pragma unroll 1
    for (int i = k.g; i < k.place; i += 8, from += step, to += 8 * HEADDIM)
        copy16(to, from, true);
}

/* The sum of m^ x^ for the lane's channels, as mix_bytes() has it; the byte's
 * own x^ is in shared memory with the others.  Sixteen bytes at a time, up to
 * this one: m^ is 0 past it. */
static __device__ __forceinline__ int2 mix_own_bytes(const struct byte_block &k)
{
    const uint4 m = *(const uint4 *)(k.mix() + 16 * k.t);
    const uint32_t words[4] = {m.x, m.y, m.z, m.w};
    const int8_t *x = x_cell(k, k.t, 8 * k.g) + 8 * k.g % X_CELL;
    const int shift = k.g % 4 * 4;
    int32_t sum[2][4] = {};
#pragma unroll
    for (int i = 0; i < LOADS / 2; i++) {
        if (16 * i > k.place)
            break;
        uint2 of[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            of[j] = *(const uint2 *)(x + 4 * (4 * i + j) * HEADDIM);
        mix_words(sum[0], words[i], 0, shift, of[0], of[1]);
        mix_words(sum[1], words[i], 2, shift, of[2], of[3]);
    }
    return mixed_sums(sum, k.t);
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

/* ---- numbers ahead -------------------------------------------------------
 *
 * What a head needs at once, a byte or a channel a number: a lane copies those
 * of its two, and reads no others, so it waits for its own copies only.
 */

static __device__ __forceinline__ float2 *ahead_at(float *ahead, int row)
{
    return (float2 *)(ahead + row * HEADDIM) + threadIdx.x % WARP;
}

/* Starts to copy those of the state. */
static __device__ __forceinline__ void
fetch_head_state(float *ahead, const struct byte_block &k, int h)
{
    const int c = h * HEADDIM + 2 * k.lane;
#pragma unroll
    for (int j = 0; j < PAST_ROWS; j++)
        copy_bytes<8>(ahead_at(ahead, j),
                      k.state.past + j * k.m.conv_channels + c);
    if (2 * k.lane < k.place)
        copy_bytes<8>(ahead_at(ahead, AHEAD_W), k.state.w + c);
    copy_bytes<8>(ahead_at(ahead, AHEAD_S_SCALE), k.state.s_scale + c);
}

/* Starts to copy those of in_proj. */
static __device__ __forceinline__ void
fetch_zx(float *ahead, const struct byte_block &k, int h)
{
    const int c = h * HEADDIM + 2 * k.lane;
    copy_bytes<8>(ahead_at(ahead, AHEAD_X), k.zx + k.b.d_inner + c);
    copy_bytes<8>(ahead_at(ahead, AHEAD_Z), k.zx + c);
}

/* Starts to copy those of the layer. */
static __device__ __forceinline__ void
fetch_taps(float *ahead, const struct byte_block &k, int h)
{
    const int c = h * HEADDIM + 2 * k.lane;
#pragma unroll
    for (int j = 0; j < TAPS; j++)
        copy_bytes<8>(ahead_at(ahead, AHEAD_TAPS + j),
                      k.layer.conv + j * k.m.conv_channels + c);
    copy_bytes<8>(ahead_at(ahead, AHEAD_BIAS), k.layer.conv_bias + c);
}

/* All of them have come. */
static __device__ __forceinline__ void take_ahead(struct head_input &in,
                                                  struct head_zx &zx,
                                                  float *ahead,
                                                  const struct byte_block &k)
{
#pragma unroll
    for (int j = 0; j < PAST_ROWS; j++)
        in.conv.past[j] = *ahead_at(ahead, j);
    load_taps(in.conv, (const float *)ahead_at(ahead, AHEAD_TAPS), HEADDIM,
              (const float *)ahead_at(ahead, AHEAD_BIAS));
    in.w = make_float2(0.0f, 0.0f);
    if (2 * k.lane < k.place)
        in.w = *ahead_at(ahead, AHEAD_W);
    in.out.s_scale = *ahead_at(ahead, AHEAD_S_SCALE);
    zx = {*ahead_at(ahead, AHEAD_X), *ahead_at(ahead, AHEAD_Z)};
}

/* ---- of the layer -------------------------------------------------------- */

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
