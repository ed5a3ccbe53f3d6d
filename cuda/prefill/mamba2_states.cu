/* mamba2_states.cu -- the states of Mamba-2 at the starts of chunks.
 *
 * A block takes up to 64 channels of a head through the chunks that end in a
 * span, one after the other.  Warps that compute have 16 channels and up to 64
 * states each, in registers: they weigh x^ and round it, which gives v^, and
 * add the product v^ B^ to S.  Two more warps, the walkers, are a chunk ahead:
 * they find what each byte weighs at the end of the chunk, a byte a thread.
 *
 * A walk multiplies by all decays in turn, and compares with the least weight
 * at the end only: a decay is at most 1, so what was below it once stays so.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/float4.cuh"
#include "cuda/prefill/mamba2_chunk.cuh"

enum {
    WALKERS = CHUNK, /* threads                                    */
    CHANNELS = 64,   /* of a block, at most                        */
    PARTS = CHANNELS / SIDE,
    BLOCKS = STATE_TILE / SIDE, /* of states of a warp                        */
    SMALL_THREADS = PARTS * WARP + WALKERS,
    MOST_THREADS = PARTS * (MAMBA2_D_STATE_MAX / STATE_TILE) * WARP + WALKERS,
    WALK_BARRIER = 1, /* of the walkers                             */
    WORK_BARRIER = 2  /* of the others                              */
};

/* Where the arrays of a block lie in its shared memory, in bytes. */
struct states_memory {
    int x_stride, b_stride;
    int b, stage;       /* a stage: x^, then B^; there are two              */
    int weights, decay; /* float [2][CHUNK], [2]                            */
    int alpha;          /* float [CHUNK]                                    */
    int largest;        /* uint32 [state_tiles][CHANNELS]                   */
    int n_bytes;
};

static __host__ __device__ int channels_of_block(const struct mamba2_batch *m)
{
    return m->headdim < CHANNELS ? m->headdim : CHANNELS;
}

static __host__ __device__ struct states_memory
states_memory_of(const struct mamba2_batch *m, int d_state)
{
    struct states_memory at;
    at.x_stride = row_stride(channels_of_block(m));
    at.b_stride = row_stride(d_state);
    at.b = CHUNK * at.x_stride;
    at.stage = at.b + CHUNK * at.b_stride;
    at.weights = 2 * at.stage;
    at.alpha = at.weights + 2 * CHUNK * (int)sizeof(float);
    at.largest = at.alpha + CHUNK * (int)sizeof(float);
    at.decay = at.largest + m->state_tiles * CHANNELS * (int)sizeof(uint32_t);
    at.n_bytes = at.decay + 2 * (int)sizeof(float);
    return at;
}

/* What a block works on. */
struct states_job {
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    struct mamba2_layer_state state;
    struct states_memory at;
    int8_t *shared;
    int head, group, first; /* channel of the head                          */

    __device__ __forceinline__ float *floats(int offset) const
    {
        return (float *)(shared + offset);
    }
};

/* ---- what bytes weigh ---------------------------------------------------- */

/* By the walkers, of which this is number s. */
static __device__ __forceinline__ void
walk(const struct states_job &job, const struct span_chunk &c, int s, int stage)
{
    const struct mamba2_batch &m = job.m;
    float *alphas = job.floats(job.at.alpha), alpha = 1.0f, w;
    float e = c.place == 0 ? 1.0f : job.state.e[job.head];
    if (s < c.place) {
        w = job.state.w[job.head * CHUNK + s];
    } else {
        ptrdiff_t row = c.row + s, at = row * m.n_heads + job.head;
        alpha = m.alpha[at];
        w = exact_weight(m.delta[at], m.x_scale[at],
                         m.bc_scale[row * 2 * m.n_groups + job.group]);
    }
    alphas[s] = alpha;
    barrier_sync(WALK_BARRIER, WALKERS);
#pragma unroll 4
    for (int t = s / WARP * WARP; t < CHUNK; t += 4) {
        float4 a = *(const float4 *)(alphas + t);
        w *= t > s ? a.x : 1.0f;
        w *= t + 1 > s ? a.y : 1.0f;
        w *= t + 2 > s ? a.z : 1.0f;
        w *= t + 3 > s ? a.w : 1.0f;
        e = e * a.x * a.y * a.z * a.w;
    }
    job.floats(job.at.weights)[stage * CHUNK + s] =
        exact_or_zero(w, EXACT_WEIGHT_MIN);
    if (s == 0)
        job.floats(job.at.decay)[stage] = exact_or_zero(e, EXACT_DECAY_MIN);
}

