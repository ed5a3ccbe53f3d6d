/* mamba2_heads.cu -- the recurrence of Mamba-2 over spans, a block a head of a
 * span.
 *
 * A block goes through its span chunk by chunk.  The bytes of a chunk that are
 * in the span are computed together: what they weigh is a walk along the
 * bytes, a thread a byte that weighs; all sums are int8 products on tensor
 * cores,
 *
 *     g = C^ B^'    y = m^ x^ and C^ S^'    and what is added to S = v^' B^
 *
 * A warp has 16 bytes of the chunk, or 16 channels of the states.  Both sides
 * of a product lie in shared memory in rows along the sum; so B^ has a
 * transposed copy, and x^ is transposed.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/exact_vector.cuh"
#include "cuda/common/tensor.cuh"
#include "cuda/prefill/mamba2_batch.cuh"

enum {
    WARPS = CHUNK / 16,
    THREADS = WARPS * WARP,
    DEPTH = 32,                 /* of a product                       */
    GAP = 16,                   /* bytes between rows: other banks    */
    CHUNK_STRIDE = CHUNK + GAP, /* of rows along the bytes            */
    WEIGHT_STRIDE = CHUNK + 8   /* floats                             */
};

/* ---- shared memory ------------------------------------------------------- */

/* Offsets of the arrays of a block, for one shape. */
struct head_memory {
    int state_stride;     /* of rows along the states                     */
    int b, c;             /* [CHUNK][state_stride]                        */
    int b_turned;         /* [d_state][CHUNK_STRIDE]                      */
    int x;                /* [headdim][CHUNK_STRIDE]                      */
    int mixed;            /* [CHUNK or headdim][CHUNK_STRIDE]: m^, v^     */
    int s;                /* [headdim][state_stride]: S^                  */
    int weights;          /* [CHUNK][WEIGHT_STRIDE]: w_s at byte t        */
    int s_scale, v_scale; /* [headdim]                                    */
    int n_bytes;
};

static __host__ __device__ struct head_memory memory_of(int headdim,
                                                        int d_state)
{
    struct head_memory at = {};
    int rows = round_up(headdim, 16), n_bytes = 0;
    at.state_stride = round_up(d_state, DEPTH) + GAP;
    at.b = n_bytes;
    n_bytes += CHUNK * at.state_stride;
    at.c = n_bytes;
    n_bytes += CHUNK * at.state_stride;
    at.b_turned = n_bytes;
    n_bytes += d_state * CHUNK_STRIDE;
    at.x = n_bytes;
    n_bytes += rows * CHUNK_STRIDE;
    at.mixed = n_bytes;
    n_bytes += (rows > CHUNK ? rows : CHUNK) * CHUNK_STRIDE;
    at.s = n_bytes;
    n_bytes += rows * at.state_stride;
    at.weights = n_bytes;
    n_bytes += CHUNK * WEIGHT_STRIDE * (int)sizeof(float);
    at.s_scale = n_bytes;
    n_bytes += rows * (int)sizeof(float);
    at.v_scale = n_bytes;
    n_bytes += rows * (int)sizeof(float);
    at.n_bytes = n_bytes;
    return at;
}

/* Numbers of the bytes of a chunk. */
struct chunk_scalars {
    float alpha[CHUNK], delta[CHUNK], x_scale[CHUNK], b_scale[CHUNK];
    float c_scale[CHUNK], e[CHUNK];
};

/* What a block works on: bytes [place, end) of a chunk. */
struct head_job {
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    const struct cuda_layer &layer;
    struct mamba2_layer_state state;
    struct head_memory at;
    int8_t *shared;
    struct chunk_scalars *scalars;
    int h, group;
    size_t row; /* of place 0: that of place + i is row + place + i.  May be
                 * before the first row there is. */
    int place, end;

