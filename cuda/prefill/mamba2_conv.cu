/* mamba2_conv.cu -- the convolution of Mamba-2, int8 of x, B and C, and the
 * step sizes and decays of the heads.
 *
 * A warp takes a vector of a strip: x of a head, B or C of a group.  A lane has
 * some neighbouring channels, and reads each input once.  More warps take the
 * step sizes, 32 numbers each.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/exact_vector.cuh"
#include "cuda/prefill/mamba2_batch.cuh"

enum {
    THREADS = 256,
    WARPS = THREADS / WARP,
    TOGETHER = 4,           /* rows whose silu is computed together    */
    DT_HEADS = WARP / STRIP /* of a warp that computes step sizes      */
};

/* A vector of x | B | C, in a strip. */
struct conv_job {
    const struct cuda_layer &layer;
    int channel, n; /* of the vector: its first, and how many              */
    int taps, n_rows;
    int in_span;       /* rows of the span before the strip             */
    const float *zx;   /* the lane's channels in the first row          */
    const float *past; /* and in the inputs before the span             */
    size_t zx_stride, channels;
    bool has_any; /* the lane has channels of the vector                   */
};

/* The usual number of taps is known to the compiler. */
enum { USUAL_TAPS = 4 };

template <int most_taps> static __device__ __forceinline__ int taps_of(int taps)
{
    return most_taps == USUAL_TAPS ? USUAL_TAPS : taps;
}

/* Neighbouring floats, aligned as one vector of them. */
template <int each>
static __device__ __forceinline__ void load_each(float *to, const float *from)
{
    memcpy(to, __builtin_assume_aligned(from, each >= 4 ? 16 : 8),
           each * sizeof *to);
}

/* Inputs of the rows of a strip, and before it, oldest first.  All are asked
 * for before the first is used. */
template <int most_taps, int each>
static __device__ __forceinline__ void
load_inputs(float v[STRIP + most_taps - 1][each], const struct conv_job &job)
{
    int before = taps_of<most_taps>(job.taps) - 1;
#pragma unroll
    for (int j = 0; j < STRIP + most_taps - 1; j++) {
        int row = j - before; /* of the strip */
#pragma unroll
        for (int k = 0; k < each; k++)
            v[j][k] = 0.0f;
        if (!job.has_any || row >= job.n_rows)
            continue;
        if (row + job.in_span >= 0) {
            load_each<each>(v[j], job.zx + row * (ptrdiff_t)job.zx_stride);
            continue;
        }
        const float *past =
            job.past + (row + job.in_span + before) * job.channels;
#pragma unroll
        for (int k = 0; k < each; k++)
            v[j][k] = past[k];
    }
}

/* silu(conv) of the rows from `first` on; amax: of the lane, by row. */
template <int most_taps, int each>
static __device__ __forceinline__ void
convolve_rows(float y[TOGETHER][each], uint32_t *amax,
              const float v[STRIP + most_taps - 1][each],
              const float weight[most_taps][each], const float bias[each],
              int taps, int first)
{
#pragma unroll
    for (int j = 0; j < TOGETHER; j++) {
#pragma unroll
        for (int k = 0; k < each; k++)
            y[j][k] = bias[k];
#pragma unroll
        for (int i = 0; i < most_taps; i++) {
            if (i >= taps_of<most_taps>(taps))
                break;
#pragma unroll
            for (int k = 0; k < each; k++)
                y[j][k] = fmaf(weight[i][k], v[first + j + i][k], y[j][k]);
        }
    }
    silu_all<TOGETHER * each>(y[0]);
#pragma unroll
    for (int j = 0; j < TOGETHER; j++) {
        amax[j] = 0;
#pragma unroll
        for (int k = 0; k < each; k++)
            amax[j] = max(amax[j], magnitude_bits(y[j][k]));
    }
}

