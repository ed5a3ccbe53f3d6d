/* train_conv.cu -- the convolution of Mamba-1, forward.
 *
 * A block has all channels of some rows, so that it knows their largest number
 * and quantises them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_conv.cuh"

#include "cuda/train/train_mamba1.cuh"

enum { FORWARD_THREADS = 256 };

/* u of a thread's channels; amax of each row of them. */
template <typename T, int TAPS>
static __device__ __forceinline__ void
convolve_channels(four<T> u[SPAN_ROWS], uint32_t amax[SPAN_ROWS],
                  const struct train_conv_job &j, int w, int t0, int c)
{
    T *to = (T *)j.u + ((size_t)w * j.n_t + t0) * j.channels + c;
    convolve_rows<T, TAPS>(j, w, t0, c, [&](int i, float4 x) {
        put4((T *)&u[i], x);
        amax[i] = max(amax[i], magnitude4(get4(u[i])));
        if (t0 + i < j.n_t)
            store_four<T>(to, i * j.channels, u[i]);
    });
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
            put4((T *)j.u_q + ((size_t)w * j.n_t + t0 + i) * j.channels + c,
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
            u[i] = load_four<T>(j.u,
                                ((size_t)w * j.n_t + t0 + i) * j.channels + c);
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
    for (int c = first; c < j.channels; c += step)
        convolve_channels<T, TAPS>(u, amax, j, w, t0, c);
    for (int c = first; t0 + SPAN_ROWS >= j.n_t && c < j.channels; c += step)
        keep_history<T>(j, w, c);
    if (!j.imitates)
        return;
    const struct exact_scale *scales = scale_rows(amax, j, w, t0);
    for (int c = first; c < j.channels; c += step) {
        if (j.channels > step)
            load_u<T>(u, j, w, t0, c);
        quantise_channels<T>(u, scales, j, w, t0, c);
    }
}

/* ---- launches ------------------------------------------------------------ */

static struct train_conv_job conv_of(const struct replica *r, int l)
{
    const struct train_tape *tape = &r->tapes[l];
    const struct mamba1_tape *own = &r->mamba1->tapes[l];
    const struct model_config *c = &r->config;
    struct train_conv_job job = {};
    job.in = tape->projected;
    job.ld = 2 * c->d_inner;
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
    job.channels = c->d_inner;
    job.d_conv = c->d_conv;
    job.imitates = r->imitates;
    job.du = r->mamba1->du;
    job.du_x = r->mamba1->du_x;
    job.din = r->dprojected;
    job.partial = r->partial;
    return job;
}

template <typename T>
static void forward(const struct replica *r, const struct train_conv_job &job)
{
    dim3 grid(ceil_div(job.n_t, SPAN_ROWS), r->n_windows);
    int threads = round_up(ceil_div(job.channels, 4), WARP);
    threads = threads < FORWARD_THREADS ? threads : FORWARD_THREADS;
    if (job.d_conv <= 4)
        conv_forward<T, 4><<<grid, threads, 0, r->stream>>>(job);
    else
        conv_forward<T, 8><<<grid, threads, 0, r->stream>>>(job);
}

void launch_conv(const struct replica *r, int l)
{
    struct train_conv_job job = conv_of(r, l);
    BY_NUMBER(r, forward, r, job);
}

void launch_conv_backward(const struct replica *r, int l)
{
    struct train_conv_job job = conv_of(r, l);
    run_conv_backward(r, &job, l);
}
