/* batch_block.cuh -- what a block of a team does for a tile, phase by phase;
 * step.cu says how they follow each other.
 *
 * A phase that needs what other blocks made begins with the wait for it: the
 * stores of the others count their bytes in a barrier here, so that nobody has
 * to wait until stores to memory are done, as a barrier of the cluster would.
 * What does not come from others (weights, parameters, states) is asked for
 * before, from addresses that need no memory to know.
 *
 * Where channels matter a thread has one of them, and every at_once-th row.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_BLOCK_CUH
#define MAMBYTE_BATCH_BLOCK_CUH

#include "cuda/batch/batch_job.cuh"
#include "cuda/common/cost.cuh"
#include "cuda/common/exact_vector.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/common/tensor.cuh"

#ifdef HAS_CLUSTER

/* A block with its place in the team and its tile. */
template <class T> struct step_block {
    const struct step_model &m;
    int rank; /* in the team                                               */
    int thread, warp, lane;
    int row, n, own; /* the tile; own: rows of each block's h              */
    uint32_t parity; /* of the next wait in each exchange, a bit each      */
    int used, slot;  /* stages that have been used; where the next is      */
    uint32_t lap;    /* parity of the next                                 */
    int n_stages;    /* of all tiles                                       */

    template <typename V> __device__ __forceinline__ V *place(int offset) const
    {
        extern __shared__ __align__(16) char step_shared[];
        return (V *)(step_shared + offset);
    }
    /* What the stream of row r reads. */
    __device__ __forceinline__ int byte(int r) const
    {
        return place<uint8_t>(m.at.byte)[r];
    }
    __device__ __forceinline__ float *uz(int r) const
    {
        return place<float>(m.at.uz) + r * T::uz_pitch;
    }
    /* A parameter of the layer, of step_share or step_head. */
    __device__ __forceinline__ const float *param(int offset) const
    {
        return place<float>(m.at.params + offset);
    }
    __device__ __forceinline__ const char *share(int layer) const
    {
        return m.shares + (size_t)(layer * m.size + rank) * m.share.bytes;
    }
    __device__ __forceinline__ const char *head_share(void) const
    {
        return m.heads + (size_t)rank * m.head.bytes;
    }
    /* Rows of h that this block has. */
    __device__ __forceinline__ int n_own(void) const
    {
        return max(0, min(own, n - rank * own));
    }
};

/* Makes the compiler forget what it knows of these: it would compute the
 * addresses of all phases ahead of all layers, and have no registers left. */
template <class T>
static __device__ __forceinline__ void step_forget(step_block<T> &k)
{
    asm volatile("" : "+r"(k.thread), "+r"(k.warp), "+r"(k.lane));
}

/* ---- exchanges ----------------------------------------------------------- */

/* Waits until `bytes` have come to this block in exchange e.  All threads. */
template <class T>
static __device__ __forceinline__ void step_await(step_block<T> &k,
                                                  enum exchange e, int bytes)
{
    uint64_t *come = k.template place<uint64_t>(k.m.at.come) + e;
    if (k.thread == 0)
        mbarrier_expect(come, bytes);
    mbarrier_wait(come, k.parity >> e & 1);
    k.parity ^= 1u << e;
    step_forget(k);
}

/* x to offset `to` of the shared memory of the block of that rank. */
template <class T, typename V>
static __device__ __forceinline__ void
step_send(const step_block<T> &k, enum exchange e, int to, int rank, V x)
{
    uint32_t base = cluster_address(k.template place<char>(0), rank);
    cluster_store(base + to, base + k.m.at.come + e * 8, x);
}

/* To all blocks, each beginning with its own. */
template <class T, typename V>
static __device__ __forceinline__ void
step_send_all(const step_block<T> &k, enum exchange e, int to, V x)
{
#pragma unroll 4
    for (int i = 0; i < k.m.size; i++) {
        int rank = k.rank + i;
        step_send(k, e, to, rank < k.m.size ? rank : rank - k.m.size, x);
    }
}

static __device__ __forceinline__ uint4 words_of(const float v[4])
{
    return make_uint4(exact_bits(v[0]), exact_bits(v[1]), exact_bits(v[2]),
                      exact_bits(v[3]));
}

/* ---- the ring of weights ------------------------------------------------- */

/* Fetches stage number i of all tiles. */
template <class T>
static __device__ __forceinline__ void ring_fetch(const step_block<T> &k, int i)
{
    const int slot = i % k.m.at.ring_stages;
    const int layer = i / k.m.share.n_stages % k.m.n_layer;
    uint64_t *full = k.template place<uint64_t>(k.m.at.full) + slot;
    mbarrier_expect(full, STAGE_BYTES);
    bulk_copy(k.template place<char>(k.m.at.ring) + slot * STAGE_BYTES,
              k.share(layer) + k.m.share.stages +
                  (size_t)(i % k.m.share.n_stages) * STAGE_BYTES,
              STAGE_BYTES, full);
}

/* Fetches what there is room for, behind a barrier of the block: all warps
 * have used the stages before k.used.  One warp does, a stage a lane. */
