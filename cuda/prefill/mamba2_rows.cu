/* mamba2_rows.cu -- what Mamba-2 does around the recurrence: the convolution,
 * int8 of x, B and C, the steps and decays; what a state keeps of a span; the
 * norm before out_proj.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/exact_vector.cuh"
#include "cuda/common/float4.cuh"
#include "cuda/prefill/mamba2_batch.cuh"

enum { THREADS = 256, WARPS = THREADS / WARP };

/* ---- convolution: a warp a vector of a strip ----------------------------- */

/* A vector of x | B | C: x of a head, B or C of a group. */
struct vector {
    int n, first; /* channels */
};

static __device__ __forceinline__ struct vector
vector_at(const struct prefill_batch &b, const struct mamba2_batch &m, int i)
{
    struct vector v = {m.headdim, i * m.headdim};
    if (i >= m.n_heads)
        v = {b.d_state, b.d_inner + (i - m.n_heads) * b.d_state};
    return v;
}

/* silu(conv) of channel c at byte r of its span.  zx: the channel in the first
 * row of the span; past: before it. */
static __device__ __forceinline__ float
convolved(const struct cuda_layer &l, const struct prefill_batch &b,
          const struct mamba2_batch &m, const float *zx, const float *past,
          int c, int r)
{
    float a = l.conv_bias[c];
    for (int k = 0; k < b.d_conv; k++) {
        int at = r - (b.d_conv - 1 - k);
        float in = at >= 0 ? zx[(size_t)at * m.zx_stride]
                           : past[(size_t)(r + k) * m.conv_channels];
        a = fmaf(l.conv[(size_t)k * m.conv_channels + c], in, a);
    }
    return a;
}

/* A lane has `each` channels, 32 apart. */
template <int each>
static __global__ void __launch_bounds__(THREADS)
    convolve(struct prefill_batch b, struct mamba2_batch m, struct tick tick)
{
    int layer = tick.first + blockIdx.z;
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    int which = blockIdx.y * WARPS + threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
    if ((int)blockIdx.x >= mb->n_strips || which >= m.n_heads + 2 * m.n_groups)
        return;
    const struct strip strip = mb->strips[blockIdx.x];
    const struct span span = mb->spans[strip.span];
    const struct cuda_layer &l = b.layers[layer];
    struct vector v = vector_at(b, m, which);
    bool is_x = which < m.n_heads;
    int n_bc = 2 * m.n_groups;
    size_t span_row = (size_t)layer * b.rows + span.row;
    const float *zx = b.uz + span_row * m.zx_stride + b.d_inner;
    const float *past = mamba2_layer_state(span.image, m.state, layer).past;
    await_previous();

    for (int j = 0; j < strip.n; j++) {
        int r = strip.row - span.row + j;
        size_t row = span_row + r;
        float y[each];
        uint32_t amax = 0;
#pragma unroll
        for (int k = 0; k < each; k++) {
            int i = lane + k * WARP, c = v.first + min(i, v.n - 1);
            y[k] = convolved(l, b, m, zx + c, past + c, c, r);
        }
        silu_all<each>(y);
#pragma unroll
        for (int k = 0; k < each; k++)
            amax = max(amax, lane + k * WARP < v.n ? magnitude_bits(y[k]) : 0);
        struct exact_scale scale = exact_scale_of(warp_max(amax));
        int8_t *q = is_x ? m.x + row * b.d_inner + v.first
                         : m.bc + row * n_bc * b.d_state + v.first - b.d_inner;
#pragma unroll
        for (int k = 0; k < each; k++) {
            if (lane + k * WARP < v.n)
                q[lane + k * WARP] = scale.scale == 0.0f
                                         ? 0
                                         : exact_quantise(y[k], scale.inverse);
        }
        if (lane == 0 && is_x)
            m.x_scale[row * m.n_heads + which] = scale.scale;
        if (lane == 0 && !is_x)
            m.bc_scale[row * n_bc + which - m.n_heads] = scale.scale;
    }
    if (is_x && lane < strip.n) {
        size_t row = (size_t)layer * b.rows + strip.row + lane;
        float dt =
            b.uz[row * m.zx_stride + b.d_inner + m.conv_channels + which];
        float delta =
            exact_delta(dt + l.dt_bias[which], m.delta_min, m.delta_max);
        m.delta[row * m.n_heads + which] = delta;
        m.alpha[row * m.n_heads + which] = exact_alpha(delta, l.a_log2e[which]);
    }
}