    __device__ __forceinline__ int8_t *bytes(int offset) const
    {
        return shared + offset;
    }
    __device__ __forceinline__ float *floats(int offset) const
    {
        return (float *)(shared + offset);
    }
    __device__ __forceinline__ float *weights(int t) const
    {
        return floats(at.weights) + t * WEIGHT_STRIDE;
    }
};

/* ---- loading ------------------------------------------------------------- */

/* Byte s of the chunk: x^ of the head, B^ of the group. */
static __device__ __forceinline__ const int8_t *x_at(const struct head_job &job,
                                                     int s)
{
    size_t d_inner = job.b.d_inner;
    const int8_t *x = s < job.place ? job.state.x + s * d_inner
                                    : job.m.x + (job.row + s) * d_inner;
    return x + job.h * job.m.headdim;
}

static __device__ __forceinline__ const int8_t *b_at(const struct head_job &job,
                                                     int s)
{
    size_t n = (size_t)job.m.n_groups * job.b.d_state;
    const int8_t *b =
        s < job.place ? job.state.b + s * n : job.m.bc + (job.row + s) * 2 * n;
    return b + job.group * job.b.d_state;
}

/* Stores four bytes in four rows. */
static __device__ __forceinline__ void store_turned(int8_t *to, int stride,
                                                    uint32_t four)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        to[i * stride] = (int8_t)(uint8_t)(four >> 8 * i);
}

/* x^ and B^ of bytes [0, end), C^ of those in the span.  Neighbouring threads
 * have neighbouring bytes of the stream. */
static __device__ void load_chunk(const struct head_job &job)
{
    int n4 = job.b.d_state / 4, stride = job.at.state_stride;
    bool is_whole = job.end == CHUNK;
    size_t n = (size_t)job.m.n_groups * job.b.d_state;
    for (int i = threadIdx.x; i < CHUNK * job.m.headdim / 4; i += THREADS) {
        int s = i % CHUNK, p = i / CHUNK * 4;
        if (s < job.end)
            store_turned(job.bytes(job.at.x) + p * CHUNK_STRIDE + s,
                         CHUNK_STRIDE, *(const uint32_t *)(x_at(job, s) + p));
    }
    for (int i = threadIdx.x; i < job.end * n4; i += THREADS) {
        int s = i / n4, k = i % n4 * 4;
        *(uint32_t *)(job.bytes(job.at.b) + s * stride + k) =
            *(const uint32_t *)(b_at(job, s) + k);
    }
    for (int i = threadIdx.x; is_whole && i < CHUNK * n4; i += THREADS) {
        int s = i % CHUNK, k = i / CHUNK * 4;
        store_turned(job.bytes(job.at.b_turned) + k * CHUNK_STRIDE + s,
                     CHUNK_STRIDE, *(const uint32_t *)(b_at(job, s) + k));
    }
    for (int i = threadIdx.x; i < (job.end - job.place) * n4; i += THREADS) {
        int t = job.place + i / n4, k = i % n4 * 4;
        const int8_t *c =
            job.m.bc + (job.row + t) * 2 * n + n + job.group * job.b.d_state;
        *(uint32_t *)(job.bytes(job.at.c) + t * stride + k) =
            *(const uint32_t *)(c + k);
    }
}

static __device__ void load_scalars(const struct head_job &job)
{
    struct chunk_scalars *to = job.scalars;
    int t = job.place + threadIdx.x, n = 2 * job.m.n_groups;
    if (t >= job.end)
        return;
    size_t row = job.row + t, at = row * job.m.n_heads + job.h;
    to->alpha[t] = job.m.alpha[at];
    to->delta[t] = job.m.delta[at];
    to->x_scale[t] = job.m.x_scale[at];
    to->b_scale[t] = job.m.bc_scale[row * n + job.group];
    to->c_scale[t] = job.m.bc_scale[row * n + job.m.n_groups + job.group];
}

