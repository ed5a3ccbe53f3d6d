/* mamba2_norm.cu -- the norm of Mamba-2 before out_proj, a warp a row; and what
 * a state keeps of a span, a block a head.
 *
 * One kernel does both, with blocks of either kind: all others of the layer
 * have read the state by then.  The places of spans are those of
 * mamba2_states.cu, so that the state's own can be replaced at any time.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/exact_vector.cuh"
#include "cuda/common/float4.cuh"
#include "cuda/prefill/mamba2_batch.cuh"

enum { THREADS = 128, WARPS = THREADS / WARP, ABREAST = 4 };

/* ---- the norm ------------------------------------------------------------ */

/* Lane g < n_groups gets r of group g, and all lanes the bits of the largest of
 * r times the largest |u|. */
static __device__ __forceinline__ uint32_t
measure_row(const struct prefill_batch &b, const struct mamba2_batch &m,
            const float *squares, const uint32_t *largest, float &r)
{
    int lane = threadIdx.x % WARP, n = m.n_heads / m.n_groups;
    uint32_t amax = 0;
    r = 0.0f;
    for (int g = 0; g < m.n_groups; g++) {
        uint32_t most = 0;
        for (int i = lane; i < n; i += WARP)
            most = max(most, largest[g * n + i]);
        float sum = sum_row<false>(squares + g * n, 0.0f, n, lane);
        float mean = sum / (float)(n * m.headdim);
        float inverse = 1.0f / sqrtf(mean + b.epsilon);
        most = warp_max(most);
        amax = max(amax, magnitude_bits(exact_float(most) * inverse));
        r = lane == g ? inverse : r;
    }
    return amax;
}

static __device__ __forceinline__ void norm_row(const struct prefill_batch &b,
                                                const struct mamba2_batch &m,
                                                const struct cuda_layer &layer,
                                                size_t row)
{
    int lane = threadIdx.x % WARP, n4 = b.d_inner / m.n_groups / 4;
    const float4 *v = (const float4 *)(b.u + row * b.d_inner);
    const float4 *weight = (const float4 *)layer.gate_norm;
    uint32_t *q = (uint32_t *)(b.u_q + row * b.u_stride);
    float r;
    struct exact_scale scale = scale_of(measure_row(
        b, m, m.squares + row * m.n_heads, m.largest + row * m.n_heads, r));
    for (int g = 0; g < m.n_groups; g++) {
        float inverse = __shfl_sync(WHOLE_WARP, r, g) * scale.inverse;
        for (int i = g * n4 + lane; i < (g + 1) * n4; i += ABREAST * WARP) {
            float4 u[ABREAST];
#pragma unroll
            for (int k = 0; k < ABREAST; k++) {
                if (i + k * WARP < (g + 1) * n4)
                    u[k] = v[i + k * WARP];
            }
#pragma unroll
            for (int k = 0; k < ABREAST; k++) {
                if (i + k * WARP >= (g + 1) * n4)
                    continue;
                u[k] = product(u[k], weight[i + k * WARP]);
                q[i + k * WARP] =
                    scale.scale == 0.0f ? 0 : quantise4(u[k], inverse);
            }
        }
        __syncwarp();
    }
    if (lane == 0)
        b.u_scale[row] = scale.scale;
}

/* ---- the state ----------------------------------------------------------- */

/* What a block keeps: of a head, and with the first head of a group of B and
 * C. */
struct keep_job {
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    struct mamba2_layer_state state;
    int head, group;
    int n;     /* rows of the span                                          */
    int place; /* of the first                                              */
    int next;  /* of the byte after the last; rows n - next on, or all, are
                * of its chunk                                              */
    size_t row;
    size_t start; /* of the S^ kept: that after the first end of a chunk    */
};

/* The last inputs of channels [first, first + n) move in, and older ones move
 * on. */
static __device__ void keep_past(const struct keep_job &job, int first, int n)
{
    const struct mamba2_batch &m = job.m;
    int taps = job.b.d_conv;
    const float *zx = job.b.uz + job.row * m.zx_stride + job.b.d_inner;
    for (int c = first + threadIdx.x; c < first + n; c += THREADS) {
        for (int k = 0; k < taps - 1; k++) {
            int at = job.n - (taps - 1) + k;
            job.state.past[(size_t)k * m.conv_channels + c] =
                at >= 0
                    ? zx[(size_t)at * m.zx_stride + c]
                    : job.state.past[(size_t)(k + job.n) * m.conv_channels + c];
        }
    }
}

/* Columns [first, first + n) of x^ or B^ of the chunk that has not ended. */
static __device__ void keep_rows(const struct keep_job &job, int8_t *kept,
                                 size_t kept_ld, const int8_t *rows, size_t ld,
                                 int n)
{
    int from = max(job.n - job.next, 0), words = n / 4;
    for (int i = threadIdx.x; i < (job.n - from) * words; i += THREADS) {
        int row = from + i / words, at = i % words * 4;
        *(uint32_t *)(kept + (size_t)((job.place + row) % CHUNK) * kept_ld +
                      at) = *(const uint32_t *)(rows + row * ld + at);
    }
}

/* What bytes weigh, thread s, and what is left of S.  As in
 * mamba2_outputs_mix.cuh products are compared with the least ones at their
 * end. */
