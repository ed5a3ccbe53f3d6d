/* chain_streams.cu -- a byte of streams through the mixer of a layer of
 * Mamba-2: blocks that stay, and take a stream after the other.
 *
 * A warp has a head of a stream, then one of the next.  As soon as it has read
 * something of its head, it starts to copy that of its next one to the same
 * place in shared memory.  So memory is at work all the time, no warp waits for
 * what another one copies, and each copy has almost all of a stream's time.
 * Where a stream has more heads than a block has room for, it is taken in
 * parts.
 *
 * What the heads of a stream share comes from four more warps, the helpers:
 * B^, C^, the scores and the decays of a stream while the heads work on the
 * one before it, and its norm while they work on the one after it.  Of what one
 * role writes and the other reads there are two, of streams in turn, and
 * mbarriers say when it is there (struct stream_signals).  So warps with heads
 * do not wait for each other: a slow one may be a stream behind.
 *
 *     in shared memory          written by            read by
 *     v, squares, maxima        heads                 helpers, a stream later
 *     C^, scores, decays        helpers               heads, a stream later
 *     B^                        helpers               helpers
 *     S^, x^, m^ of a warp      the warp's copies     the warp
 *     numbers ahead             the lane's copies     the lane
 *
 * A lane's copies are groups in this order, one of each for a head, be it
 * empty, so that of two groups the older one has come when one may be missing:
 *
 *     numbers ahead             after the convolution, which used the last ones
 *     x^                        after the sums over bytes
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/chain_norm.cuh"
#include "cuda/batch/chain_streams.cuh"

enum { HELPERS = 4, THREADS_MAX = (WARPS_MAX + HELPERS) * WARP };

/* ---- a head -------------------------------------------------------------- */

/* A stream's heads from `first` on. */
struct stream_part {
    struct chain_stream stream;
    int first;
    int number; /* of the stream, of those of the block */
};

struct streams_job {
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    const struct chain_rows &rows;
    const struct cuda_layer &layer;
    const struct streams_shape &shape;
    int n; /* streams */
    char *shared;

    __device__ __forceinline__ struct streams_memory memory(int number) const
    {
        return memory_of_stream(shape.memory, number);
    }

    __device__ __forceinline__ struct stream_signals signals(void) const
    {
        return {(uint64_t *)(shared + shape.memory.is_shared),
                (uint64_t *)(shared + shape.memory.is_v)};
    }

    /* The block for a warp with heads, or for a helper. */
    template <int n_states>
    __device__ __forceinline__ struct byte_block
    block(const struct stream_part &part, bool is_helper) const
    {
        const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        const int row = shape.row + part.stream.row;
        return {b,
                m,
                layer,
                layer_state_of(part.stream.image, shape.offsets),
                memory(part.number).at,
                shared,
                (size_t)row,
                b.uz + (ptrdiff_t)row * m.zx_stride,
                part.stream.place,
                is_helper ? warp - rows.part_heads : warp,
                is_helper ? (int)HELPERS : rows.part_heads,
                lane,
                lane / 4,
                lane % 4,
                shape.heads_each};
    }

    /* Past the last head, and without a byte, after the last part. */
    __device__ __forceinline__ struct stream_part
    after(const struct stream_part &part) const
    {
        if (part.first + rows.part_heads < m.n_heads)
            return {part.stream, part.first + rows.part_heads, part.number};
        const int row = part.stream.row + gridDim.x;
        if (row >= n)
            return {{row, part.stream.image, 0}, m.n_heads, part.number + 1};
        return {stream_of(b, rows, row), 0, part.number + 1};
    }

    /* The first part of the next stream. */
    __device__ __forceinline__ struct stream_part
    stream_after(struct stream_part part) const
    {
        part.first = m.n_heads;
        return after(part);
    }
};

/* What a warp knows of its head; zx and the state's numbers are of the next one
 * after read_out(), where they do not come ahead. */
struct head_work {
    struct head_input in;
    struct head_zx zx;
    uint32_t phase; /* of the mbarrier: its parity */
};

/* A warp of a block that takes streams in turn (is_ahead: numbers come through
 * shared memory, a stream ahead), or one stream alone. */