/* S^ and its scales, and zeros where rows along the states are longer. */
static __device__ void load_states(const struct head_job &job)
{
    int d_state = job.b.d_state, stride = job.at.state_stride;
    size_t first = (size_t)job.h * job.m.headdim;
    int n4 = d_state / 4, n_words = job.at.weights / 4;
    for (int i = threadIdx.x; i < n_words; i += THREADS)
        ((uint32_t *)job.shared)[i] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < job.m.headdim * n4; i += THREADS) {
        int p = i / n4, k = i % n4 * 4;
        *(uint32_t *)(job.bytes(job.at.s) + p * stride + k) =
            *(const uint32_t *)(job.state.s_q + (first + p) * d_state + k);
    }
    for (int p = threadIdx.x; p < job.m.headdim; p += THREADS)
        job.floats(job.at.s_scale)[p] = job.state.s_scale[first + p];
}

/* ---- weights and decays -------------------------------------------------- */

/* Thread s: what byte s weighs at each byte of the span; w: before it.  The
 * rows hold anything for s > t. */
static __device__ __forceinline__ float walk_weights(const struct head_job &job,
                                                     float w)
{
    const struct chunk_scalars *c = job.scalars;
    int s = threadIdx.x;
    for (int t = job.place; t < job.end; t++) {
        if (s < t)
            w = exact_or_zero(w * c->alpha[t], EXACT_WEIGHT_MIN);
        else if (s == t)
            w = exact_weight(c->delta[t], c->x_scale[t], c->b_scale[t]);
        job.weights(t)[s] = w;
    }
    return w;
}

static __device__ __forceinline__ float walk_decay(const struct head_job &job,
                                                   float e)
{
    for (int t = job.place; t < job.end; t++) {
        float alpha = job.scalars->alpha[t];
        e = t == 0 ? alpha : exact_or_zero(e * alpha, EXACT_DECAY_MIN);
        job.scalars->e[t] = e;
    }
    return e;
}

/* ---- products ------------------------------------------------------------ */

/* The left side of a product: 16 rows from `rows` on, at depth k. */
static __device__ __forceinline__ void
load_left(uint32_t a[4], const int8_t *rows, int stride, int k)
{
    int lane = threadIdx.x % WARP;
    load_matrices(a, rows + lane % 16 * stride + k + lane / 16 * 16);
}

/* The right side: 16 columns of the result, of which each is a row here. */
static __device__ __forceinline__ void
load_right(uint32_t b[4], const int8_t *rows, int stride, int k)
{
    int lane = threadIdx.x % WARP;
    load_matrices(b, rows + (lane % 8 + lane / 16 * 8) * stride + k +
                         lane / 8 % 2 * 16);
}

/* sum += left right', 16 x 16, over `depth`. */
static __device__ __forceinline__ void
add_product(int32_t sum[2][4], const int8_t *left, int left_stride,
            const int8_t *right, int right_stride, int depth)
{
    __syncwarp(); /* matrices are loaded, and multiplied, by a whole warp */
    for (int k = 0; k < depth; k += DEPTH) {
        uint32_t a[4], b[4];
        load_left(a, left, left_stride, k);
        load_right(b, right, right_stride, k);
        product_16x8x32(sum[0], a, b);
        product_16x8x32(sum[1], a, b + 2);
    }
}

static __device__ __forceinline__ uint32_t
quantised2(float x, float y, const struct exact_scale &scale)
{
    if (scale.scale == 0.0f)
        return 0;
    return (uint32_t)(uint8_t)exact_quantise(x, scale.inverse) |
           (uint32_t)(uint8_t)exact_quantise(y, scale.inverse) << 8;
}

/* m^ of 16 bytes, t0 on; a lane has rows lane / 4 and that + 8, and gets their
 * scales. */