template <class T>
static __device__ __forceinline__ void ring_fill(const step_block<T> &k)
{
    if (!T::has_ring || k.warp != STEP_WARPS - 1)
        return;
    int *filled = k.template place<int>(k.m.at.filled);
    int first = *filled;
    int end = min(k.used + k.m.at.ring_stages, k.n_stages);
    __syncwarp();
    if (first + k.lane < end)
        ring_fetch(k, first + k.lane);
    if (k.lane == 0)
        *filled = max(first, end);
    __syncwarp();
}

/* This lane's part of the next stage. */
template <class T>
static __device__ __forceinline__ uint4 ring_next(step_block<T> &k)
{
    mbarrier_wait(k.template place<uint64_t>(k.m.at.full) + k.slot, k.lap);
    uint4 w =
        k.template place<uint4>(k.m.at.ring + k.slot * STAGE_BYTES)[k.thread];
    k.used++;
    if (++k.slot == k.m.at.ring_stages) {
        k.slot = 0;
        k.lap ^= 1;
    }
    return w;
}

/* ---- products ------------------------------------------------------------ */

/* sum += q W^T for eight rows of W, 64 deep, and sixteen of q. */
template <int tiles>
static __device__ __forceinline__ void
multiply_unit(int32_t sum[tiles][4], const uint4 w[tiles], const int8_t *q)
{
    uint32_t low[4], high[4];
    load_matrices(low, q);
    load_matrices(high, q + 32);
#pragma unroll
    for (int j = 0; j < tiles; j++) {
        const uint32_t b[4] = {w[j].x, w[j].y, w[j].z, w[j].w};
        product_16x8x32(sum[j], low, b);
        product_16x8x32(sum[j], high, b + 2);
    }
}

/* The units of a warp in consecutive stages: `tiles` at a time, of rows that
 * are multiplied by the same part of q.  Through the ring, or `ahead` of them
 * on their way to registers. */
template <class T, int tiles, int ahead> struct unit_stream {
    const uint4 *from; /* this lane's, of the first unit */
    uint4 next[ahead][tiles];

    __device__ __forceinline__ void fetch(int i, int unit)
    {
#pragma unroll
        for (int j = 0; j < tiles; j++)
            next[i][j] =
                load_once(from + (unit * tiles + j) * (STAGE_BYTES / 16));
    }

    /* From a stage of the layer on, n times `tiles` stages.  What is past the
     * last is fetched as the last: no old values are kept alive. */
    __device__ __forceinline__ void start(const step_block<T> &k, int layer,
                                          int stage, int n)
    {
        if (T::has_ring)
            return;
        from = (const uint4 *)(k.share(layer) + k.m.share.stages +
                               (size_t)stage * STAGE_BYTES) +
               k.thread;
#pragma unroll
        for (int i = 0; i < ahead; i++)
            fetch(i, min(i, n - 1));
    }

    /* sum += q W^T; q: of this lane, for load_matrices; step: from unit to
     * unit. */
    __device__ __forceinline__ void multiply(step_block<T> &k,
                                             int32_t sum[T::deep][tiles][4],
                                             const int8_t *q, int step, int n)
    {
        if constexpr (T::has_ring) {
            multiply_ring(k, sum, q, step, n);
        } else {
#pragma unroll 1
            for (int u0 = 0; u0 < n; u0 += ahead) {
#pragma unroll
                for (int i = 0; i < ahead; i++) {
                    if (u0 + i >= n)
                        break;
                    multiply_rows(k, sum, next[i], q + (u0 + i) * step);
                    if (u0 + i + ahead < n)
                        fetch(i, u0 + i + ahead);
                }
            }
        }
    }

    /* Half of the ring is used between barriers, so that half is on its way. */
    static __device__ __forceinline__ void
    multiply_ring(step_block<T> &k, int32_t sum[T::deep][tiles][4],
                  const int8_t *q, int step, int n)
    {
        const int at_most = k.m.at.ring_stages / 2 / tiles;
#pragma unroll 1
        for (int u = 0, since = 0; u < n; u++, since++) {
            uint4 w[tiles];
            if (since == at_most) {
                __syncthreads(); /* all have used these stages */
                ring_fill(k);
                since = 0;
            }
#pragma unroll
            for (int j = 0; j < tiles; j++)
                w[j] = ring_next(k);
            multiply_rows(k, sum, w, q + u * step);
        }
    }

    static __device__ __forceinline__ void
    multiply_rows(const step_block<T> &k, int32_t sum[T::deep][tiles][4],
                  const uint4 w[tiles], const int8_t *q)
    {
#pragma unroll
        for (int t = 0; t < T::deep; t++) {
            if (t * ROW_TILE < k.n)
                multiply_unit<tiles>(sum[t], w,
                                     q + t * ROW_TILE * k.m.at.q_pitch);
        }
    }
};

/* What this lane gives load_matrices. */
template <class T>
static __device__ __forceinline__ const int8_t *operand(const step_block<T> &k)
{
    return k.template place<int8_t>(k.m.at.q) + k.lane % 16 * k.m.at.q_pitch +
           k.lane / 16 * 16;
}

/* ---- the norm: a group of warps a row ------------------------------------ */