static __device__ __forceinline__ uint32_t
quantised2(float x, float y, const struct exact_scale &s)
{
    uint32_t low = exact_bits(fmaf(x, s.inverse, EXACT_ROUND));
    uint32_t high = exact_bits(fmaf(y, s.inverse, EXACT_ROUND));
    return s.scale == 0.0f ? 0 : __byte_perm(low, high, 0x0040);
}

/* Stores the lane's part of q. */
template <int each>
static __device__ __forceinline__ void
store_each(int8_t *q, const float y[each], const struct exact_scale &scale)
{
    uint32_t four[(each + 3) / 4];
#pragma unroll
    for (int k = 0; k < each; k += 4)
        four[k / 4] =
            each == 2
                ? quantised2(y[0], y[1], scale)
                : quantised4(make_float4(y[k], y[k + 1], y[k + 2], y[k + 3]),
                             scale);
    memcpy(__builtin_assume_aligned(q, each), four, each);
}

/* q: of the lane, in the first row of the strip; scales: of the vector. */
template <int most_taps, int each>
static __device__ __forceinline__ void
convolve_vector(const struct conv_job &job, int8_t *q, size_t q_stride,
                float *scales, size_t scales_stride)
{
    float v[STRIP + most_taps - 1][each], y[STRIP][each];
    float weight[most_taps][each], bias[each];
    uint32_t amax[STRIP];
    int lane = threadIdx.x % WARP;
    int channel = job.has_any ? job.channel + lane * each : job.channel;
    load_inputs<most_taps, each>(v, job);
    load_each<each>(bias, job.layer.conv_bias + channel);
#pragma unroll
    for (int i = 0; i < most_taps; i++) {
        if (i < taps_of<most_taps>(job.taps))
            load_each<each>(weight[i], job.layer.conv +
                                           (size_t)i * job.channels + channel);
    }
#pragma unroll
    for (int j = 0; j < STRIP; j += TOGETHER)
        convolve_rows<most_taps, each>(y + j, amax + j, v, weight, bias,
                                       job.taps, j);
    uint32_t mine = 0; /* of row `lane` */
#pragma unroll
    for (int j = 0; j < STRIP; j++) {
        uint32_t most = warp_max(job.has_any ? amax[j] : 0);
        mine = lane == j ? most : mine;
    }
    struct exact_scale scale = scale_of(mine);
    if (lane < job.n_rows)
        scales[lane * scales_stride] = scale.scale;
#pragma unroll
    for (int j = 0; j < STRIP; j++) {
        struct exact_scale s;
        s.scale = __shfl_sync(WHOLE_WARP, scale.scale, j);
        s.inverse = __shfl_sync(WHOLE_WARP, scale.inverse, j);
        if (j < job.n_rows && job.has_any)
            store_each<each>(q + j * q_stride, y[j], s);
    }
}

/* Channels of a lane: the fewest with which a warp has the vector. */
static __host__ __device__ __forceinline__ int channels_each(int n)
{
    return n <= 2 * WARP ? 2 : n <= 4 * WARP ? 4 : 8;
}

template <int most_taps, int most_each>
static __device__ __forceinline__ void
convolve_any(struct conv_job &job, int8_t *q, size_t q_stride, float *scales,
             size_t scales_stride)
{
    int each = channels_each(job.n);
    int at = (int)threadIdx.x % WARP * each;
    job.has_any = at < job.n;
    job.zx += at;
    job.past += at;
    q += at;
    if constexpr (most_each > 4) {
        if (each > 4)
            return convolve_vector<most_taps, 8>(job, q, q_stride, scales,
                                                 scales_stride);
    }
    if constexpr (most_each > 2) {
        if (each > 2)
            return convolve_vector<most_taps, 4>(job, q, q_stride, scales,
                                                 scales_stride);
    }
    convolve_vector<most_taps, 2>(job, q, q_stride, scales, scales_stride);
}

