/* decode_block.cuh -- what a block of the decode kernel knows, and does to
 * whole vectors: quantise, multiply, normalise.
 *
 * All computing warps call these functions together.  Results are those of
 * exact.h: int32 sums in any order, float sums in the stated one.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_BLOCK_CUH
#define MAMBYTE_DECODE_BLOCK_CUH

#include "cuda/common/exact_vector.cuh"
#include "cuda/common/exchange.cuh"
#include "cuda/decode/decode_plan.cuh"
#include "cuda/decode/sample.cuh"
#include "cuda/decode/weight_stream.cuh"

enum {
    WAITING_WARP = N_WARPS - 1, /* for weights: it has the least to do */
    SCAN_WARP = 1               /* the first in the scan */
};

/* What a thread of the computing warps knows. */
struct self {
    const struct decode_plan *plan;
    struct weight_source source;
    struct weights weights;
    int thread, warp, lane;
    int scan_thread;    /* the thread's first place in scan() */
    int c0, n_channels; /* the block's channels */
    int r0, n_rows;     /* of h */
    int x0, n_x_rows;   /* of x_proj */
    int l0, n_logits;   /* of lm_head */
    float *h, *x, *v, *u, *gate, *logits;
    float *state; /* see state_past() */
    int8_t *q, *dt;
    int32_t *sums;
    uint64_t *x_words;
    uint32_t *maxima;   /* [N_WARPS] */
    uint64_t *complete; /* [2]: mbarriers of v, h */
    uint32_t parity;    /* their next ones, a bit each */
    struct sample_scratch *sample;
};

static __device__ struct self self_make(const struct decode_plan *p,
                                        uint8_t *memory)
{
    const struct decode_memory *m = &p->memory;
    const int n_x = p->config.dt_rank + 2 * p->config.d_state;
    const int block = blockIdx.x, part = block % p->n_parts;
    struct self me;
    me.plan = p;
    me.source.plan = p;
    me.source.block = block;
    me.source.part = part;
    me.thread = threadIdx.x;
    me.warp = threadIdx.x / WARP;
    me.lane = threadIdx.x % WARP;
    me.scan_thread = (threadIdx.x + N_THREADS - SCAN_WARP * WARP) % N_THREADS;
    me.c0 = share_begin(block, p->config.d_inner, p->n_blocks);
    me.n_channels =
        share_begin(block + 1, p->config.d_inner, p->n_blocks) - me.c0;
    me.r0 = share_begin(block, p->config.d_model, p->n_blocks);
    me.n_rows = share_begin(block + 1, p->config.d_model, p->n_blocks) - me.r0;
    me.l0 = share_begin(block, N_BYTES_VOCAB, p->n_blocks);
    me.n_logits = share_begin(block + 1, N_BYTES_VOCAB, p->n_blocks) - me.l0;
    me.x0 = share_begin(part, n_x, p->n_parts);
    me.n_x_rows = share_begin(part + 1, n_x, p->n_parts) - me.x0;
    me.h = (float *)(memory + m->h);
    me.x = (float *)(memory + m->x);
    me.v = (float *)(memory + m->v);
    me.u = (float *)(memory + m->u);
    me.gate = (float *)(memory + m->gate);
    me.logits = (float *)(memory + m->logits);
    me.state = (float *)(memory + m->state);
    me.q = (int8_t *)(memory + m->q);
    me.dt = (int8_t *)(memory + m->dt);
    me.sums = (int32_t *)(memory + m->sums);
    me.x_words = (uint64_t *)(memory + m->x_words);
    me.complete = (uint64_t *)(memory + m->complete);
    me.parity = 0;
    return me;
}

/* Sizes that a kernel knows when it is compiled, all or, with 0, none: then
 * it asks the plan. */
template <int D_MODEL, int D_INNER, int DT_RANK, int D_STATE, int D_CONV>
struct shape {
    /* Whether the code for eight rows of a product at once may pay: where it
     * does not it costs, even unused. */
    static constexpr bool has_many_rows = D_MODEL == 0 || D_MODEL > 512;
    static __device__ __forceinline__ int d_model(const struct self *me)
    {
        return D_MODEL > 0 ? D_MODEL : me->plan->config.d_model;
    }
    static __device__ __forceinline__ int d_inner(const struct self *me)
    {
        return D_INNER > 0 ? D_INNER : me->plan->config.d_inner;
    }
    static __device__ __forceinline__ int dt_rank(const struct self *me)
    {
        return DT_RANK > 0 ? DT_RANK : me->plan->config.dt_rank;
    }
    static __device__ __forceinline__ int d_state(const struct self *me)
    {
        return D_STATE > 0 ? D_STATE : me->plan->config.d_state;
    }
    static __device__ __forceinline__ int d_conv(const struct self *me)
    {
        return D_CONV > 0 ? D_CONV : me->plan->config.d_conv;
    }
    /* Threads of a channel in the scan, as a power of two. */
    static __device__ __forceinline__ int state_bits(const struct self *me)
    {
        return D_STATE > 0 ? 31 - __clz(D_STATE / EXACT_GROUP)
                           : me->plan->state_bits;
    }
};

