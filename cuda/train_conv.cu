/* train_conv.cu -- the causal convolution of training, forward and backward.
 *
 * A thread has two channels.  Forward, a block has all channels of some
 * rows, so that it knows their largest number and quantises them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "trainer.cuh"

enum {
    SPAN_ROWS = 8, /* of a block, forward                                  */
    FORWARD_THREADS = 256,
    BACKWARD_THREADS = 128,
    BATCH = 4 /* rows whose loads are under way together, backward   */
};

struct conv_job {
    const void *uz; /* [t][2 d_inner] sums                                  */
    const float *row_scale, *col_scale;
    const float *history; /* [window][state]: [d_conv - 1][d_inner]    */
    float *history_after; /* the same                                  */
    size_t state_floats;
    const float *taps, *bias; /* [d_inner][d_conv], [d_inner]              */
    void *u, *u_q;            /* [t][d_inner]                              */
    struct row_scale scale;   /* of u                                      */
    int n_t, d_inner, d_conv;
    bool imitates;

    const void *du, *du_x; /* [t][d_inner], du_x times the scale of u       */
    void *duz;             /* [t][2 d_inner], times row_scale               */
    float *partial;        /* [window][span][(d_conv + 1) d_inner]          */
};

/* The inputs of channels c and c + 1 at byte t of window w. */
template <typename T>
static __device__ __forceinline__ float2 input(const struct conv_job &j, int w,
                                               int t, int c)
{
    if (t < 1 - j.d_conv || t >= j.n_t)
        return make_float2(0.0f, 0.0f);
    if (t < 0)
        return get2(j.history + w * j.state_floats +
                    (size_t)(t + j.d_conv - 1) * j.d_inner + c);
    size_t row = (size_t)w * j.n_t + t;
    float2 x = get2((const T *)j.uz + row * 2 * j.d_inner + c);
    float s = j.row_scale[row];
    return make_float2(x.x * (s * j.col_scale[c]),
                       x.y * (s * j.col_scale[c + 1]));
}

/* The taps of two channels, those that there are not 0. */
template <int TAPS>
static __device__ __forceinline__ void
load_taps(float2 taps[TAPS], const struct conv_job &j, int c)
{
#pragma unroll
    for (int k = 0; k < TAPS; k++) {
        int at = k - (TAPS - j.d_conv);
        taps[k] = make_float2(0.0f, 0.0f);
        if (at >= 0)
            taps[k] = make_float2(j.taps[(size_t)c * j.d_conv + at],
                                  j.taps[(size_t)(c + 1) * j.d_conv + at]);
    }
}

template <int TAPS>
static __device__ __forceinline__ float2 convolve(const float2 taps[TAPS],
                                                  const float2 x[TAPS],
                                                  float2 bias)
{
#pragma unroll
    for (int k = 0; k < TAPS; k++) {
        bias.x = fmaf(taps[k].x, x[k].x, bias.x);
        bias.y = fmaf(taps[k].y, x[k].y, bias.y);
    }
    return bias;
}

static __device__ __forceinline__ uint32_t magnitude2(float2 x)
{
    return max(magnitude_bits(x.x), magnitude_bits(x.y));
}

static __device__ __forceinline__ float2 quantise2(float2 x,
                                                   struct exact_scale s)
{
    if (s.scale == 0.0f)
        return make_float2(0.0f, 0.0f);
    return make_float2((float)exact_quantise(x.x, s.inverse),
                       (float)exact_quantise(x.y, s.inverse));
}

/* The last inputs of a window, for the next. */
template <typename T>
static __device__ void keep_history(const struct conv_job &j, int w)
{
    float *after = j.history_after + w * j.state_floats;
    for (int c = 2 * threadIdx.x; c < j.d_inner; c += 2 * FORWARD_THREADS) {
        for (int k = 0; k < j.d_conv - 1; k++) {
            float2 x = input<T>(j, w, j.n_t - (j.d_conv - 1) + k, c);
            put2(after + (size_t)k * j.d_inner + c, x);
        }
    }
}

/* u = silu(conv(input)); amax of each row of this thread's channels. */
template <typename T, int TAPS>
static __device__ __forceinline__ void conv_channels(uint32_t amax[SPAN_ROWS],
                                                     const struct conv_job &j,
                                                     int w, int t0, int c)
{
    float2 taps[TAPS], x[SPAN_ROWS + TAPS - 1], bias = get2(j.bias + c);
    load_taps<TAPS>(taps, j, c);
#pragma unroll
    for (int i = 0; i < SPAN_ROWS + TAPS - 1; i++)
        x[i] = input<T>(j, w, t0 + i - (TAPS - 1), c);
    T *u = (T *)j.u + ((size_t)w * j.n_t + t0) * j.d_inner + c;
#pragma unroll
    for (int i = 0; i < SPAN_ROWS; i++) {
        float2 a = convolve<TAPS>(taps, x + i, bias);
        a.x = stored<T>(a.x * fast_sigmoid(a.x));
        a.y = stored<T>(a.y * fast_sigmoid(a.y));
        amax[i] = max(amax[i], magnitude2(a));
        if (t0 + i < j.n_t)
            put2(u + (size_t)i * j.d_inner, a);
    }
}