static __device__ __forceinline__ void mix(const struct head_job &job, int t0,
                                           float scales[2])
{
    const int8_t *c = job.bytes(job.at.c) + t0 * job.at.state_stride;
    int depth = job.at.state_stride - GAP;
    int lane = threadIdx.x % WARP, column = lane % 4 * 2;
    int t[2] = {t0 + lane / 4, t0 + lane / 4 + 8};
    float m[CHUNK / 8][4];
    uint32_t amax[2] = {0, 0};
#pragma unroll
    for (int j = 0; j < CHUNK / 16; j++) {
        int32_t g[2][4] = {};
        if (j * 16 <= t0)
            add_product(g, c, job.at.state_stride,
                        job.bytes(job.at.b) + j * 16 * job.at.state_stride,
                        job.at.state_stride, depth);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int s = j * 16 + i / 4 * 8 + column + i % 2, half = i / 2 % 2;
            int32_t sum = g[i / 4][i % 4];
            float x =
                s <= t[half] ? (float)sum * job.weights(t[half])[s] : 0.0f;
            m[2 * j + i / 4][i % 4] = x;
            amax[half] = max(amax[half], magnitude_bits(x));
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        struct exact_scale scale =
            exact_scale_of_products(lanes_max<4>(amax[half]));
        scales[half] = scale.scale;
        int8_t *to = job.bytes(job.at.mixed) + t[half] * CHUNK_STRIDE + column;
#pragma unroll
        for (int j = 0; j < CHUNK / 8; j++)
            *(uint16_t *)(to + j * 8) =
                (uint16_t)quantised2(m[j][2 * half], m[j][2 * half + 1], scale);
    }
}

/* v of two bytes and two channels each, from channel p on; mixed and read: the
 * sums of m^ x^ and of S^ C^. */
static __device__ __forceinline__ void
read_out(const struct head_job &job, const int t[2], int p,
         const int32_t mixed[4], const int32_t read[4], const float m_scale[2])
{
    const struct chunk_scalars *c = job.scalars;
    int channel = job.h * job.m.headdim + p;
    const int8_t *x = job.bytes(job.at.x) + p * CHUNK_STRIDE;
    const float *s_scale = job.floats(job.at.s_scale) + p;
    float y[4], z[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int at = t[i / 2], k = i % 2;
        if (at < job.place || at >= job.end)
            continue;
        z[i] = job.b.uz[(job.row + at) * job.m.zx_stride + channel + k];
        y[i] = (float)mixed[i] * (m_scale[i / 2] * c->c_scale[at]);
        y[i] = fmaf((float)read[i], s_scale[k] * (c->c_scale[at] * c->e[at]),
                    y[i]);
        y[i] = fmaf(job.layer.d[channel + k],
                    (float)x[k * CHUNK_STRIDE + at] * c->x_scale[at], y[i]);
    }
    silu_all<4>(z);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int at = t[half];
        if (at < job.place || at >= job.end)
            continue;
        *(float2 *)(job.b.u + (job.row + at) * job.b.d_inner + channel) =
            make_float2(y[2 * half] * z[2 * half],
                        y[2 * half + 1] * z[2 * half + 1]);
    }
}

/* v of 16 bytes, by a warp. */
static __device__ __forceinline__ void run_bytes(const struct head_job &job,
                                                 int t0)
{
    int stride = job.at.state_stride, lane = threadIdx.x % WARP;
    int t[2] = {t0 + lane / 4, t0 + lane / 4 + 8};
    float m_scale[2];
    mix(job, t0, m_scale);
    __syncwarp();
    for (int p = 0; p < job.m.headdim; p += 16) {
        int32_t mixed[2][4] = {}, read[2][4] = {};
        add_product(mixed, job.bytes(job.at.mixed) + t0 * CHUNK_STRIDE,
                    CHUNK_STRIDE, job.bytes(job.at.x) + p * CHUNK_STRIDE,
                    CHUNK_STRIDE, CHUNK);
        add_product(read, job.bytes(job.at.c) + t0 * stride, stride,
                    job.bytes(job.at.s) + p * stride, stride, stride - GAP);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (p + i * 8 < job.m.headdim)
                read_out(job, t, p + i * 8 + lane % 4 * 2, mixed[i], read[i],
                         m_scale);
        }
    }
}