enum {
    NORM_WARPS = 4, /* of a group: a thread has four elements at a time      */
    NORM_THREADS = NORM_WARPS * WARP,
    NORM_GROUPS = STEP_WARPS / NORM_WARPS
};

/* What the warps of a group tell each other. */
struct norm_words {
    float lanes[WARP], sum;
    uint32_t amax[NORM_WARPS];
};

template <class T>
static __device__ __forceinline__ struct norm_words *
own_norm_words(const step_block<T> &k)
{
    return k.template place<struct norm_words>(k.m.at.norm) +
           k.warp / NORM_WARPS;
}

/* A barrier of the group. */
template <class T>
static __device__ __forceinline__ void norm_sync(const step_block<T> &k)
{
    barrier_sync(1 + k.warp / NORM_WARPS, NORM_THREADS);
}

/* Own row r of h: the byte's embedding, or what it was and dv. */
template <class T>
static __device__ __forceinline__ const float *own_h(const step_block<T> &k,
                                                     int r, bool is_first)
{
    const int d = k.m.d_model;
    float *h = k.template place<float>(k.m.at.h) + r * d;
    const float *from = k.template place<float>(k.m.at.dv) + r * d;
    if (is_first)
        from = k.m.embedding + (size_t)k.byte(k.rank * k.own + r) * d;
    for (int i = k.thread % NORM_THREADS * 4; i < d; i += NORM_THREADS * 4) {
        float4 v = *(const float4 *)(from + i);
        float4 old = is_first ? make_float4(0.0f, 0.0f, 0.0f, 0.0f)
                              : *(const float4 *)(h + i);
        if (!is_first)
            v = make_float4(old.x + v.x, old.y + v.y, old.z + v.z, old.w + v.w);
        *(float4 *)(h + i) = v;
    }
    norm_sync(k); /* h is written */
    return h;
}

/* The sum of (h - centre)^2, or of h, in exact.h's order: a lane a thread of
 * two warps.  All of the group get it. */
template <bool is_squared, class T>
static __device__ __forceinline__ float sum_own(const step_block<T> &k,
                                                const float *h, float centre)
{
    struct norm_words *words = own_norm_words(k);
    const int warp = k.warp % NORM_WARPS;
    float sum = 0.0f;
    if (warp < 2) {
#pragma unroll 8
        for (int i = warp * WARP + k.lane; i < k.m.d_model; i += EXACT_LANES) {
            float a = h[i] - centre;
            sum = is_squared ? fmaf(a, a, sum) : sum + a;
        }
    }
    if (warp == 1)
        words->lanes[k.lane] = sum;
    norm_sync(k); /* the upper lanes are written */
    if (warp == 0) {
        sum = strided_sum(sum, words->lanes[k.lane]);
        if (k.lane == 0)
            words->sum = sum;
    }
    norm_sync(k); /* the sum is written */
    return words->sum;
}

/* The largest of the group's. */
template <class T>
static __device__ __forceinline__ uint32_t norm_max(const step_block<T> &k,
                                                    uint32_t amax)
{
    struct norm_words *words = own_norm_words(k);
    amax = warp_max(amax);
    if (k.lane == 0)
        words->amax[k.warp % NORM_WARPS] = amax;
    norm_sync(k); /* the maxima are written */
    return max(max(words->amax[0], words->amax[1]),
               max(words->amax[2], words->amax[3]));
}

/* The words of this and the next three lanes; of use to every fourth. */
static __device__ __forceinline__ uint4 gather_words(uint32_t word)
{
    return make_uint4(word, __shfl_down_sync(WHOLE_WARP, word, 1),
                      __shfl_down_sync(WHOLE_WARP, word, 2),
                      __shfl_down_sync(WHOLE_WARP, word, 3));
}

/* q = norm(h) of own rows quantised, and its scale, to all blocks.  norm,
 * norm_bias: offsets of the parameters. */
template <class T>
static __device__ __forceinline__ void
step_norm(const step_block<T> &k, bool is_first, int norm, int norm_bias)
{
    const int d = k.m.d_model, n = k.n_own();
    const float *weight = k.param(norm), *bias = k.param(norm_bias);
#pragma unroll 1
    for (int r = k.warp / NORM_WARPS; r < n; r += NORM_GROUPS) {
        const float *h = own_h(k, r, is_first);
        float mean = 0.0f;
        if (k.m.has_norm_bias)
            mean = sum_own<false>(k, h, 0.0f) / (float)d;
        float variance = sum_own<true>(k, h, mean) / (float)d;
        float by = 1.0f / sqrtf(variance + k.m.epsilon);
        auto norm_at = [&](float x, int i) {
            return k.m.has_norm_bias ? fmaf((x - mean) * by, weight[i], bias[i])
                                     : x * by * weight[i];
        };
        auto norm4_at = [&](int i) {
            float4 x = *(const float4 *)(h + i);
            return make_float4(norm_at(x.x, i), norm_at(x.y, i + 1),
                               norm_at(x.z, i + 2), norm_at(x.w, i + 3));
        };
        const int first = k.thread % NORM_THREADS * 4;
        uint32_t amax = 0;
        for (int i = first; i < d; i += NORM_THREADS * 4) {
            float4 x = norm4_at(i);
            amax = max(amax, magnitude4(x));
        }
        struct exact_scale s = exact_scale_of(norm_max(k, amax));
        const int row = k.rank * k.own + r;
        for (int i = first; i < round_up(d, WARP * 4); i += NORM_THREADS * 4) {
            uint32_t word = i < d && s.scale != 0.0f
                                ? quantise4(norm4_at(i), s.inverse)
                                : 0;
            uint4 words = gather_words(word);
            if (k.lane % 4 == 0 && i < d)
                step_send_all(k, X_COMES, k.m.at.q + row * k.m.at.q_pitch + i,
                              words);
        }
        if (k.thread % NORM_THREADS == 0)
            step_send_all(k, X_COMES, k.m.at.scale + row * 4,
                          exact_bits(s.scale));
        norm_sync(k); /* the words have been read */
    }
}