static __device__ __forceinline__ float share_float(const struct self *me,
                                                    weight_place floats, int i)
{
    return weights_float(&me->weights, floats, i);
}

/* ---- int8 --------------------------------------------------------------- */

static __device__ __forceinline__ int32_t dot16(int4 a, int4 b, int32_t sum)
{
    sum = __dp4a(a.x, b.x, sum);
    sum = __dp4a(a.y, b.y, sum);
    sum = __dp4a(a.z, b.z, sum);
    return __dp4a(a.w, b.w, sum);
}

/* Quantises values [n] into q; amax: the largest magnitude that this thread
 * knows of.  Clears the sums for the product that follows. */
static __device__ __forceinline__ float quantise(const struct self *me,
                                                 const float *values, int n,
                                                 uint32_t amax, int n_sums)
{
    amax = warp_max(amax);
    if (me->lane == 0)
        me->maxima[me->warp] = amax;
    compute_barrier(); /* values, maxima are written; last sums are read */
    amax = 0;
#pragma unroll
    for (int i = 0; i < N_WARPS; i += 4) {
        const uint4 m = *(const uint4 *)(me->maxima + i);
        amax = max(amax, max(max(m.x, m.y), max(m.z, m.w)));
    }
    const struct exact_scale scale = scale_of(amax);
    for (int i = me->thread; i < n_sums; i += N_THREADS)
        me->sums[i] = 0;
#pragma unroll 4
    for (int first = 0; first < n; first += 4 * N_THREADS) {
        const int i = first + 4 * me->thread;
        if (first + 4 * N_THREADS > n && i >= n)
            break;
        const float4 v = *(const float4 *)(values + i);
        const uint32_t q = quantise4(v, scale.inverse);
        *(uint32_t *)(me->q + i) = scale.scale == 0.0f ? 0 : q;
    }
    return scale.scale;
}

/* A warp's part in a product: bytes of q, and where those of a row begin that
 * meet them. */
struct warp_part {
    int4 q;
    int col, stride;
    int n, step; /* rows; from one of this warp's to the next */
};

/* Adds the products of `at_once` rows of a warp, from `row` on, to their sums.
 * Past the last row it multiplies that one again, in vain, as a branch would
 * cost more. */
template <int at_once>
static __device__ __forceinline__ void multiply_some(const struct self *me,
                                                     const struct warp_part *p,
                                                     int row, int32_t *sums)
{
    const int last = (p->n - 1) * p->stride;
    int4 w[at_once];
    int32_t sum[at_once];
#pragma unroll
    for (int k = 0; k < at_once; k++)
        w[k] = *(const int4 *)weights_at(
            &me->weights, me->weights.at,
            min((row + k * p->step) * p->stride, last) + p->col);
#pragma unroll
    for (int k = 0; k < at_once; k++)
        sum[k] = dot16(w[k], p->q, 0);
    const int32_t mine = warp_sum_each<at_once>(sum, me->lane);
    const int my_row = row + me->lane * p->step;
    if (me->lane < at_once && my_row < p->n)
        atomicAdd(sums + my_row, mine);
}

/* Adds the products of n rows of cols columns, which begin at the place of the
 * weights, to sums [n].  A warp takes a segment of the columns and the rows of
 * its group, four at a time; or eight, while there are more than four. */
template <class S>
static __device__ __forceinline__ void
multiply_rows(const struct self *me, int cols, int n, int32_t *sums)
{
    const int stride = round_up(cols, COPY_ALIGN);
    const int n_segments = ceil_div(stride, SEGMENT_BYTES);
    const int lanes = ceil_div(stride / COPY_ALIGN, n_segments);
    const int n_groups = n_segments < N_WARPS ? N_WARPS / n_segments : 1;
#pragma unroll 1
    for (int unit = me->warp; unit < n_segments * n_groups; unit += N_WARPS) {
        const int lane_col =
            (unit % n_segments * lanes + me->lane) * COPY_ALIGN;
        const bool works = me->lane < lanes && lane_col < stride;
        const int col = works ? lane_col : 0;
        struct warp_part p = {*(const int4 *)(me->q + col), col, stride, n,
                              n_groups};
        if (!works)
            p.q = make_int4(0, 0, 0, 0);
        int row = unit / n_segments;
#pragma unroll 1
        for (; S::has_many_rows && row + 4 * n_groups < n; row += 8 * n_groups)
            multiply_some<8>(me, &p, row, sums);
#pragma unroll 1
        for (; row < n; row += 4 * n_groups)
            multiply_some<4>(me, &p, row, sums);
    }
}

