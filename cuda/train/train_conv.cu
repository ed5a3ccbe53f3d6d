/* train_conv.cu -- the causal convolution of training, forward and backward.
 *
 * A thread has four channels.  Forward, a block has all channels of some
 * rows, so that it knows their largest number and quantises them.  Memory is
 * what both wait for: a thread asks for many rows before it looks at one, and
 * outside a window loads the row at its edge, times 0, and does not branch.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/fast_math.cuh"
#include "cuda/train/train_mamba1.cuh"
#include "cuda/train/train_rows.cuh"

enum {
    SPAN_ROWS = 8, /* of a block, forward                                  */
    FORWARD_THREADS = 256,
    BACKWARD_THREADS = 128,
    BATCH = 4 /* rows whose loads are under way together, backward   */
};

struct train_conv_job {
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

/* Four channels of a row, and its scale; outside a window 0. */
template <typename T> struct conv_row {
    four<T> x;
    float scale;
};

template <typename T>
static __device__ __forceinline__ struct conv_row<T>
load_row(const struct train_conv_job &j, int w, int t, int c) {
    struct conv_row<T> r;
    size_t first = (size_t)w * j.n_t;
    int row = min(max(t, 0), j.n_t - 1);
    const T *uz = (const T *)j.uz + first * 2 * j.d_inner + c;
    r.x = load_four<T>(uz, row * 2 * j.d_inner);
    r.scale = row == t ? (j.row_scale + first)[row] : 0.0f;
    return r;
}

template <typename T>
static __device__ __forceinline__ float4 input_of(const struct conv_row<T> &r,
                                                  float4 col_scale)
{
    return times(get4(r.x), r.scale, col_scale);
}

/* The input at byte t < 0 of window w. */
static __device__ __forceinline__ float4 past(const struct train_conv_job &j,
                                              int w, int t, int c)
{
    int k = t + j.d_conv - 1;
    return k < 0 ? zero4()
                 : get4(j.history + w * j.state_floats + (size_t)k * j.d_inner +
                        c);
}

/* The taps of four channels, those that there are not 0. */
template <int TAPS>
static __device__ __forceinline__ void
load_taps(float4 taps[TAPS], const struct train_conv_job &j, int c)
{
    const float *from = j.taps + (size_t)c * j.d_conv;
#pragma unroll
    for (int k = 0; k < TAPS; k++) {
        int at = k - (TAPS - j.d_conv);
        taps[k] = zero4();
        if (at >= 0)
            taps[k] =
                make_float4(from[at], from[j.d_conv + at],
                            from[2 * j.d_conv + at], from[3 * j.d_conv + at]);
    }
}

template <int TAPS>
static __device__ __forceinline__ float4 convolve(const float4 taps[TAPS],
                                                  const float4 x[TAPS],
                                                  float4 bias)
{
#pragma unroll
    for (int k = 0; k < TAPS; k++)
        bias = fused(taps[k], x[k], bias);
    return bias;
}

/* A ring of the last inputs takes one more. */
template <int TAPS>
static __device__ __forceinline__ void push(float4 ring[TAPS], float4 x)
{
#pragma unroll
    for (int k = 0; k < TAPS - 1; k++)
        ring[k] = ring[k + 1];
    ring[TAPS - 1] = x;
}

/* The last inputs of a window, for the next. */
template <typename T>
static __device__ void keep_history(const struct train_conv_job &j, int w)
{
    float *after = j.history_after + w * j.state_floats;
    for (int c = 4 * threadIdx.x; c < j.d_inner; c += 4 * blockDim.x) {
        for (int k = 0; k < j.d_conv - 1; k++) {
            int t = j.n_t - (j.d_conv - 1) + k;
            float4 x = t < 0 ? past(j, w, t, c)
                             : input_of<T>(load_row<T>(j, w, t, c),
                                           get4(j.col_scale + c));
            put4(after + (size_t)k * j.d_inner + c, x);
        }
    }
}

/* u = silu(conv(input)); amax of each row of this thread's channels. */
template <typename T, int TAPS>
static __device__ __forceinline__ void
convolve_channels(four<T> u[SPAN_ROWS], uint32_t amax[SPAN_ROWS],
                  const struct train_conv_job &j, int w, int t0, int c)
{
    T *to = (T *)j.u + ((size_t)w * j.n_t + t0) * j.d_inner + c;
    struct conv_row<T> rows[SPAN_ROWS + TAPS - 1];
    float4 taps[TAPS], x[TAPS];
    float4 bias = get4(j.bias + c), col_scale = get4(j.col_scale + c);
#pragma unroll
    for (int i = 0; i < SPAN_ROWS + TAPS - 1; i++)
        rows[i] = load_row<T>(j, w, t0 + i - (TAPS - 1), c);
    load_taps<TAPS>(taps, j, c);
#pragma unroll
    for (int i = 1; i < TAPS; i++) {
        int t = t0 + i - TAPS;
        x[i] = t < 0 ? past(j, w, t, c) : input_of<T>(rows[i - 1], col_scale);
    }
#pragma unroll
    for (int i = 0; i < SPAN_ROWS; i++) {
        push<TAPS>(x, input_of<T>(rows[i + TAPS - 1], col_scale));
        float4 a = convolve<TAPS>(taps, x, bias);
        put4((T *)&u[i], make_float4(fast_silu(a.x), fast_silu(a.y),
                                     fast_silu(a.z), fast_silu(a.w)));
        amax[i] = max(amax[i], magnitude4(get4(u[i])));
        if (t0 + i < j.n_t)
            store_four<T>(to, i * j.d_inner, u[i]);
    }
}

/* The scales of the rows, for all threads. */
static __device__ __forceinline__ const struct exact_scale *
scale_rows(const uint32_t amax[SPAN_ROWS], const struct train_conv_job &j,
           int w, int t0)
{
    __shared__ uint32_t largest[SPAN_ROWS][FORWARD_THREADS / WARP];
    __shared__ struct exact_scale scales[SPAN_ROWS];
    int n_warps = blockDim.x / WARP, i = threadIdx.x;
#pragma unroll
    for (int k = 0; k < SPAN_ROWS; k++) {
        uint32_t m = warp_max(amax[k]);
        if (threadIdx.x % WARP == 0)
            largest[k][threadIdx.x / WARP] = m;
    }
    __syncthreads();
    if (i < SPAN_ROWS) {
        uint32_t m = 0;
        for (int k = 0; k < n_warps; k++)
            m = max(m, largest[i][k]);
        scales[i] = exact_scale_of(m);
        if (t0 + i < j.n_t)
            put_scale(j.scale, w * j.n_t + t0 + i, scales[i]);
    }
    __syncthreads();
    return scales;
}

/* u: of the channels from c on, where these are all of the row. */
template <typename T>
static __device__ __forceinline__ void
quantise_channels(const four<T> u[SPAN_ROWS], const struct exact_scale *scales,
                  const struct train_conv_job &j, int w, int t0, int c)
{
#pragma unroll
    for (int i = 0; i < SPAN_ROWS; i++)
        if (t0 + i < j.n_t)
            put4((T *)j.u_q + ((size_t)w * j.n_t + t0 + i) * j.d_inner + c,
                 quantise4(get4(u[i]), scales[i]));
}

template <typename T>
static __device__ __forceinline__ void load_u(four<T> u[SPAN_ROWS],
                                              const struct train_conv_job &j,
                                              int w, int t0, int c)
{
#pragma unroll
    for (int i = 0; i < SPAN_ROWS; i++)
        if (t0 + i < j.n_t)
            u[i] =
                load_four<T>(j.u, ((size_t)w * j.n_t + t0 + i) * j.d_inner + c);
}

/* A block of many channels reads them again when it knows their scale. */
template <typename T, int TAPS>
static __global__ void __launch_bounds__(FORWARD_THREADS, TAPS > 4 ? 1 : 3)
    conv_forward(struct train_conv_job j)
{
    int t0 = blockIdx.x * SPAN_ROWS, w = blockIdx.y;
    int first = 4 * threadIdx.x, step = 4 * blockDim.x;
    uint32_t amax[SPAN_ROWS] = {0};
    four<T> u[SPAN_ROWS];
    for (int c = first; c < j.d_inner; c += step)
        convolve_channels<T, TAPS>(u, amax, j, w, t0, c);
    if (t0 + SPAN_ROWS >= j.n_t)
        keep_history<T>(j, w);
    if (!j.imitates)
        return;
    const struct exact_scale *scales = scale_rows(amax, j, w, t0);
    for (int c = first; c < j.d_inner; c += step) {
        if (j.d_inner > step)
            load_u<T>(u, j, w, t0, c);
        quantise_channels<T>(u, scales, j, w, t0, c);
    }
}

/* ---- backward ------------------------------------------------------------ */

/* What a byte needs: its input, and du of both ways. */
template <typename T> struct conv_byte {
    struct conv_row<T> x;
    four<T> du, du_x;
    float inverse;
};

template <typename T>
static __device__ __forceinline__ void
load_bytes(struct conv_byte<T> b[BATCH], const struct train_conv_job &j, int w,
           int t, int c)
{
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
        size_t row = (size_t)w * j.n_t + min(t + i, j.n_t - 1);
        b[i].x = load_row<T>(j, w, t + i, c);
        b[i].du = load_four<T>(j.du, row * j.d_inner + c);
        b[i].du_x = load_four<T>(j.du_x, row * j.d_inner + c);
        b[i].inverse = j.scale.inverse[row];
    }
}