/* delta and alpha: a lane has a row of the strip, of one of DT_HEADS heads. */
static __device__ __forceinline__ void
make_steps(const struct prefill_batch &b, const struct mamba2_batch &m,
           const struct cuda_layer &l, size_t row, int n_rows, int first)
{
    int lane = threadIdx.x % WARP, j = lane % STRIP;
    int h = first + lane / STRIP;
    if (j >= n_rows || h >= m.n_heads)
        return;
    row += j;
    float dt = b.uz[row * m.zx_stride + b.d_inner + m.conv_channels + h];
    float delta = exact_delta(dt + l.dt_bias[h], m.delta_min, m.delta_max);
    m.delta[row * m.n_heads + h] = delta;
    m.alpha[row * m.n_heads + h] = exact_alpha(delta, l.a_log2e[h]);
}

template <int most_taps, int most_each>
static __global__ void __launch_bounds__(THREADS, most_each == 2 ? 3 : 1)
    convolve(struct prefill_batch b, struct mamba2_batch m, struct tick tick,
             int first, int end)
{
    int layer = tick.first + blockIdx.z;
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    if ((int)blockIdx.x >= mb->n_strips)
        return;
    int i = first + blockIdx.y * WARPS + threadIdx.x / WARP; /* vector */
    if (i >= end)
        return;
    const struct strip strip = mb->strips[blockIdx.x];
    const struct span span = mb->spans[strip.span];
    const struct cuda_layer &l = b.layers[layer];
    size_t row = (size_t)layer * b.rows + strip.row;
    int n_bc = 2 * m.n_groups;
    await_previous();

    bool is_x = i < m.n_heads;
    if (i >= m.n_heads + n_bc) {
        make_steps(b, m, l, row, strip.n, (i - m.n_heads - n_bc) * DT_HEADS);
        return;
    }
    int channel =
        is_x ? i * m.headdim : b.d_inner + (i - m.n_heads) * b.d_state;
    struct conv_job job = {l,
                           channel,
                           is_x ? m.headdim : b.d_state,
                           b.d_conv,
                           strip.n,
                           strip.row - span.row,
                           b.uz + row * m.zx_stride + b.d_inner + channel,
                           mamba2_layer_state(span.image, m.state, layer).past +
                               channel,
                           (size_t)m.zx_stride,
                           (size_t)m.conv_channels,
                           false};
    if (is_x)
        convolve_any<most_taps, most_each>(
            job, m.x + row * b.d_inner + channel, b.d_inner,
            m.x_scale + row * m.n_heads + i, m.n_heads);
    else
        convolve_any<most_taps, most_each>(
            job, m.bc + row * n_bc * b.d_state + channel - b.d_inner,
            (size_t)n_bc * b.d_state, m.bc_scale + row * n_bc + i - m.n_heads,
            n_bc);
}

/* Vectors [first, end) of x, B, C and the step sizes. */
static enum status launch_vectors(struct queue q, const struct prefill_batch *b,
                                  const struct mamba2_batch *m,
                                  struct tick tick, int first, int end)
{
    dim3 grid(tick.strips, ceil_div(end - first, WARPS), tick.count);
    int each = channels_each(m->headdim > b->d_state ? m->headdim : b->d_state);
    auto kernel = convolve<D_CONV_MAX, 8>;
    if (b->d_conv == USUAL_TAPS && each == 2)
        kernel = convolve<USUAL_TAPS, 2>;
    else if (b->d_conv == USUAL_TAPS && each == 4)
        kernel = convolve<USUAL_TAPS, 4>;
    return launch("the convolution", q, grid, THREADS, 0, kernel, *b, *m, tick,
                  first, end);
}

enum status launch_mamba2_conv(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick)
{
    int n = m->n_heads + 2 * m->n_groups;
    return launch_vectors(q, b, m, tick, 0, n + ceil_div(m->n_heads, DT_HEADS));
}

enum status launch_mamba2_conv_bc(struct queue q, const struct prefill_batch *b,
                                  const struct mamba2_batch *m,
                                  struct tick tick)
{
    return launch_vectors(q, b, m, tick, m->n_heads,
                          m->n_heads + 2 * m->n_groups);
}
