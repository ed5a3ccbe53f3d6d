/* elementwise.cu -- what lies between the products and the scan: embedding,
 * norms, the convolution, quantisation, and what the bytes cost.
 *
 * Only functions of exact.h and sums in its order; maxima are taken on bit
 * patterns and need none.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/cost.cuh"
#include "cuda/common/exact_vector.cuh"
#include "cuda/common/float4.cuh"
#include "cuda/common/kernels.cuh"

enum { THREADS = 256, WARPS = THREADS / WARP, CONV_THREADS = 512 };

/* ---- norms: a warp a row ------------------------------------------------ */

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

/* The largest of norm(h), and q, which has the first part already where that
 * is all of the row. */
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

/* All of a row that fits is asked for at once. */
template <int kept, bool has_bias>
static __global__ void __launch_bounds__(THREADS)
    norm_quantise(struct batch b, struct step s)
{
    int layer = s.first + blockIdx.z, d = b.d_model;
    int slot = step_slot(b, s, layer);
    const struct wave *w = &b.waves[slot];
    int t = blockIdx.x * WARPS + threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
    if (t >= w->n_rows)
        return;
    const struct cuda_layer *l = &b.layers[layer];
    struct norm_row n = {
        NULL, (const float4 *)l->norm, (const float4 *)l->norm_bias, 0.0f, 0.0f,
        d / 4};
    await_previous();

    float *h = b.h + ((size_t)slot * b.rows + t) * d;
    if (layer == 0)
        embed_row(h, b.embedding + (size_t)w->bytes[t] * d, d, lane);
    n.h = (const float4 *)h;
    norm_part<kept, has_bias> part;
    load_part(part, n, lane);
    if (has_bias)
        n.mean = sum_row<false>(h, 0.0f, d, lane) / (float)d;
    float variance = sum_row<true>(h, n.mean, d, lane) / (float)d;
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
static enum status launch_norm_kept(struct queue q, const struct batch *b,
                                    struct step s)
{
    return launch("a norm", q, dim3(ceil_div(s.rows, WARPS), 1, s.count),
                  THREADS, 0,
                  b->has_norm_bias ? norm_quantise<kept, true>
                                   : norm_quantise<kept, false>,
                  *b, s);
}

enum status launch_norm(struct queue q, const struct batch *b, struct step s)
{
    return b->d_model <= 4 * 4 * WARP ? launch_norm_kept<4>(q, b, s)
                                      : launch_norm_kept<8>(q, b, s);
}

/* ---- convolution: a block a span ---------------------------------------- */

/* The inputs of four channels for the rows of a span, oldest first; uz: of
 * its first row.  Those before the piece began are `past`; in_piece rows of
 * the piece have gone by.  All are asked for before the first is used. */
template <int taps>
static __device__ __forceinline__ void
load_inputs(float4 v[SPAN + taps - 1], int d, int i, const float4 *uz,
            const float4 *past, int in_piece, int n)
{
#pragma unroll
    for (int k = 0; k < taps - 1; k++) {
        int back = taps - 1 - k; /* rows before the first */
        v[k] = back <= in_piece ? uz[i - (ptrdiff_t)back * (d / 2)]
                                : past[(k + in_piece) * (d / 4) + i];
    }
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
        if (j < n)
            v[taps - 1 + j] = uz[i + (ptrdiff_t)j * (d / 2)];
    }
}

/* The last inputs of n rows. */
template <int taps>
static __device__ __forceinline__ void
leave_past(const float4 v[SPAN + taps - 1], int d, int i, float4 *past, int n)
{
#pragma unroll
    for (int j = 1; j <= SPAN; j++) {
#pragma unroll
        for (int k = 0; k < taps - 1; k++) {
            if (j == n)
                past[k * (d / 4) + i] = v[j + k];
        }
    }
}

/* u of n rows, in place of the inputs that are not needed any more, and to
 * memory; amax: by row. */
template <int taps>
static __device__ __forceinline__ void
convolve4(const struct cuda_layer *l, int d, int i, float4 v[SPAN + taps - 1],
          float4 *u, int n, uint32_t amax[SPAN])
{
    float4 weight[taps], bias = ((const float4 *)l->conv_bias)[i];
#pragma unroll
    for (int k = 0; k < taps; k++)
        weight[k] = ((const float4 *)l->conv)[k * d / 4 + i];
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
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
                                                    const uint32_t amax[SPAN])
{
    __shared__ uint32_t maxima[CONV_THREADS / WARP][SPAN];
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
        uint32_t m = warp_max(amax[j]);
        if (lane == 0)
            maxima[warp][j] = m;
    }
    __syncthreads();
    if (threadIdx.x < SPAN) {
        uint32_t m = 0;
        for (int k = 0; k < (int)blockDim.x / WARP; k++)
            m = max(m, maxima[k][threadIdx.x]);
        scales[threadIdx.x] = exact_scale_of(m);
    }
    __syncthreads();
}

/* A span that is the whole piece leaves its last inputs as the past (others
 * leave it to the scan, when no block reads the past any more).  A thread
 * that has only four channels still has its u when the scale is known. */