/* ---- states -------------------------------------------------------------- */

/* A warp's share, and what a lane has of it: channels 2 g and 2 g + 1 of 16,
 * states 16 i + 4 t and the next three; g = lane / 4, t = lane % 4. */
struct states_share {
    int channel; /* the first of the 16, of the block's                     */
    int state;   /* the first                                               */
    int tile;    /* of states                                               */
    int lane;
};

/* v^ as the left side of a product, even channels above odd ones; scales of
 * the lane's channels. */
static __device__ __forceinline__ void weigh(uint32_t a[BYTE_STEPS][4],
                                             float scales[2], const int8_t *x,
                                             int stride, const float *weights,
                                             const struct states_share &share)
{
    float v[BYTE_STEPS][4][4];
    float amax[2] = {0.0f, 0.0f};
#pragma unroll
    for (int k = 0; k < BYTE_STEPS; k++) {
        uint32_t r[4];
        load_turned(r, x, stride, k * DEPTH, share.channel);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 w = *(const float2 *)(weights + k * DEPTH + i * 8 +
                                         share.lane % 4 * 2);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                v[k][i][j] = byte_of(r[i], j) * (j < 2 ? w.x : w.y);
                amax[j % 2] = fmaxf(amax[j % 2], fabsf(v[k][i][j]));
            }
        }
    }
#pragma unroll
    for (int odd = 0; odd < 2; odd++) {
        struct exact_scale scale =
            scale_of_products(lanes_max<4>(exact_bits(amax[odd])));
        scales[odd] = scale.scale;
#pragma unroll
        for (int k = 0; k < BYTE_STEPS; k++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const float *low = v[k][2 * i], *high = v[k][2 * i + 1];
                a[k][odd + 2 * i] =
                    quantised4(make_float4(low[odd], low[odd + 2], high[odd],
                                           high[odd + 2]),
                               scale);
            }
        }
    }
}

/* S of the lane; amax: of its channels. */
static __device__ __forceinline__ void
add_sums(float4 s[BLOCKS][2], uint32_t amax[2], const uint32_t a[BYTE_STEPS][4],
         const float scales[2], float decay, const struct states_job &job,
         const int8_t *b, const struct states_share &share)
{
#pragma unroll
    for (int i = 0; i < BLOCKS; i++) {
        if (share.state + i * SIDE >= job.b.d_state)
            continue;
        int32_t even[4], odd[4];
        start_sums(even);
        start_sums(odd);
#pragma unroll
        for (int k = 0; k < BYTE_STEPS; k++) {
            uint32_t r[4], right[2][2];
            load_turned(r, b, job.at.b_stride, k * DEPTH,
                        share.state + i * SIDE);
            split_turned(right[0], right[1], r);
            product_16x8x32(even, a[k], right[0]);
            product_16x8x32(odd, a[k], right[1]);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float4 sum = scaled(values_of(even, odd, half), scales[half]);
            float4 x = fused(splat(decay), s[i][half], sum);
            x.x = fabsf(x.x) >= EXACT_WEIGHT_MIN ? x.x : 0.0f;
            x.y = fabsf(x.y) >= EXACT_WEIGHT_MIN ? x.y : 0.0f;
            x.z = fabsf(x.z) >= EXACT_WEIGHT_MIN ? x.z : 0.0f;
            x.w = fabsf(x.w) >= EXACT_WEIGHT_MIN ? x.w : 0.0f;
            s[i][half] = x;
            amax[half] = max(amax[half], magnitude4(x));
        }
    }
}

/* The largest of all states of the lane's channels. */
static __device__ __forceinline__ void
share_largest(uint32_t amax[2], const struct states_job &job,
              const struct states_share &share, int n_workers)
{
    uint32_t *largest = (uint32_t *)(job.shared + job.at.largest);
    int channel = share.channel + share.lane / 4 * 2;
    amax[0] = lanes_max<4>(amax[0]);
    amax[1] = lanes_max<4>(amax[1]);
    if (job.m.state_tiles == 1)
        return;
    if (share.lane % 4 < 2)
        largest[share.tile * CHANNELS + channel + share.lane % 4] =
            share.lane % 4 == 0 ? amax[0] : amax[1];
    __syncwarp();
    barrier_sync(WORK_BARRIER, n_workers);
    for (int i = 0; i < job.m.state_tiles; i++) {
        amax[0] = max(amax[0], largest[i * CHANNELS + channel]);
        amax[1] = max(amax[1], largest[i * CHANNELS + channel + 1]);
    }
    barrier_sync(WORK_BARRIER, n_workers); /* before they are replaced */
}

