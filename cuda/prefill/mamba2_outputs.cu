/* mamba2_outputs.cu -- v of Mamba-2, a block some heads of a chunk.
 *
 * All chunks are independent: mamba2_states.cu has left S^ at the start of
 * each.  A warp has 16 bytes of the chunk.  It computes g once for the block's
 * heads, which share B and C, and keeps m^ in registers, where the sums of one
 * product lie as the next one wants them (mamba2_chunk.cuh).
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/float4.cuh"
#include "cuda/prefill/mamba2_outputs_mix.cuh"

/* ---- v ------------------------------------------------------------------- */

/* Sums of m^ x^ and of C^ S^, of 16 bytes and 16 channels, `first` on. */
struct output_sums {
    int32_t mixed[2][4], read[2][4]; /* even, odd channels */
};

template <class S>
static __device__ __forceinline__ void
multiply(struct output_sums &sums, const struct outputs_job &job, int i,
         int first, int t0, const uint32_t left[BYTE_STEPS][4])
{
    const struct mamba2_batch &m = job.m;
    const uint4 *s =
        (const uint4 *)(job.shared + job.at.s +
                        (i * m.tiles + first / SIDE) * m.state_tiles * S_TILE);
    int d_state = S::d_state(job.b);
    int lane = threadIdx.x % WARP, stride = job.at.bc_stride;
    const int8_t *c =
        job.shared + job.at.c + (t0 + lane % 16) * stride + lane / 16 * 16;
    __syncwarp(); /* matrices are loaded, and multiplied, by a whole warp */
    const int4 start = job.scalars->start;
#pragma unroll
    for (int k = 0; k < BYTE_STEPS; k++) {
        if (k * DEPTH > t0)
            break;
        uint32_t r[4], right[2][2];
        load_turned(r, job.x(i), job.at.x_stride, k * DEPTH, first);
        split_turned(right[0], right[1], r);
        if (k == 0) {
            product_16x8x32(sums.mixed[0], start, left[k], right[0]);
            product_16x8x32(sums.mixed[1], start, left[k], right[1]);
            continue;
        }
        product_16x8x32(sums.mixed[0], left[k], right[0]);
        product_16x8x32(sums.mixed[1], left[k], right[1]);
    }
#pragma unroll
    for (int n = 0; n < d_state; n += STATE_TILE, s += 2 * WARP) {
        uint4 even = s[lane], odd = s[WARP + lane];
        const uint32_t right[2][2][2] = {{{even.x, even.y}, {odd.x, odd.y}},
                                         {{even.z, even.w}, {odd.z, odd.w}}};
#pragma unroll
        for (int k = 0; k < STATE_TILE / DEPTH; k++) {
            if (n + k * DEPTH >= d_state)
                break;
            uint32_t a[4];
            load_matrices(a, c + n + k * DEPTH);
            if (n + k == 0) {
                product_16x8x32(sums.read[0], start, a, right[k][0]);
                product_16x8x32(sums.read[1], start, a, right[k][1]);
                continue;
            }
            product_16x8x32(sums.read[0], a, right[k][0]);
            product_16x8x32(sums.read[1], a, right[k][1]);
        }
    }
}

/* One of a lane's two bytes, for one head.  Where it is not in the span, the
 * addresses are those of one that is. */
struct output_byte {
    bool is_there;
    float mixed_scale, read_scale, x_scale;
    const float *gate; /* of the lane's first channel, as the next two      */
    float *v;
    const int8_t *x;
    ptrdiff_t at;  /* [row][n_heads]                                         */
    float largest; /* or a NaN */
};