/* ---- the end of a chunk -------------------------------------------------- */

/* v^, a warp a channel. */
static __device__ void quantise_chunk(const struct head_job &job)
{
    const float *w = job.weights(CHUNK - 1);
    int lane = threadIdx.x % WARP;
    for (int p = threadIdx.x / WARP; p < job.m.headdim; p += WARPS) {
        const int8_t *x = job.bytes(job.at.x) + p * CHUNK_STRIDE;
        int8_t *to = job.bytes(job.at.mixed) + p * CHUNK_STRIDE;
        float low = (float)x[lane] * w[lane];
        float high = (float)x[lane + WARP] * w[lane + WARP];
        struct exact_scale scale = exact_scale_of_products(
            warp_max(max(magnitude_bits(low), magnitude_bits(high))));
        uint32_t two = quantised2(low, high, scale);
        to[lane] = (int8_t)(uint8_t)two;
        to[lane + WARP] = (int8_t)(uint8_t)(two >> 8);
        if (lane == 0)
            job.floats(job.at.v_scale)[p] = scale.scale;
    }
}

/* S of 16 channels and up to 64 states, n0 on; a lane has channels p[0] and
 * p[1], and the largest magnitude of each. */
static __device__ __forceinline__ void add_chunk(const struct head_job &job,
                                                 int p0, int n0, const int p[2],
                                                 uint32_t amax[2])
{
    enum { SOME = 64 };
    int d_state = job.b.d_state, lane = threadIdx.x % WARP;
    float *s[2], old[SOME / 8][4];
    const float *v_scale = job.floats(job.at.v_scale);
    float e = job.scalars->e[CHUNK - 1];
#pragma unroll
    for (int i = 0; i < 2; i++)
        s[i] = job.state.s + (size_t)(job.h * job.m.headdim + p[i]) * d_state +
               n0 + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < SOME / 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (n0 + j * 8 < d_state && p[i / 2] < job.m.headdim)
                old[j][i] = s[i / 2][j * 8 + i % 2];
        }
    }
#pragma unroll
    for (int j = 0; j < SOME / 16; j++) {
        if (n0 + j * 16 >= d_state)
            break;
        int32_t sum[2][4] = {};
        add_product(sum, job.bytes(job.at.mixed) + p0 * CHUNK_STRIDE,
                    CHUNK_STRIDE,
                    job.bytes(job.at.b_turned) + (n0 + j * 16) * CHUNK_STRIDE,
                    CHUNK_STRIDE, CHUNK);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int half = i / 2 % 2;
            if (p[half] >= job.m.headdim)
                continue;
            float x = exact_state(e, old[2 * j + i / 4][i % 4],
                                  sum[i / 4][i % 4], v_scale[p[half]]);
            s[half][j * 16 + i / 4 * 8 + i % 2] = x;
            amax[half] = max(amax[half], magnitude_bits(x));
        }
    }
}

/* S^ of a channel; a lane reads what it wrote in add_chunk. */
static __device__ __forceinline__ void
quantise_states(const struct head_job &job, int p, uint32_t amax)
{
    int d_state = job.b.d_state, lane = threadIdx.x % WARP;
    size_t channel = (size_t)job.h * job.m.headdim + p;
    const float *s = job.state.s + channel * d_state;
    struct exact_scale scale = exact_scale_of_products(amax);
    for (int n = lane % 4 * 2; n < d_state; n += 8) {
        uint16_t two = (uint16_t)quantised2(s[n], s[n + 1], scale);
        *(uint16_t *)(job.bytes(job.at.s) + p * job.at.state_stride + n) = two;
        *(uint16_t *)(job.state.s_q + channel * d_state + n) = two;
    }
    if (lane % 4 == 0) {
        job.floats(job.at.s_scale)[p] = scale.scale;
        job.state.s_scale[channel] = scale.scale;
    }
}

