/* scan_tile.cuh -- the parts of the scan of a tile of TIME bytes; scan.cu
 * says how they follow each other.
 *
 * Where no order in time is needed (dt_proj, softplus, the gate) a thread has
 * the elements that a product of a warp leaves with it (tensor.cuh), so that
 * delta, u and the gate stay in its registers.  In the recurrence `split`
 * threads share a channel, each with neighbouring states; the lanes of one
 * part are neighbours, so that shared memory is read without conflicts.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SCAN_TILE_CUH
#define MAMBYTE_SCAN_TILE_CUH

#include "cuda/common/exact_vector.cuh"
#include "cuda/common/kernels.cuh"
#include "cuda/common/tensor.cuh"

enum {
    TIME = 16,
    MAX_SHARE = 4 /* blocks a multiprocessor that are dealt out evenly */
};

/* States, states a thread, channels a block. */
template <int states_, int per_thread_, int channels_> struct scan_shape {
    static constexpr int states = states_, per_thread = per_thread_;
    static constexpr int channels = channels_;
    static constexpr int split = states / per_thread;
    static constexpr int groups = per_thread / EXACT_GROUP;
    static constexpr int threads = channels * split;
    static constexpr int warps = threads / WARP;
    static constexpr int lanes = WARP / split;       /* channels a warp    */
    static constexpr int columns = channels / warps; /* of its products    */
    static constexpr int tiles = columns / 8;
    static constexpr int pitch = channels + 8; /* no bank conflicts  */
    static constexpr int y_pitch = TIME * pitch + lanes;
    static_assert(columns == lanes, "a warp prepares its own recurrences");
};

/* What a channel's columns need, before and after the recurrence. */
template <class T> struct parameters {
    float dt_scale[T::channels], dt_bias[T::channels], d[T::channels];
    float limit[T::channels]; /* a delta above it may be too steep */
};

/* A block's shared memory; dt_rank decides the rest of its size.  delta and bc
 * have a row more, as the recurrence reads one ahead. */
template <class T> struct __align__(16) scan_shared
{
    float2 delta[TIME + 1][T::pitch]; /* delta, delta u */
    float y[T::split][T::y_pitch];    /* [TIME][pitch]: sums of some states */
    float bc[2][TIME + 1][2 * T::states]; /* B, C */
    parameters<T> of;
    float dt_scale[2][TIME];
    float *image[TIME]; /* of the pieces of a step */
    /* then: float dt[TIME][dt_room], int8_t dt_q[2][TIME][rank_pitch],
     * int8_t dt_proj[channels][rank_pitch] */
};

static __host__ __device__ __forceinline__ int rank_padded(int dt_rank)
{
    return round_up(dt_rank, ROW_ALIGN);
}

static __host__ __device__ __forceinline__ int rank_pitch(int dt_rank)
{
    return rank_padded(dt_rank) + 16; /* rows g in different banks */
}

template <class T> static size_t scan_shared_size(const struct batch *b)
{
    return sizeof(scan_shared<T>) + TIME * b->dt_room * sizeof(float) +
           (2 * TIME + T::channels) * rank_pitch(b->dt_rank);
}

/* Where this block stands: at a piece, or at TIME pieces of a byte. */
struct scan_block {
    const struct cuda_layer *layer;
    const struct piece *pieces;
    int n;       /* rows */
    size_t row;  /* the first in the [layer] arrays */
    int channel; /* the first */
};

/* What a thread fetches for its block, tile after tile: chunks of B and C; and
 * of the row own_t, where T::threads / TIME threads have four numbers of dt
 * each at a time.  It quantises what it has fetched, so that nobody waits in
 * between. */
template <class T> struct feed {
    static constexpr int chunks = 2 * T::states / 4; /* of a row */
    static constexpr int bc_rows = T::threads / chunks,
                         each = T::threads / TIME;
    const float *bc, *dt;
    const uint32_t *amax;
    int bc_left, dt_left; /* rows of the piece from the thread's first on  */
    int own_t, first;
    uint32_t next_amax; /* of dt, in the tile that is fetched */
};

