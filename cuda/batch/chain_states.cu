/* chain_states.cu -- S and S^ of the streams whose chunk ends: a block a head
 * of a layer of a stream at a time, a warp 16 of its channels.
 *
 * What is added to S is a product over the bytes of the chunk, v^ B^, on tensor
 * cores.  Both sides lie in shared memory in rows along the bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/chain.cuh"
#include "cuda/common/exact_vector.cuh"
#include "cuda/common/tensor.cuh"

enum {
    HEADDIM = CHAIN_HEADDIM,
    WARPS = HEADDIM / 16,
    THREADS = WARPS * WARP,
    BLOCKS_EACH = 5,     /* blocks on a multiprocessor                       */
    STRIDE = CHUNK + 16, /* of rows along the bytes: other banks             */
    DEPTH = 32           /* of a product                                     */
};

template <int n_states> struct ended_head {
    struct mamba2_layer_state state;
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    int8_t *x;      /* [HEADDIM][STRIDE]: x^, then v^                      */
    int8_t *turned; /* [n_states][STRIDE]: B^                              */
    float *w;       /* [CHUNK]                                             */
    int h, group, lane;
    int p0; /* the warp's first channel */

    /* Of the lane's channel p0 + lane / 4 + 8 half: its first four states. */
    __device__ __forceinline__ size_t at(int half) const
    {
        return ((size_t)h * HEADDIM + p0 + lane / 4 + 8 * half) * n_states +
               lane % 4 * 4;
    }
};

/* The lane's states: 4 of each 16 of two channels. */
template <int n_states> struct some_states {
    float4 s[n_states / 16][2];
};

/* ---- loading ------------------------------------------------------------- */

/* Word k gets byte k of each of four words. */
static __device__ __forceinline__ void turn(uint32_t word[4])
{
    uint32_t low = __byte_perm(word[0], word[1], 0x5140);
    uint32_t low2 = __byte_perm(word[2], word[3], 0x5140);
    uint32_t high = __byte_perm(word[0], word[1], 0x7362);
    uint32_t high2 = __byte_perm(word[2], word[3], 0x7362);
    word[0] = __byte_perm(low, low2, 0x5410);
    word[1] = __byte_perm(low, low2, 0x7632);
    word[2] = __byte_perm(high, high2, 0x5410);
    word[3] = __byte_perm(high, high2, 0x7632);
}

/* What a thread has of the rows of a chunk, n bytes of each: four bytes of four
 * rows, some times; a warp has 32 bytes of 16. */
template <int n> struct chunk_rows {
    enum { FOURS = n / 4, TIMES = CHUNK / 4 * FOURS / THREADS };
    uint32_t word[TIMES][4];

    static __device__ __forceinline__ int row(int i)
    {
        return i % 4 * 4 + i / 4 / FOURS * 16;
    }
    static __device__ __forceinline__ int column(int i)
    {
        return i / 4 % FOURS * 4;
    }
    __device__ __forceinline__ void load(const int8_t *from, int stride)
    {
#pragma unroll
        for (int k = 0; k < TIMES; k++) {
            const int i = threadIdx.x + k * THREADS;
#pragma unroll
            for (int j = 0; j < 4; j++)
                word[k][j] =
                    *(const uint32_t *)(from + (size_t)(row(i) + j) * stride +
                                        column(i));
        }
    }
    __device__ __forceinline__ void store_turned(int8_t *to)
    {
#pragma unroll
        for (int k = 0; k < TIMES; k++) {
            const int i = threadIdx.x + k * THREADS;
            turn(word[k]);
#pragma unroll
            for (int j = 0; j < 4; j++)
                *(uint32_t *)(to + (column(i) + j) * STRIDE + row(i)) =
                    word[k][j];
        }
    }
};

/* Four neighbours: in one piece where layers allow that. */
static __device__ __forceinline__ float4 load_four(const float *from,
                                                   bool is_aligned)
{
    if (is_aligned)
        return load_streamed((const float4 *)from);
    const float2 low = load_streamed((const float2 *)from);
    const float2 high = load_streamed((const float2 *)from + 1);
    return make_float4(low.x, low.y, high.x, high.y);
}

static __device__ __forceinline__ void store_four(float *to, float4 x,
                                                  bool is_aligned)
{
    if (is_aligned) {
        store_streamed((float4 *)to, x);
    } else {
        store_streamed((float2 *)to, make_float2(x.x, x.y));
        store_streamed((float2 *)to + 1, make_float2(x.z, x.w));
    }
}

