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
    BLOCKS_EACH = 8,     /* blocks on a multiprocessor                       */
    STRIDE = CHUNK + 16, /* of rows along the bytes: other banks             */
    DEPTH = 32           /* of a product                                     */
};

template <int n_states> struct ended_head {
    struct mamba2_layer_state state;
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    int8_t *x;      /* [HEADDIM][STRIDE]: x^, then v^                      */
    int8_t *turned; /* [n_states][STRIDE]: B^                              */
    int h, group, lane;
    int p0; /* the warp's first channel */

    /* Of the lane's channel p0 + lane / 4 + 8 half: its first two states. */
    __device__ __forceinline__ size_t at(int half) const
    {
        return ((size_t)h * HEADDIM + p0 + lane / 4 + 8 * half) * n_states +
               lane % 4 * 2;
    }
};

/* The lane's states: 2 of each 8 of two channels. */
template <int n_states> struct some_states {
    float2 s[n_states / 8][2];
};

/* ---- loading ------------------------------------------------------------- */

/* Four bytes of row s of a matrix, to column s of four rows. */
static __device__ __forceinline__ void store_turned(int8_t *to, uint32_t four)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        to[i * STRIDE] = (int8_t)(uint8_t)(four >> 8 * i);
}

/* Turns the rows of a chunk, n bytes of each. */
static __device__ __forceinline__ void
load_turned(int8_t *to, const int8_t *from, int stride, int n)
{
#pragma unroll 4
    for (int i = threadIdx.x; i < CHUNK * n / 4; i += THREADS) {
        int s = i % CHUNK, k = i / CHUNK * 4;
        store_turned(to + k * STRIDE + s,
                     *(const uint32_t *)(from + (size_t)s * stride + k));
    }
}

template <int n_states>
static __device__ __forceinline__ void
load_states(some_states<n_states> &old, const ended_head<n_states> &k)
{
#pragma unroll
    for (int j = 0; j < n_states / 8; j++) {
#pragma unroll
        for (int half = 0; half < 2; half++)
            old.s[j][half] =
                __ldcs((const float2 *)(k.state.s + k.at(half) + j * 8));
    }
}

/* ---- v^ ------------------------------------------------------------------ */

/* x^ of the warp's channels becomes v^; the scales of the lane's two. */
template <int n_states>
static __device__ __forceinline__ void weigh(const ended_head<n_states> &k,
                                             float scales[2])
{
    const float *w = k.state.w + k.h * CHUNK + k.lane;
    float w0 = w[0], w1 = w[WARP];
#pragma unroll 4
    for (int i = 0; i < 16; i++) {
        int8_t *x = k.x + (k.p0 + i) * STRIDE + k.lane;
        float low = (float)x[0] * w0, high = (float)x[WARP] * w1;
        struct exact_scale s = exact_scale_of_products(
            warp_max(max(magnitude_bits(low), magnitude_bits(high))));
        bool is_zero = s.scale == 0.0f;
        x[0] = is_zero ? 0 : exact_quantise(low, s.inverse);
        x[WARP] = is_zero ? 0 : exact_quantise(high, s.inverse);
        if (k.lane / 4 == i % 8)
            scales[i / 8] = s.scale;
    }
    __syncwarp(); /* v^ is written */
}

/* ---- the states ---------------------------------------------------------- */

/* sum[i] of states n0 + 8 i: v^ B^ of the warp's channels. */
template <int n_states>
static __device__ __forceinline__ void
multiply(int32_t sum[2][4], const ended_head<n_states> &k, int n0)
{
#pragma unroll
    for (int d = 0; d < CHUNK; d += DEPTH) {
        uint32_t a[4], b[4];
        load_matrices(a, k.x + (k.p0 + k.lane % 16) * STRIDE + d +
                             k.lane / 16 * 16);
        load_matrices(b, k.turned +
                             (n0 + k.lane % 8 + k.lane / 16 * 8) * STRIDE + d +
                             k.lane / 8 % 2 * 16);
        product_16x8x32(sum[0], a, b);
        product_16x8x32(sum[1], a, b + 2);
    }
}

