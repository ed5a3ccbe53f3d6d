/* chain_streams.cuh -- a block that takes a stream after the other: its memory,
 * and what its warps copy there.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHAIN_STREAMS_CUH
#define MAMBYTE_CHAIN_STREAMS_CUH

#include "cuda/batch/chain_sums.cuh"

enum {
    X_CELL = 16,
    PAST_ROWS = TAPS - 1,
    ALL_BANKS = 128 /* bytes */
};

/* Rows of the numbers ahead, a channel or a byte a number.  Past inputs and x
 * of in_proj follow each other: all but the first are the past of the next
 * byte. */
enum {
    AHEAD_X = PAST_ROWS,
    AHEAD_Z,
    AHEAD_W,
    AHEAD_S_SCALE,
    AHEAD_TAPS,
    AHEAD_BIAS = AHEAD_TAPS + TAPS,
    AHEAD_ROWS
};

/* Where the arrays of the warps with heads lie, up to HEADS of them.  Rows of
 * x^ are such that lanes that read four of them, 32 bytes of each, read from
 * all banks. */
template <int n_states, int HEADS> struct warps_memory {
    enum {
        S = 0, /* i8 [HEADS][HEADDIM][n_states]: S^                         */
        X = HEADS * HEADDIM * n_states, /* i8 [CHUNK][..HEADDIM]: x^        */
        X_ROW = HEADS * HEADDIM +
                (ALL_BANKS + ALL_BANKS / 4 - HEADS * HEADDIM % ALL_BANKS) %
                    ALL_BANKS,
        MIX = X + CHUNK * X_ROW,      /* i8 [HEADS][CHUNK]: m^               */
        COME = MIX + HEADS * CHUNK,   /* u64 [HEADS]: mbarriers of S^        */
        IS_SHARED = COME + HEADS * 8, /* u64 [2]: struct stream_signals     */
        IS_V = IS_SHARED + 16,
        FED = IS_V + 16,  /* u64 [4]: struct feed_signals                  */
        PARTS = FED + 32, /* struct fed_part [2]                           */
        END = PARTS + 32,
        /* Where a block takes a stream after the other: */
        AHEAD = END, /* f32 [AHEAD_ROWS][HEADS][HEADDIM]                    */
        AHEAD_ROW = HEADS * HEADDIM * 4,
        END_OF_AHEAD = AHEAD + AHEAD_ROWS * AHEAD_ROW
    };
};

/* The arrays of a block whose size the model says: those of the first of two
 * streams that it works on, or of both. */
struct streams_memory {
    struct heads_memory at; /* b: of both                                   */
    int scores;             /* i32 [n_groups][CHUNK], of a stream: g        */
    int step;               /* from arrays of a stream to those of the other */
    int d, norm;            /* f32 [d_inner], of the layer                  */
    int end;
};