template <int n_states, bool is_ahead> struct head_warp {
    const struct streams_job &job;
    float *ahead;  /* shared [AHEAD_ROWS][HEADDIM] */
    bool is_whole; /* the block has all heads: the warp's is always the same */
    struct head_work work;

    __device__ __forceinline__ struct byte_block
    block(const struct stream_part &part) const
    {
        return job.block<n_states>(part, false);
    }

    /* The first head, before in_proj has ended, and after it. */
    __device__ __forceinline__ void start(const struct byte_block &k, int h)
    {
        const bool is_now = h < k.m.n_heads;
        make_mbarrier(k);
        work.phase = 0;
        if (is_now) {
            fetch_states<n_states>(k, h);
            fetch_bytes(k, h);
        }
        copy_commit();
        if (is_now && is_ahead) {
            fetch_head_state(ahead, k, h);
            fetch_taps(ahead, k, h);
        } else if (is_now) {
            load_head_state(work.in, k, h);
        }
    }
    __device__ __forceinline__ void go_on(const struct byte_block &k, int h)
    {
        if (h < k.m.n_heads && is_ahead)
            fetch_zx(ahead, k, h);
        else if (h < k.m.n_heads)
            work.zx = load_zx(k, h);
        if (is_ahead) {
            copy_commit();
            copy_commit(); /* x^ came before: one more, empty */
        }
    }

    /* What does not depend on other warps, of head h. */
    __device__ __forceinline__ void convolve(struct head_byte &byte,
                                             const struct byte_block &k, int h)
    {
        if (is_ahead)
            copy_wait<1>();
        if (h >= k.m.n_heads)
            return;
        if (is_ahead) {
            take_ahead(work.in, work.zx, ahead, k);
        } else {
            const int c = h * HEADDIM + 2 * k.lane;
            load_taps(work.in.conv, k.layer.conv + c, k.m.conv_channels,
                      k.layer.conv_bias + c);
        }
        byte = convolve_head(k, work.in, work.zx, h);
        keep_own_byte(k, byte, h);
    }

    /* Numbers of the next head, where they come ahead. */
    __device__ __forceinline__ void ask_ahead(const struct stream_part &next,
                                              int h)
    {
        if (!is_ahead)
            return;
        if (h < job.m.n_heads) {
            const struct byte_block k = block(next);
            fetch_head_state(ahead, k, h);
            fetch_zx(ahead, k, h);
            if (!is_whole)
                fetch_taps(ahead, k, h);
        }
        copy_commit();
    }

    /* v of head h of k, or of none where it is past the last; then the copies
     * of head h_next of `next` are under way, if there is one. */
    __device__ __forceinline__ void
    take(const struct byte_block &k, const int2 *all_scores, const float2 *d,
         const float2 *norm, const struct head_byte &byte, int h,
         const struct byte_block &next, int h_next)
    {
        const bool is_now = h < k.m.n_heads, is_next = h_next < k.m.n_heads;
        const int group = is_now ? k.group_of(h) : 0;
        struct head_output out;
        int2 read, mixed;
        float m_scale;
        if (is_now) {
            struct head_rows rows;
            await_states(k, work.phase);
            work.phase ^= 1;
            read = read_own_states<n_states>(k, rows, group);
            __syncwarp(); /* S^ is read */
        }
        if (is_next)
            fetch_states<n_states>(next, h_next);
        if (is_now) {
            const int2 scores = all_scores[group * CHUNK / 2 + k.lane];
            m_scale = mix<true>(k, work.in, byte, scores, h, group);
        }
        copy_wait<is_ahead ? 1 : 0>();
        if (is_now) {
            __syncwarp(); /* x^ has come to all lanes */
            mixed = mix_own_bytes(k);
            out.s_scale = work.in.out.s_scale;
            __syncwarp(); /* x^ and m^ are read */
        }
        if (is_next)
            fetch_bytes(next, h_next);
        copy_commit();
        if (is_next && !is_ahead) {
            load_head_state(work.in, next, h_next);
            work.zx = load_zx(next, h_next);
        }
        if (is_now) {
            out.d = d[h * HEADDIM / 2 + k.lane];
            out.norm = norm[h * HEADDIM / 2 + k.lane];
            read_out(k, out, byte, m_scale, mixed, read, h, group);
        }
    }
};