static __device__ void end_chunk(const struct head_job &job)
{
    int lane = threadIdx.x % WARP;
    quantise_chunk(job);
    __syncthreads();
    for (int p0 = threadIdx.x / WARP * 16; p0 < job.m.headdim;
         p0 += WARPS * 16) {
        int p[2] = {p0 + lane / 4, p0 + lane / 4 + 8};
        uint32_t amax[2] = {0, 0};
        for (int n0 = 0; n0 < job.b.d_state; n0 += 64)
            add_chunk(job, p0, n0, p, amax);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t most = lanes_max<4>(amax[i]);
            if (p[i] < job.m.headdim)
                quantise_states(job, p[i], most);
        }
    }
}

/* ---- a span -------------------------------------------------------------- */

static __global__ void __launch_bounds__(THREADS)
    run_heads(struct prefill_batch b, struct mamba2_batch m, struct tick tick)
{
    extern __shared__ __align__(128) int8_t shared[];
    __shared__ struct chunk_scalars scalars;
    int layer = tick.first + blockIdx.z, h = blockIdx.x;
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    if ((int)blockIdx.y >= mb->n_spans)
        return;
    const struct span span = mb->spans[blockIdx.y];
    struct head_job job = {b,
                           m,
                           b.layers[layer],
                           mamba2_layer_state(span.image, m.state, layer),
                           memory_of(m.headdim, b.d_state),
                           shared,
                           &scalars,
                           h,
                           h / (m.n_heads / m.n_groups),
                           0,
                           0,
                           0};
    await_previous();

    job.place = *job.state.place;
    load_states(job);
    float *w_kept = job.state.w + (size_t)h * CHUNK + threadIdx.x;
    bool has_weight = threadIdx.x < CHUNK, has_decay = threadIdx.x == CHUNK;
    float w = has_weight && (int)threadIdx.x < job.place ? *w_kept : 0.0f;
    float e = has_decay ? job.state.e[h] : 0.0f;
    for (int done = 0; done < span.n;) {
        job.row = (size_t)layer * b.rows + span.row + done - job.place;
        job.end = min(job.place + span.n - done, (int)CHUNK);
        load_chunk(job);
        load_scalars(job);
        __syncthreads();
        if (has_weight)
            w = walk_weights(job, w);
        else if (has_decay)
            e = walk_decay(job, e);
        __syncthreads();
        int t0 = threadIdx.x / WARP * 16;
        if (t0 < job.end && t0 + 16 > job.place)
            run_bytes(job, t0);
        __syncthreads(); /* m^ becomes v^; x^, B^, C^ and S^ are read */
        if (job.end == CHUNK)
            end_chunk(job);
        __syncthreads();
        done += job.end - job.place;
        job.place = job.end % CHUNK;
    }
    if (has_weight && (int)threadIdx.x < job.place)
        *w_kept = w;
    if (has_decay)
        job.state.e[h] = e;
}

enum status launch_mamba2_heads(struct queue q, const struct prefill_batch *b,
                                const struct mamba2_batch *m, struct tick tick)
{
    return launch("the recurrence", q, dim3(m->n_heads, tick.spans, tick.count),
                  THREADS, memory_of(m->headdim, b->d_state).n_bytes, run_heads,
                  *b, *m, tick);
}

enum status mamba2_heads_prepare(const struct prefill_batch *b,
                                 const struct mamba2_batch *m)
{
    int n_bytes = memory_of(m->headdim, b->d_state).n_bytes;
    int most = b->max_shared - (int)sizeof(struct chunk_scalars);
    if (n_bytes > most)
        return fail(E_DEVICE,
                    "the GPU has not the shared memory for heads of %d "
                    "channels with %d states",
                    m->headdim, b->d_state);
    return cuda_status(
        cudaFuncSetAttribute(
            run_heads, cudaFuncAttributeMaxDynamicSharedMemorySize, n_bytes),
        "the recurrence");
}