template <int each>
static enum status launch_each(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick)
{
    dim3 grid(tick.strips, ceil_div(m->n_heads + 2 * m->n_groups, WARPS),
              tick.count);
    return launch("the convolution", q, grid, THREADS, 0, convolve<each>, *b,
                  *m, tick);
}

enum status launch_mamba2_conv(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick)
{
    int n = m->headdim > b->d_state ? m->headdim : b->d_state;
    if (n <= 2 * WARP)
        return launch_each<2>(q, b, m, tick);
    if (n <= 4 * WARP)
        return launch_each<4>(q, b, m, tick);
    return launch_each<8>(q, b, m, tick);
}

/* ---- the state: a block a span ------------------------------------------- */

/* The last inputs of the span's n rows move in, and older ones move on. */
static __device__ void keep_past(const struct prefill_batch &b,
                                 const struct mamba2_batch &m, float *past,
                                 const float *zx, int n)
{
    for (int c = threadIdx.x; c < m.conv_channels; c += THREADS) {
        for (int k = 0; k < b.d_conv - 1; k++) {
            int at = n - (b.d_conv - 1) + k;
            past[(size_t)k * m.conv_channels + c] =
                at >= 0 ? zx[(size_t)at * m.zx_stride + c]
                        : past[(size_t)(k + n) * m.conv_channels + c];
        }
    }
}

/* Rows [first, n) of a span are of the chunk that has not ended. */
static __global__ void __launch_bounds__(THREADS)
    keep(struct prefill_batch b, struct mamba2_batch m, struct tick tick)
{
    int layer = tick.first + blockIdx.z;
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    if ((int)blockIdx.x >= mb->n_spans)
        return;
    const struct span span = mb->spans[blockIdx.x];
    struct mamba2_layer_state s =
        mamba2_layer_state(span.image, m.state, layer);
    size_t row = (size_t)layer * b.rows + span.row;
    int n_b = m.n_groups * b.d_state;
    await_previous();

    int place = *s.place, next = (place + span.n) % CHUNK;
    int first = max(span.n - next, 0);
    keep_past(b, m, s.past, b.uz + row * m.zx_stride + b.d_inner, span.n);
    for (int r = first; r < span.n; r++) {
        int at = (place + r) % CHUNK;
        const int8_t *x = m.x + (row + r) * b.d_inner;
        const int8_t *bc = m.bc + (row + r) * 2 * n_b;
        for (int i = threadIdx.x; i < b.d_inner / 4; i += THREADS)
            ((uint32_t *)(s.x + (size_t)at * b.d_inner))[i] =
                ((const uint32_t *)x)[i];
        for (int i = threadIdx.x; i < n_b / 4; i += THREADS)
            ((uint32_t *)(s.b + (size_t)at * n_b))[i] =
                ((const uint32_t *)bc)[i];
    }
    __syncthreads(); /* all have read the place */
    if (threadIdx.x == 0)
        *s.place = next;
}

enum status launch_mamba2_keep(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick)
{
    return launch("a state", q, dim3(tick.spans, 1, tick.count), THREADS, 0,
                  keep, *b, *m, tick);
}

/* ---- the norm before out_proj: a block a row ----------------------------- */