template <typename T>
static __device__ void quantise_rows(const uint32_t amax[SPAN_ROWS],
                                     const struct conv_job &j, int w, int t0)
{
    __shared__ uint32_t largest[SPAN_ROWS][FORWARD_THREADS / WARP];
    for (int i = 0; i < SPAN_ROWS; i++) {
        uint32_t m = warp_max(amax[i]);
        if (threadIdx.x % WARP == 0)
            largest[i][threadIdx.x / WARP] = m;
    }
    __syncthreads();
    for (int i = 0; i < SPAN_ROWS && t0 + i < j.n_t; i++) {
        size_t row = (size_t)w * j.n_t + t0 + i;
        uint32_t m = 0;
        for (int k = 0; k < FORWARD_THREADS / WARP; k++)
            m = max(m, largest[i][k]);
        struct exact_scale s = exact_scale_of(m);
        for (int c = 2 * threadIdx.x; c < j.d_inner; c += 2 * FORWARD_THREADS) {
            const T *u = (const T *)j.u + row * j.d_inner + c;
            float2 x = make_float2(get(u[0]), get(u[1]));
            put2((T *)j.u_q + row * j.d_inner + c, quantise2(x, s));
        }
        if (threadIdx.x == 0) {
            j.scale.scale[row] = s.scale;
            j.scale.inverse[row] = s.inverse;
        }
    }
}

template <typename T, int TAPS>
static __global__ void __launch_bounds__(FORWARD_THREADS, TAPS > 4 ? 2 : 3)
    conv_forward(struct conv_job j)
{
    int t0 = blockIdx.x * SPAN_ROWS, w = blockIdx.y;
    uint32_t amax[SPAN_ROWS] = {0};
    for (int c = 2 * threadIdx.x; c < j.d_inner; c += 2 * FORWARD_THREADS)
        conv_channels<T, TAPS>(amax, j, w, t0, c);
    if (t0 + SPAN_ROWS >= j.n_t)
        keep_history<T>(j, w);
    if (j.imitates)
        quantise_rows<T>(amax, j, w, t0);
}

/* ---- backward ------------------------------------------------------------ */

/* silu'(x) = sigmoid(x) (1 + x (1 - sigmoid(x))) */
static __device__ __forceinline__ float silu_slope(float x)
{
    float s = fast_sigmoid(x);
    return s * fmaf(x, 1.0f - s, 1.0f);
}

/* du of both ways at byte t; 0 after the window. */
template <typename T>
static __device__ __forceinline__ float2 slope(const struct conv_job &j, int w,
                                               int t, int c)
{
    if (t >= j.n_t)
        return make_float2(0.0f, 0.0f);
    size_t row = (size_t)w * j.n_t + t;
    float2 a = get2((const T *)j.du + row * j.d_inner + c);
    float2 b = get2((const T *)j.du_x + row * j.d_inner + c);
    float inverse = j.scale.inverse[row];
    return make_float2(fmaf(b.x, inverse, a.x), fmaf(b.y, inverse, a.y));
}

template <int TAPS> struct conv_window {
    float2 taps[TAPS], bias;
    float2 x[TAPS];  /* inputs, up to byte t                            */
    float2 da[TAPS]; /* of the bytes up to t                            */
    float2 dtaps[TAPS], dbias;
};

template <int TAPS>
static __device__ __forceinline__ void push(float2 ring[TAPS], float2 x)
{
#pragma unroll
    for (int k = 0; k < TAPS - 1; k++)
        ring[k] = ring[k + 1];
    ring[TAPS - 1] = x;
}

/* da = du silu'(a); dbias += da; dtaps[k] += da x[k], for bytes of the span;
 * returns dinput of the byte TAPS - 1 before:
 * sum over k of taps[k] da[t' + (TAPS - 1) - k] */
template <int TAPS>
static __device__ __forceinline__ float2 conv_step(struct conv_window<TAPS> &s,
                                                   float2 x, float2 du,
                                                   bool is_inside)
{
    push<TAPS>(s.x, x);
    float2 a = convolve<TAPS>(s.taps, s.x, s.bias), din = {0.0f, 0.0f};
    float2 da = make_float2(du.x * silu_slope(a.x), du.y * silu_slope(a.y));
    push<TAPS>(s.da, da);
    if (is_inside) {
        s.dbias.x += da.x;
        s.dbias.y += da.y;
#pragma unroll
        for (int k = 0; k < TAPS; k++) {
            s.dtaps[k].x = fmaf(da.x, s.x[k].x, s.dtaps[k].x);
            s.dtaps[k].y = fmaf(da.y, s.x[k].y, s.dtaps[k].y);
        }
    }
#pragma unroll
    for (int k = 0; k < TAPS; k++) {
        din.x = fmaf(s.taps[k].x, s.da[TAPS - 1 - k].x, din.x);
        din.y = fmaf(s.taps[k].y, s.da[TAPS - 1 - k].y, din.y);
    }
    return din;
}