/* ---- in_proj ------------------------------------------------------------- */

template <class T> using in_stream = unit_stream<T, T::in_tiles, T::in_ahead>;

template <class T>
static __device__ __forceinline__ void
start_in(in_stream<T> &s, const step_block<T> &k, int layer)
{
    s.start(k, layer, 0, k.m.share.in_units);
}

template <class T>
static __device__ __forceinline__ void step_in(in_stream<T> &s,
                                               step_block<T> &k)
{
    constexpr int half = T::in_tiles / 2;
    int32_t sum[T::deep][T::in_tiles][4] = {};
    const float *scale = k.template place<float>(k.m.at.scale);
    s.multiply(k, sum, operand(k), UNIT_DEPTH, k.m.share.in_units);
#pragma unroll
    for (int j = 0; j < T::in_tiles; j++) {
        int column = (k.warp * half + j % half) * 8 + k.lane % 4 * 2 +
                     (j < half ? 0 : T::channels);
        float2 w = *(const float2 *)(k.param(k.m.share.in_scale) + column);
#pragma unroll
        for (int i = 0; i < 2 * T::deep; i++) {
            const int32_t *c = sum[i / 2][j] + i % 2 * 2;
            int row = i * 8 + k.lane / 4;
            if (row < k.n)
                *(float2 *)(k.uz(row) + column) =
                    make_float2(exact_dequantise(c[0], scale[row], w.x),
                                exact_dequantise(c[1], scale[row], w.y));
        }
    }
}

/* ---- convolution --------------------------------------------------------- */

/* A thread's channel, and its first row. */
template <class T>
static __device__ __forceinline__ int own_channel(const step_block<T> &k)
{
    return k.thread % T::channels;
}

template <class T>
static __device__ __forceinline__ int own_row(const step_block<T> &k)
{
    return k.thread / T::channels;
}

/* The past inputs of this thread's channel in the stream of row r; its states
 * are m.image.s floats on. */
template <class T>
static __device__ __forceinline__ float *past_of(const step_block<T> &k,
                                                 int layer, int r)
{
    return k.template place<float *>(k.m.at.image)[r] +
           (size_t)layer * k.m.image.layer + k.rank * T::channels +
           own_channel(k);
}

/* What a thread has of some rows, on its way. */
enum { PAST_ABREAST = 2 };
struct past_rows {
    float at[PAST_ABREAST][STEP_TAPS - 1];
};

template <class T>
static __device__ __forceinline__ void
load_past(struct past_rows &p, const step_block<T> &k, int layer, int r)
{
#pragma unroll
    for (int j = 0; j < PAST_ABREAST; j++) {
        const float *past = past_of(k, layer, min(r + j * T::at_once, k.n - 1));
#pragma unroll
        for (int i = 0; i < STEP_TAPS - 1; i++)
            p.at[j][i] = past[(size_t)i * k.m.d_inner];
    }
}

/* u = silu(conv(u)) of a row, its magnitude, and the past for the next byte.
 */
template <class T>
static __device__ __forceinline__ void
convolve_row(const step_block<T> &k, int layer, int r, const float *past)
{
    const int c = own_channel(k);
    const float *weight = k.param(k.m.share.conv) + c;
    float *keep = past_of(k, layer, r);
    float input = k.uz(r)[c], a = k.param(k.m.share.conv_bias)[c];
#pragma unroll
    for (int i = 0; i < STEP_TAPS; i++) {
        float x = i < STEP_TAPS - 1 ? past[i] : input;
        a = fmaf(weight[i * T::channels], x, a);
        if (i > 0)
            keep[(size_t)(i - 1) * k.m.d_inner] = x;
    }
    silu_all<1>(&a);
    k.uz(r)[c] = a;
    uint32_t amax = warp_max(magnitude_bits(a));
    if (k.lane == 0)
        atomicMax(k.template place<uint32_t>(k.m.at.amax) + r, amax);
}

template <class T>
static __device__ __forceinline__ void
step_convolve(struct past_rows &p, const step_block<T> &k, int layer)
{
    constexpr int step = PAST_ABREAST * T::at_once;
#pragma unroll 1
    for (int r = own_row(k); r < k.n; r += step) {
        struct past_rows now = p;
        load_past(p, k, layer, r + step);
#pragma unroll
        for (int j = 0; j < PAST_ABREAST; j++) {
            if (r + j * T::at_once < k.n)
                convolve_row(k, layer, r + j * T::at_once, now.at[j]);
        }
    }
}

