/* chain_streams.cu -- a byte of streams through the mixer of a layer of
 * Mamba-2: blocks that stay, and take a stream after the other.
 *
 * A warp has a head of a stream, then one of the next.  As soon as it has read
 * S^ of its head, it starts to copy that of its next one to the same place in
 * shared memory.  A warp of its own copies the rest for all heads, row by row,
 * as soon as all warps have read the last (chain_feed.cuh).  So memory is at
 * work all the time, and each copy has most of a stream's time.
 * Where a stream has more heads than a block has room for, it is taken in
 * parts.
 *
 * What the heads of a stream share comes from further warps, the helpers:
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
 *     S^, m^ of a warp          the warp              the warp
 *     x^                        the warp that feeds, and of the byte the warp
 *     numbers ahead             the warp that feeds   the warp
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/chain_feed.cuh"
#include "cuda/batch/chain_norm.cuh"

/* Helpers, and among those of a block that is fed the warp that feeds. */
enum { OTHERS = 4 };

/* ---- a head -------------------------------------------------------------- */

/* What a warp knows of its head; zx and the state's numbers are of the next one
 * after read_out(), where they do not come ahead. */
struct head_work {
    struct head_input in;
    struct head_zx zx;
    uint32_t phase; /* of the mbarrier: its parity */
};

/* A warp of a block that takes streams in turn (is_fed: but for S^ another warp
 * copies what it needs, a stream ahead), or one stream alone. */
template <class job_type, bool is_fed> struct head_warp {
    enum { n_states = job_type::n_states };
    const job_type &job;
    const struct feed_signals fed;
    struct head_work work;
    int part; /* as struct feed_signals numbers them */

    __device__ __forceinline__ struct byte_block
    block(const struct stream_part &part) const
    {
        return job.block(part, 0, job.rows.part_heads);
    }

    /* The first head, before in_proj has ended, and after it. */
    __device__ __forceinline__ void start(const struct byte_block &k, int h)
    {
        const bool is_now = h < k.m.n_heads;
        make_mbarrier(k);
        work.phase = 0;
        part = 0;
        if (is_now)
            fetch_states<n_states>(k, h);
        if (is_now && !is_fed) {
            fetch_bytes(k, h);
            load_head_state(work.in, k, h);
        }
        copy_commit();
    }
    __device__ __forceinline__ void go_on(const struct byte_block &k, int h)
    {
        if (h < k.m.n_heads && !is_fed)
            work.zx = load_zx(k, h);
    }

    /* What head h needs at once. */
    __device__ __forceinline__ void receive(const struct byte_block &k, int h)
    {
        const int c = h * HEADDIM + 2 * k.lane;
        if (is_fed) {
            if (h < k.m.n_heads)
                take_ahead(work.in, work.zx, k);
            fed.say_read(fed.numbers_read, k.lane);
        } else if (h < k.m.n_heads) {
            load_taps(work.in.conv, k.layer.conv + c, k.m.conv_channels,
                      k.layer.conv_bias + c);
            keep_head_past(k, work.in, work.zx, h);
        }
    }

    /* What does not depend on other warps, of head h. */
    __device__ __forceinline__ void convolve(struct head_byte &byte,
                                             const struct byte_block &k, int h)
    {
        receive(k, h);
        if (h >= k.m.n_heads)
            return;
        byte = convolve_head(work.in, work.zx);
        keep_own_byte(k, byte, h);
    }

    /* The sum over bytes, of head h of k; x^ of head h_next of `next` may come
     * then. */
    __device__ __forceinline__ int2 mixed(const struct byte_block &k, int h,
                                          const struct byte_block &next,
                                          int h_next)
    {
        int2 sum = {};
        if (is_fed)
            fed.await(fed.x, part);
        else
            copy_wait<0>();
        if (h < k.m.n_heads) {
            __syncwarp(); /* x^ has come to all lanes */
            sum = mix_own_bytes(k);
        }
        if (is_fed) {
            fed.say_read(fed.x_read, k.lane);
        } else if (h_next < k.m.n_heads) {
            __syncwarp(); /* x^ and m^ are read */
            fetch_bytes(next, h_next);
        }
        copy_commit();
        return sum;
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
        int2 read;
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
            out.s_scale = work.in.out.s_scale;
        }
        const int2 sum = mixed(k, h, next, h_next);
        if (is_next && !is_fed) {
            load_head_state(work.in, next, h_next);
            work.zx = load_zx(next, h_next);
        }
        if (is_now) {
            out.d = d[h * HEADDIM / 2 + k.lane];
            out.norm = norm[h * HEADDIM / 2 + k.lane];
            read_out(k, out, byte, m_scale, sum, read, h, group);
        }
        part++;
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
    if (k.warp == k.n_warps - 1)
        prefetch_line(k.state.e + min(k.lane, k.m.n_heads - 1));
}

