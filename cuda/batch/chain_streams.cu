/* chain_streams.cu -- a byte of streams through the mixer of a layer of
 * Mamba-2: blocks that stay, and take a stream after the other.
 *
 * A warp has a head of a stream, then one of the next.  As soon as it has read
 * S^ or x^ of its head, it starts to copy those of its next one to the same
 * place in shared memory.  So memory is at work all the time, and no warp waits
 * for what another one copies.  Where a stream has more heads than a block has
 * room for, it is taken in parts.
 *
 * What the heads of a stream share comes from four more warps, the helpers:
 * B^, C^, the scores and the decays of a stream while the heads work on the
 * one before it, and its norm while they work on the one after it.  So a
 * part needs one barrier, and of what one role writes and the other reads there
 * are two, of streams in turn:
 *
 *     in shared memory          written by            read by
 *     v, squares, maxima        heads                 helpers, a stream later
 *     C^, scores, decays        helpers               heads, a stream later
 *     B^                        helpers               helpers
 *     S^, x^, m^ of a warp      the warp's copies     the warp
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
    int parity; /* of the stream's arrays */
};

/* What a warp has asked for of its next head. */
struct head_work {
    struct head_input in;
    struct head_zx zx;
    uint32_t phase; /* of the mbarrier: its parity */
};

/* Before in_proj has ended. */
template <int n_states>
static __device__ __forceinline__ void start_head(const struct byte_block &k,
                                                  struct head_work &work, int h)
{
    make_mbarrier(k);
    if (h >= k.m.n_heads)
        return;
    fetch_states<n_states>(k, h);
    fetch_bytes(k, h);
    load_head_state(work.in, k, h);
}

/* Head h of k, or none where it is past the last; then the copies of head
 * h_next of `next` are under way, if there is one. */
template <int n_states>
static __device__ __forceinline__ void
take_head(const struct byte_block &k, const int2 *all_scores,
          const struct byte_block &next, const float2 *d, const float2 *norm,
          struct head_work &work, const struct head_byte &byte, int h,
          int h_next)
{
    const bool is_now = h < k.m.n_heads, is_next = h_next < k.m.n_heads;
    const int group = is_now ? k.group_of(h) : 0;
    struct head_rows rows;
    struct head_output out;
    int2 read, mixed;
    float m_scale;
    if (is_now) {
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
        copy_wait<0>();
        __syncwarp(); /* x^ has come to all lanes */
        take_bytes(rows, k);
        mixed = mix_bytes<true>(k, rows, byte);
        out.s_scale = work.in.out.s_scale;
        __syncwarp(); /* x^ and m^ are read */
    }
    if (is_next) {
        fetch_bytes(next, h_next);
        load_head_state(work.in, next, h_next);
        work.zx = load_zx(next, h_next);
    }
    if (is_now) {
        out.d = d[h * HEADDIM / 2 + k.lane];
        out.norm = norm[h * HEADDIM / 2 + k.lane];
        read_out(k, out, byte, m_scale, mixed, read, h, group);
    }
}

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

struct streams_job {
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    const struct chain_rows &rows;
    const struct cuda_layer &layer;
    const struct tick &tick;
    char *shared;

    __device__ __forceinline__ struct streams_memory memory(int parity) const
    {
        return streams_memory_of(m, b.d_inner, b.d_state, rows.part_heads,
                                 parity);
    }

    /* The block for a warp with heads, or for a helper. */
    template <int n_states>
    __device__ __forceinline__ struct byte_block
    block(const struct stream_part &part, bool is_helper) const
    {
        struct byte_block k = block_of(b, m, layer, tick, part.stream,
                                       memory(part.parity).at, shared);
        if (is_helper) {
            k.warp -= rows.part_heads;
            k.n_warps = HELPERS;
        }
        return k;
    }

    /* Past the last head, and without a byte, after the last part. */
    __device__ __forceinline__ struct stream_part
    after(const struct stream_part &part) const
    {
        if (part.first + rows.part_heads < m.n_heads)
            return {part.stream, part.first + rows.part_heads, part.parity};
        const int row = part.stream.row + gridDim.x;
        if (row >= tick.rows)
            return {{row, part.stream.image, 0}, m.n_heads, part.parity ^ 1};
        return {stream_of(b, rows, row), 0, part.parity ^ 1};
    }
};