template <class T>
static __device__ __forceinline__ feed<T> feed_of(const struct batch &b,
                                                  const struct scan_block &k)
{
    feed<T> f;
    int row = threadIdx.x / f.chunks;
    f.own_t = threadIdx.x / f.each;
    f.first = threadIdx.x % f.each * 4;
    f.bc = b.dtbc + (k.row + row) * b.dtbc_stride + b.dt_room +
           threadIdx.x % f.chunks * 4;
    f.dt = b.dtbc + (k.row + f.own_t) * b.dtbc_stride + f.first;
    f.amax = b.dt_amax + k.row + f.own_t;
    f.bc_left = k.n - row;
    f.dt_left = k.n - f.own_t;
    return f;
}

/* Starts to fetch B and C of the next tile. */
template <class T>
static __device__ __forceinline__ void fetch_bc(feed<T> &f, float *to,
                                                int stride)
{
    to += threadIdx.x * 4;
#pragma unroll
    for (int i = 0; i < TIME; i += f.bc_rows) {
        if (i < f.bc_left && (int)threadIdx.x / f.chunks + i < TIME)
            copy16(to + i * 2 * T::states, f.bc + i * stride, true);
    }
    f.bc += TIME * stride;
    f.bc_left -= TIME;
}

/* The same of dt.  The maximum of a row that is not there makes it zeros. */
template <class T>
static __device__ __forceinline__ void fetch_dt(feed<T> &f, float *to,
                                                const struct batch &b)
{
    f.next_amax = EXACT_INF_BITS;
    if (f.dt_left > 0) {
        f.next_amax = *f.amax;
        to += f.own_t * b.dt_room;
#pragma unroll 1
        for (int i = f.first; i < b.dt_room; i += f.each * 4)
            copy16(to + i, f.dt + (i - f.first), true);
    }
    f.dt += TIME * b.dtbc_stride;
    f.amax += TIME;
    f.dt_left -= TIME;
}

/* dt_q, and the scale of each row, of what this thread has fetched. */
template <class T>
static __device__ __forceinline__ void
quantise_dt(const feed<T> &f, float *dt_scale, int8_t *dt_q, const float *dt,
            int rank, int room)
{
    int padded = rank_padded(rank);
    if (f.first >= padded)
        return;
    struct exact_scale s = scale_of(f.next_amax);
    dt += f.own_t * room;
    dt_q += f.own_t * (padded + 16);
#pragma unroll 1
    for (int i = f.first; i < padded; i += f.each * 4) {
        uint32_t q = 0;
        if (i < rank && s.scale != 0.0f)
            q = quantise4(*(const float4 *)(dt + i), s.inverse);
        *(uint32_t *)(dt_q + i) = q;
    }
    if (f.first == 0)
        dt_scale[f.own_t] = s.scale;
}

/* Starts to fetch the rows of dt_proj and the parameters of a block's
 * channels.  Channels past the model's repeat the last one. */
template <class T>
static __device__ __forceinline__ void
fetch_parameters(parameters<T> &of, int8_t *dt_proj, const struct batch &b,
                 const struct scan_block &k)
{
    const struct cuda_layer *l = k.layer;
    constexpr int each = T::threads / T::channels; /* threads a row */
    int pitch = rank_pitch(b.dt_rank), depth = rank_padded(b.dt_rank);
    int row = threadIdx.x / each;
    const int8_t *from =
        l->dt_proj.q +
        (size_t)min(k.channel + row, b.d_inner - 1) * l->dt_proj.stride;
    for (int i = threadIdx.x % each * 16; i < depth; i += each * 16)
        copy16(dt_proj + row * pitch + i, from + i, true);
    for (int c = threadIdx.x; c < T::channels; c += T::threads) {
        int at = min(k.channel + c, b.d_inner - 1);
        copy_bytes<4>(&of.dt_scale[c], l->dt_proj.scale + at);
        copy_bytes<4>(&of.dt_bias[c], l->dt_bias + at);
        copy_bytes<4>(&of.d[c], l->d + at);
    }
}

/* A thread's columns, by product of a warp: where the first elements of the
 * pair 2 t, 2 t + 1 are.  Columns past the model's are computed, and not
 * stored. */