static __device__ __forceinline__ struct output_byte
output_byte_of(const struct outputs_job &job, int i, int t, int headdim,
               float m_scale)
{
    const struct chunk_scalars *scalars = job.scalars;
    struct output_byte byte;
    int in_span = min(max(t, job.chunk.place), job.chunk.end - 1);
    int h = job.first + i, first = (int)threadIdx.x % 4 * 4;
    size_t row = job.chunk.row + in_span;
    byte.is_there = in_span == t;
    byte.mixed_scale = m_scale * scalars->c_scale[t];
    byte.read_scale = scalars->read_scale[i][t];
    byte.x_scale = scalars->x_scale[i][t];
    byte.gate = job.b.uz + row * job.m.zx_stride + h * headdim + first;
    byte.v = job.b.u + row * job.b.d_inner + h * headdim + first;
    byte.x = job.x(i) + t * job.at.x_stride + first;
    byte.at = row * job.m.n_heads + h;
    byte.largest = 0.0f;
    return byte;
}

/* v of four channels, of byte `half` of the lane. */
static __device__ __forceinline__ float4 value(const struct output_sums &sums,
                                               int half,
                                               const struct output_byte &byte,
                                               uint32_t x, float4 gate,
                                               float4 d, float4 s_scale)
{
    float4 y =
        scaled(values_of(sums.mixed[0], sums.mixed[1], half), byte.mixed_scale);
    y = fused(values_of(sums.read[0], sums.read[1], half),
              scaled(s_scale, byte.read_scale), y);
    float4 own =
        make_float4(byte_of(x, 0), byte_of(x, 1), byte_of(x, 2), byte_of(x, 3));
    y = fused(d, scaled(own, byte.x_scale), y);
    return product(y, gate);
}

/* Squares of a head as the 64 sums of exact.h, of which a lane has number
 * 16 i + lane % 4 * 4 + k, k = x, y, z, w, for i = 0 to 3.  Where each has one
 * square, those of i = 0 and 2, and of 1 and 3, are added at once. */
template <int n> struct square_sums {
    float4 at[n];

    __device__ __forceinline__ void add(int i, float4 v)
    {
        float4 &sum = at[i % n];
        sum = n == BLOCKS ? fused(v, v, sum) : plus(sum, product(v, v));
    }
};

static __device__ __forceinline__ float
total_of(const square_sums<BLOCKS / 2> &s)
{
    float4 sum = plus(s.at[0], s.at[1]);
#pragma unroll
    for (int i = 2; i > 0; i /= 2) {
        sum.x += __shfl_xor_sync(WHOLE_WARP, sum.x, i);
        sum.y += __shfl_xor_sync(WHOLE_WARP, sum.y, i);
        sum.z += __shfl_xor_sync(WHOLE_WARP, sum.z, i);
        sum.w += __shfl_xor_sync(WHOLE_WARP, sum.w, i);
    }
    return (sum.x + sum.z) + (sum.y + sum.w);
}

static __device__ __forceinline__ float total_of(const square_sums<BLOCKS> &s)
{
    square_sums<BLOCKS / 2> half = {plus(s.at[0], s.at[2]),
                                    plus(s.at[1], s.at[3])};
    return total_of(half);
}

/* The largest magnitude of four, or a NaN. */
static __device__ __forceinline__ float largest_of(float4 x)
{
    return max_nan(max_nan(fabsf(x.x), fabsf(x.y)),
                   max_nan(fabsf(x.z), fabsf(x.w)));
}

/* silu(z) of four channels of both bytes of a lane. */
struct gates {
    float4 at[2];
};

/* Of the lane's channels of 16, `first` on. */
template <class S>
static __device__ __forceinline__ struct gates
gates_of(const struct outputs_job &job, const struct output_byte bytes[2],
         int first)
{
    struct gates gates;
    int own = (int)threadIdx.x % 4 * 4;
    bool has_channels = !S::is_any || first + own < job.m.headdim;
#pragma unroll
    for (int half = 0; half < 2; half++)
        gates.at[half] =
            *(const float4 *)(bytes[half].gate + (has_channels ? first : -own));
    return gates;
}

