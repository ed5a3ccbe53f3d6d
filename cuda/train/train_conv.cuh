/* train_conv.cuh -- the causal convolution of training, and its silu: what
 * both architectures share.
 *
 * A thread has four channels.  Memory is what both directions wait for: a
 * thread asks for many rows before it looks at one, and outside a window loads
 * the row at its edge, times 0, and does not branch.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_CONV_CUH
#define MAMBYTE_TRAIN_CONV_CUH

#include "cuda/train/fast_math.cuh"
#include "cuda/train/replica.cuh"

enum {
    SPAN_ROWS = 8,  /* of a thread, forward                                 */
    CONV_SPAN = 128 /* rows of a block, backward                            */
};

struct train_conv_job {
    int n_t, channels, d_conv;
    const void *in; /* [t][ld] numbers, sums                                */
    int ld;
    const float *row_scale, *col_scale;
    const float *history; /* [window][state]: [d_conv - 1][channels]        */
    float *history_after; /* the same                                       */
    size_t state_floats;
    const float *taps, *bias; /* [channels][d_conv], [channels]             */
    void *u, *u_q;            /* [t][channels] numbers                      */
    struct row_scale scale;   /* of u                                       */
    bool imitates;

    const void *du, *du_x; /* [t][channels], du_x times the scale of u, or
                            * NULL                                          */
    void *din;             /* [t][ld] numbers, times row_scale              */
    float *partial;        /* [window][span][(d_conv + 1) channels]         */
};

/* Floats of partial. */
static inline size_t conv_partial_floats(const struct replica *r, int channels)
{
    size_t spans = (size_t)r->n_windows * ceil_div(r->n_t, CONV_SPAN);
    return spans * (r->config.d_conv + 1) * channels;
}

/* train_conv_back.cu: din, and the gradients of taps and bias. */
void run_conv_backward(const struct replica *r,
                       const struct train_conv_job *job, int l);

#ifdef __CUDACC__

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
    const T *uz = (const T *)j.in + first * j.ld + c;
    r.x = load_four<T>(uz, row *j.ld);
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
                 : get4(j.history + w * j.state_floats +
                        (size_t)k * j.channels + c);
}

/* The taps of four channels; taps that the model lacks are 0. */
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

/* The last inputs of a window, for the next: four channels. */
template <typename T>
static __device__ void keep_history(const struct train_conv_job &j, int w,
                                    int c)
{
    float *after = j.history_after + w * j.state_floats;
    for (int k = 0; k < j.d_conv - 1; k++) {
        int t = j.n_t - (j.d_conv - 1) + k;
        float4 x =
            t < 0 ? past(j, w, t, c)
                  : input_of<T>(load_row<T>(j, w, t, c), get4(j.col_scale + c));
        put4(after + (size_t)k * j.channels + c, x);
    }
}

/* u = silu(conv(input)), four channels of the rows from t0 on: each goes to
 * take(row, u). */
template <typename T, int TAPS, typename Take>
static __device__ __forceinline__ void
convolve_rows(const struct train_conv_job &j, int w, int t0, int c, Take take)
{
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
        take(i, make_float4(fast_silu(a.x), fast_silu(a.y), fast_silu(a.z),
                            fast_silu(a.w)));
    }
}

#endif
#endif