static inline struct streams_memory
streams_memory_of(const struct mamba2_batch &m, int d_inner, int d_state,
                  int start)
{
    struct streams_memory a = {};
    struct heads_memory &at = a.at;
    const int f = sizeof(float), groups = m.n_groups;
    at.b = start;
    at.v = at.b + CHUNK * groups * d_state;
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
    a.end = a.norm + d_inner * f;
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
        bulk_copy_once(k.bytes(k.at.s) + k.warp * BYTES,
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

/* Where a part of a stream lies: as much of struct stream_part as warps with
 * heads want. */
struct fed_part {
    alignas(16) float *image;
    int place;
    short first, number;
};

/* What the warp that feeds and those with heads tell each other.  Parts of
 * streams are numbered from 0 on, as the block takes them; of part i + 1 is
 * known where it lies when the numbers of part i are there. */
struct feed_signals {
    uint64_t *numbers, *numbers_read, *x, *x_read;
    struct fed_part *parts; /* [2] */

    /* By one thread, before a barrier of the block. */
    __device__ __forceinline__ void make(int heads) const
    {
#ifdef HAS_CLUSTER
        mbarrier_init(numbers);
        mbarrier_init(x);
        mbarrier_init(numbers_read, heads);
        mbarrier_init(x_read, heads);
        mbarrier_publish();
#endif
    }
    /* By a warp that has read its part. */
    static __device__ __forceinline__ void say_read(uint64_t *is_read, int lane)
    {
        __syncwarp();
#ifdef HAS_CLUSTER
        if (lane == 0)
            mbarrier_arrive(is_read);
#endif
    }
    static __device__ __forceinline__ void await(uint64_t *which, int part)
    {
#ifdef HAS_CLUSTER
        mbarrier_wait(which, part % 2);
#endif
    }
};

/* ---- what a block works on ----------------------------------------------- */

/* A stream's heads from `first` on. */
struct stream_part {
    struct chain_stream stream;
    int first;
    int number; /* of the stream, of those of the block */
};

template <int n_states_, int HEADS> struct streams_job {
    enum { n_states = n_states_ };
    using fixed = warps_memory<n_states, HEADS>;
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    const struct chain_rows &rows;
    const struct cuda_layer &layer;
    const struct streams_shape &shape;
    int n; /* streams */
    char *shared;

    __device__ __forceinline__ struct streams_memory memory(int number) const
    {
        struct streams_memory a = memory_of_stream(shape.memory, number);
        a.at.mix = fixed::MIX;
        a.at.s = fixed::S;
        a.at.x = fixed::X;
        a.at.x_row = fixed::X_ROW;
        a.at.come = fixed::COME;
        a.at.ahead = fixed::AHEAD;
        a.at.ahead_row = fixed::AHEAD_ROW;
        return a;
    }

    __device__ __forceinline__ struct stream_signals signals(void) const
    {
        return {(uint64_t *)(shared + fixed::IS_SHARED),
                (uint64_t *)(shared + fixed::IS_V)};
    }

    __device__ __forceinline__ struct feed_signals feed(void) const
    {
        uint64_t *at = (uint64_t *)(shared + fixed::FED);
        return {at, at + 1, at + 2, at + 3,
                (struct fed_part *)(shared + fixed::PARTS)};
    }

    /* What the warp that feeds says of a part. */
    __device__ __forceinline__ struct stream_part told(int i) const
    {
        const struct fed_part p = feed().parts[i % 2];
        return {{0, p.image, p.place}, p.first, p.number};
    }

    /* The block for one of n warps: those with heads, or helpers. */
    __device__ __forceinline__ struct byte_block
    block(const struct stream_part &part, int first_warp, int n_warps) const
    {
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        const int row = shape.row + part.stream.row;
        return {b,
                m,
                layer,
                layer_state_of(part.stream.image, shape.offsets),
                memory(part.number).at,
                shared,
                (size_t)row,
                b.uz + (ptrdiff_t)row * m.zx_stride,
                part.stream.place,
                warp - first_warp,
                n_warps,
                lane,
                lane / 4,
                lane % 4,
                shape.heads_each};
    }

    __device__ __forceinline__ struct stream_part first_part(void) const
    {
        return {stream_of(b, rows, blockIdx.x), 0, 0};
    }

    /* Past the last head, and without a byte, after the last part. */
    __device__ __forceinline__ struct stream_part
    after(const struct stream_part &part) const
    {
        if (part.first + rows.part_heads < m.n_heads)
            return {part.stream, part.first + rows.part_heads, part.number};
        const int row = part.stream.row + gridDim.x;
        if (row >= n)
            return {{row, part.stream.image, 0}, m.n_heads, part.number + 1};
        return {stream_of(b, rows, row), 0, part.number + 1};
    }

    /* The first part of the next stream. */
    __device__ __forceinline__ struct stream_part
    stream_after(struct stream_part part) const
    {
        part.first = m.n_heads;
        return after(part);
    }
};

/* ---- x^ ------------------------------------------------------------------ */

/* Where the warp's x^ of channels c to c + 15 is, of a byte. */
static __device__ __forceinline__ int8_t *x_cell(const struct byte_block &k,
                                                 int byte, int c)
{
    return k.bytes(k.at.x) + byte * k.at.x_row + k.warp * HEADDIM + c;
}

/* Starts to copy x^ of a head, of the chunk so far.  The caller ends the group.
 */
static __device__ __forceinline__ void fetch_bytes(const struct byte_block &k,
                                                   int h)
{
    const int c = k.t * X_CELL;
    const size_t step = (size_t)8 * k.b.d_inner;
    const int8_t *from =
        k.state.x + (size_t)k.g * k.b.d_inner + h * HEADDIM + c;
    int8_t *to = x_cell(k, k.g, c);
#pragma unroll 1
    for (int i = k.g; i < k.place; i += 8, from += step, to += 8 * k.at.x_row)
        copy16(to, from, true);
}

/* The sum of m^ x^ for the lane's channels, as mix_bytes() has it; the byte's
 * own x^ is in shared memory with the others.  Sixteen bytes at a time, up to
 * this one: m^ is 0 past it. */
static __device__ __forceinline__ int2 mix_own_bytes(const struct byte_block &k)
{
    const uint4 m = *(const uint4 *)(k.mix() + 16 * k.t);
    const uint32_t words[4] = {m.x, m.y, m.z, m.w};
    const int8_t *x = x_cell(k, k.t, 8 * k.g);
    const int shift = k.g % 4 * 4;
    int32_t sum[2][4] = {};
#pragma unroll
    for (int i = 0; i < LOADS / 2; i++) {
        if (16 * i > k.place)
            break;
        uint2 of[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            of[j] = *(const uint2 *)(x + 4 * (4 * i + j) * k.at.x_row);
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
    store_pair(x_cell(k, k.place, c), byte.x);
}

/* ---- numbers ahead ------------------------------------------------------- */

/* A row of them, of the warp's head. */
static __device__ __forceinline__ float2 ahead_of(const struct byte_block &k,
                                                  int row)
{
    const char *at = k.shared + k.at.ahead + row * k.at.ahead_row;
    return ((const float2 *)at)[k.warp * WARP + k.lane];
}

static __device__ __forceinline__ void take_ahead(struct head_input &in,
                                                  struct head_zx &zx,
                                                  const struct byte_block &k)
{
#pragma unroll
    for (int j = 0; j < PAST_ROWS; j++)
        in.conv.past[j] = ahead_of(k, j);
#pragma unroll
    for (int j = 0; j < TAPS; j++)
        in.conv.weight[j] = ahead_of(k, AHEAD_TAPS + j);
    in.conv.bias = ahead_of(k, AHEAD_BIAS);
    in.w = make_float2(0.0f, 0.0f);
    if (2 * k.lane < k.place)
        in.w = ahead_of(k, AHEAD_W);
    in.out.s_scale = ahead_of(k, AHEAD_S_SCALE);
    zx = {ahead_of(k, AHEAD_X), ahead_of(k, AHEAD_Z)};
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