/* ---- helpers ------------------------------------------------------------- */

/* What heads share, of a stream: asks for what is known before the byte is. */
template <int n_states>
static __device__ __forceinline__ void
start_shared(const struct byte_block &k, vector_input<n_states> &vector)
{
    fetch_b(k, n_states);
    if (k.warp < 2 * k.m.n_groups)
        load_vector(vector, k, vector_at(k, k.warp));
    if (k.warp == HELPERS - 1)
        prefetch_line(k.state.e + min(k.lane, k.m.n_heads - 1));
}

template <int n_states>
static __device__ __forceinline__ void
make_shared(const struct byte_block &k, vector_input<n_states> &vector,
            int scores)
{
    convolve_vectors<n_states>(k, vector);
    if (k.warp == HELPERS - 1)
        find_decays(k);
    copy_wait<0>();
    barrier_sync(1, HELPERS * WARP); /* B^ and C^ are there */
#pragma unroll 1
    for (int i = k.warp; i < k.m.n_groups; i += HELPERS)
        ((int2 *)(k.shared + scores))[i * CHUNK / 2 + k.lane] =
            score<n_states>(k, i);
}

static __device__ __forceinline__ void end_stream(const struct byte_block &k)
{
    norm_quantise(k);
    if (k.warp == 0 && k.lane == 0)
        *k.state.place = (k.place + 1) % CHUNK;
}

/* ---- the kernel ---------------------------------------------------------- */

template <int n_states, bool is_ahead>
static __device__ __forceinline__ void
work_on_heads(const struct streams_job &job)
{
    const struct mamba2_batch &m = job.m;
    const struct streams_memory &memory = job.shape.memory;
    const int warp = threadIdx.x / WARP;
    float *d = (float *)(job.shared + memory.d);
    float *norm = (float *)(job.shared + memory.norm);
    struct stream_part now = {stream_of(job.b, job.rows, blockIdx.x), 0, 0};
    struct stream_part next = job.after(now);
    const struct stream_signals signals = job.signals();
    float *ahead = (float *)(job.shared + memory.ahead);
    struct head_warp<n_states, is_ahead> own = {
        job
    };
    own.ahead = ahead + warp * (AHEAD_ROWS * HEADDIM);
    own.is_whole = job.rows.part_heads == m.n_heads;
    {
        const struct byte_block k = own.block(now);
        own.start(k, warp);
        keep_layer(d, norm, k, job.rows.part_heads);
        await_previous();
        own.go_on(k, warp);
        barrier_sync(2, job.rows.part_heads * WARP); /* D and the norm are
                                                      * there */
    }
#pragma unroll 1
    for (;;) {
        /* Where the stream after the next one lies is asked for early. */
        const struct stream_part then = job.after(next);
        const struct byte_block k = own.block(now);
        const int h = now.first + warp, h_next = next.first + warp;
        struct head_byte byte;
        own.convolve(byte, k, h);
        own.ask_ahead(next, h_next);
        signals.await(signals.is_shared, now.number);
        own.take(k, (const int2 *)(job.shared + job.memory(now.number).scores),
                 (const float2 *)d, (const float2 *)norm, byte, h,
                 own.block(next), h_next);
        if (next.number != now.number) {
            __syncwarp(); /* the warp's part of v is there */
            if (k.lane == 0)
                signals.signal(signals.is_v, now.number);
        }
        if (next.first >= m.n_heads)
            break;
        now = next;
        next = then;
    }
}

/* For a stream after the other; `before` is the last one but one. */
template <int n_states>
static __device__ __forceinline__ void help(const struct streams_job &job)
{
    const struct stream_signals signals = job.signals();
    struct stream_part before = {}, last = {};
    struct stream_part now = {stream_of(job.b, job.rows, blockIdx.x), 0, 0};
#pragma unroll 1
    for (; now.first < job.m.n_heads;
         before = last, last = now, now = job.stream_after(now)) {
        const struct byte_block k = job.block<n_states>(now, true);
        vector_input<n_states> vector;
        start_shared<n_states>(k, vector);
        if (now.number == 0)
            await_previous();
        if (now.number >= 2) {
            signals.await(signals.is_v, before.number);
            end_stream(job.block<n_states>(before, true));
        }
        make_shared<n_states>(k, vector, job.memory(now.number).scores);
        barrier_sync(1, HELPERS * WARP); /* all is there, and B^ is read */
        if (k.warp == 0 && k.lane == 0)
            signals.signal(signals.is_shared, now.number);
    }
    if (last.number >= 1) {
        signals.await(signals.is_v, before.number);
        end_stream(job.block<n_states>(before, true));
    }
    signals.await(signals.is_v, last.number);
    end_stream(job.block<n_states>(last, true));
}