/* Of each head the sum of v^2 and the largest |u|. */
static __device__ void measure_heads(const struct mamba2_batch &m,
                                     const float *v, const float *weight,
                                     float *squares, uint32_t *largest)
{
    int lane = threadIdx.x % WARP;
    for (int h = threadIdx.x / WARP; h < m.n_heads; h += WARPS) {
        float low = 0.0f, high = 0.0f;
        uint32_t amax = 0;
        for (int p = lane; p < m.headdim; p += WARP) {
            float x = v[h * m.headdim + p];
            float &sum = p % EXACT_LANES < WARP ? low : high;
            sum = fmaf(x, x, sum);
            amax = max(amax, magnitude_bits(x * weight[h * m.headdim + p]));
        }
        low = strided_sum(low, high);
        amax = warp_max(amax);
        if (lane == 0) {
            squares[h] = low;
            largest[h] = amax;
        }
    }
}

/* r and r times the largest |u| of a group, by a warp. */
static __device__ void measure_group(const struct prefill_batch &b,
                                     const struct mamba2_batch &m, int group,
                                     const float *squares,
                                     const uint32_t *largest, float *r,
                                     float *amax)
{
    int lane = threadIdx.x % WARP, n = m.n_heads / m.n_groups;
    uint32_t most = 0;
    for (int i = lane; i < n; i += WARP)
        most = max(most, largest[group * n + i]);
    float sum = sum_row<false>(squares + group * n, 0.0f, n, lane);
    float mean = sum / (float)(n * m.headdim);
    float inverse = 1.0f / sqrtf(mean + b.epsilon);
    most = warp_max(most);
    if (lane == 0) {
        r[group] = inverse;
        amax[group] = exact_float(most) * inverse;
    }
}

static __global__ void __launch_bounds__(THREADS)
    norm_quantise(struct prefill_batch b, struct mamba2_batch m,
                  struct tick tick)
{
    extern __shared__ float squares[]; /* [n_heads], then largest */
    __shared__ float r[MAMBA2_GROUPS_MAX], largest[MAMBA2_GROUPS_MAX];
    uint32_t *head_largest = (uint32_t *)(squares + m.n_heads);
    int layer = tick.first + blockIdx.z;
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    if ((int)blockIdx.x >= mb->n_rows)
        return;
    size_t row = (size_t)layer * b.rows + blockIdx.x;
    const float *weight = b.layers[layer].gate_norm;
    const float *v = b.u + row * b.d_inner;
    await_previous();

    measure_heads(m, v, weight, squares, head_largest);
    __syncthreads();
    if ((int)threadIdx.x / WARP < m.n_groups)
        measure_group(b, m, threadIdx.x / WARP, squares, head_largest, r,
                      largest);
    __syncthreads();
    uint32_t amax = 0;
    for (int g = 0; g < m.n_groups; g++)
        amax = max(amax, magnitude_bits(largest[g]));
    struct exact_scale scale = exact_scale_of(amax);
    int channels = b.d_inner / m.n_groups;
    uint32_t *q = (uint32_t *)(b.u_q + row * b.u_stride);
    for (int i = threadIdx.x; i < b.d_inner / 4; i += THREADS) {
        float4 u = product(((const float4 *)v)[i], ((const float4 *)weight)[i]);
        float inverse = r[4 * i / channels] * scale.inverse;
        q[i] = scale.scale == 0.0f ? 0 : quantise4(u, inverse);
    }
    if (threadIdx.x == 0)
        b.u_scale[row] = scale.scale;
}

static size_t norm_shared(const struct mamba2_batch *m)
{
    return m->n_heads * (sizeof(float) + sizeof(uint32_t));
}

enum status mamba2_norm_prepare(const struct prefill_batch *b,
                                const struct mamba2_batch *m)
{
    if (norm_shared(m) > (size_t)b->max_shared)
        return fail(E_DEVICE, "the GPU has not the shared memory for %d heads",
                    m->n_heads);
    return cuda_status(
        cudaFuncSetAttribute(norm_quantise,
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)norm_shared(m)),
        "a norm");
}

enum status launch_mamba2_norm(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick)
{
    return launch("a norm", q, dim3(tick.rows, 1, tick.count), THREADS,
                  norm_shared(m), norm_quantise, *b, *m, tick);
}