template <int n_states, bool is_aligned>
static __device__ __forceinline__ void
load_states(some_states<n_states> &old, const ended_head<n_states> &k)
{
#pragma unroll
    for (int j = 0; j < n_states / 16; j++) {
#pragma unroll
        for (int half = 0; half < 2; half++)
            old.s[j][half] =
                load_four(k.state.s + k.at(half) + j * 16, is_aligned);
    }
}

/* ---- v^ ------------------------------------------------------------------ */

/* The numbers of four bytes. */
static __device__ __forceinline__ float4 numbers_of(uint32_t four)
{
    return make_float4((float)(int8_t)(uint8_t)four,
                       (float)(int8_t)(uint8_t)(four >> 8),
                       (float)(int8_t)(uint8_t)(four >> 16),
                       (float)(int8_t)(uint8_t)(four >> 24));
}

/* x^ of the warp's channels becomes v^; the scales of the lane's two.  Two
 * lanes have a channel, half of the bytes each. */
template <int n_states>
static __device__ __forceinline__ void weigh(const ended_head<n_states> &k,
                                             float scales[2])
{
    constexpr int words = CHUNK / 8;
    const int half = k.lane % 2;
    uint32_t *x =
        (uint32_t *)(k.x + (k.p0 + k.lane / 2) * STRIDE) + half * words;
    const float4 *w = (const float4 *)k.w + half * words;
    float4 v[words];
    uint32_t amax = 0;
#pragma unroll
    for (int i = 0; i < words; i++) {
        float4 a = numbers_of(x[i]), b = w[i];
        v[i] = make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
        amax = max(amax, magnitude4(v[i]));
    }
    struct exact_scale s = scale_of_products(lanes_max<2>(amax));
#pragma unroll
    for (int i = 0; i < words; i++)
        x[i] = quantised4(v[i], s);
#pragma unroll
    for (int i = 0; i < 2; i++)
        scales[i] = __shfl_sync(WHOLE_WARP, s.scale, (k.lane / 4 + 8 * i) * 2);
    __syncwarp(); /* v^ is written */
}

/* ---- the states ---------------------------------------------------------- */

/* v^ B^ of the warp's channels, of states n0 to n0 + 15.  Columns 2 t and 2 t +
 * 1 of sum[i] are states n0 + 4 t + 2 i and the next, so that a lane gets four
 * neighbours. */
template <int n_states>
static __device__ __forceinline__ void
multiply(int32_t sum[2][4], const ended_head<n_states> &k, int n0)
{
    const int column = k.lane % 8;
    const int state = column / 2 * 4 + k.lane / 16 * 2 + column % 2;
#pragma unroll
    for (int d = 0; d < CHUNK; d += DEPTH) {
        uint32_t a[4], b[4];
        load_matrices(a, k.x + (k.p0 + k.lane % 16) * STRIDE + d +
                             k.lane / 16 * 16);
        load_matrices(b, k.turned + (n0 + state) * STRIDE + d +
                             k.lane / 8 % 2 * 16);
        product_16x8x32(sum[0], a, b);
        product_16x8x32(sum[1], a, b + 2);
    }
}

/* Adds the chunk to the lane's states; amax: of its two channels. */
template <int n_states>
static __device__ __forceinline__ void
add_chunk(some_states<n_states> &s, const ended_head<n_states> &k, float e,
          const float scales[2], uint32_t amax[2])
{
#pragma unroll
    for (int j = 0; j < n_states / 16; j++) {
        int32_t sum[2][4] = {};
        multiply(sum, k, j * 16);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float4 &x = s.s[j][half];
            const int32_t *low = &sum[0][half * 2], *high = &sum[1][half * 2];
            x.x = exact_state(e, x.x, low[0], scales[half]);
            x.y = exact_state(e, x.y, low[1], scales[half]);
            x.z = exact_state(e, x.z, high[0], scales[half]);
            x.w = exact_state(e, x.w, high[1], scales[half]);
            amax[half] = max(amax[half], magnitude4(x));
        }
    }
}

template <int n_states, bool is_aligned>
static __device__ __forceinline__ void
store_states(const some_states<n_states> &s, const ended_head<n_states> &k,
             const uint32_t amax[2])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        struct exact_scale scale = scale_of_products(lanes_max<4>(amax[half]));
        size_t at = k.at(half);