/* v of 16 channels of head i, `first` on; k: number of the 16 in their 64. */
template <class S>
static __device__ __forceinline__ void
run_channels(const struct outputs_job &job, int i, int first, int k, int t0,
             const struct mixed &mixed, const struct gates &gates,
             struct output_byte bytes[2],
             square_sums<S::square_slots> squares[2])
{
    int headdim = S::headdim(job.m), own = (int)threadIdx.x % 4 * 4;
    bool has_channels = !S::is_any || first + own < headdim;
    int at = has_channels ? first : -own; /* of the lane's first in the head */
    int channel = (job.first + i) * headdim + at + own;
    float4 d = __ldg((const float4 *)(job.d + channel));
    float4 norm = __ldg((const float4 *)(job.norm + channel));
    float4 s_scale =
        *(const float4 *)((const float *)(job.shared + job.at.s_scale) +
                          i * job.m.tiles * SIDE + at + own);
    struct output_sums sums;
    multiply<S>(sums, job, i, first, t0, mixed.left);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        struct output_byte &byte = bytes[half];
        uint32_t x = *(const uint32_t *)(byte.x + at);
        float4 v = value(sums, half, byte, x, gates.at[half], d, s_scale);
        if (byte.is_there && has_channels)
            *(float4 *)(byte.v + at) = v;
        v = has_channels ? v : zero4();
        squares[half].add(k, v);
        byte.largest = max_nan(byte.largest, largest_of(product(v, norm)));
    }
}

/* 0, 2, 1, 3 */
static __device__ __forceinline__ constexpr int turn_of(int order)
{
    return order % 2 * 2 + order / 2;
}

/* v of 16 bytes of head i, with what the norm needs of it.  silu(z) of the next
 * channels is on its way while those before are computed. */
