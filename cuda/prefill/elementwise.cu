/* elementwise.cu -- what lies between the products and the scan: embedding,
 * norms, the convolution, quantisation, pooled features, and what bytes cost.
 *
 * Functions are those of exact.h, and sums have its order.  Maxima are taken
 * on bit patterns, in any order.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/cost.cuh"
#include "cuda/common/exact_vector.cuh"
#include "cuda/common/float4.cuh"
#include "cuda/prefill/prefill_batch.cuh"

enum { THREADS = 256, WARPS = THREADS / WARP, CONV_THREADS = 512 };

/* ---- norms: a warp a row ------------------------------------------------- */

static __device__ __forceinline__ void embed_row(float *h, const float *from,
                                                 int d, int lane)
{
    for (int i = lane; i < d / 4; i += WARP)
        ((float4 *)h)[i] = ((const float4 *)from)[i];
    __syncwarp();
}

struct norm_row {
    const float4 *h, *weight, *bias;
    float mean, r;
    int n; /* fours of a row */
};

/* A lane's share of `kept` fours of h, weight and bias. */
template <int kept, bool has_bias> struct norm_part {
    float4 h[kept], w[kept], b[has_bias ? kept : 1];
};

template <int kept, bool has_bias>
static __device__ __forceinline__ void
load_part(norm_part<kept, has_bias> &p, const struct norm_row &n, int i)
{
#pragma unroll
    for (int k = 0; k < kept; k++, i += WARP) {
        p.h[k] = i < n.n ? n.h[i] : zero4();
        p.w[k] = i < n.n ? n.weight[i] : zero4();
        if (has_bias)
            p.b[k] = i < n.n ? n.bias[i] : zero4();
    }
}

/* h becomes norm(h). */
template <int kept, bool has_bias>
static __device__ __forceinline__ void
norm_of_part(norm_part<kept, has_bias> &p, const struct norm_row &n)
{
#pragma unroll
    for (int k = 0; k < kept; k++) {
        p.h[k] = has_bias ? normed(p.h[k], n.mean, n.r, p.w[k],
                                   p.b[has_bias ? k : 0])
                          : normed(p.h[k], n.r, p.w[k]);
    }
}

/* q of a row, and its scale.  p is the first part of the row; where that is
 * all of it, nothing is loaded again. */
template <int kept, bool has_bias>
static __device__ __forceinline__ struct exact_scale
quantise_norm(norm_part<kept, has_bias> &p, const struct norm_row &n,
              uint32_t *q, int lane)
{
    uint32_t amax = 0;
    for (int i = lane;;) {
        norm_of_part(p, n);
#pragma unroll
        for (int k = 0; k < kept; k++)
            amax = max(amax, magnitude4(p.h[k]));
        i += kept * WARP;
        if (i - lane >= n.n)
            break;
        load_part(p, n, i);
    }
    struct exact_scale scale = exact_scale_of(warp_max(amax));
    for (int i0 = 0; i0 < n.n; i0 += kept * WARP) {
        if (n.n > kept * WARP) {
            load_part(p, n, i0 + lane);
            norm_of_part(p, n);
        }
#pragma unroll
        for (int k = 0; k < kept; k++) {
            int i = i0 + k * WARP + lane;
            if (i < n.n)
                q[i] = quantised4(p.h[k], scale);
        }
    }
    return scale;
}

