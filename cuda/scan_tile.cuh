/* scan_tile.cuh -- the parts of the scan of a tile of TIME bytes; scan.cu
 * says how they follow each other.
 *
 * Where no order in time is needed (dt_proj, softplus, the gate) a thread has
 * the elements that a product of a warp leaves with it (tensor.cuh), so that
 * delta, u and z stay in its registers.  In the recurrence `split` threads
 * share a channel, each with neighbouring states; the lanes of one part are
 * neighbours, so that shared memory is read without conflicts.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SCAN_TILE_CUH
#define MAMBYTE_SCAN_TILE_CUH

#include "kernels.cuh"
#include "tensor.cuh"

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
};

/* A block's shared memory; dt_rank decides the rest of its size. */
template <class T> struct __align__(16) scan_shared
{
    float2 delta[TIME][T::pitch]; /* delta, delta u */
    float y[TIME][T::pitch];
    float bound[T::channels]; /* the smallest a of each channel */
    float dt_scale[TIME];
    float *image[TIME]; /* of the pieces of a step */
    uint32_t is_steep;  /* some delta a is below -126 */
    /* then: float dtbc[2][TIME][dtbc_stride], int8_t dt_q[TIME][rank_pitch] */
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
    return sizeof(scan_shared<T>) + 2 * TIME * b->dtbc_stride * sizeof(float) +
           TIME * rank_pitch(b->dt_rank);
}

/* Where this block stands: at a piece, or at TIME pieces of a byte. */
struct scan_block {
    const struct cuda_layer *layer;
    const struct piece *pieces;
    int n;       /* rows */
    size_t row;  /* the first in the [layer] arrays */
    int channel; /* the first */
};

/* Starts to fetch dt, B and C of the tile at byte t0. */
template <class T>
static __device__ __forceinline__ void
fetch_dtbc(float *to, const struct batch &b, const struct scan_block &k, int t0)
{
    int n = min(TIME, k.n - t0) * b.dtbc_stride;
    const float *from = b.dtbc + (k.row + t0) * b.dtbc_stride;
#pragma unroll 1
    for (int i = threadIdx.x * 4; i < n; i += T::threads * 4)
        copy16(to + i, from + i, true);
    copy_commit();
}

/* dt_q = dt quantised; T::threads / TIME threads a row, four at a time. */
template <class T>
static __device__ __forceinline__ void
quantise_dt(scan_shared<T> &m, int8_t *dt_q, const float *dtbc,
            const struct batch &b, uint32_t amax)
{
    constexpr int each = T::threads / TIME;
    int t = threadIdx.x / each, first = threadIdx.x % each;
    int rank = b.dt_rank, padded = rank_padded(rank);
    if (first * 4 >= padded)
        return;
    struct exact_scale s = exact_scale_of(amax);
    const float *from = dtbc + t * b.dtbc_stride;
    int8_t *to = dt_q + t * rank_pitch(rank);
#pragma unroll 1
    for (int i = first * 4; i < padded; i += each * 4) {
        char4 q = make_char4(0, 0, 0, 0);
        if (i < rank && s.scale != 0.0f) {
            float4 v = *(const float4 *)(from + i);
            q = make_char4(
                exact_quantise(v.x, s.inverse), exact_quantise(v.y, s.inverse),
                exact_quantise(v.z, s.inverse), exact_quantise(v.w, s.inverse));
        }
        *(char4 *)(to + i) = q;
    }
    if (first == 0)
        m.dt_scale[t] = s.scale;
}

/* The maximum of the row of dt that this thread quantises in the tile at t0;
 * that of a row that is not there makes it zeros. */
template <class T>
static __device__ __forceinline__ uint32_t
dt_amax_at(const struct batch &b, const struct scan_block &k, int t0)
{
    int t = t0 + threadIdx.x / (T::threads / TIME);
    return t < k.n ? b.dt_amax[k.row + t] : EXACT_INF_BITS;
}

/* What a thread needs of its columns, by product of a warp: of the pair
 * 2 t, 2 t + 1 the parameters, and where its first elements are; of column
 * g the row of dt_proj.  Columns past the model's are computed on the last
 * ones, and not stored. */
