/* mamba2_outputs_block.cuh -- a block of mamba2_outputs.cu: its shared memory,
 * and what it loads.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_OUTPUTS_BLOCK_CUH
#define MAMBYTE_MAMBA2_OUTPUTS_BLOCK_CUH

#include "cuda/prefill/mamba2_chunk.cuh"

enum {
    WARPS = CHUNK / SIDE,
    THREADS = WARPS * WARP,
    HEADS = THREADS / CHUNK, /* of a block, at most: a walker a byte       */
    BLOCKS = 4,              /* of channels: 64                            */

    /* Weights of a head, in floats: rows t < 32 have s < 32 only. */
    HALF = CHUNK / 2,
    WEIGHTS = HALF * (HALF + CHUNK)
};

/* Heads of P channels with N states; 0: of any size. */
template <int P_, int N_> struct head_shape {
    static constexpr int P = P_, N = N_;
    static constexpr bool is_any = P == 0;
    static constexpr int square_slots = P == 0 ? BLOCKS : BLOCKS / 2;

    static __device__ __forceinline__ int headdim(const struct mamba2_batch &m)
    {
        return P == 0 ? m.headdim : P;
    }
    static __device__ __forceinline__ int d_state(const struct prefill_batch &b)
    {
        return N == 0 ? b.d_state : N;
    }
};

/* ---- shared memory ------------------------------------------------------- */

/* Offsets of the arrays of a block, in bytes. */
struct outputs_memory {
    int x_stride, bc_stride;
    int c, x; /* after B^; of head i: x + i * CHUNK * x_stride              */
    int s;    /* [heads] tiles of S^                                        */
    int s_scale; /* float [heads][16 tiles]                                 */
    int weights, n_bytes; /* float [heads][WEIGHTS]                         */
};

static __host__ __device__ struct outputs_memory
outputs_memory_of(const struct mamba2_batch *m, int d_state, int n_heads)
{
    struct outputs_memory at;
    at.x_stride = row_stride(m->headdim);
    at.bc_stride = row_stride(round_up(d_state, DEPTH));
    at.c = CHUNK * at.bc_stride;
    at.x = 2 * at.c;
    at.s = at.x + n_heads * CHUNK * at.x_stride;
    at.s_scale = at.s + n_heads * m->tiles * m->state_tiles * S_TILE;
    at.weights = at.s_scale + n_heads * m->tiles * SIDE * (int)sizeof(float);
    at.n_bytes = at.weights + n_heads * WEIGHTS * (int)sizeof(float);
    return at;
}

/* Numbers of the bytes of a chunk, for each head or for all. */
struct chunk_scalars {
    float alpha[HEADS][CHUNK], x_scale[HEADS][CHUNK];
    float read_scale[HEADS][CHUNK]; /* sC E */
    float c_scale[CHUNK];
    int4 start; /* of sums: in registers of their own, as nobody knows them */
};

/* What a block works on. */
struct outputs_job {
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    const float *d, *norm; /* of the layer                                  */
    struct mamba2_layer_state state;
    struct span_chunk chunk;
    ptrdiff_t start; /* of a kept S^; -1: that of the state                 */
    struct outputs_memory at;
    int8_t *shared;
    struct chunk_scalars *scalars;
    int first, n_heads, group; /* heads                                     */

    /* What the bytes weigh at byte t, for head i: byte s is at column
     * s ^ swap_of(t), so that the rows of a warp lie in different banks. */
    __device__ __forceinline__ float *weights(int i, int t) const
    {
        float *first = (float *)(shared + at.weights) + i * WEIGHTS;
        return first + (t < HALF ? t * HALF : HALF * HALF + (t - HALF) * CHUNK);
    }
    __device__ __forceinline__ const int8_t *x(int i) const
    {
        return shared + at.x + i * CHUNK * at.x_stride;
    }
};

static __device__ __forceinline__ int swap_of(int t)
{
    return t % 4 * 8;
}

/* ---- loading ------------------------------------------------------------- */

/* Asks for silu(z) of the block's heads, for the L2 cache. */
static __device__ __forceinline__ void
ask_for_gates(const struct outputs_job &job)
{
    enum { LINE = 32 }; /* floats */
    int n = job.n_heads * job.m.headdim, lines = ceil_div(n, LINE);
    const float *gates =
        job.b.uz + job.chunk.row * job.m.zx_stride + job.first * job.m.headdim;
    for (int t = job.chunk.place + threadIdx.x % CHUNK; t < job.chunk.end;
         t += CHUNK) {
        for (int i = threadIdx.x / CHUNK; i < lines; i += THREADS / CHUNK)
            prefetch_line(gates + (ptrdiff_t)t * job.m.zx_stride + i * LINE);
    }
}

/* S^ of head i at the start of the chunk, from the state, where it lies by
 * channels. */