/* A lane asks at once for all of its share that fits in registers. */
template <int kept, bool has_bias>
static __global__ void __launch_bounds__(THREADS)
    norm_quantise(struct prefill_batch b, struct tick tick)
{
    int layer = tick.first + blockIdx.z, d = b.d_model;
    int slot = slot_of(b, tick, layer);
    const struct microbatch *mb = &b.slots[slot];
    int t = blockIdx.x * WARPS + threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
    if (t >= mb->n_rows)
        return;
    const struct cuda_layer *l = &b.layers[layer];
    struct norm_row n = {
        NULL, (const float4 *)l->norm, (const float4 *)l->norm_bias, 0.0f, 0.0f,
        d / 4};
    await_previous();

    float *h = b.h + ((size_t)slot * b.rows + t) * d;
    if (layer == 0)
        embed_row(h, b.embedding + (size_t)mb->bytes[t] * d, d, lane);
    n.h = (const float4 *)h;
    norm_part<kept, has_bias> part;
    load_part(part, n, lane);
    if (has_bias)
        n.mean = sum_row<false>(h, 0.0f, d, lane) / (float)d;
    float variance = sum_row<true>(h, n.mean, d, lane) / (float)d;
    if (b.overflow)
        check_finite(b.overflow, variance);
    n.r = 1.0f / sqrtf(variance + b.epsilon);

    size_t row = (size_t)layer * b.rows + t;
    struct exact_scale scale =
        quantise_norm(part, n, (uint32_t *)(b.x + row * b.x_stride), lane);
    if (lane == 0) {
        b.x_scale[row] = scale.scale;
        b.dt_amax[row] = 0;
        b.y_amax[row] = 0;
    }
}

template <int kept>
static enum status launch_norm_kept(struct queue q,
                                    const struct prefill_batch *b,
                                    struct tick tick)
{
    return launch("a norm", q, dim3(ceil_div(tick.rows, WARPS), 1, tick.count),
                  THREADS, 0,
                  b->has_norm_bias ? norm_quantise<kept, true>
                                   : norm_quantise<kept, false>,
                  *b, tick);
}

enum status launch_norm(struct queue q, const struct prefill_batch *b,
                        struct tick tick)
{
    return b->d_model <= 4 * 4 * WARP ? launch_norm_kept<4>(q, b, tick)
                                      : launch_norm_kept<8>(q, b, tick);
}

/* ---- convolution: a block a strip ---------------------------------------- */

/* The inputs of four channels for the n rows of a strip, oldest first.  uz: of
 * its first row, before which the span has in_span rows; past: the inputs
 * before the span.  All are asked for before the first is used. */
template <int taps>
static __device__ __forceinline__ void
load_inputs(float4 v[STRIP + taps - 1], int d, int i, const float4 *uz,
            const float4 *past, int in_span, int n)
{
#pragma unroll
    for (int k = 0; k < taps - 1; k++) {
        int back = taps - 1 - k; /* rows before the first */
        v[k] = back <= in_span ? uz[i - (ptrdiff_t)back * (d / 2)]
                               : past[(k + in_span) * (d / 4) + i];
    }
#pragma unroll
    for (int j = 0; j < STRIP; j++) {
        if (j < n)
            v[taps - 1 + j] = uz[i + (ptrdiff_t)j * (d / 2)];
    }
}

/* Stores the last inputs of n rows. */
template <int taps>
static __device__ __forceinline__ void
leave_past(const float4 v[STRIP + taps - 1], int d, int i, float4 *past, int n)
{
#pragma unroll
    for (int j = 1; j <= STRIP; j++) {
#pragma unroll
        for (int k = 0; k < taps - 1; k++) {
            if (j == n)
                past[k * (d / 4) + i] = v[j + k];
        }
    }
}

/* u of n rows, to memory and to v, in place of inputs that are used up; amax:
 * by row. */
template <int taps>
static __device__ __forceinline__ void
convolve4(const struct cuda_layer *l, int d, int i, float4 v[STRIP + taps - 1],
          float4 *u, int n, uint32_t amax[STRIP])
{
    float4 weight[taps], bias = ((const float4 *)l->conv_bias)[i];
#pragma unroll
    for (int k = 0; k < taps; k++)
        weight[k] = ((const float4 *)l->conv)[k * d / 4 + i];
#pragma unroll
    for (int j = 0; j < STRIP; j++) {
        if (j >= n)
            break;
        float4 a = bias;
#pragma unroll
        for (int k = 0; k < taps; k++)
            a = fused(weight[k], v[j + k], a);
        float x[4] = {a.x, a.y, a.z, a.w};
        silu_all<4>(x);
        v[j] = make_float4(x[0], x[1], x[2], x[3]);
        u[i + j * (d / 4)] = v[j];
        amax[j] = max(amax[j], magnitude4(v[j]));
    }
}