/* ---- maxima, and quantisation -------------------------------------------- */

/* This block's maxima of the rows, complete, to all. */
template <class T>
static __device__ __forceinline__ void tell_maxima(const step_block<T> &k,
                                                   enum exchange e)
{
    const uint32_t *amax = k.template place<uint32_t>(k.m.at.amax);
    for (int i = k.thread; i < k.m.size * k.n; i += STEP_THREADS) {
        int row = i % k.n;
        step_send(k, e, k.m.at.maxima + (k.rank * k.m.rows + row) * 4, i / k.n,
                  amax[row]);
    }
}

/* Sixteen floats quantised.  The four words are read in an order that depends
 * on the lane, so that the lanes of a row do not meet in a bank. */
static __device__ __forceinline__ uint4 quantise16(const float *v,
                                                   float inverse, int turn)
{
    uint32_t w[4], x[4], y[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        w[i] = quantise4(*(const float4 *)(v + ((i + turn) & 3) * 4), inverse);
#pragma unroll
    for (int i = 0; i < 4; i++)
        x[i] = turn & 1 ? w[(i + 3) & 3] : w[i];
#pragma unroll
    for (int i = 0; i < 4; i++)
        y[i] = turn & 2 ? x[(i + 2) & 3] : x[i];
    return make_uint4(y[0], y[1], y[2], y[3]);
}

/* q = u or y quantised, to all blocks; the maxima have come. */
template <class T>
static __device__ __forceinline__ void step_quantise(const step_block<T> &k,
                                                     enum exchange e)
{
    float *scales = k.template place<float>(k.m.at.scale);
    float *inverses = k.template place<float>(k.m.at.inverse);
    if (k.thread < k.n) {
        const uint32_t *maxima =
            k.template place<uint32_t>(k.m.at.maxima) + k.thread;
        uint32_t amax = 0;
#pragma unroll 4
        for (int i = 0; i < k.m.size; i++)
            amax = max(amax, maxima[i * k.m.rows]);
        struct exact_scale s = exact_scale_of(amax);
        scales[k.thread] = s.scale;
        inverses[k.thread] = s.inverse;
    }
    __syncthreads(); /* scales are written, all warps have told their maxima */
    if (k.thread < k.n)
        k.template place<uint32_t>(k.m.at.amax)[k.thread] = 0;
    for (int i = k.thread; i < k.n * T::chunks; i += STEP_THREADS) {
        int row = i / T::chunks, chunk = i % T::chunks;
        uint4 words = make_uint4(0, 0, 0, 0);
        if (scales[row] != 0.0f)
            words =
                quantise16(k.uz(row) + chunk * 16, inverses[row], chunk / 2);
        step_send_all(k, e,
                      k.m.at.q + row * k.m.at.q_pitch + k.rank * T::channels +
                          chunk * 16,
                      words);
    }
}

/* ---- x_proj: its rows dealt to the blocks, its depth to the warps -------- */

template <class T> using x_stream = unit_stream<T, 1, 4>;

/* The i-th tile of eight rows of this block. */
template <class T>
static __device__ __forceinline__ int x_tile(const step_block<T> &k, int i)
{
    return k.rank + i * k.m.size;
}

template <class T>
static __device__ __forceinline__ void
start_x(x_stream<T> &s, const step_block<T> &k, int layer, int i)
{
    const struct step_share &at = k.m.share;
    s.start(k, layer, at.in_units * T::in_tiles + i * at.x_stages, at.x_stages);
}

/* The sums of the warps meet in shared memory: integers, in any order. */
template <class T>
static __device__ __forceinline__ void clear_x(const step_block<T> &k)
{
    int n = k.m.share.n_x_tiles * k.m.rows * 8;
    for (int i = k.thread; i < n; i += STEP_THREADS)
        k.template place<int32_t>(k.m.at.sums)[i] = 0;
}

/* Where there is no such tile, or no such unit, the weights are zeros. */
template <class T>
static __device__ __forceinline__ void add_x(x_stream<T> &s, step_block<T> &k,
                                             int i)
{
    int32_t sum[T::deep][1][4] = {};
    s.multiply(k, sum, operand(k) + k.warp * UNIT_DEPTH,
               STEP_WARPS * UNIT_DEPTH, k.m.share.x_stages);
    int *to =
        k.template place<int>(k.m.at.sums) + i * k.m.rows * 8 + k.lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < 4 * T::deep; j++) {
        int row = j / 2 * 8 + k.lane / 4;
        if (row < k.n)
            atomicAdd(to + row * 8 + j % 2, sum[j / 4][0][j % 4]);
    }
}