template <class T> struct columns {
    float2 dt_scale[T::tiles], dt_bias[T::tiles], d[T::tiles];
    const int8_t *dt_proj[T::tiles];
    const float *z[T::tiles];
    float *u[T::tiles]; /* then y */
    int in_block;       /* of the first */
    int has;            /* a bit each */
};

template <class T>
static __device__ __forceinline__ columns<T>
columns_of(const struct batch &b, const struct scan_block &k)
{
    const struct cuda_layer *l = k.layer;
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
        c.dt_scale[j] = *(const float2 *)(l->dt_proj.scale + pair);
        c.dt_bias[j] = *(const float2 *)(l->dt_bias + pair);
        c.d[j] = *(const float2 *)(l->d + pair);
        c.dt_proj[j] = l->dt_proj.q + t * 4 +
                       (size_t)min(at + g, b.d_inner - 1) * l->dt_proj.stride;
        c.u[j] = b.u + (k.row + g) * b.d_inner + pair;
        c.z[j] = b.uz + (k.row + g) * 2 * b.d_inner + b.d_inner + pair;
    }
    return c;
}

/* Sums of dt_proj for this warp's columns; depth: bytes of a row. */
template <class T>
static __device__ __forceinline__ void
project_dt(int32_t sum[T::tiles][4], const int8_t *dt_q, const columns<T> &c,
           int depth)
{
    int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4, pitch = depth + 16;
    const int8_t *from = dt_q + g * pitch + t * 4;
#pragma unroll 1
    for (int i = 0; i < depth; i += 32, from += 32) {
        uint32_t a[4] = {*(const uint32_t *)from,
                         *(const uint32_t *)(from + 8 * pitch),
                         *(const uint32_t *)(from + 16),
                         *(const uint32_t *)(from + 8 * pitch + 16)};
#pragma unroll
        for (int j = 0; j < T::tiles; j++) {
            const int8_t *row = c.dt_proj[j] + i;
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

/* from: by product, where the row g of the tile is; rows: left of the piece.
 * A row that is not there has a usual number. */
template <class T, typename Pointer>
static __device__ __forceinline__ void
load_elements(elements<T> &e, const Pointer from[T::tiles], size_t stride,
              int rows)
{
    int g = threadIdx.x % WARP / 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        bool is_there = g + i * 8 < rows;
#pragma unroll
        for (int j = 0; j < T::tiles; j++)
            e.at[j][i] = is_there ? *(const float2 *)(from[j] + i * 8 * stride)
                                  : make_float2(1.0f, 1.0f);
    }
}

template <class T>
static __device__ __forceinline__ void
make_delta(scan_shared<T> &m, const elements<T> &u,
           const int32_t sum[T::tiles][4], const columns<T> &c)
{
    int g = threadIdx.x % WARP / 4;
    bool is_steep = false;
#pragma unroll
    for (int j = 0; j < T::tiles; j++) {
        int at = c.in_block + j * 8;
        float2 bound = *(const float2 *)&m.bound[at];
        float2 w = c.dt_scale[j], bias = c.dt_bias[j];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float s = m.dt_scale[g + i * 8];
            float2 v = u.at[j][i];
            float a = exact_softplus(exact_dequantise(sum[j][i * 2], s, w.x) +
                                     bias.x);
            float d = exact_softplus(
                exact_dequantise(sum[j][i * 2 + 1], s, w.y) + bias.y);
            *(float4 *)&m.delta[g + i * 8][at] =
                make_float4(a, a * v.x, d, d * v.y);
            is_steep |= !(a * bound.x >= EXACT_EXP2_MIN) ||
                        !(d * bound.y >= EXACT_EXP2_MIN);
        }
    }
    if (is_steep)
        atomicOr(&m.is_steep, 1);
}

/* This thread's states of its channel. */
template <class T> struct states {
    float s[T::per_thread], a[T::per_thread];
};

/* What the recurrence reads of a byte. */
template <class T> struct operands {
    float2 delta; /* delta, delta u of the channel    */
    float4 b[T::groups], c[T::groups];
};

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

/* exact_exp2_neg of n numbers, abreast; its clamp does nothing unless one is
 * steep. */
template <int n, bool is_steep>
static __device__ __forceinline__ void decay_all(float *x)
{
    float t[n], f[n];
#pragma unroll
    for (int i = 0; i < n; i++) {
        if (is_steep)
            x[i] = exact_max(x[i], EXACT_EXP2_MIN);
        t[i] = x[i] + EXACT_ROUND;
        f[i] = x[i] - (t[i] - EXACT_ROUND);
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = exact_exp2_reduced(t[i], f[i]);
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

/* bc: B and C of the first byte, for this thread's states.  The operands of
 * a byte are fetched while the one before is computed; past the last they
 * are whatever lies there. */
template <class T, bool is_steep>
static __device__ __forceinline__ void scan_tile(scan_shared<T> &m,
                                                 states<T> &x, const float *bc,
                                                 int stride, int count)
{
    int lane = threadIdx.x % WARP;
    int c = threadIdx.x / WARP * T::lanes + lane % T::lanes;
    const float2 *delta = &m.delta[0][c];
    operands<T> now = load_operands<T>(delta, bc);
#pragma unroll 4
    for (int t = 0; t < count; t++) {
        int next = t + 1 < TIME ? t + 1 : t;
        operands<T> then =
            load_operands<T>(delta + next * T::pitch, bc + next * stride);
        float y = advance<T, is_steep>(x, now);
#pragma unroll
        for (int i = T::lanes; i < WARP; i *= 2)
            y += __shfl_xor_sync(0xffffffffu, y, i);
        if (lane < T::lanes)
            m.y[t][c] = y;
        now = then;
    }
}

/* One byte of each of `count` streams: row t goes on from the states of
 * m.image[t], of which this thread's begin at `first`.  Those of ABREAST rows
 * are on their way at a time. */
template <class T>
static __device__ __forceinline__ void
step_tile(scan_shared<T> &m, states<T> &x, const float *bc, int stride,
          size_t first, int d_inner, bool has_channel, int count)
{
    enum { ABREAST = 4 };
    int lane = threadIdx.x % WARP;
    int c = threadIdx.x / WARP * T::lanes + lane % T::lanes;
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
            float y =
                advance<T, true>(x, load_operands<T>(&m.delta[t0 + t][c],
                                                     bc + (t0 + t) * stride));
#pragma unroll
            for (int i = T::lanes; i < WARP; i *= 2)
                y += __shfl_xor_sync(0xffffffffu, y, i);
            if (lane < T::lanes)
                m.y[t0 + t][c] = y;
            float *to = m.image[min(t0 + t, count - 1)] + first;
#pragma unroll
            for (int n = 0; n < T::per_thread; n++) {
                if (has_channel && t0 + t < count)
                    to[(size_t)n * d_inner] = x.s[n];
            }
        }
    }
}

/* y = (y + d u) silu(z) to its rows, and the maxima of the rows. */
template <class T>
static __device__ __forceinline__ void
finish_tile(const scan_shared<T> &m, const elements<T> &u, elements<T> &z,
            const columns<T> &c, size_t stride, int rows, uint32_t *y_amax)
{
    int lane = threadIdx.x % WARP, g = lane / 4;
    silu_all<T::tiles * 4>(&z.at[0][0].x);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        bool is_there = g + i * 8 < rows;
        uint32_t amax = 0;
#pragma unroll
        for (int j = 0; j < T::tiles; j++) {
            float2 y = *(const float2 *)&m.y[g + i * 8][c.in_block + j * 8];
            y.x = fmaf(c.d[j].x, u.at[j][i].x, y.x) * z.at[j][i].x;
            y.y = fmaf(c.d[j].y, u.at[j][i].y, y.y) * z.at[j][i].y;
            if (is_there && (c.has >> j & 1)) {
                *(float2 *)(c.u[j] + i * 8 * stride) = y;
                amax = max(amax, magnitude_bits(y.x));
                amax = max(amax, magnitude_bits(y.y));
            }
        }
        amax = max(amax, __shfl_xor_sync(0xffffffffu, amax, 1));
        amax = max(amax, __shfl_xor_sync(0xffffffffu, amax, 2));
        if (lane % 4 == 0 && is_there)
            atomicMax(&y_amax[g + i * 8], amax);
    }
}

#endif