template <class T> struct columns {
    const float *gate[T::tiles];
    float *u[T::tiles]; /* then y */
    int in_block;       /* of the first */
    int has;            /* a bit each */
};

template <class T>
static __device__ __forceinline__ columns<T>
columns_of(const struct batch &b, const struct scan_block &k)
{
    int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    int first = threadIdx.x / WARP * T::columns;
    columns<T> c;
    c.in_block = first + t * 2;
    c.has = 0;
#pragma unroll
    for (int j = 0; j < T::tiles; j++) {
        int at = k.channel + first + j * 8;
        int pair = min(at + t * 2, b.d_inner - 2);
        c.has |= (at + t * 2 < b.d_inner) << j;
        c.u[j] = b.u + (k.row + g) * b.d_inner + pair;
        c.gate[j] = b.uz + (k.row + g) * 2 * b.d_inner + b.d_inner + pair;
    }
    return c;
}

/* Sums of dt_proj for this warp's columns; depth: bytes of a row. */
template <class T>
static __device__ __forceinline__ void
project_dt(int32_t sum[T::tiles][4], const int8_t *dt_q, const int8_t *dt_proj,
           int depth)
{
    int lane = threadIdx.x % WARP, pitch = depth + 16;
    const int8_t *x = dt_q + lane % 16 * pitch + lane / 16 * 16;
    const int8_t *w = dt_proj +
                      (threadIdx.x / WARP * T::columns + lane / 4) * pitch +
                      lane % 4 * 4;
#pragma unroll 1
    for (int i = 0; i < depth; i += 32) {
        uint32_t a[4];
        load_matrices(a, x + i);
#pragma unroll
        for (int j = 0; j < T::tiles; j++) {
            const int8_t *row = w + j * 8 * pitch + i;
            uint32_t v[2] = {*(const uint32_t *)row,
                             *(const uint32_t *)(row + 16)};
            product_16x8x32(sum[j], a, v);
        }
    }
}

/* A thread's elements of a tile: rows g and g + 8, a pair of columns of each
 * product. */
template <class T> struct elements {
    float2 at[T::tiles][2];
};

/* from: by product, where the row g of the tile is; rows: left of the piece,
 * from row `first` on, which counts as row 0.  A row that is not there has a
 * usual number. */
template <class T, typename Pointer>
static __device__ __forceinline__ void
load_elements(elements<T> &e, const Pointer from[T::tiles], size_t stride,
              int rows, int first = 0)
{
    int g = threadIdx.x % WARP / 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        bool is_there = g + i * 8 < rows;
#pragma unroll
        for (int j = 0; j < T::tiles; j++)
            e.at[j][i] =
                is_there ? *(const float2 *)(from[j] + (first + i * 8) * stride)
                         : make_float2(1.0f, 1.0f);
    }
}

/* Delta of this warp's columns, for its recurrence; whether one may be steep:
 * some delta a below -126. */
template <class T>
static __device__ __forceinline__ bool
make_delta(scan_shared<T> &m, const elements<T> &u,
           const int32_t sum[T::tiles][4], const float *dt_scale, int in_block)
{
    int g = threadIdx.x % WARP / 4;
    float x[T::tiles][2][2];
#pragma unroll
    for (int j = 0; j < T::tiles; j++) {
        int at = in_block + j * 8;
        float2 w = *(const float2 *)&m.of.dt_scale[at];
        float2 bias = *(const float2 *)&m.of.dt_bias[at];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float s = dt_scale[g + i * 8];
            x[j][i][0] = exact_dequantise(sum[j][i * 2], s, w.x) + bias.x;
            x[j][i][1] = exact_dequantise(sum[j][i * 2 + 1], s, w.y) + bias.y;
        }
    }
    softplus_all<T::tiles * 4>(&x[0][0][0]);
    bool is_steep = false;