template <int TAPS> struct conv_window {
    float4 taps[TAPS], bias, col_scale;
    float4 x[TAPS];  /* inputs, up to byte t                            */
    float4 da[TAPS]; /* of the bytes up to t                            */
    float4 dtaps[TAPS], dbias;
};

/* da = du silu'(a); dbias += da; dtaps[k] += da x[k], for bytes of the span;
 * returns dinput of the byte TAPS - 1 before:
 * sum over k of taps[k] da[t' + (TAPS - 1) - k] */
template <int TAPS>
static __device__ __forceinline__ float4 conv_step(struct conv_window<TAPS> &s,
                                                   float4 x, float4 du,
                                                   bool is_inside)
{
    push<TAPS>(s.x, x);
    float4 a = convolve<TAPS>(s.taps, s.x, s.bias), din = zero4();
    float4 da =
        product(du, make_float4(fast_silu_slope(a.x), fast_silu_slope(a.y),
                                fast_silu_slope(a.z), fast_silu_slope(a.w)));
    push<TAPS>(s.da, da);
    if (is_inside) {
        s.dbias = plus(s.dbias, da);
#pragma unroll
        for (int k = 0; k < TAPS; k++)
            s.dtaps[k] = fused(da, s.x[k], s.dtaps[k]);
    }
#pragma unroll
    for (int k = 0; k < TAPS; k++)
        din = fused(s.taps[k], s.da[TAPS - 1 - k], din);
    return din;
}