static __device__ __forceinline__ uint16_t
quantised2(float2 x, const struct exact_scale &s)
{
    if (s.scale == 0.0f)
        return 0;
    return (uint16_t)((uint8_t)exact_quantise(x.x, s.inverse) |
                      (uint8_t)exact_quantise(x.y, s.inverse) << 8);
}

/* Adds the chunk to the lane's states; amax: of its two channels. */
template <int n_states>
static __device__ __forceinline__ void
add_chunk(some_states<n_states> &s, const ended_head<n_states> &k, float e,
          const float scales[2], uint32_t amax[2])
{
#pragma unroll
    for (int j = 0; j < n_states / 8; j += 2) {
        int32_t sum[2][4] = {};
        multiply(sum, k, j * 8);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int half = i % 2;
            float2 &x = s.s[j + i / 2][half];
            const int32_t *c = &sum[i / 2][half * 2];
            x.x = exact_state(e, x.x, c[0], scales[half]);
            x.y = exact_state(e, x.y, c[1], scales[half]);
            amax[half] =
                max(amax[half], max(magnitude_bits(x.x), magnitude_bits(x.y)));
        }
    }
}

template <int n_states>
static __device__ __forceinline__ void
store_states(const some_states<n_states> &s, const ended_head<n_states> &k,
             const uint32_t amax[2])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        struct exact_scale scale =
            exact_scale_of_products(lanes_max<4>(amax[half]));
        size_t at = k.at(half);
#pragma unroll
        for (int j = 0; j < n_states / 8; j++) {
            __stcs((float2 *)(k.state.s + at + j * 8), s.s[j][half]);
            *(uint16_t *)(k.state.s_q + at + j * 8) =
                quantised2(s.s[j][half], scale);
        }
        if (k.lane % 4 == 0)
            k.state.s_scale[at / n_states] = scale.scale;
    }
}

/* ---- the kernel ---------------------------------------------------------- */

template <int n_states>
static __device__ __forceinline__ void end_chunk(const ended_head<n_states> &k)
{
    some_states<n_states> s;
    float scales[2] = {};
    uint32_t amax[2] = {};
    load_states(s, k);
    load_turned(k.x, k.state.x + k.h * HEADDIM, k.b.d_inner, HEADDIM);
    load_turned(k.turned, k.state.b + k.group * n_states,
                k.m.n_groups * n_states, n_states);
    __syncthreads(); /* x^ and B^ are there */
    weigh(k, scales);
    add_chunk(s, k, k.state.e[k.h], scales, amax);
    store_states(s, k, amax);
    __syncthreads(); /* v^ and B^ are read */
}

template <int n_states>
static __global__ void __launch_bounds__(THREADS)
    end_chunks(struct prefill_batch b, struct mamba2_batch m,
               struct chain_rows rows)
{
    __shared__ __align__(128) int8_t x[HEADDIM * STRIDE];
    __shared__ __align__(128) int8_t turned[n_states * STRIDE];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    await_previous();
    const int n = rows.ended[0] * b.n_layer * m.n_heads;
    for (int i = blockIdx.x; i < n; i += gridDim.x) {
        int h = i % m.n_heads, layer = i / m.n_heads % b.n_layer;
        int row = rows.ended[1 + i / m.n_heads / b.n_layer];
        end_chunk<n_states>(
            {mamba2_layer_state(b.slots->spans[row].image, m.state, layer), b,
             m, x, turned, h, h / (m.n_heads / m.n_groups), lane, warp * 16});
    }
}

enum status launch_chain_states(struct queue q, const struct prefill_batch *b,
                                const struct mamba2_batch *m,
                                const struct chain_rows *rows)
{
    return launch(
        "the ends of chunks", q, dim3(b->n_processors * BLOCKS_EACH), THREADS,
        0, b->d_state == 64 ? end_chunks<64> : end_chunks<128>, *b, *m, *rows);
}