#pragma unroll
    for (int j = 0; j < T::tiles; j++) {
        int at = in_block + j * 8;
        float2 limit = *(const float2 *)&m.of.limit[at];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float *d = x[j][i];
            float2 v = u.at[j][i];
            *(float4 *)&m.delta[g + i * 8][at] =
                make_float4(d[0], d[0] * v.x, d[1], d[1] * v.y);
            is_steep |= !(d[0] <= limit.x) || !(d[1] <= limit.y);
        }
    }
    return __any_sync(WHOLE_WARP, is_steep);
}

/* ---- the recurrence ----------------------------------------------------- */

/* This thread's states of its channel. */
template <class T> struct states {
    float s[T::per_thread], a[T::per_thread];
};

/* What the recurrence reads of a byte. */
template <class T> struct operands {
    float2 delta; /* delta, delta u of the channel    */
    float4 b[T::groups], c[T::groups];
};

/* bc: B and C, for this thread's states. */
template <class T>
static __device__ __forceinline__ operands<T> load_operands(const float2 *delta,
                                                            const float *bc)
{
    operands<T> o;
    o.delta = *delta;
#pragma unroll
    for (int j = 0; j < T::groups; j++) {
        o.b[j] = ((const float4 *)bc)[j];
        o.c[j] = ((const float4 *)(bc + T::states))[j];
    }
    return o;
}