template <class S>
static __device__ __forceinline__ void run_head(const struct outputs_job &job,
                                                int i, int t0,
                                                const struct mixed &mixed)
{
    int lane = threadIdx.x % WARP, headdim = S::headdim(job.m);
    struct output_byte bytes[2];
#pragma unroll
    for (int half = 0; half < 2; half++)
        bytes[half] = output_byte_of(job, i, t0 + lane / 4 + 8 * half, headdim,
                                     mixed.scales[half]);
    square_sums<S::square_slots> squares[2] = {};
    struct gates gates = gates_of<S>(job, bytes, 0);
    for (int from = 0; from < (S::is_any ? headdim : 1);
         from += BLOCKS * SIDE) {
#pragma unroll
        for (int order = 0; order < BLOCKS; order++) {
            int k = turn_of(order), next = turn_of((order + 1) % BLOCKS);
            next = from + next * SIDE + (order + 1) / BLOCKS * BLOCKS * SIDE;
            struct gates now = gates;
            if (S::is_any ? next < headdim : order + 1 < BLOCKS)
                gates = gates_of<S>(job, bytes, next);
            if (!S::is_any || from + k * SIDE < headdim)
                run_channels<S>(job, i, from + k * SIDE, k, t0, mixed, now,
                                bytes, squares);
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const struct output_byte &byte = bytes[half];
        float sum = total_of(squares[half]);
        uint32_t largest = lanes_max<4>(magnitude_bits(byte.largest));
        if (lane % 4 == 0 && byte.is_there) {
            job.m.squares[byte.at] = sum;
            job.m.largest[byte.at] = largest;
        }
    }
}

/* ---- a chunk ------------------------------------------------------------- */

template <class S>
static __global__ void __launch_bounds__(THREADS, S::is_any ? 2 : 4)
    run_chunks(struct prefill_batch b, struct mamba2_batch m, struct tick tick)
{
    extern __shared__ __align__(128) int8_t shared[];
    __shared__ struct chunk_scalars scalars;
    int layer = tick.first + blockIdx.z;
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    if ((int)blockIdx.y >= mb->n_chunks)
        return;
    int number = find_span<&span::chunk>(mb, blockIdx.y, mb->n_chunks);
    const struct span span = mb->spans[number];
    int index = blockIdx.y - span.chunk;
    size_t layer_row = (size_t)layer * b.rows;
    int first = blockIdx.x * m.heads_together;
    await_previous();

    const struct outputs_job job = {
        b,
        m,
        b.layers[layer].d,
        b.layers[layer].gate_norm,
        mamba2_layer_state(span.image, m.state, layer),
        chunk_of_span(span, m.places[layer_row + number], index, layer_row),
        index == 0 ? -1 : (ptrdiff_t)layer * m.starts + blockIdx.y - number - 1,
        outputs_memory_of(&m, b.d_state, m.heads_together),
        shared,
        &scalars,
        first,
        m.heads_together,
        m.n_groups == 1 ? 0 : first / (m.n_heads / m.n_groups)};
    if (job.chunk.end <= job.chunk.place)
        return;
    start_fetch<S>(job);
    ask_for_gates(job);
    int i = threadIdx.x / CHUNK, s = threadIdx.x % CHUNK;
    bool is_walker = i < job.n_heads;
    struct walk walk = {};
    if (is_walker)
        walk = start_walk(job, i, s);
    if (threadIdx.x == 0)
        scalars.start = make_int4(SUM_START, SUM_START, SUM_START, SUM_START);
    __syncthreads();
    if (is_walker)
        walk_chunk(job, walk, i, s);
    copy_wait<0>();
    __syncthreads();
    int t0 = threadIdx.x / WARP * SIDE;
    if (t0 >= job.chunk.end || t0 + SIDE <= job.chunk.place)
        return;
    float g[CHUNK / 8][4];
    multiply_bc(job, t0, S::d_state(job.b), g);
    static_assert(HEADS == 2, "there is one after the first");
    struct mixed mixed = mix(job, 0, t0, g), next = {};
    if (job.n_heads > 1)
        next = mix(job, 1, t0, g);
#pragma unroll 1 /* half the code, which is read once a block */
    for (int k = 0; k < job.n_heads; k++) {
        run_head<S>(job, k, t0, mixed);
        mixed = next;
    }
}

/* ---- launches ------------------------------------------------------------ */

typedef void outputs_kernel(struct prefill_batch, struct mamba2_batch,
                            struct tick);

static outputs_kernel *kernel_of(const struct prefill_batch *b,
                                 const struct mamba2_batch *m)
{
    if (m->headdim == 64 && b->d_state == 64)
        return run_chunks<head_shape<64, 64>>;
    if (m->headdim == 64 && b->d_state == 128)
        return run_chunks<head_shape<64, 128>>;
    return run_chunks<head_shape<0, 0>>;
}

enum status launch_mamba2_outputs(struct queue q, const struct prefill_batch *b,
                                  const struct mamba2_batch *m,
                                  struct tick tick)
{
    dim3 grid(m->n_heads / m->heads_together, tick.chunks, tick.count);
    return launch("the recurrence", q, grid, THREADS,
                  outputs_memory_of(m, b->d_state, m->heads_together).n_bytes,
                  kernel_of(b, m), *b, *m, tick);
}

/* Heads of a block are of one group. */
enum status mamba2_outputs_check(const struct prefill_batch *b,
                                 struct mamba2_batch *m)
{
    auto n_bytes = [&] {
        return outputs_memory_of(m, b->d_state, m->heads_together).n_bytes +
               (int)sizeof(struct chunk_scalars);
    };
    m->heads_together = m->n_heads / m->n_groups % HEADS == 0 ? HEADS : 1;
    if (n_bytes() > b->max_shared)
        m->heads_together = 1;
    return mamba2_check_shared(b, m, n_bytes());
}

enum status mamba2_outputs_prepare(const struct prefill_batch *b,
                                   struct mamba2_batch *m)
{
    TRY(mamba2_outputs_check(b, m));
    return cuda_status(
        cudaFuncSetAttribute(
            kernel_of(b, m), cudaFuncAttributeMaxDynamicSharedMemorySize,
            outputs_memory_of(m, b->d_state, m->heads_together).n_bytes),
        "the recurrence");
}