template <int TAPS>
static __device__ void put_taps(const struct train_conv_job &j,
                                const struct conv_window<TAPS> &s, int c)
{
    size_t span = (size_t)blockIdx.z * gridDim.y + blockIdx.y;
    float *all = j.partial + span * (j.d_conv + 1) * j.d_inner;
    float *to = all + (size_t)c * j.d_conv;
#pragma unroll
    for (int k = 0; k < TAPS; k++) {
        int at = k - (TAPS - j.d_conv);
        if (at < 0)
            continue;
        to[at] = s.dtaps[k].x;
        to[j.d_conv + at] = s.dtaps[k].y;
        to[2 * j.d_conv + at] = s.dtaps[k].z;
        to[3 * j.d_conv + at] = s.dtaps[k].w;
    }
    put4(all + (size_t)j.d_conv * j.d_inner + c, s.dbias);
}

template <typename T, int TAPS>
static __device__ __forceinline__ void
begin_window(struct conv_window<TAPS> &s, const struct train_conv_job &j, int w,
             int t0, int c)
{
    load_taps<TAPS>(s.taps, j, c);
    s.bias = get4(j.bias + c);
    s.col_scale = get4(j.col_scale + c);
#pragma unroll
    for (int k = 1; k < TAPS; k++) {
        int t = t0 + k - TAPS;
        s.x[k] = t < 0 ? past(j, w, t, c)
                       : input_of<T>(load_row<T>(j, w, t, c), s.col_scale);
    }
}