/* The scales of the rows, from the maxima that the threads have found. */
static __device__ __forceinline__ void share_scales(struct exact_scale *scales,
                                                    const uint32_t amax[STRIP])
{
    __shared__ uint32_t maxima[CONV_THREADS / WARP][STRIP];
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
#pragma unroll
    for (int j = 0; j < STRIP; j++) {
        uint32_t m = warp_max(amax[j]);
        if (lane == 0)
            maxima[warp][j] = m;
    }
    __syncthreads();
    if (threadIdx.x < STRIP) {
        uint32_t m = 0;
        for (int k = 0; k < (int)blockDim.x / WARP; k++)
            m = max(m, maxima[k][threadIdx.x]);
        scales[threadIdx.x] = exact_scale_of(m);
    }
    __syncthreads();
}

/* A strip that is a whole span stores its last inputs as the past.  Of a
 * longer span other blocks still read the past, so that the scan stores it.  A
 * thread with only four channels still has its u when the scale is known. */
template <int taps>
static __global__ void __launch_bounds__(CONV_THREADS)
    convolve(struct prefill_batch b, struct tick tick)
{
    __shared__ struct exact_scale scales[STRIP];
    int layer = tick.first + blockIdx.z, d = b.d_inner;
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    if ((int)blockIdx.x >= mb->n_strips)
        return;
    const struct strip strip = mb->strips[blockIdx.x];
    const struct span span = mb->spans[strip.span];
    float4 *past = (float4 *)(span.image + layer * b.image.layer);
    size_t row = (size_t)layer * b.rows + strip.row;
    const float4 *uz = (const float4 *)(b.uz + row * 2 * d);
    float4 *u = (float4 *)(b.u + row * d);
    uint32_t *q = (uint32_t *)(b.u_q + row * b.u_stride);

    await_previous();
    uint32_t amax[STRIP] = {};
    float4 v[STRIP + taps - 1] = {};
    for (int i = threadIdx.x; i < d / 4; i += blockDim.x) {
        load_inputs<taps>(v, d, i, uz, past, strip.row - span.row, strip.n);
        if (strip.n == span.n)
            leave_past<taps>(v, d, i, past, strip.n);
        convolve4<taps>(&b.layers[layer], d, i, v, u, strip.n, amax);
    }
    share_scales(scales, amax);
    bool is_kept = d / 4 <= (int)blockDim.x;
    for (int i = threadIdx.x; i < d / 4; i += blockDim.x) {
#pragma unroll
        for (int j = 0; j < STRIP; j++) {
            if (j < strip.n)
                q[i + j * (b.u_stride / 4)] =
                    quantised4(is_kept ? v[j] : u[i + j * (d / 4)], scales[j]);
        }
    }
    if ((int)threadIdx.x < strip.n)
        b.u_scale[row + threadIdx.x] = scales[threadIdx.x].scale;
}

template <int taps>
static enum status launch_taps(struct queue q, const struct prefill_batch *b,
                               struct tick tick)
{
    int threads =
        b->d_inner / 4 <= CONV_THREADS / 2 ? CONV_THREADS / 2 : CONV_THREADS;
    return launch("the convolution", q, dim3(tick.strips, 1, tick.count),
                  threads, 0, convolve<taps>, *b, tick);
}

enum status launch_conv(struct queue q, const struct prefill_batch *b,
                        struct tick tick)
{
    switch (b->d_conv) {
    case 2:
        return launch_taps<2>(q, b, tick);
    case 3:
        return launch_taps<3>(q, b, tick);
    case 4:
        return launch_taps<4>(q, b, tick);
    case 5:
        return launch_taps<5>(q, b, tick);
    case 6:
        return launch_taps<6>(q, b, tick);
    case 7:
        return launch_taps<7>(q, b, tick);
    default:
        return launch_taps<8>(q, b, tick);
    }
}

/* ---- pooled features: a thread a channel of a span ----------------------- */

