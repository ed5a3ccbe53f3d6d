/* train_conv_back.cu -- the convolution of training, backward.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_conv.cuh"

#include "cuda/common/reduce.cuh"
#include "cuda/train/train_rows.cuh"

enum {
    BACKWARD_THREADS = 128,
    BATCH = 4 /* rows whose loads are under way together */
};

/* What a byte needs: its input, and du; the second way only where HAS_TWO. */
template <typename T> struct conv_byte {
    struct conv_row<T> x;
    four<T> du, du_x;
    float inverse;
};

template <typename T, bool HAS_TWO>
static __device__ __forceinline__ void
load_bytes(struct conv_byte<T> b[BATCH], const struct train_conv_job &j, int w,
           int t, int c)
{
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
        size_t row = (size_t)w * j.n_t + min(t + i, j.n_t - 1);
        b[i].x = load_row<T>(j, w, t + i, c);
        b[i].du = load_four<T>(j.du, row * j.channels + c);
        if (!HAS_TWO)
            continue;
        b[i].du_x = load_four<T>(j.du_x, row * j.channels + c);
        b[i].inverse = j.scale.inverse[row];
    }
}

template <typename T, bool HAS_TWO>
static __device__ __forceinline__ float4 du_of(const struct conv_byte<T> &b)
{
    if (!HAS_TWO)
        return get4(b.du);
    return fused(get4(b.du_x), splat(b.inverse), get4(b.du));
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
    float *all = j.partial + span * (j.d_conv + 1) * j.channels;
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
    put4(all + (size_t)j.d_conv * j.channels + c, s.dbias);
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
template <typename T, int TAPS, bool HAS_TWO>
static __global__ void __launch_bounds__(BACKWARD_THREADS, TAPS > 4 ? 2 : 4)
    conv_backward(struct train_conv_job j)
{
    int c = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    int t0 = blockIdx.y * CONV_SPAN, w = blockIdx.z;
    int t1 = min(t0 + CONV_SPAN, j.n_t);
    struct conv_window<TAPS> s = {
    };
    struct conv_byte<T> next[BATCH];
    if (c >= j.channels)
        return;
    load_bytes<T, HAS_TWO>(next, j, w, t0, c);
    begin_window<T, TAPS>(s, j, w, t0, c);
    for (int t = t0; t < t1 + TAPS - 1; t += BATCH) {
        struct conv_byte<T> now[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; i++)
            now[i] = next[i];
        load_bytes<T, HAS_TWO>(next, j, w, t + BATCH, c);
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            float inside = t + i < j.n_t ? 1.0f : 0.0f;
            float4 du = scaled(du_of<T, HAS_TWO>(now[i]), inside);
            float4 din = conv_step<TAPS>(s, input_of<T>(now[i].x, s.col_scale),
                                         du, t + i < t1);
            int at = t + i - (TAPS - 1);
            if (at < t0 || at >= t1)
                continue;
            size_t row = (size_t)w * j.n_t + at;
            put4((T *)j.din + row * j.ld + c, scaled(din, j.row_scale[row]));
        }
    }
    put_taps<TAPS>(j, s, c);
}

/* As many as leave the fewest without channels. */
static int threads_for(int channels)
{
    const int warps = ceil_div(channels, 4 * WARP);
    int best = BACKWARD_THREADS / WARP;
    for (int n = best - 1; n > 1; n--)
        if (round_up(warps, n) < round_up(warps, best))
            best = n;
    return best * WARP;
}

template <typename T, bool HAS_TWO>
static void backward(const struct replica *r, const struct train_conv_job &job)
{
    const int threads = threads_for(job.channels);
    dim3 grid(ceil_div(job.channels, 4 * threads), ceil_div(job.n_t, CONV_SPAN),
              r->n_windows);
    if (job.d_conv <= 4)
        conv_backward<T, 4, HAS_TWO><<<grid, threads, 0, r->stream>>>(job);
    else
        conv_backward<T, 8, HAS_TWO><<<grid, threads, 0, r->stream>>>(job);
}

template <typename T>
static void backward_by_ways(const struct replica *r,
                             const struct train_conv_job &job)
{
    if (job.du_x)
        backward<T, true>(r, job);
    else
        backward<T, false>(r, job);
}

void run_conv_backward(const struct replica *r,
                       const struct train_conv_job *job, int l)
{
    int n_taps = job->d_conv * job->channels, ld = n_taps + job->channels;
    int spans = r->n_windows * ceil_div(r->n_t, CONV_SPAN);
    BY_NUMBER(r, backward_by_ways, r, *job);
    const struct column_sums to[] = {
        {gradient_at(r, l, P_CONV), n_taps},
        {gradient_at(r, l, P_CONV_BIAS), job->channels}};
    launch_column_sums(r, to, 2, r->partial, spans, ld);
}
