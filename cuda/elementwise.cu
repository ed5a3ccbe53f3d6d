/* elementwise.cu -- what lies between the products and the scan: embedding,
 * norms, the convolution, quantisation, and what the bytes cost.
 *
 * Only functions of exact.h and sums in its order; maxima are taken on bit
 * patterns and need none.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cost.cuh"
#include "kernels.cuh"

enum { THREADS = 256, WARPS = THREADS / WARP };

static __device__ __forceinline__ char4 quantise4(float4 v,
                                                  struct exact_scale s)
{
    if (s.scale == 0.0f)
        return make_char4(0, 0, 0, 0);
    return make_char4(
        exact_quantise(v.x, s.inverse), exact_quantise(v.y, s.inverse),
        exact_quantise(v.z, s.inverse), exact_quantise(v.w, s.inverse));
}

static __device__ __forceinline__ uint32_t magnitude4(float4 v)
{
    uint32_t a = max(magnitude_bits(v.x), magnitude_bits(v.y));
    uint32_t b = max(magnitude_bits(v.z), magnitude_bits(v.w));
    return max(a, b);
}

/* ---- norms: a warp a row ------------------------------------------------ */

/* The sum of (h - centre)^2, or of h, over d elements, in exact.h's order:
 * this thread has lanes `lane` and `lane + 32`. */
template <bool is_squared>
static __device__ __forceinline__ float sum_row(const float *h, float centre,
                                                int d, int lane)
{
    float low = 0.0f, high = 0.0f;
#pragma unroll 4
    for (int i = lane; i < d; i += EXACT_LANES) {
        float a = h[i] - centre;
        low = is_squared ? fmaf(a, a, low) : low + a;
        if (i + WARP < d) {
            float c = h[i + WARP] - centre;
            high = is_squared ? fmaf(c, c, high) : high + c;
        }
    }
    return warp_lanes_sum(low, high);
}

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
};

template <bool has_bias>
static __device__ __forceinline__ float4 normed(const struct norm_row &n, int i)
{
    float4 h = n.h[i], w = n.weight[i];
    if (!has_bias)
        return make_float4(h.x * n.r * w.x, h.y * n.r * w.y, h.z * n.r * w.z,
                           h.w * n.r * w.w);
    float4 b = n.bias[i];
    return make_float4(fmaf((h.x - n.mean) * n.r, w.x, b.x),
                       fmaf((h.y - n.mean) * n.r, w.y, b.y),
                       fmaf((h.z - n.mean) * n.r, w.z, b.z),
                       fmaf((h.w - n.mean) * n.r, w.w, b.w));
}

template <bool has_bias>
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
    struct norm_row n = {NULL, (const float4 *)l->norm,
                         (const float4 *)l->norm_bias, 0.0f, 0.0f};
    await_previous();

    float *h = b.h + ((size_t)slot * b.rows + t) * d;
    if (layer == 0)
        embed_row(h, b.embedding + (size_t)w->bytes[t] * d, d, lane);
    n.h = (const float4 *)h;
    if (has_bias)
        n.mean = sum_row<false>(h, 0.0f, d, lane) / (float)d;
    float variance = sum_row<true>(h, n.mean, d, lane) / (float)d;
    n.r = 1.0f / sqrtf(variance + b.epsilon);

    uint32_t amax = 0;
#pragma unroll 4
    for (int i = lane; i < d / 4; i += WARP)
        amax = max(amax, magnitude4(normed<has_bias>(n, i)));
    struct exact_scale scale = exact_scale_of(warp_max(amax));
    size_t row = (size_t)layer * b.rows + t;
    char4 *q = (char4 *)(b.x + row * b.x_stride);
#pragma unroll 4
    for (int i = lane; i < d / 4; i += WARP)
        q[i] = quantise4(normed<has_bias>(n, i), scale);
    if (lane == 0) {
        b.x_scale[row] = scale.scale;
        b.dt_amax[row] = 0;
        b.y_amax[row] = 0;
    }
}

enum status launch_norm(struct queue q, const struct batch *b, struct step s)
{
    return launch(
        "a norm", q, dim3(ceil_div(s.rows, WARPS), 1, s.count), THREADS, 0,
        b->has_norm_bias ? norm_quantise<true> : norm_quantise<false>, *b, s);
}

/* ---- convolution: a block a span ---------------------------------------- */

static __device__ __forceinline__ float4 fma4(float4 a, float4 b, float4 c)
{
    return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y),
                       fmaf(a.z, b.z, c.z), fmaf(a.w, b.w, c.w));
}

/* Four channels of the rows of a span; uz and u: of its first row.  The last
 * inputs slide through registers; before the piece began they are `past`,
 * of which in_piece rows of the piece have gone by.  A span that is the whole
 * piece leaves its last inputs there (others leave it to the scan, when no
 * block reads the past any more).  amax: by row. */