template <int n_states, bool is_ahead>
static __global__ void __launch_bounds__(THREADS_MAX)
    take_streams(struct prefill_batch b, struct mamba2_batch m,
                 struct chain_rows rows, struct cuda_layer layer,
                 struct streams_shape shape, int n)
{
    extern __shared__ __align__(128) char shared[];
    const struct streams_job job = {b, m, rows, layer, shape, n, shared};
    if (threadIdx.x == 0)
        job.signals().make(rows.part_heads);
    __syncthreads(); /* the mbarriers are made */
    if ((int)threadIdx.x / WARP < rows.part_heads)
        work_on_heads<n_states, is_ahead>(job);
    else
        help<n_states>(job);
}

typedef void streams_kernel(struct prefill_batch, struct mamba2_batch,
                            struct chain_rows, struct cuda_layer,
                            struct streams_shape, int);

static streams_kernel *kernel_of(const struct prefill_batch *b, bool is_ahead)
{
    if (b->d_state == 64)
        return is_ahead ? take_streams<64, true> : take_streams<64, false>;
    return is_ahead ? take_streams<128, true> : take_streams<128, false>;
}

/* A block with one stream takes less, so that blocks of in_proj fit beside. */
static int shared_of(const struct prefill_batch *b,
                     const struct mamba2_batch *m, int heads, bool is_ahead)
{
    struct streams_memory a =
        streams_memory_of(*m, b->d_inner, b->d_state, heads);
    return is_ahead ? a.end_of_ahead : a.end;
}

enum status launch_chain_streams(struct queue q, const struct prefill_batch *b,
                                 const struct mamba2_batch *m,
                                 const struct chain_rows *rows,
                                 const struct cuda_layer *layer,
                                 struct tick tick)
{
    int blocks = tick.rows < b->n_processors ? tick.rows : b->n_processors;
    bool is_ahead = tick.rows > blocks;
    struct streams_shape shape = {
        streams_memory_of(*m, b->d_inner, b->d_state, rows->part_heads),
        layer_offsets_of(m->state, tick.number), tick.first * b->rows,
        m->n_heads / m->n_groups};
    return launch(
        "the heads", q, dim3(blocks), (rows->part_heads + HELPERS) * WARP,
        shared_of(b, m, rows->part_heads, is_ahead), kernel_of(b, is_ahead), *b,
        *m, *rows, *layer, shape, tick.rows);
}

/* The most heads at once that fit; all parts but the last have as many. */
static int part_heads_of(const struct prefill_batch *b,
                         const struct mamba2_batch *m)
{
    for (int parts = 1; parts <= m->n_heads; parts++) {
        int heads = ceil_div(m->n_heads, parts);
        if (heads <= WARPS_MAX && shared_of(b, m, heads, true) <= b->max_shared)
            return heads;
    }
    return 0;
}

static enum status allow_shared(const struct prefill_batch *b,
                                const struct mamba2_batch *m, int heads,
                                bool is_ahead)
{
    return cuda_status(
        cudaFuncSetAttribute((const void *)kernel_of(b, is_ahead),
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             shared_of(b, m, heads, is_ahead)),
        "the heads");
}

enum status chain_streams_prepare(const struct prefill_batch *b,
                                  const struct mamba2_batch *m, int *part_heads)
{
    struct cudaFuncAttributes attributes;
    CUDA_TRY(cudaFuncGetAttributes(&attributes, kernel_of(b, true)),
             "the heads");
    *part_heads = attributes.ptxVersion >= 90 /* it has bulk copies */
                      ? part_heads_of(b, m)
                      : 0;
    if (*part_heads == 0)
        return OK;
    TRY(allow_shared(b, m, *part_heads, false));
    return allow_shared(b, m, *part_heads, true);
}