/* Bytes [t0, t1) of a window, and TAPS - 1 more whose da reaches back. */
template <typename T, int TAPS>
static __global__ void __launch_bounds__(BACKWARD_THREADS, TAPS > 4 ? 2 : 4)
    conv_backward(struct train_conv_job j)
{
    int c = 4 * (blockIdx.x * BACKWARD_THREADS + threadIdx.x);
    int t0 = blockIdx.y * CONV_SPAN, w = blockIdx.z;
    int t1 = min(t0 + CONV_SPAN, j.n_t);
    struct conv_window<TAPS> s = {
    };
    struct conv_byte<T> next[BATCH];
    if (c >= j.d_inner)
        return;
    load_bytes<T>(next, j, w, t0, c);
    begin_window<T, TAPS>(s, j, w, t0, c);
    for (int t = t0; t < t1 + TAPS - 1; t += BATCH) {
        struct conv_byte<T> now[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; i++)
            now[i] = next[i];
        load_bytes<T>(next, j, w, t + BATCH, c);
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            float inside = t + i < j.n_t ? 1.0f : 0.0f;
            float4 du = scaled(fused(get4(now[i].du_x), splat(now[i].inverse),
                                     get4(now[i].du)),
                               inside);
            float4 din = conv_step<TAPS>(s, input_of<T>(now[i].x, s.col_scale),
                                         du, t + i < t1);
            int at = t + i - (TAPS - 1);
            if (at < t0 || at >= t1)
                continue;
            size_t row = (size_t)w * j.n_t + at;
            put4((T *)j.duz + row * 2 * j.d_inner + c,
                 scaled(din, j.row_scale[row]));
        }
    }
    put_taps<TAPS>(j, s, c);
}

/* ---- launches ------------------------------------------------------------ */

static struct train_conv_job conv_of(const struct replica *r, int l)
{
    const struct train_tape *tape = &r->tapes[l];
    const struct mamba1_tape *own = &r->mamba1->tapes[l];
    const struct model_config *c = &r->config;
    struct train_conv_job job = {};
    job.uz = tape->projected;
    job.row_scale = tape->x_scale.scale;
    job.col_scale = tape->weights[W_IN].scale;
    job.history = state_conv(c, r->states, l);
    job.history_after = state_conv(c, r->after, l);
    job.state_floats = trainer_state_floats(c);
    job.taps = weight_at(r, l, P_CONV);
    job.bias = weight_at(r, l, P_CONV_BIAS);
    job.u = own->u;
    job.u_q = own->u_q;
    job.scale = own->u_scale;
    job.n_t = r->n_t;
    job.d_inner = c->d_inner;
    job.d_conv = c->d_conv;
    job.imitates = r->imitates;
    job.du = r->mamba1->du;
    job.du_x = r->mamba1->du_x;
    job.duz = r->dprojected;
    job.partial = r->partial;
    return job;
}

template <typename T>
static void forward(const struct replica *r, const struct train_conv_job &job)
{
    dim3 grid(ceil_div(job.n_t, SPAN_ROWS), r->n_windows);
    int threads = round_up(ceil_div(job.d_inner, 4), WARP);
    threads = threads < FORWARD_THREADS ? threads : FORWARD_THREADS;
    if (job.d_conv <= 4)
        conv_forward<T, 4><<<grid, threads, 0, r->stream>>>(job);
    else
        conv_forward<T, 8><<<grid, threads, 0, r->stream>>>(job);
}

template <typename T>
static void backward(const struct replica *r, const struct train_conv_job &job)
{
    dim3 grid(ceil_div(job.d_inner, 4 * BACKWARD_THREADS),
              ceil_div(job.n_t, CONV_SPAN), r->n_windows);
    if (job.d_conv <= 4)
        conv_backward<T, 4><<<grid, BACKWARD_THREADS, 0, r->stream>>>(job);
    else
        conv_backward<T, 8><<<grid, BACKWARD_THREADS, 0, r->stream>>>(job);
}

void launch_conv(const struct replica *r, int l)
{
    struct train_conv_job job = conv_of(r, l);
    BY_NUMBER(r, forward, r, job);
}

void launch_conv_backward(const struct replica *r, int l)
{
    struct train_conv_job job = conv_of(r, l);
    int n_taps = job.d_conv * job.d_inner, ld = n_taps + job.d_inner;
    int spans = r->n_windows * ceil_div(job.n_t, CONV_SPAN);
    BY_NUMBER(r, backward, r, job);
    launch_sum_partial(r, gradient_at(r, l, P_CONV), r->partial, spans, ld,
                       n_taps, false);
    launch_sum_partial(r, gradient_at(r, l, P_CONV_BIAS), r->partial + n_taps,
                       spans, ld, job.d_inner, false);
}