static __device__ __forceinline__ void
load_states(const struct outputs_job &job, int i)
{
    const struct mamba2_batch &m = job.m;
    int d_state = job.b.d_state, n_words = m.tiles * m.state_tiles * S_TILE / 4;
    size_t first = (size_t)(job.first + i) * m.headdim;
    uint32_t *to = (uint32_t *)(job.shared + job.at.s) + i * n_words;
    for (int k = threadIdx.x; k < n_words; k += THREADS) {
        int tile = k / (S_TILE / 4), at = k % (S_TILE / 4);
        int lane = at / 4 % WARP;
        int channel = tile / m.state_tiles * SIDE + lane / 4 * 2 + at / 128;
        int n = tile % m.state_tiles * STATE_TILE + k % 4 * SIDE + lane % 4 * 4;
        bool is_there = channel < m.headdim && n < d_state;
        to[k] = is_there ? *(const uint32_t *)(job.state.s_q +
                                               (first + channel) * d_state + n)
                         : 0;
    }
    float *scales = (float *)(job.shared + job.at.s_scale) + i * m.tiles * SIDE;
    for (int p = threadIdx.x; p < m.headdim; p += THREADS)
        scales[p] = job.state.s_scale[first + p];
}

/* Starts to copy S^ that was kept. */
static __device__ __forceinline__ void
fetch_states(const struct outputs_job &job)
{
    const struct mamba2_batch &m = job.m;
    size_t head = (size_t)job.start * m.n_heads + job.first;
    int n_bytes = m.tiles * m.state_tiles * S_TILE, n_scales = m.tiles * SIDE;
    const int8_t *from = m.s_q + head * n_bytes;
    const float *scales = m.s_scale + head * n_scales;
    for (int k = threadIdx.x * 16; k < job.n_heads * n_bytes; k += THREADS * 16)
        copy16(job.shared + job.at.s + k, from + k, true);
    for (int k = threadIdx.x * 4; k < job.n_heads * n_scales; k += THREADS * 4)
        copy16((float *)(job.shared + job.at.s_scale) + k, scales + k, true);
}

/* Starts to copy x^ and B^ of the bytes so far, and C^ of those in the span. */
static __device__ __forceinline__ void fetch(const struct outputs_job &job)
{
    const struct span_chunk &c = job.chunk;
    int d_state = job.b.d_state, padded = round_up(d_state, DEPTH);
    struct stream_rows rows = b_rows(job.b, job.m, job.state, c, job.group);
    fetch_rows(job.shared, job.at.bc_stride, rows, c, true);
    rows.rows += job.m.n_groups * d_state;
    fetch_rows(job.shared + job.at.c, job.at.bc_stride, rows, c, false);
    for (int i = 0; i < job.n_heads; i++)
        fetch_rows(job.shared + job.at.x + i * CHUNK * job.at.x_stride,
                   job.at.x_stride,
                   x_rows(job.b, job.m, job.state, c,
                          (job.first + i) * job.m.headdim, job.m.headdim),
                   c, true);
    if (job.start >= 0)
        fetch_states(job);
    copy_commit();
    for (int i = 0; job.start < 0 && i < job.n_heads; i++)
        load_states(job, i);
    /* terms that are not there: zeros on one side are enough */
    for (int s = threadIdx.x; padded > d_state && s < CHUNK; s += THREADS)
        *(uint4 *)(job.shared + job.at.c + s * job.at.bc_stride + d_state) =
            make_uint4(0, 0, 0, 0);
}

/* The same as fetch() where all of the chunk is in the span, and the block has
 * all its heads. */
template <class S>
static __device__ __forceinline__ void
fetch_whole_chunk(const struct outputs_job &job)
{
    constexpr int P = S::P, N = S::N;
    constexpr int x_stride = P + 16, bc_stride = N + 16; /* as row_stride() */
    constexpr int s_bytes = HEADS * P * N, n_scales = HEADS * P;
    const struct mamba2_batch &m = job.m;
    ptrdiff_t row = job.chunk.row, d_inner = job.b.d_inner, n = m.n_groups * N;
    const int8_t *bc = m.bc + row * 2 * n + job.group * N;
    const int8_t *x = m.x + row * d_inner + job.first * P;
    size_t head = (size_t)job.start * m.n_heads + job.first;
    fetch_whole<N, THREADS>(job.shared, bc_stride, bc, 2 * n);
    fetch_whole<N, THREADS>(job.shared + job.at.c, bc_stride, bc + n, 2 * n);
#pragma unroll
    for (int i = 0; i < HEADS; i++)
        fetch_whole<P, THREADS>(job.shared + job.at.x + i * CHUNK * x_stride,
                                x_stride, x + i * P, d_inner);
    int k = threadIdx.x * 16;
#pragma unroll
    for (int i = 0; i < s_bytes; i += THREADS * 16)
        copy16(job.shared + job.at.s + i + k, m.s_q + head * (P * N) + i + k,
               true);
    if (k < n_scales * 4)
        copy16(job.shared + job.at.s_scale + k,
               (const char *)(m.s_scale + head * P) + k, true);
    copy_commit();
}

/* fetch(), with fewer instructions where that can be. */
template <class S>
static __device__ __forceinline__ void
start_fetch(const struct outputs_job &job)
{
    if constexpr (!S::is_any) {
        if (job.chunk.place == 0 && job.chunk.end == CHUNK && job.start >= 0 &&
            job.n_heads == HEADS)
            return fetch_whole_chunk<S>(job);
    }
    fetch(job);
}

#endif