/* S^ to number `start` of those kept. */
static __device__ __forceinline__ void
keep_states(const float4 s[BLOCKS][2], const uint32_t amax[2],
            const struct states_job &job, const struct states_share &share,
            size_t start)
{
    const struct mamba2_batch &m = job.m;
    size_t head = start * m.n_heads + job.head;
    int tile = (job.first + share.channel) / SIDE;
    if (tile >= m.tiles)
        return;
    uint4 *to = (uint4 *)(m.s_q + ((head * m.tiles + tile) * m.state_tiles +
                                   share.tile) *
                                      S_TILE);
    float scales[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        struct exact_scale scale = scale_of_products(amax[half]);
        scales[half] = scale.scale;
        to[half * WARP + share.lane] = make_uint4(
            quantised4(s[0][half], scale), quantised4(s[1][half], scale),
            quantised4(s[2][half], scale), quantised4(s[3][half], scale));
    }
    if (share.tile == 0 && share.lane % 4 == 0)
        *(float2 *)(m.s_scale + (head * m.tiles + tile) * SIDE +
                    share.lane / 4 * 2) = make_float2(scales[0], scales[1]);
}

/* Moves the lane's S between registers and the state, where there is no zero
 * padding. */
template <bool is_store>
static __device__ __forceinline__ void
move_states(float4 s[BLOCKS][2], const struct states_job &job,
            const struct states_share &share)
{
    int n = job.b.d_state;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int channel = job.first + share.channel + share.lane / 4 * 2 + half;
        float *row = job.state.s +
                     ((size_t)job.head * job.m.headdim + channel) * n +
                     share.state + share.lane % 4 * 4;
        bool is_aligned = (uintptr_t)row % sizeof(float4) == 0;
#pragma unroll
        for (int i = 0; i < BLOCKS; i++) {
            float *at = row + i * SIDE;
            float4 &x = s[i][half];
            if (!is_store)
                x = zero4();
            if (channel >= job.m.headdim || share.state + i * SIDE >= n)
                continue;
            if (is_store && is_aligned)
                *(float4 *)at = x;
            else if (is_store)
                at[0] = x.x, at[1] = x.y, at[2] = x.z, at[3] = x.w;
            else
                x = is_aligned ? *(const float4 *)at
                               : make_float4(at[0], at[1], at[2], at[3]);
        }
    }
}

/* ---- a span -------------------------------------------------------------- */

/* The same as fetch() of a whole chunk, and of 64 channels and states. */
static __device__ __forceinline__ void
fetch_whole_chunk(const struct states_job &job, const struct span_chunk &c,
                  int stage)
{
    constexpr int stride = CHANNELS + 16; /* as row_stride() */
    const struct mamba2_batch &m = job.m;
    int8_t *to = job.shared + stage * job.at.stage;
    ptrdiff_t d_inner = job.b.d_inner, n_bc = 2 * m.n_groups * STATE_TILE;
    fetch_whole<CHANNELS, SMALL_THREADS>(
        to, stride, m.x + c.row * d_inner + job.head * CHANNELS, d_inner);
    fetch_whole<STATE_TILE, SMALL_THREADS>(
        to + job.at.b, stride, m.bc + c.row * n_bc + job.group * STATE_TILE,
        n_bc);
    copy_commit();
}

/* Starts to copy x^ and B^ of a chunk. */
static __device__ __forceinline__ void
fetch(const struct states_job &job, const struct span_chunk &c, int stage)
{
    if (job.m.headdim == CHANNELS && job.b.d_state == STATE_TILE &&
        c.place == 0 && c.end == CHUNK)
        return fetch_whole_chunk(job, c, stage);
    int8_t *to = job.shared + stage * job.at.stage;
    int n = min(job.m.headdim - job.first, (int)CHANNELS);
    fetch_rows(to, job.at.x_stride,
               x_rows(job.b, job.m, job.state, c,
                      job.head * job.m.headdim + job.first, n),
               c, true);
    fetch_rows(to + job.at.b, job.at.b_stride,
               b_rows(job.b, job.m, job.state, c, job.group), c, true);
    copy_commit();
}