template <int TAPS>
static __device__ void put_taps(const struct conv_job &j,
                                const struct conv_window<TAPS> &s, int c)
{
    size_t span = (size_t)blockIdx.z * gridDim.y + blockIdx.y;
    float *to = j.partial + span * (j.d_conv + 1) * j.d_inner;
#pragma unroll
    for (int k = 0; k < TAPS; k++) {
        int at = k - (TAPS - j.d_conv);
        if (at < 0)
            continue;
        to[(size_t)c * j.d_conv + at] = s.dtaps[k].x;
        to[(size_t)(c + 1) * j.d_conv + at] = s.dtaps[k].y;
    }
    put2(to + (size_t)j.d_conv * j.d_inner + c, s.dbias);
}

/* Bytes [t0, t1) of a window, and TAPS - 1 more whose da reaches back. */
template <typename T, int TAPS>
static __global__ void __launch_bounds__(BACKWARD_THREADS)
    conv_backward(struct conv_job j)
{
    int c = 2 * (blockIdx.x * BACKWARD_THREADS + threadIdx.x);
    int t0 = blockIdx.y * CONV_SPAN, w = blockIdx.z;
    int t1 = min(t0 + CONV_SPAN, j.n_t);
    struct conv_window<TAPS> s = {
    };
    if (c >= j.d_inner)
        return;
    load_taps<TAPS>(s.taps, j, c);
    s.bias = get2(j.bias + c);
#pragma unroll
    for (int k = 1; k < TAPS; k++)
        s.x[k] = input<T>(j, w, t0 + k - TAPS, c);
    for (int t = t0; t < t1 + TAPS - 1; t += BATCH) {
        float2 x[BATCH], du[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            x[i] = input<T>(j, w, t + i, c);
            du[i] = slope<T>(j, w, t + i, c);
        }
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            float2 din = conv_step<TAPS>(s, x[i], du[i], t + i < t1);
            int at = t + i - (TAPS - 1);
            if (at < t0 || at >= t1)
                continue;
            size_t row = (size_t)w * j.n_t + at;
            float scale = j.row_scale[row];
            put2((T *)j.duz + row * 2 * j.d_inner + c,
                 make_float2(din.x * scale, din.y * scale));
        }
    }
    put_taps<TAPS>(j, s, c);
}

/* ---- launches ------------------------------------------------------------ */

static struct conv_job conv_of(const struct replica *r, int l)
{
    const struct train_tape *tape = &r->tapes[l];
    const struct model_config *c = &r->config;
    struct conv_job job = {};
    job.uz = tape->uz;
    job.row_scale = tape->x_scale.scale;
    job.col_scale = tape->weights[W_IN].scale;
    job.history = state_conv(c, r->states, l);
    job.history_after = state_conv(c, r->after, l);
    job.state_floats = trainer_state_floats(c);
    job.taps = weight_at(r, l, P_CONV);
    job.bias = weight_at(r, l, P_CONV_BIAS);
    job.u = tape->u;
    job.u_q = tape->u_q;
    job.scale = tape->u_scale;
    job.n_t = r->n_t;
    job.d_inner = c->d_inner;
    job.d_conv = c->d_conv;
    job.imitates = r->imitates;
    job.du = r->du;
    job.du_x = r->du_x;
    job.duz = r->duz;
    job.partial = r->partial;
    return job;
}

template <typename T>
static void forward(const struct replica *r, const struct conv_job &job)
{
    dim3 grid(ceil_div(job.n_t, SPAN_ROWS), r->n_windows);
    if (job.d_conv <= 4)
        conv_forward<T, 4><<<grid, FORWARD_THREADS, 0, r->stream>>>(job);
    else
        conv_forward<T, 8><<<grid, FORWARD_THREADS, 0, r->stream>>>(job);
}

template <typename T>
static void backward(const struct replica *r, const struct conv_job &job)
{
    dim3 grid(ceil_div(job.d_inner, 2 * BACKWARD_THREADS),
              ceil_div(job.n_t, CONV_SPAN), r->n_windows);
    if (job.d_conv <= 4)
        conv_backward<T, 4><<<grid, BACKWARD_THREADS, 0, r->stream>>>(job);
    else
        conv_backward<T, 8><<<grid, BACKWARD_THREADS, 0, r->stream>>>(job);
}

void launch_conv(const struct replica *r, int l)
{
    struct conv_job job = conv_of(r, l);
    BY_NUMBER(r, forward, r, job);
}

void launch_conv_backward(const struct replica *r, int l)
{
    struct conv_job job = conv_of(r, l);
    int n_taps = job.d_conv * job.d_inner, ld = n_taps + job.d_inner;
    int spans = r->n_windows * ceil_div(job.n_t, CONV_SPAN);
    BY_NUMBER(r, backward, r, job);
    launch_sum_partial(r, gradient_at(r, l, P_CONV), r->partial, spans, ld,
                       n_taps, false);
    launch_sum_partial(r, gradient_at(r, l, P_CONV_BIAS), r->partial + n_taps,
                       spans, ld, job.d_inner, false);
}