/* dt, B and C of the rows from the sums, to all blocks: four by four. */
template <class T>
static __device__ __forceinline__ void share_x(const step_block<T> &k)
{
    const float *scale = k.template place<float>(k.m.at.scale);
    int n = k.m.share.n_x_tiles * k.n * 2;
    for (int i = k.thread; i < n; i += STEP_THREADS) {
        int half = i % 2, row = i / 2 % k.n, tile = i / 2 / k.n;
        int at = x_tile(k, tile) * 8 + half * 4;
        if (at >= k.m.dtbc_stride)
            continue;
        const int32_t *sum = k.template place<int32_t>(k.m.at.sums) +
                             (tile * k.m.rows + row) * 8 + half * 4;
        const float *w = k.param(k.m.share.x_scale) + at;
        float v[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            v[j] = exact_dequantise(sum[j], scale[row], w[j]);
        step_send_all(k, DTBC_COMES,
                      k.m.at.dtbc + (row * k.m.dtbc_stride + at) * 4,
                      words_of(v));
    }
}

template <class T>
static __device__ __forceinline__ void step_x(x_stream<T> &s, step_block<T> &k,
                                              int layer)
{
    for (int i = 0; i < k.m.share.n_x_tiles; i++) {
        if (i > 0)
            start_x(s, k, layer, i);
        add_x(s, k, i);
    }
    __syncthreads(); /* the sums are complete, the stages used */
    ring_fill(k);
    share_x(k);
}

/* ---- the scan ------------------------------------------------------------ */

/* dt of all rows quantised, eight threads a row. */
template <class T>
static __device__ __forceinline__ void quantise_dt(const step_block<T> &k)
{
    const int first = k.thread % 8 * 4;
    for (int r0 = 0; r0 < k.n; r0 += STEP_THREADS / 8) {
        const int row = min(r0 + k.thread / 8, k.n - 1);
        const float *from =
            k.template place<float>(k.m.at.dtbc) + row * k.m.dtbc_stride;
        uint32_t *to =
            k.template place<uint32_t>(k.m.at.dt_q) + row * k.m.dt_words;
        uint32_t amax = 0;
        for (int i = first; i < k.m.dt_room; i += 32) {
            float4 v = *(const float4 *)(from + i);
            amax = max(amax, magnitude4(v));
        }
        amax = lanes_max<8>(amax);
        struct exact_scale s = exact_scale_of(amax);
        for (int i = first; i < k.m.dt_room; i += 32)
            to[i / 4] = s.scale == 0.0f
                            ? 0
                            : quantise4(*(const float4 *)(from + i), s.inverse);
        if (first == 0)
            k.template place<float>(k.m.at.dt_unit)[row] = s.scale;
    }
}

template <class T>
static __device__ __forceinline__ float *states_of(const step_block<T> &k,
                                                   int layer, int r)
{
    return past_of(k, layer, r) + k.m.image.s;
}

/* The states of the thread's channel in row r, or in the last. */
template <class T>
static __device__ __forceinline__ void
load_states(float s[STEP_STATES], const step_block<T> &k, int layer, int r)
{
    const float *from = states_of(k, layer, min(r, k.n - 1));
#pragma unroll
    for (int i = 0; i < STEP_STATES; i++)
        s[i] = __ldcs(from + (size_t)i * k.m.d_inner);
}

/* delta of the thread's channel in row r. */
template <class T>
static __device__ __forceinline__ float delta_of(const step_block<T> &k, int r)
{
    const int c = own_channel(k);
    const int *w = (const int *)k.param(k.m.share.dt_proj) + c;
    const int *q = k.template place<int>(k.m.at.dt_q) + r * k.m.dt_words;
    int sum = 0;
#pragma unroll 4
    for (int i = 0; i < k.m.dt_words; i++)
        sum = __dp4a(w[i * T::channels], q[i], sum);
    float unit = k.template place<float>(k.m.at.dt_unit)[r];
    return exact_softplus(
        exact_dequantise(sum, unit, k.param(k.m.share.dt_scale)[c]) +
        k.param(k.m.share.dt_bias)[c]);
}

/* s = 2^(delta a) s + delta u B; C s.  bc: B, then C of the row. */
static __device__ __forceinline__ float
advance_states(float s[STEP_STATES], const float a[STEP_STATES], float delta,
               float u, const float4 *bc)
{
    constexpr int groups = STEP_STATES / EXACT_GROUP;
    float p[groups], du = delta * u;
#pragma unroll
    for (int j = 0; j < groups; j++) {
        float4 b4 = bc[j], c4 = bc[groups + j];
        const float b[] = {b4.x, b4.y, b4.z, b4.w};
        const float c[] = {c4.x, c4.y, c4.z, c4.w};
#pragma unroll
        for (int i = 0; i < EXACT_GROUP; i++) {
            int n = j * EXACT_GROUP + i;
            s[n] = fmaf(exact_exp2_neg(delta * a[n]), s[n], du * b[i]);
            p[j] = i == 0 ? c[i] * s[n] : fmaf(c[i], s[n], p[j]);
        }
    }
    return (p[0] + p[1]) + (p[2] + p[3]);
}

/* y of row r, its magnitude, and its states. */
template <class T>
static __device__ __forceinline__ void
scan_row(const step_block<T> &k, int layer, int r, float s[STEP_STATES],
         const float a[STEP_STATES])
{
    const int c = own_channel(k);
    float *uz = k.uz(r);
    float u = uz[c], z = uz[T::channels + c];
    float y =
        advance_states(s, a, delta_of(k, r), u,
                       (const float4 *)(k.template place<float>(k.m.at.dtbc) +
                                        r * k.m.dtbc_stride + k.m.dt_room));
    float *to = states_of(k, layer, r);
#pragma unroll
    for (int i = 0; i < STEP_STATES; i++)
        __stcs(to + (size_t)i * k.m.d_inner, s[i]);
    silu_all<1>(&z);
    y = fmaf(k.param(k.m.share.d)[c], u, y) * z;
    uz[c] = y;
    uint32_t amax = warp_max(magnitude_bits(y));
    if (k.lane == 0)
        atomicMax(k.template place<uint32_t>(k.m.at.amax) + r, amax);
}

/* s: the states of the first row, on their way. */
template <class T>
static __device__ __forceinline__ void
step_scan(const step_block<T> &k, int layer, float s[STEP_STATES],
          const float a[STEP_STATES])
{
#pragma unroll 1
    for (int r = own_row(k); r < k.n; r += T::at_once) {
        float now[STEP_STATES];
#pragma unroll
        for (int i = 0; i < STEP_STATES; i++)
            now[i] = s[i];
        load_states(s, k, layer, r + T::at_once);
        scan_row(k, layer, r, now, a);
    }
}

/* ---- out_proj ------------------------------------------------------------ */

template <class T> using out_stream = unit_stream<T, 1, 8>;

template <class T>
static __device__ __forceinline__ void
start_out(out_stream<T> &s, const step_block<T> &k, int layer)
{
    const struct step_share &at = k.m.share;
    s.start(k, layer, at.in_units * T::in_tiles + at.n_x_tiles * at.x_stages,
            at.out_units);
}

/* What is to be added to h, to the blocks that have its rows.  Lanes 2 i and
 * 2 i + 1 have neighbouring pairs of columns of two rows: they exchange them,
 * so that each has four columns of one. */
template <class T>
static __device__ __forceinline__ void send_out(const step_block<T> &k,
                                                const int32_t sum[4], int row,
                                                int column, float2 w)
{
    const bool is_odd = k.lane & 1;
    const float *scale = k.template place<float>(k.m.at.scale);
    float low = scale[min(row, k.n - 1)], high = scale[min(row + 8, k.n - 1)];
    float2 a = make_float2(exact_dequantise(sum[0], low, w.x),
                           exact_dequantise(sum[1], low, w.y));
    float2 b = make_float2(exact_dequantise(sum[2], high, w.x),
                           exact_dequantise(sum[3], high, w.y));
    float2 give = is_odd ? a : b, keep = is_odd ? b : a, got;
    got.x = __shfl_xor_sync(WHOLE_WARP, give.x, 1);
    got.y = __shfl_xor_sync(WHOLE_WARP, give.y, 1);
    float v[4] = {is_odd ? got.x : keep.x, is_odd ? got.y : keep.y,
                  is_odd ? keep.x : got.x, is_odd ? keep.y : got.y};
    row += is_odd ? 8 : 0;
    if (row < k.n)
        step_send(k, DV_COMES,
                  k.m.at.dv + (row % k.own * k.m.d_model + column / 4 * 4) * 4,
                  row / k.own, words_of(v));
}

/* The sums of the warp that has the second half of the depth, by way of the
 * place of u and z, to the warp that has the first. */
template <class T>
static __device__ __forceinline__ void join_out(int32_t sum[T::deep][1][4],
                                                const step_block<T> &k)
{
    const bool is_second = k.warp >= STEP_WARPS / 2;
    int4 *at = k.template place<int4>(k.m.at.uz) +
               k.warp % (STEP_WARPS / 2) * T::deep * WARP + k.lane;
#pragma unroll
    for (int i = 0; i < T::deep; i++) {
        if (is_second && i * ROW_TILE < k.n)
            at[i * WARP] = make_int4(sum[i][0][0], sum[i][0][1], sum[i][0][2],
                                     sum[i][0][3]);
    }
    __syncthreads(); /* the sums of the second halves are written */
#pragma unroll
    for (int i = 0; i < T::deep; i++) {
        if (is_second || i * ROW_TILE >= k.n)
            continue;
        int4 v = at[i * WARP];
        sum[i][0][0] += v.x;
        sum[i][0][1] += v.y;
        sum[i][0][2] += v.z;
        sum[i][0][3] += v.w;
    }
}

template <class T>
static __device__ __forceinline__ void step_out(out_stream<T> &s,
                                                step_block<T> &k, int layer)
{
    const int tiles = k.m.share.n_out_tiles;
    const bool is_shared = out_is_shared(tiles);
    const bool is_second = is_shared && k.warp >= STEP_WARPS / 2;
    const int tile = is_shared ? k.warp % (STEP_WARPS / 2) : k.warp;
    const int pair = min(tile, tiles - 1) * 8 + k.lane % 4 * 2;
    float2 w =
        *(const float2 *)(k.share(layer) + k.m.share.out_scale + pair * 4);
    int32_t sum[T::deep][1][4] = {};
    s.multiply(k, sum,
               operand(k) + (is_second ? k.m.share.out_units * UNIT_DEPTH : 0),
               UNIT_DEPTH, k.m.share.out_units);
    if (is_shared)
        join_out<T>(sum, k);
    else if (T::has_ring)
        __syncthreads(); /* all have used the stages */
    ring_fill(k);
    if (tile >= tiles || is_second)
        return;
#pragma unroll
    for (int i = 0; i < T::deep; i++) {
        if (i * ROW_TILE < k.n)
            send_out(k, sum[i][0], i * ROW_TILE + k.lane / 4,
                     k.rank * tiles * 8 + pair, w);
    }
}

/* ---- the head ------------------------------------------------------------ */

/* The units of a tile follow each other. */
template <class T>
static __device__ __forceinline__ void
step_head_product(const step_block<T> &k, const struct step_job &job)
{
    const int first = head_tile(k.rank, k.m.size);
    const int n = k.m.d_model / UNIT_DEPTH;
    const float *scale = k.template place<float>(k.m.at.scale);
    for (int tile = k.warp; tile < head_tile(k.rank + 1, k.m.size) - first;
         tile += STEP_WARPS) {
        const uint4 *unit = (const uint4 *)(k.head_share() + k.m.head.units) +
                            (size_t)tile * n * WARP + k.lane;
        int pair = tile * 8 + k.lane % 4 * 2;
        float2 w = *(const float2 *)(k.param(k.m.head.scale) + pair);
        int32_t sum[T::deep][1][4] = {};
#pragma unroll 4
        for (int i = 0; i < n; i++) {
            uint4 v = load_once(unit + i * WARP);
            unit_stream<T, 1, 1>::multiply_rows(k, sum, &v,
                                                operand(k) + i * UNIT_DEPTH);
        }
#pragma unroll
        for (int i = 0; i < 2 * T::deep; i++) {
            const int32_t *c = sum[i / 2][0] + i % 2 * 2;
            int row = i * 8 + k.lane / 4;
            if (row >= k.n)
                continue;
            float2 v = make_float2(exact_dequantise(c[0], scale[row], w.x),
                                   exact_dequantise(c[1], scale[row], w.y));
            *(float2 *)(job.logits + (size_t)(k.row + row) * N_BYTES_VOCAB +
                        first * 8 + pair) =
                make_float2(exact_logit(v.x), exact_logit(v.y));
        }
    }
}

/* What the bytes cost under the predictions of the states, which the new ones
 * replace.  A warp a row. */
template <class T>
static __device__ __forceinline__ void step_deliver(const step_block<T> &k,
                                                    const struct step_job &job)
{
    const int n = k.n_own();
    for (int r = k.warp; r < n; r += STEP_WARPS) {
        const int t = k.rank * k.own + r, row = k.row + t;
        float *state =
            k.template place<float *>(k.m.at.image)[t] + k.m.image.logits;
        float *wanted = job.host_logits[row];
        float bits = cost_of(state, k.byte(t), k.lane);
        if (k.lane == 0)
            job.host_bits[row] = bits;
        __syncwarp();
        const float *logits = job.logits + (size_t)row * N_BYTES_VOCAB;
#pragma unroll
        for (int i = k.lane; i < N_BYTES_VOCAB; i += WARP) {
            float x = logits[i];
            state[i] = x;
            if (wanted)
                wanted[i] = x;
        }
    }
}

/* ---- what is on its way -------------------------------------------------- */

/* The parameters of a layer, to shared memory. */
template <class T>
static __device__ __forceinline__ void fetch_params(const step_block<T> &k,
                                                    const char *from, int bytes)
{
    for (int i = k.thread * 16; i < bytes; i += STEP_THREADS * 16)
        copy16(k.template place<char>(k.m.at.params) + i, from + i, true);
    copy_commit();
}

/* The weights of a layer, to the L2 cache: each team asks for a part of what
 * its blocks of this rank will all need. */
template <class T>
static __device__ __forceinline__ void prefetch_weights(const step_block<T> &k,
                                                        int layer)
{
    enum { LINE = 128 };
    const int teams = gridDim.x / k.m.size, team = blockIdx.x / k.m.size;
    const int n = k.m.share.bytes / LINE;
    const int first = n * team / teams, end = n * (team + 1) / teams;
    const char *from = k.share(layer) + (size_t)first * LINE;
    const int bytes = (end - first) * LINE;
    if (k.thread == 0 && bytes > 0)
        bulk_prefetch(from, bytes);
}

/* The states that a layer will need, of as many rows as the L2 cache holds of
 * all teams beside the weights, to it: the memory is idle from scan to scan. */
template <class T>
static __device__ __forceinline__ void prefetch_states(const step_block<T> &k,
                                                       int layer)
{
    enum { ROWS = 24, LINE = 32, LINES = T::channels / LINE }; /* floats */
    constexpr int each = (STEP_TAPS - 1 + STEP_STATES) * LINES;
    for (int i = k.thread; i < min(k.n, (int)ROWS) * each; i += STEP_THREADS) {
        const float *at = k.template place<float *>(k.m.at.image)[i / each] +
                          (size_t)layer * k.m.image.layer +
                          (size_t)(i % each / LINES) * k.m.d_inner +
                          k.rank * T::channels + i % LINES * LINE;
        prefetch_line(at);
    }
}

#endif
#endif