static __device__ __forceinline__ void free_weights(const struct self *me)
{
    if (me->thread == 0)
        weights_free(&me->weights);
}

/* The bytes of the next batch of a piece of which `left` rows are left, with
 * the `ahead` behind the last one. */
static __device__ __forceinline__ int batch_bytes(const struct piece *m,
                                                  int cols, int left, int ahead)
{
    const int stride = round_up(cols, COPY_ALIGN);
    return left <= m->batch ? left * stride + ahead : m->batch * stride;
}

/* sums <- W q, for the rows at the place of the weights, which goes on behind
 * them.  The ahead bytes after them are waited for too, and may be read when
 * this returns.  A piece that is not of one batch frees what lies before. */
template <class S>
static __device__ __forceinline__ void
multiply(struct self *me, const struct piece *m, int cols, int ahead)
{
    int left = m->rows;
#pragma unroll 1
    for (;;) {
        const int n = min(m->batch, left);
        if (me->warp == WAITING_WARP)
            weights_wait(&me->weights, batch_bytes(m, cols, left, ahead));
        compute_barrier(); /* q, cleared sums and weights are there */
        multiply_rows<S>(me, cols, n, me->sums + (m->rows - left));
        compute_barrier(); /* sums are complete */
        weights_advance(&me->weights, n * round_up(cols, COPY_ALIGN));
        left -= n;
        if (left <= 0)
            break;
        free_weights(me);
    }
}

/* ---- norm --------------------------------------------------------------- */

/* The mean of h, in the order of exact.h, in every warp. */
static __device__ __forceinline__ float norm_mean(const struct self *me, int n)
{
    float low = 0.0f, high = 0.0f;
#pragma unroll 1
    for (int i = me->lane; i < n; i += EXACT_LANES) {
        low = low + me->h[i];
        if (i + WARP < n)
            high = high + me->h[i + WARP];
    }
    return strided_sum(low, high) / (float)n;
}

/* The sum of (h - mean)^2, in the order of exact.h, in every warp: that is
 * sooner done than handed from one to the others. */
static __device__ __forceinline__ float norm_sum(const struct self *me, int n,
                                                 float mean)
{
    const int whole = n / EXACT_LANES * EXACT_LANES;
    float low = 0.0f, high = 0.0f;
#pragma unroll 8
    for (int i = 0; i < whole; i += EXACT_LANES) {
        const float a = me->h[i + me->lane] - mean;
        const float b = me->h[i + me->lane + WARP] - mean;
        low = fmaf(a, a, low);
        high = fmaf(b, b, high);
    }
    if (whole + me->lane < n) {
        const float a = me->h[whole + me->lane] - mean;
        low = fmaf(a, a, low);
    }
    if (whole + me->lane + WARP < n) {
        const float b = me->h[whole + me->lane + WARP] - mean;
        high = fmaf(b, b, high);
    }
    return strided_sum(low, high);
}

/* x <- the norm of h, with the factors at the place of the weights; returns
 * the largest magnitude that this thread made. */
static __device__ __forceinline__ uint32_t normalise(struct self *me, int n)
{
    const struct decode_plan *p = me->plan;
    const bool has_bias = p->config.has_norm_bias;
    /* Without a mean h - 0 is h. */
    const float mean = has_bias ? norm_mean(me, n) : 0.0f;
    const float sum = norm_sum(me, n, mean);
    const float r = 1.0f / sqrtf(sum / (float)n + p->config.norm_epsilon);
    uint32_t amax = 0;
#pragma unroll 4
    for (int first = 0; first < n; first += 4 * N_THREADS) {
        const int i = first + 4 * me->thread;
        if (first + 4 * N_THREADS > n && i >= n)
            break;
        const float4 h = *(const float4 *)(me->h + i);
        const float4 w = *(const float4 *)weights_at(
            &me->weights, me->weights.at, i * sizeof(float));
        float4 x = {(h.x * r) * w.x, (h.y * r) * w.y, (h.z * r) * w.z,
                    (h.w * r) * w.w};
        if (has_bias) {
            const float4 b = *(const float4 *)weights_at(
                &me->weights, me->weights.at, (n + i) * sizeof(float));
            x.x = fmaf((h.x - mean) * r, w.x, b.x);
            x.y = fmaf((h.y - mean) * r, w.y, b.y);
            x.z = fmaf((h.z - mean) * r, w.z, b.z);
            x.w = fmaf((h.w - mean) * r, w.w, b.w);
        }
        *(float4 *)(me->x + i) = x;
        amax = max(max(amax, max(magnitude_bits(x.x), magnitude_bits(x.y))),
                   max(magnitude_bits(x.z), magnitude_bits(x.w)));
    }
    weights_advance(&me->weights, p->norm_bytes);
    return amax;
}

#endif