static __device__ void keep_weights(const struct keep_job &job)
{
    __shared__ float alphas[CHUNK];
    const struct mamba2_batch &m = job.m;
    int s = threadIdx.x, from = max(job.n - job.next, 0);
    int place = job.next - (job.n - from); /* of row `from` */
    float *kept = job.state.w + job.head * CHUNK + s, w = 0.0f;
    if (s < place) {
        w = *kept;
    } else if (s < job.next) {
        size_t row = job.row + from + s - place;
        size_t at = row * m.n_heads + job.head;
        alphas[s] = m.alpha[at];
        w = exact_weight(m.delta[at], m.x_scale[at],
                         m.bc_scale[row * 2 * m.n_groups + job.group]);
    }
    __syncthreads();
    if (s < job.next) {
        for (int t = max(place, s + 1); t < job.next; t++)
            w *= alphas[t];
        *kept = exact_or_zero(w, EXACT_WEIGHT_MIN);
    } else if (s == CHUNK) {
        float e = place == 0 ? 1.0f : job.state.e[job.head];
        for (int t = place; t < job.next; t++)
            e *= alphas[t];
        job.state.e[job.head] = exact_or_zero(e, EXACT_DECAY_MIN);
    }
}

/* S^, of number `start` of those kept for chunks. */
static __device__ void copy_states(const struct keep_job &job, size_t start)
{
    const struct mamba2_batch &m = job.m;
    int n = job.b.d_state, parts = n / 16;
    size_t head = start * m.n_heads + job.head;
    const int8_t *tiles = m.s_q + head * m.tiles * m.state_tiles * S_TILE;
    size_t first = (size_t)job.head * m.headdim;
    for (int i = threadIdx.x; i < m.headdim * parts; i += THREADS) {
        int p = i / parts, k = i % parts; /* channel, 16 states */
        const uint32_t *from =
            (const uint32_t *)(tiles +
                               (p / 16 * m.state_tiles + k / 4) * S_TILE) +
            (p % 2 * WARP + p % 16 / 2 * 4) * 4 + k % 4;
        *(uint4 *)(job.state.s_q + (first + p) * n + k * 16) =
            make_uint4(from[0], from[4], from[8], from[12]);
    }
    for (int p = threadIdx.x; p < m.headdim; p += THREADS)
        job.state.s_scale[first + p] = m.s_scale[head * m.tiles * 16 + p];
}

/* S^ of S, a warp a channel. */
static __device__ void derive_states(const struct keep_job &job)
{
    int n = job.b.d_state, lane = threadIdx.x % WARP;
    for (int p = threadIdx.x / WARP; p < job.m.headdim; p += WARPS) {
        size_t channel = (size_t)job.head * job.m.headdim + p;
        const float *s = job.state.s + channel * n;
        uint32_t amax = 0;
        for (int i = lane; i < n; i += WARP)
            amax = max(amax, magnitude_bits(s[i]));
        struct exact_scale scale = scale_of_products(warp_max(amax));
        for (int i = lane; i < n; i += WARP)
            job.state.s_q[channel * n + i] =
                scale.scale == 0.0f ? 0 : exact_quantise(s[i], scale.inverse);
        if (lane == 0)
            job.state.s_scale[channel] = scale.scale;
    }
}

static __device__ void keep(const struct keep_job &job)
{
    const struct mamba2_batch &m = job.m;
    int n = job.b.d_state, first = job.head * m.headdim;
    size_t d_inner = job.b.d_inner, n_b = (size_t)m.n_groups * n;
    keep_past(job, first, m.headdim);
    keep_rows(job, job.state.x + first, d_inner,
              m.x + job.row * d_inner + first, d_inner, m.headdim);
    if (job.head % (m.n_heads / m.n_groups) == 0) {
        first = job.group * n;
        keep_past(job, (int)d_inner + first, n);
        keep_past(job, (int)(d_inner + n_b) + first, n);
        keep_rows(job, job.state.b + first, n_b,
                  m.bc + job.row * 2 * n_b + first, 2 * n_b, n);
    }
    keep_weights(job);
    int n_ends = (job.place + job.n) / CHUNK;
    if (n_ends > 0 && n_ends <= starts_of(job.n))
        copy_states(job, job.start + n_ends - 1);
    else if (n_ends > 0)
        derive_states(job);
    if (job.head == 0 && threadIdx.x == 0)
        *job.state.place = job.next;
}

/* ---- both ---------------------------------------------------------------- */

static __global__ void __launch_bounds__(THREADS)
    norm_and_keep(struct prefill_batch b, struct mamba2_batch m,
                  struct tick tick)
{
    int layer = tick.first + blockIdx.z, n_norms = ceil_div(tick.rows, WARPS);
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    size_t layer_row = (size_t)layer * b.rows;
    if ((int)blockIdx.x < n_norms) {
        int t = blockIdx.x * WARPS + threadIdx.x / WARP;
        if (t >= mb->n_rows)
            return;
        await_previous();
        norm_row(b, m, b.layers[layer], layer_row + t);
        return;
    }
    int number = (blockIdx.x - n_norms) / m.n_heads;
    int head = (blockIdx.x - n_norms) % m.n_heads;
    if (number >= mb->n_spans)
        return;
    const struct span span = mb->spans[number];
    await_previous();
    int place = m.places[layer_row + number];
    const struct keep_job job = {b,
                                 m,
                                 mamba2_layer_state(span.image, m.state, layer),
                                 head,
                                 head / (m.n_heads / m.n_groups),
                                 span.n,
                                 place,
                                 (place + span.n) % CHUNK,
                                 layer_row + span.row,
                                 (size_t)layer * m.starts + span.chunk -
                                     number};
    keep(job);
}

enum status launch_mamba2_norm(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick)
{
    dim3 grid(ceil_div(tick.rows, WARPS) + tick.spans * m->n_heads, 1,
              tick.count);
    return launch("a norm", q, grid, THREADS, 0, norm_and_keep, *b, *m, tick);
}