/* exact_exp2_neg; its clamp does nothing unless one is steep. */
template <int n, bool is_steep>
static __device__ __forceinline__ void decay_all(float *x)
{
    float t[n], f[n];
#pragma unroll
    for (int i = 0; i < n; i++) {
        if (is_steep)
            x[i] = exact_max(x[i], EXACT_EXP2_MIN);
        t[i] = x[i] + EXACT_ROUND;
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        f[i] = x[i] - (t[i] - EXACT_ROUND);
    exp2_all<n>(x, t, f);
}

/* s = 2^(delta a) s + delta u B;  the part of C s that these states give. */
template <class T, bool is_steep>
static __device__ __forceinline__ float advance(states<T> &x,
                                                const operands<T> &o)
{
    float decay[T::per_thread], p[T::groups];
#pragma unroll
    for (int n = 0; n < T::per_thread; n++)
        decay[n] = o.delta.x * x.a[n];
    decay_all<T::per_thread, is_steep>(decay);
#pragma unroll
    for (int j = 0; j < T::groups; j++) {
        const float b[] = {o.b[j].x, o.b[j].y, o.b[j].z, o.b[j].w};
        const float c[] = {o.c[j].x, o.c[j].y, o.c[j].z, o.c[j].w};
#pragma unroll
        for (int i = 0; i < EXACT_GROUP; i++) {
            int n = j * EXACT_GROUP + i;
            x.s[n] = fmaf(decay[n], x.s[n], o.delta.y * b[i]);
            p[j] = i == 0 ? c[i] * x.s[n] : fmaf(c[i], x.s[n], p[j]);
        }
    }
#pragma unroll
    for (int n = T::groups / 2; n > 0; n /= 2) {
#pragma unroll
        for (int j = 0; j < n; j++)
            p[j] = p[2 * j] + p[2 * j + 1];
    }
    return p[0];
}

/* Where this thread's channel is in the block. */
template <class T> static __device__ __forceinline__ int own_channel(void)
{
    int lane = threadIdx.x % WARP;
    return threadIdx.x / WARP * T::lanes + lane % T::lanes;
}

/* The bytes of a tile, of which bc has B and C.  The operands of a byte are
 * fetched while the one before is computed; past the last they are whatever
 * lies there. */
template <class T, bool is_steep>
static __device__ __forceinline__ void
scan_tile(scan_shared<T> &m, states<T> &x, const float *bc, int count)
{
    enum { ABREAST = 4 };
    int part = threadIdx.x % WARP / T::lanes, c = own_channel<T>();
    const float2 *delta = &m.delta[0][c];
    float *y = &m.y[part][c];
    bc += part * T::per_thread;
    operands<T> now = load_operands<T>(delta, bc);
    auto step = [&](int t) {
        operands<T> then = load_operands<T>(delta + (t + 1) * T::pitch,
                                            bc + (t + 1) * 2 * T::states);
        y[t * T::pitch] = advance<T, is_steep>(x, now);
        now = then;
    };
#pragma unroll 1
    for (; count >= ABREAST; count -= ABREAST) {
#pragma unroll
        for (int t = 0; t < ABREAST; t++)
            step(t);
        delta += ABREAST * T::pitch;
        bc += ABREAST * 2 * T::states;
        y += ABREAST * T::pitch;
    }
#pragma unroll 1
    for (; count > 0; count--) {
        step(0);
        delta += T::pitch;
        bc += 2 * T::states;
        y += T::pitch;
    }
}

/* One byte of each of `count` streams: row t goes on from the states of
 * m.image[t], of which this thread's begin at `first`.  Those of ABREAST rows
 * are on their way at a time. */
template <class T>
static __device__ __forceinline__ void
step_tile(scan_shared<T> &m, states<T> &x, const float *bc, size_t first,
          int d_inner, bool has_channel, int count)
{
    enum { ABREAST = 4 };
    int part = threadIdx.x % WARP / T::lanes, c = own_channel<T>();
    bc += part * T::per_thread;
#pragma unroll 1
    for (int t0 = 0; t0 < count; t0 += ABREAST) {
        float s[ABREAST][T::per_thread];
#pragma unroll
        for (int t = 0; t < ABREAST; t++) {
            bool is_there = has_channel && t0 + t < count;
            const float *from = m.image[is_there ? t0 + t : 0] + first;
#pragma unroll
            for (int n = 0; n < T::per_thread; n++)
                s[t][n] = is_there ? from[(size_t)n * d_inner] : 0.0f;
        }
#pragma unroll
        for (int t = 0; t < ABREAST; t++) {
            memcpy(x.s, s[t], sizeof x.s);
            m.y[part][(t0 + t) * T::pitch + c] = advance<T, true>(
                x, load_operands<T>(&m.delta[t0 + t][c],
                                    bc + (t0 + t) * 2 * T::states));
            float *to = m.image[min(t0 + t, count - 1)] + first;
#pragma unroll
            for (int n = 0; n < T::per_thread; n++) {
                if (has_channel && t0 + t < count)
                    to[(size_t)n * d_inner] = x.s[n];
            }
        }
    }
}

/* C s of two channels: the sums of all parts, neighbours first. */
template <class T>
static __device__ __forceinline__ float2 sum_parts(const scan_shared<T> &m,
                                                   int at)
{
    float2 y[T::split];
#pragma unroll
    for (int j = 0; j < T::split; j++)
        y[j] = *(const float2 *)&m.y[j][at];
#pragma unroll
    for (int n = T::split / 2; n > 0; n /= 2) {
#pragma unroll
        for (int j = 0; j < n; j++)
            y[j] = make_float2(y[2 * j].x + y[2 * j + 1].x,
                               y[2 * j].y + y[2 * j + 1].y);
    }
    return y[0];
}

/* y = (y + d u) gate to its rows, and the maxima of the rows. */
template <class T>
static __device__ __forceinline__ void
finish_tile(const scan_shared<T> &m, const elements<T> &u,
            const elements<T> &gate, const columns<T> &c, size_t stride,
            int rows, uint32_t *y_amax)
{
    int lane = threadIdx.x % WARP, g = lane / 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        bool is_there = g + i * 8 < rows;
        uint32_t amax = 0;
#pragma unroll
        for (int j = 0; j < T::tiles; j++) {
            int at = c.in_block + j * 8;
            float2 d = *(const float2 *)&m.of.d[at];
            float2 y = sum_parts(m, (g + i * 8) * T::pitch + at);
            y.x = fmaf(d.x, u.at[j][i].x, y.x) * gate.at[j][i].x;
            y.y = fmaf(d.y, u.at[j][i].y, y.y) * gate.at[j][i].y;
            if (is_there && (c.has >> j & 1)) {
                *(float2 *)(c.u[j] + i * 8 * stride) = y;
                amax = max(amax, magnitude_bits(y.x));
                amax = max(amax, magnitude_bits(y.y));
            }
        }
        amax = lanes_max<4>(amax);
        if (lane % 4 == 0 && is_there)
            atomicMax(&y_amax[g + i * 8], amax);
    }
}

#endif