#pragma unroll
        for (int j = 0; j < n_states / 16; j++) {
            store_four(k.state.s + at + j * 16, s.s[j][half], is_aligned);
            *(uint32_t *)(k.state.s_q + at + j * 16) =
                quantised4(s.s[j][half], scale);
        }
        if (k.lane % 4 == 0)
            k.state.s_scale[at / n_states] = scale.scale;
    }
}

/* ---- the kernel ---------------------------------------------------------- */

template <int n_states, bool is_aligned>
static __device__ __forceinline__ void end_chunk(const ended_head<n_states> &k)
{
    some_states<n_states> s;
    float scales[2] = {};
    uint32_t amax[2] = {};
    chunk_rows<HEADDIM> x;
    chunk_rows<n_states> b;
    load_states<n_states, is_aligned>(s, k);
    x.load(k.state.x + k.h * HEADDIM, k.b.d_inner);
    b.load(k.state.b + k.group * n_states, k.m.n_groups * n_states);
    const float e = k.state.e[k.h];
    if (threadIdx.x < CHUNK)
        k.w[threadIdx.x] = k.state.w[k.h * CHUNK + threadIdx.x];
    x.store_turned(k.x);
    b.store_turned(k.turned);
    __syncthreads(); /* x^, B^ and w are there */
    weigh(k, scales);
    add_chunk(s, k, e, scales, amax);
    store_states<n_states, is_aligned>(s, k, amax);
    __syncthreads(); /* v^ and B^ are read */
}

/* Item i: a head of a layer of a stream. */
struct ended_item {
    struct mamba2_layer_state state;
    int h;
};

static __device__ __forceinline__ struct ended_item
item_of(const struct prefill_batch &b, const struct mamba2_batch &m,
        const struct chain_rows &rows, int i)
{
    int h = i % m.n_heads, layer = i / m.n_heads % b.n_layer;
    int row = rows.ended[1 + i / m.n_heads / b.n_layer];
    return {mamba2_layer_state(b.slots->spans[row].image, m.state, layer), h};
}

/* Asks the L2 cache for S and x^ of a head: lines of each thread. */
template <int n_states>
static __device__ __forceinline__ void
prefetch_states(const struct ended_item &next, int d_inner)
{
    enum { LINE = 128, LINES = HEADDIM * n_states * 4 / LINE };
    const char *from = (const char *)next.state.s +
                       ((size_t)next.h * LINES + threadIdx.x) * LINE;
#pragma unroll
    for (int i = 0; i < LINES / THREADS; i++)
        prefetch_line(from + i * THREADS * LINE);
    if (threadIdx.x < CHUNK)
        prefetch_line(next.state.x + (size_t)threadIdx.x * d_inner +
                      next.h * HEADDIM);
}

template <int n_states, bool is_aligned>
static __global__ void __launch_bounds__(THREADS, n_states == 64 ? 5 : 3)
    end_chunks(struct prefill_batch b, struct mamba2_batch m,
               struct chain_rows rows)
{
    __shared__ __align__(128) int8_t x[HEADDIM * STRIDE];
    __shared__ __align__(128) int8_t turned[n_states * STRIDE];
    __shared__ __align__(16) float w[CHUNK];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    await_previous();
    const int n = rows.ended[0] * b.n_layer * m.n_heads;
    int i = blockIdx.x;
    if (i >= n)
        return;
    struct ended_item now = item_of(b, m, rows, i);
    for (;;) {
        struct ended_item next = now;
        i += gridDim.x;
        if (i < n) {
            next = item_of(b, m, rows, i);
            prefetch_states<n_states>(next, b.d_inner);
        }
        end_chunk<n_states, is_aligned>({now.state, b, m, x, turned, w, now.h,
                                         now.h / (m.n_heads / m.n_groups), lane,
                                         warp * 16});
        if (i >= n)
            return;
        now = next;
    }
}

typedef void ends_kernel(struct prefill_batch, struct mamba2_batch,
                         struct chain_rows);

template <int n_states>
static ends_kernel *kernel_of(const struct mamba2_batch *m)
{
    return m->state.layer_floats % 4 == 0 ? end_chunks<n_states, true>
                                          : end_chunks<n_states, false>;
}

enum status launch_chain_states(struct queue q, const struct prefill_batch *b,
                                const struct mamba2_batch *m,
                                const struct chain_rows *rows)
{
    return launch("the ends of chunks", q, dim3(b->n_processors * BLOCKS_EACH),
                  THREADS, 0,
                  b->d_state == 64 ? kernel_of<64>(m) : kernel_of<128>(m), *b,
                  *m, *rows);
}