template <int n_states>
static __device__ __forceinline__ void
make_shared(const struct byte_block &k, vector_input<n_states> &vector,
            int scores)
{
    convolve_vectors<n_states>(k, vector);
    if (k.warp == k.n_warps - 1)
        find_decays(k);
    copy_wait<0>();
    barrier_sync(1, k.n_warps * WARP); /* B^ and C^ are there */
#pragma unroll 1
    for (int i = k.warp; i < k.m.n_groups; i += k.n_warps)
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

template <bool is_fed, class job_type>
static __device__ __forceinline__ void work_on_heads(const job_type &job)
{
    const struct mamba2_batch &m = job.m;
    const struct streams_memory &memory = job.shape.memory;
    const int warp = threadIdx.x / WARP;
    float *d = (float *)(job.shared + memory.d);
    float *norm = (float *)(job.shared + memory.norm);
    struct stream_part now = job.first_part(), next = {};
    const struct stream_signals signals = job.signals();
    struct head_warp<job_type, is_fed> own = {
        job, job.feed()
    };
    {
        const struct byte_block k = own.block(now);
        own.start(k, warp);
        keep_layer(d, norm, k, job.rows.part_heads);
        if (!is_fed)
            next = job.after(now);
        await_previous();
        own.go_on(k, warp);
        barrier_sync(2, job.rows.part_heads * WARP); /* D and the norm are
                                                      * there */
    }
#pragma unroll 1
    for (;;) {
        if (is_fed) {
            own.fed.await(own.fed.numbers, own.part);
            now = job.told(own.part);
            next = job.told(own.part + 1);
        }
        const struct byte_block k = own.block(now);
        const int h = now.first + warp, h_next = next.first + warp;
        struct head_byte byte;
        own.convolve(byte, k, h);
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
        if (!is_fed) {
            now = next;
            next = job.after(next);
        }
    }
}

/* For a stream after the other; `before` is the last one but one. */
template <int n, class job_type>
static __device__ __forceinline__ void help(const job_type &job)
{
    enum { n_states = job_type::n_states };
    const int first = job.rows.part_heads; /* warp */
    const struct stream_signals signals = job.signals();
    struct stream_part before = {}, last = {};
    struct stream_part now = job.first_part();
#pragma unroll 1
    for (; now.first < job.m.n_heads;
         before = last, last = now, now = job.stream_after(now)) {
        const struct byte_block k = job.block(now, first, n);
        vector_input<n_states> vector;
        start_shared<n_states>(k, vector);
        if (now.number == 0)
            await_previous();
        if (now.number >= 2) {
            signals.await(signals.is_v, before.number);
            end_stream(job.block(before, first, n));
        }
        make_shared<n_states>(k, vector, job.memory(now.number).scores);
        barrier_sync(1, n * WARP); /* all is there, and B^ is read */
        if (k.warp == 0 && k.lane == 0)
            signals.signal(signals.is_shared, now.number);
    }
    if (last.number >= 1) {
        signals.await(signals.is_v, before.number);
        end_stream(job.block(before, first, n));
    }
    signals.await(signals.is_v, last.number);
    end_stream(job.block(last, first, n));
}

template <int n_states, int HEADS, bool is_fed>
static __global__ void __launch_bounds__((HEADS + OTHERS) * WARP)
    take_streams(struct prefill_batch b, struct mamba2_batch m,
                 struct chain_rows rows, struct cuda_layer layer,
                 struct streams_shape shape, int n)
{
    extern __shared__ __align__(128) char shared[];
    const struct streams_job<n_states, HEADS> job = {
        b, m, rows, layer, shape, n, shared
    };
    const int warp = threadIdx.x / WARP;
    if (threadIdx.x == 0) {
        job.signals().make(rows.part_heads);
        if (is_fed)
            job.feed().make(rows.part_heads);
    }
    __syncthreads(); /* the mbarriers are made */
    if (warp < rows.part_heads)
        work_on_heads<is_fed>(job);
    else if (!is_fed)
        help<OTHERS>(job);
    else if (warp < rows.part_heads + OTHERS - 1)
        help<OTHERS - 1>(job);
#ifdef HAS_CLUSTER
    else
        feed(job);
#endif
}

typedef void streams_kernel(struct prefill_batch, struct mamba2_batch,
                            struct chain_rows, struct cuda_layer,
                            struct streams_shape, int);

/* A kernel, and its shared memory: a block with one stream takes less, so that
 * blocks of in_proj fit beside. */
struct streams_form {
    streams_kernel *kernel;
    int fixed; /* bytes */
};

template <int n_states, int HEADS>
static struct streams_form form_with(bool is_fed)
{
    using fixed = warps_memory<n_states, HEADS>;
    if (is_fed)
        return {take_streams<n_states, HEADS, true>, fixed::END_OF_AHEAD};
    return {take_streams<n_states, HEADS, false>, fixed::END};
}

template <int n_states>
static struct streams_form form_for(int heads, bool is_fed)
{
    if (heads <= 4)
        return form_with<n_states, 4>(is_fed);
    if (heads <= 8)
        return form_with<n_states, 8>(is_fed);
    if (heads <= 12)
        return form_with<n_states, 12>(is_fed);
    return form_with<n_states, WARPS_MAX>(is_fed);
}

static struct streams_form form_of(const struct prefill_batch *b, int heads,
                                   bool is_fed)
{
    return b->d_state == 64 ? form_for<64>(heads, is_fed)
                            : form_for<128>(heads, is_fed);
}

static struct streams_memory memory_with(const struct prefill_batch *b,
                                         const struct mamba2_batch *m,
                                         const struct streams_form &form)
{
    return streams_memory_of(*m, b->d_inner, b->d_state, form.fixed);
}

enum status launch_chain_streams(struct queue q, const struct prefill_batch *b,
                                 const struct mamba2_batch *m,
                                 const struct chain_rows *rows,
                                 const struct cuda_layer *layer,
                                 struct tick tick)
{
    int blocks = tick.rows < b->n_processors ? tick.rows : b->n_processors;
    struct streams_form form = form_of(b, rows->part_heads, tick.rows > blocks);
    struct streams_shape shape = {
        memory_with(b, m, form), layer_offsets_of(m->state, tick.number),
        tick.first * b->rows, m->n_heads / m->n_groups};
    return launch("the heads", q, dim3(blocks),
                  (rows->part_heads + OTHERS) * WARP, (size_t)shape.memory.end,
                  form.kernel, *b, *m, *rows, *layer, shape, tick.rows);
}

/* The most heads at once that fit; all parts but the last have as many. */
static int part_heads_of(const struct prefill_batch *b,
                         const struct mamba2_batch *m)
{
    for (int parts = 1; parts <= m->n_heads; parts++) {
        int heads = ceil_div(m->n_heads, parts);
        if (heads <= WARPS_MAX &&
            memory_with(b, m, form_of(b, heads, true)).end <= b->max_shared)
            return heads;
    }
    return 0;
}

static enum status allow_shared(const struct prefill_batch *b,
                                const struct mamba2_batch *m, int heads,
                                bool is_fed)
{
    struct streams_form form = form_of(b, heads, is_fed);
    return cuda_status(
        cudaFuncSetAttribute((const void *)form.kernel,
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             memory_with(b, m, form).end),
        "the heads");
}

enum status chain_streams_prepare(const struct prefill_batch *b,
                                  const struct mamba2_batch *m, int *part_heads)
{
    struct cudaFuncAttributes attributes;
    CUDA_TRY(cudaFuncGetAttributes(&attributes, form_of(b, 1, true).kernel),
             "the heads");
    /* It has bulk copies, and rows lie so that these can be used. */
    const bool is_able =
        attributes.ptxVersion >= 90 && m->state.layer_floats % 4 == 0;
    *part_heads = is_able ? part_heads_of(b, m) : 0;
    if (*part_heads == 0)
        return OK;
    TRY(allow_shared(b, m, *part_heads, false));
    return allow_shared(b, m, *part_heads, true);
}