/* The two roles meet at the same barriers. */
template <int n_states>
static __device__ __forceinline__ void
work_on_heads(const struct streams_job &job)
{
    const struct mamba2_batch &m = job.m;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    /* Where a block has all heads, a warp has the same one of every stream. */
    const bool is_whole =
        job.rows.part_heads == m.n_heads && job.tick.rows > (int)gridDim.x;
    float *own_taps =
        (float *)(job.shared + job.memory(0).taps) + warp * TAP_ROWS * HEADDIM;
    float *d = (float *)(job.shared + job.memory(0).d);
    float *norm = (float *)(job.shared + job.memory(0).norm);
    struct stream_part now = {stream_of(job.b, job.rows, blockIdx.x), 0, 0};
    struct head_work work;
    work.phase = 0;
    {
        const struct byte_block k = job.block<n_states>(now, false);
        start_head<n_states>(k, work, warp);
        if (is_whole)
            keep_taps(own_taps, k, warp);
        keep_layer(d, norm, k, job.rows.part_heads);
        await_previous();
        if (warp < m.n_heads)
            work.zx = load_zx(k, warp);
    }
#pragma unroll 1
    for (;;) {
        const struct stream_part next = job.after(now);
        const struct byte_block k = job.block<n_states>(now, false);
        const int h = now.first + warp;
        struct head_byte byte;
        if (h < m.n_heads) {
            if (is_whole) {
                const float *own = own_taps + 2 * lane;
                load_taps(work.in.conv, own, HEADDIM, own + TAPS * HEADDIM);
            } else {
                const int c = h * HEADDIM + 2 * lane;
                load_taps(work.in.conv, job.layer.conv + c, m.conv_channels,
                          job.layer.conv_bias + c);
            }
            byte = convolve_head(k, work.in, work.zx, h);
            keep_own_byte(k, byte, h);
        }
        __syncthreads(); /* what heads of this stream share is there */
        take_head<n_states>(
            k, (const int2 *)(job.shared + job.memory(now.parity).scores),
            job.block<n_states>(next, false), (const float2 *)d,
            (const float2 *)norm, work, byte, h, next.first + warp);
        if (next.first >= m.n_heads)
            break;
        now = next;
    }
    __syncthreads(); /* v of the last stream is there */
}

/* While the heads work on `now`; `before` is of the stream before that one. */
template <int n_states>
static __device__ __forceinline__ void help(const struct streams_job &job)
{
    /* At first the heads have nothing. */
    struct stream_part before = {}, now = {{-1, NULL, 0}, job.m.n_heads, 1};
    struct stream_part next = {stream_of(job.b, job.rows, blockIdx.x), 0, 0};
#pragma unroll 1
    for (;;) {
        const bool is_new = next.first == 0;
        vector_input<n_states> vector;
        if (is_new)
            start_shared<n_states>(job.block<n_states>(next, true), vector);
        if (now.stream.row < 0)
            await_previous();
        if (now.first == 0 && before.stream.image)
            end_stream(job.block<n_states>(before, true));
        if (is_new)
            make_shared<n_states>(job.block<n_states>(next, true), vector,
                                  job.memory(next.parity).scores);
        __syncthreads(); /* v of a stream is there */
        if (next.first >= job.m.n_heads)
            break;
        if (is_new)
            before = now;
        now = next;
        next = job.after(now);
    }
    end_stream(job.block<n_states>(now, true));
}

template <int n_states>
static __global__ void __launch_bounds__(THREADS_MAX)
    take_streams(struct prefill_batch b, struct mamba2_batch m,
                 struct chain_rows rows, struct cuda_layer layer,
                 struct tick tick)
{
    extern __shared__ __align__(128) char shared[];
    const struct streams_job job = {b, m, rows, layer, tick, shared};
    if ((int)threadIdx.x / WARP < rows.part_heads)
        work_on_heads<n_states>(job);
    else
        help<n_states>(job);
}

typedef void streams_kernel(struct prefill_batch, struct mamba2_batch,
                            struct chain_rows, struct cuda_layer, struct tick);

static streams_kernel *kernel_of(const struct prefill_batch *b)
{
    return b->d_state == 64 ? take_streams<64> : take_streams<128>;
}

/* Taps are kept where a warp has the same head of every stream. */
static int shared_of(const struct prefill_batch *b,
                     const struct mamba2_batch *m, int heads, bool keeps_taps)
{
    struct streams_memory a =
        streams_memory_of(*m, b->d_inner, b->d_state, heads, 0);
    return keeps_taps ? a.end_of_taps : a.end;
}

enum status launch_chain_streams(struct queue q, const struct prefill_batch *b,
                                 const struct mamba2_batch *m,
                                 const struct chain_rows *rows,
                                 const struct cuda_layer *layer,
                                 struct tick tick)
{
    int blocks = tick.rows < b->n_processors ? tick.rows : b->n_processors;
    bool keeps_taps = rows->part_heads == m->n_heads && tick.rows > blocks;
    return launch("the heads", q, dim3(blocks),
                  (rows->part_heads + HELPERS) * WARP,
                  shared_of(b, m, rows->part_heads, keeps_taps), kernel_of(b),
                  *b, *m, *rows, *layer, tick);
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

enum status chain_streams_prepare(const struct prefill_batch *b,
                                  const struct mamba2_batch *m, int *part_heads)
{
    struct cudaFuncAttributes attributes;
    CUDA_TRY(cudaFuncGetAttributes(&attributes, kernel_of(b)), "the heads");
    *part_heads = attributes.ptxVersion >= 90 /* it has bulk copies */
                      ? part_heads_of(b, m)
                      : 0;
    if (*part_heads == 0)
        return OK;
    return cuda_status(
        cudaFuncSetAttribute((const void *)kernel_of(b),
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             shared_of(b, m, *part_heads, true)),
        "the heads");
}