template <int taps>
static __device__ __forceinline__ void
convolve4(const struct cuda_layer *l, int d, int i, const float4 *uz,
          float4 *past, int in_piece, bool is_whole, float4 *u, int n,
          uint32_t amax[SPAN])
{
    float4 weight[taps], window[taps];
#pragma unroll
    for (int k = 0; k < taps; k++)
        weight[k] = ((const float4 *)l->conv)[k * d / 4 + i];
#pragma unroll
    for (int k = 1; k < taps; k++) {
        int back = taps - k; /* rows before the first */
        window[k] = back <= in_piece
                        ? uz[i - (ptrdiff_t)back * (d / 2)]
                        : past[(taps - 1 + in_piece - back) * (d / 4) + i];
    }
    float4 bias = ((const float4 *)l->conv_bias)[i];
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
        if (j >= n)
            break;
#pragma unroll
        for (int k = 0; k < taps - 1; k++)
            window[k] = window[k + 1];
        window[taps - 1] = uz[i + (ptrdiff_t)j * (d / 2)];
        float4 a = bias;
#pragma unroll
        for (int k = 0; k < taps; k++)
            a = fma4(weight[k], window[k], a);
        float v[4] = {a.x, a.y, a.z, a.w};
        silu_all<4>(v);
        a = make_float4(v[0], v[1], v[2], v[3]);
        u[i + j * (d / 4)] = a;
        amax[j] = max(amax[j], magnitude4(a));
    }
    if (is_whole) {
#pragma unroll
        for (int k = 1; k < taps; k++)
            past[(k - 1) * (d / 4) + i] = window[k];
    }
}

template <int taps>
static __global__ void __launch_bounds__(THREADS)
    convolve(struct batch b, struct step s)
{
    __shared__ uint32_t maxima[WARPS][SPAN];
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

    await_previous();
    uint32_t amax[SPAN] = {};
    for (int i = threadIdx.x; i < d / 4; i += THREADS)
        convolve4<taps>(&b.layers[layer], d, i, uz, past, span.row - piece.row,
                        span.n == piece.n, u, span.n, amax);
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
#pragma unroll
    for (int j = 0; j < SPAN; j++) {
        uint32_t m = warp_max(amax[j]);
        if (lane == 0)
            maxima[warp][j] = m;
    }
    __syncthreads();
    for (int j = 0; j < span.n; j++) {
        uint32_t m = 0;
        for (int k = 0; k < WARPS; k++)
            m = max(m, maxima[k][j]);
        struct exact_scale scale = exact_scale_of(m);
        char4 *q = (char4 *)(b.u_q + (row + j) * b.u_stride);
        for (int i = threadIdx.x; i < d / 4; i += THREADS)
            q[i] = quantise4(u[i + j * (d / 4)], scale);
        if (threadIdx.x == 0)
            b.u_scale[row + j] = scale.scale;
    }
}

template <int taps>
static enum status launch_taps(struct queue q, const struct batch *b,
                               struct step s)
{
    return launch("the convolution", q, dim3(s.spans, 1, s.count), THREADS, 0,
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

/* ---- sums of y: a thread a channel of a piece --------------------------- */

/* Bytes are added one by one, in their order: see sums_floats(). */
static __global__ void __launch_bounds__(THREADS)
    add_to_sums(struct batch b, struct step s)
{
    int layer = s.first + blockIdx.z, d = b.d_inner, at = 0;
    int i = blockIdx.x * THREADS + threadIdx.x;
    const struct wave *w = &b.waves[step_slot(b, s, layer)];
    await_previous();
    while (at < b.n_sums && b.sums_layers[at] != layer)
        at++;
    if (at == b.n_sums || (int)blockIdx.y >= w->n_pieces || i >= d)
        return;
    const struct piece p = w->pieces[blockIdx.y];
    if (!p.sums)
        return;
    const float *y = b.u + ((size_t)layer * b.rows + p.row) * d + i;
    float sum = p.sums[at * d + i];
    for (int t = 0; t < p.n; t++)
        sum += y[(size_t)t * d];
    p.sums[at * d + i] = sum;
}

enum status launch_sums(struct queue q, const struct batch *b, struct step s)
{
    return launch("the sums", q,
                  dim3(ceil_div(b->d_inner, THREADS), s.pieces, s.count),
                  THREADS, 0, add_to_sums, *b, s);
}

/* ---- quantisation of y, whose maxima are known: a warp a row ------------ */

static __global__ void __launch_bounds__(THREADS)
    quantise_y(struct batch b, struct step s)
{
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
    char4 *q = (char4 *)(b.u_q + row * b.u_stride);
#pragma unroll 4
    for (int i = lane; i < b.d_inner / 4; i += WARP)
        q[i] = quantise4(y[i], scale);
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