/* The walkers are the last warps. */
template <int threads, int blocks>
static __global__ void __launch_bounds__(threads, blocks)
    add_chunks(struct prefill_batch b, struct mamba2_batch m, struct tick tick)
{
    extern __shared__ __align__(128) int8_t shared[];
    int layer = tick.first + blockIdx.z;
    const int slot = slot_of(b, tick, layer), number = blockIdx.y;
    const struct microbatch *mb = &b.slots[slot];
    if (number >= mb->n_spans)
        return;
    const struct span span = mb->spans[number];
    int parts = ceil_div(m.headdim, CHANNELS), head = blockIdx.x / parts;
    struct states_job job = {b,
                             m,
                             mamba2_layer_state(span.image, m.state, layer),
                             states_memory_of(&m, b.d_state),
                             shared,
                             head,
                             head / (m.n_heads / m.n_groups),
                             (int)blockIdx.x % parts * CHANNELS};
    size_t layer_row = (size_t)layer * b.rows;
    await_previous();

    int place = *job.state.place, n_ends = (place + span.n) / CHUNK;
    if (blockIdx.x == 0 && threadIdx.x == 0)
        m.places[layer_row + number] = place;
    if (n_ends == 0)
        return;
    int n_workers = blockDim.x - WALKERS, walker = threadIdx.x - n_workers;
    int warp = threadIdx.x / WARP;
    int across = n_workers / WARP / m.state_tiles; /* warps of a tile */
    struct states_share share = {warp % across * SIDE,
                                 warp / across * STATE_TILE, warp / across,
                                 (int)threadIdx.x % WARP};
    float4 s[BLOCKS][2];
    for (int i = threadIdx.x; i < 2 * job.at.stage / 4; i += blockDim.x)
        ((uint32_t *)shared)[i] = 0; /* what rows are padded with */
    __syncthreads();
    struct span_chunk c = chunk_of_span(span, place, 0, layer_row);
    fetch(job, c, 0);
    if (walker >= 0)
        walk(job, c, walker, 0);
    else
        move_states<false>(s, job, share);
    size_t start = (size_t)layer * m.starts + span.chunk - number;
    for (int i = 0; i < n_ends; i++) {
        const int8_t *x = shared + i % 2 * job.at.stage;
        copy_wait<0>();
        __syncthreads(); /* the chunk is there, and the last one is done with */
        c = chunk_of_span(span, place, i + 1, layer_row);
        if (i + 1 < n_ends) {
            fetch(job, c, (i + 1) % 2);
            if (walker >= 0)
                walk(job, c, walker, (i + 1) % 2);
        }
        if (walker >= 0)
            continue;
        uint32_t a[BYTE_STEPS][4], amax[2] = {0, 0};
        float scales[2];
        weigh(a, scales, x, job.at.x_stride,
              job.floats(job.at.weights) + i % 2 * CHUNK, share);
        add_sums(s, amax, a, scales, job.floats(job.at.decay)[i % 2], job,
                 x + job.at.b, share);
        if (i < starts_of(span.n)) {
            share_largest(amax, job, share, n_workers);
            keep_states(s, amax, job, share, start + i);
        }
    }
    if (walker < 0)
        move_states<true>(s, job, share);
}

/* ---- launches ------------------------------------------------------------ */

static int threads_of(const struct mamba2_batch *m)
{
    return ceil_div(channels_of_block(m), SIDE) * m->state_tiles * WARP +
           WALKERS;
}

enum status launch_mamba2_states(struct queue q, const struct prefill_batch *b,
                                 const struct mamba2_batch *m, struct tick tick)
{
    dim3 grid(m->n_heads * ceil_div(m->headdim, CHANNELS), tick.spans,
              tick.count);
    int threads = threads_of(m);
    return launch("the states", q, grid, threads,
                  states_memory_of(m, b->d_state).n_bytes,
                  threads <= SMALL_THREADS ? add_chunks<SMALL_THREADS, 3>
                                           : add_chunks<MOST_THREADS, 1>,
                  *b, *m, tick);
}

template <int threads, int blocks> static enum status allow_shared(int n_bytes)
{
    return cuda_status(
        cudaFuncSetAttribute(add_chunks<threads, blocks>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             n_bytes),
        "the states");
}

enum status mamba2_states_check(const struct prefill_batch *b,
                                const struct mamba2_batch *m)
{
    return mamba2_check_shared(b, m, states_memory_of(m, b->d_state).n_bytes);
}

enum status mamba2_states_prepare(const struct prefill_batch *b,
                                  const struct mamba2_batch *m)
{
    int n_bytes = states_memory_of(m, b->d_state).n_bytes;
    TRY(mamba2_states_check(b, m));
    TRY((allow_shared<SMALL_THREADS, 3>(n_bytes)));
    return allow_shared<MOST_THREADS, 1>(n_bytes);
}