/* The bytes' y are added one by one, in the order of the bytes. */
static __global__ void __launch_bounds__(THREADS)
    add_to_pooled(struct prefill_batch b, struct tick tick)
{
    int layer = tick.first + blockIdx.z, d = b.d_inner, at = 0;
    int i = blockIdx.x * THREADS + threadIdx.x;
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    await_previous();
    while (at < b.n_pooled && b.pooled_layers[at] != layer)
        at++;
    if (at == b.n_pooled || (int)blockIdx.y >= mb->n_spans || i >= d)
        return;
    const struct span p = mb->spans[blockIdx.y];
    if (!p.pooled)
        return;
    const float *y = b.u + ((size_t)layer * b.rows + p.row) * d + i;
    float sum = p.pooled[at * d + i];
    for (int t = 0; t < p.n; t++)
        sum += y[(size_t)t * d];
    p.pooled[at * d + i] = sum;
}

enum status launch_pooled(struct queue q, const struct prefill_batch *b,
                          struct tick tick)
{
    return launch("the features", q,
                  dim3(ceil_div(b->d_inner, THREADS), tick.spans, tick.count),
                  THREADS, 0, add_to_pooled, *b, tick);
}

/* ---- quantisation of y, whose maxima are known: a warp a row ------------- */

static __global__ void __launch_bounds__(THREADS)
    quantise_y(struct prefill_batch b, struct tick tick)
{
    enum { ABREAST = 8 };
    int layer = tick.first + blockIdx.z;
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    int t = blockIdx.x * WARPS + threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
    if (t >= mb->n_rows)
        return;
    await_previous();
    size_t row = (size_t)layer * b.rows + t;
    struct exact_scale scale = exact_scale_of(b.y_amax[row]);
    const float4 *y = (const float4 *)(b.u + row * b.d_inner);
    uint32_t *q = (uint32_t *)(b.u_q + row * b.u_stride);
    for (int i = lane; i < b.d_inner / 4; i += ABREAST * WARP) {
        float4 v[ABREAST];
#pragma unroll
        for (int k = 0; k < ABREAST; k++) {
            if (i + k * WARP < b.d_inner / 4)
                v[k] = y[i + k * WARP];
        }
#pragma unroll
        for (int k = 0; k < ABREAST; k++) {
            if (i + k * WARP < b.d_inner / 4)
                q[i + k * WARP] = quantised4(v[k], scale);
        }
    }
    if (lane == 0)
        b.u_scale[row] = scale.scale;
}

enum status launch_quantise(struct queue q, const struct prefill_batch *b,
                            struct tick tick)
{
    return launch("a quantisation", q,
                  dim3(ceil_div(tick.rows, WARPS), 1, tick.count), THREADS, 0,
                  quantise_y, *b, tick);
}

/* ---- costs and predictions: a warp a row --------------------------------- */

/* Only the warp of a span's first row touches the prediction in the state: it
 * reads it, then replaces it by that after the last row. */
static __global__ void __launch_bounds__(THREADS)
    deliver(struct prefill_batch b, struct tick tick)
{
    const struct microbatch *mb = &b.slots[slot_of(b, tick, b.n_layer)];
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if ((int)blockIdx.x >= mb->n_strips || warp >= mb->strips[blockIdx.x].n)
        return;
    const struct span p = mb->spans[mb->strips[blockIdx.x].span];
    int t = mb->strips[blockIdx.x].row + warp;
    await_previous();
    float *state = p.image + b.image.logits;
    const float *logits = b.logits + (size_t)t * N_BYTES_VOCAB;
    bool is_first = t == p.row;
    float bits =
        cost_of(is_first ? state : logits - N_BYTES_VOCAB, mb->bytes[t], lane);
    if (lane == 0)
        b.bits[t] = bits;
    const float *last = b.logits + (size_t)(p.row + p.n - 1) * N_BYTES_VOCAB;
    __syncwarp();
    for (int i = lane; is_first && i < N_BYTES_VOCAB; i += WARP)
        state[i] = last[i];
}

enum status launch_deliver(struct queue q, const struct prefill_batch *b,
                           struct tick tick)
{
    return launch("the predictions", q, dim3(tick.strips), STRIP * WARP, 0,
                  deliver, *b, tick);
}