template <int taps>
static __global__ void __launch_bounds__(CONV_THREADS)
    convolve(struct batch b, struct step s)
{
    __shared__ struct exact_scale scales[SPAN];
    int layer = s.first + blockIdx.z, d = b.d_inner;
    const struct wave *w = &b.waves[step_slot(b, s, layer)];
    if ((int)blockIdx.x >= w->n_spans)
        return;
    const struct span span = w->spans[blockIdx.x];
    const struct piece piece = w->pieces[span.piece];
    float4 *past = (float4 *)(piece.image + layer * b.image.layer);
    size_t row = (size_t)layer * b.rows + span.row;
    const float4 *uz = (const float4 *)(b.uz + row * 2 * d);
    float4 *u = (float4 *)(b.u + row * d);
    uint32_t *q = (uint32_t *)(b.u_q + row * b.u_stride);

    await_previous();
    uint32_t amax[SPAN] = {};
    float4 v[SPAN + taps - 1] = {};
    for (int i = threadIdx.x; i < d / 4; i += blockDim.x) {
        load_inputs<taps>(v, d, i, uz, past, span.row - piece.row, span.n);
        if (span.n == piece.n)
            leave_past<taps>(v, d, i, past, span.n);
        convolve4<taps>(&b.layers[layer], d, i, v, u, span.n, amax);
    }
    share_scales(scales, amax);
    bool is_kept = d / 4 <= (int)blockDim.x;
    for (int i = threadIdx.x; i < d / 4; i += blockDim.x) {
#pragma unroll
        for (int j = 0; j < SPAN; j++) {
            if (j < span.n)
                q[i + j * (b.u_stride / 4)] =
                    quantised4(is_kept ? v[j] : u[i + j * (d / 4)], scales[j]);
        }
    }
    if ((int)threadIdx.x < span.n)
        b.u_scale[row + threadIdx.x] = scales[threadIdx.x].scale;
}

template <int taps>
static enum status launch_taps(struct queue q, const struct batch *b,
                               struct step s)
{
    int threads =
        b->d_inner / 4 <= CONV_THREADS / 2 ? CONV_THREADS / 2 : CONV_THREADS;
    return launch("the convolution", q, dim3(s.spans, 1, s.count), threads, 0,
                  convolve<taps>, *b, s);
}

enum status launch_conv(struct queue q, const struct batch *b, struct step s)
{
    switch (b->d_conv) {
    case 2:
        return launch_taps<2>(q, b, s);
    case 3:
        return launch_taps<3>(q, b, s);
    case 4:
        return launch_taps<4>(q, b, s);
    case 5:
        return launch_taps<5>(q, b, s);
    case 6:
        return launch_taps<6>(q, b, s);
    case 7:
        return launch_taps<7>(q, b, s);
    default:
        return launch_taps<8>(q, b, s);
    }
}

/* ---- pooled features: a thread a channel of a piece
 * --------------------------- */

/* Bytes are added one by one, in their order: see pooled_floats(). */
static __global__ void __launch_bounds__(THREADS)
    add_to_pooled(struct batch b, struct step s)
{
    int layer = s.first + blockIdx.z, d = b.d_inner, at = 0;
    int i = blockIdx.x * THREADS + threadIdx.x;
    const struct wave *w = &b.waves[step_slot(b, s, layer)];
    await_previous();
    while (at < b.n_pooled && b.pooled_layers[at] != layer)
        at++;
    if (at == b.n_pooled || (int)blockIdx.y >= w->n_pieces || i >= d)
        return;
    const struct piece p = w->pieces[blockIdx.y];
    if (!p.pooled)
        return;
    const float *y = b.u + ((size_t)layer * b.rows + p.row) * d + i;
    float sum = p.pooled[at * d + i];
    for (int t = 0; t < p.n; t++)
        sum += y[(size_t)t * d];
    p.pooled[at * d + i] = sum;
}

enum status launch_pooled(struct queue q, const struct batch *b, struct step s)
{
    return launch("the pooled features", q,
                  dim3(ceil_div(b->d_inner, THREADS), s.pieces, s.count),
                  THREADS, 0, add_to_pooled, *b, s);
}

/* ---- quantisation of y, whose maxima are known: a warp a row ------------ */

static __global__ void __launch_bounds__(THREADS)
    quantise_y(struct batch b, struct step s)
{
    enum { ABREAST = 8 };
    int layer = s.first + blockIdx.z;
    const struct wave *w = &b.waves[step_slot(b, s, layer)];
    int t = blockIdx.x * WARPS + threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
    if (t >= w->n_rows)
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

enum status launch_quantise(struct queue q, const struct batch *b,
                            struct step s)
{
    return launch("a quantisation", q,
                  dim3(ceil_div(s.rows, WARPS), 1, s.count), THREADS, 0,
                  quantise_y, *b, s);
}

/* ---- costs and predictions: a warp a row -------------------------------- */

/* The warp of the first row of a piece has read the prediction in the state
 * before it replaces it by that after the last row. */
static __global__ void __launch_bounds__(THREADS)
    deliver(struct batch b, struct step s)
{
    const struct wave *w = &b.waves[step_slot(b, s, b.n_layer)];
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if ((int)blockIdx.x >= w->n_spans || warp >= w->spans[blockIdx.x].n)
        return;
    const struct piece p = w->pieces[w->spans[blockIdx.x].piece];
    int t = w->spans[blockIdx.x].row + warp;
    await_previous();
    float *state = p.image + b.image.logits;
    const float *logits = b.logits + (size_t)t * N_BYTES_VOCAB;
    bool is_first = t == p.row;
    float bits =
        cost_of(is_first ? state : logits - N_BYTES_VOCAB, w->bytes[t], lane);
    if (lane == 0)
        b.bits[t] = bits;
    const float *last = b.logits + (size_t)(p.row + p.n - 1) * N_BYTES_VOCAB;
    __syncwarp();
    for (int i = lane; is_first && i < N_BYTES_VOCAB; i += WARP)
        state[i] = last[i];
}

enum status launch_deliver(struct queue q, const struct batch *b, struct step s)
{
    return launch("the predictions", q, dim3(s.spans), SPAN * WARP, 0, deliver,
                  *b, s);
}
