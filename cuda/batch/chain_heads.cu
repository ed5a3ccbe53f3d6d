/* chain_heads.cu -- a byte of a stream through the mixer of a layer of
 * Mamba-2: a block a stream, a warp a head at a time.
 *
 * What is read of a state does not depend on the byte, so that it is on its
 * way to registers before the product before has ended.  Some warps make B^ and
 * C^ for all.  Then a warp needs nothing of other heads until v is complete,
 * and each warp finds the norm for itself.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/chain_sums.cuh"

enum { WARPS_MAX = 16 };

/* ---- v ------------------------------------------------------------------- */

/* The sum of squares of the head in the order of exact.h: channels 32 apart
 * first, then 16, and so on. */
static __device__ __forceinline__ float sum_squares(const float v[2])
{
    float a = v[0] * v[0], b = v[1] * v[1];
#pragma unroll
    for (int s = 2; s >= 1; s /= 2) {
        a += __shfl_xor_sync(WHOLE_WARP, a, s);
        b += __shfl_xor_sync(WHOLE_WARP, b, s);
    }
    a += b;
#pragma unroll
    for (int s = 16; s >= 4; s /= 2)
        a += __shfl_xor_sync(WHOLE_WARP, a, s);
    return a;
}

/* v of the head, and what the norm has to know of it. */
static __device__ __forceinline__ void read_out(const struct byte_block &k,
                                                const struct head_input &in,
                                                const struct head_byte &byte,
                                                float m_scale, int2 mixed,
                                                int2 read, int h, int group)
{
    const float c_scale = k.floats(k.at.c_scale)[group];
    const float e = k.floats(k.at.e)[h];
    const int sums[2] = {mixed.x, mixed.y}, reads[2] = {read.x, read.y};
    float v[2];
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float y = (float)sums[i] * (m_scale * c_scale);
        y = fmaf((float)reads[i], in.s_scale[i] * (c_scale * e), y);
        y = fmaf(in.d[i], (float)byte.x[i] * byte.x_scale, y);
        v[i] = y * byte.gate[i];
        k.floats(k.at.v)[h * HEADDIM + k.first + 8 * i] = v[i];
        largest = max(largest, magnitude_bits(v[i] * in.norm[i]));
    }
    float squares = sum_squares(v);
    largest = warp_max(largest);
    if (k.lane == 0) {
        k.floats(k.at.squares)[h] = squares;
        ((uint32_t *)k.floats(k.at.largest))[h] = largest;
    }
}

/* Heads `warp`, warp + n_warps, ..; of the first one x^ is made. */
template <int n_states>
static __device__ __forceinline__ void take_heads(const struct byte_block &k,
                                                  struct head_input &in,
                                                  struct head_byte byte)
{
    int2 scores = {};
    int scored = -1, h = k.warp;
#pragma unroll 1
    for (;;) {
        const int group = k.group_of(h), next = h + k.n_warps;
        if (group != scored)
            scores = score<n_states>(k, group);
        scored = group;
        int2 read = read_states<n_states>(k, in, h, group);
        float m_scale = mix(k, in, byte, scores, h, group);
        int2 mixed = mix_bytes(k, in, byte);
        read_out(k, in, byte, m_scale, mixed, read, h, group);
        if (next >= k.m.n_heads)
            return;
        h = next;
        load_head<n_states>(in, k, h);
        byte = convolve_head(k, in, h);
    }
}

/* ---- the norm ------------------------------------------------------------ */

/* The sum of n squares, and the largest of n magnitudes, by a warp. */
static __device__ __forceinline__ float sum_heads(const float *squares, int n,
                                                  int lane)
{
    float low = 0.0f, high = 0.0f;
#pragma unroll 1
    for (int i = lane; i < n; i += EXACT_LANES) {
        low += squares[i];
        if (i + WARP < n)
            high += squares[i + WARP];
    }
    return strided_sum(low, high);
}

static __device__ __forceinline__ float largest_head(const uint32_t *largest,
                                                     int n, int lane)
{
    uint32_t most = 0;
#pragma unroll 1
    for (int i = lane; i < n; i += WARP)
        most = max(most, largest[i]);
    return exact_float(warp_max(most));
}

/* r of the group whose number is the lane's; and the scale of the row. */
static __device__ __forceinline__ float norm_groups(const struct byte_block &k,
                                                    struct exact_scale *scale)
{
    const int n = k.heads_each;
    const float *squares = k.floats(k.at.squares);
    const uint32_t *largest = (const uint32_t *)k.floats(k.at.largest);
    uint32_t amax = 0;
    float mine = 0.0f;
#pragma unroll 1
    for (int group = 0; group < k.m.n_groups; group++) {
        float mean =
            sum_heads(squares + group * n, n, k.lane) / (float)(n * HEADDIM);
        float r = 1.0f / sqrtf(mean + k.b.epsilon);
        float most = largest_head(largest + group * n, n, k.lane);
        amax = max(amax, magnitude_bits(most * r));
        mine = k.lane == group ? r : mine;
    }
    *scale = scale_of(amax);
    return mine;
}

/* u_q of the row, four channels a thread. */
static __device__ __forceinline__ void norm_quantise(const struct byte_block &k,
                                                     size_t row)
{
    struct exact_scale scale;
    float r = norm_groups(k, &scale);
    const int n = k.b.d_inner / 4;
    const float4 *v = (const float4 *)k.floats(k.at.v);
    const float4 *weight = (const float4 *)k.layer.gate_norm;
    uint32_t *q = (uint32_t *)(k.b.u_q + row * k.b.u_stride);
#pragma unroll 1
    for (int i0 = threadIdx.x - k.lane; i0 < n; i0 += blockDim.x) {
        int i = min(i0 + k.lane, n - 1);
        float inverse =
            __shfl_sync(WHOLE_WARP, r, k.group_of(i / (HEADDIM / 4))) *
            scale.inverse;
        float4 a = v[i], w = weight[i];
        uint32_t word = quantise4(
            make_float4(a.x * w.x, a.y * w.y, a.z * w.z, a.w * w.w), inverse);
        if (i0 + k.lane < n)
            q[i] = scale.scale == 0.0f ? 0 : word;
    }
    if (threadIdx.x == 0)
        k.b.u_scale[row] = scale.scale;
}

/* ---- the kernel ---------------------------------------------------------- */

/* Starts to copy B^ of the chunk so far to shared memory. */
static __device__ __forceinline__ void fetch_b(const struct byte_block &k,
                                               int d_state)
{
    int n = k.place * k.m.n_groups * d_state;
#pragma unroll 1
    for (int i = threadIdx.x * 16; i < n; i += blockDim.x * 16)
        copy16(k.bytes(k.at.b) + i, k.state.b + i, true);
    copy_commit();
}

/* Reads nothing that a kernel of this launch wrote before await_previous, but
 * the rows, which a kernel wrote that the first norm has waited for. */
template <int n_states>
static __global__ void __launch_bounds__(WARPS_MAX *WARP)
    take_byte(struct prefill_batch b, struct mamba2_batch m,
              struct chain_rows rows, struct cuda_layer layer, struct tick tick)
{
    extern __shared__ __align__(128) char shared[];
    const int t = blockIdx.x, warp = threadIdx.x / WARP;
    const int lane = threadIdx.x % WARP;
    const size_t row = (size_t)tick.first * b.rows + t;
    const struct byte_block k = {
        b,
        m,
        layer,
        mamba2_layer_state(b.slots->spans[t].image, m.state, tick.number),
        memory_of(m, b.d_inner, n_states),
        shared,
        b.uz + row * m.zx_stride,
        rows.places[t],
        warp,
        (int)blockDim.x / WARP,
        lane,
        lane / 4,
        lane % 4,
        lane % 4 * 16 + lane / 4,
        m.n_groups == 1 ? m.n_heads : m.n_heads / m.n_groups};
    const bool has_vector = warp < 2 * m.n_groups;
    vector_input<n_states> vector;
    struct head_input in;
    fetch_b(k, n_states);
    load_head<n_states>(in, k, warp);
    if (has_vector)
        load_conv(vector, k, vector_at(k, warp) + lane, WARP);
    if (warp == k.n_warps - 1)
        prefetch_line(k.state.e + min(lane, m.n_heads - 1));
#pragma unroll 1
    for (int h = warp + k.n_warps; h < m.n_heads; h += k.n_warps)
        prefetch_head(k, h);
    await_previous();

    if (has_vector)
        convolve_vectors<n_states>(k, vector);
    if (warp == k.n_warps - 1)
        find_decays(k);
    struct head_byte byte = convolve_head(k, in, warp);
    copy_wait<0>();
    __syncthreads(); /* B^, C^ and the decays are there */
    take_heads<n_states>(k, in, byte);
    __syncthreads(); /* v is there, with its squares and maxima */
    norm_quantise(k, row);
    if (threadIdx.x == 0)
        *k.state.place = (k.place + 1) % CHUNK;
}

typedef void heads_kernel(struct prefill_batch, struct mamba2_batch,
                          struct chain_rows, struct cuda_layer, struct tick);

static heads_kernel *kernel_of(const struct prefill_batch *b)
{
    return b->d_state == 64 ? take_byte<64> : take_byte<128>;
}

/* Few streams take as many warps as there are heads; of many, two blocks are
 * on a multiprocessor, so that one computes while the other waits.  Every warp
 * has a head. */
static int warps_of(const struct prefill_batch *b, const struct mamba2_batch *m,
                    int n_rows)
{
    int most = n_rows <= b->n_processors ? WARPS_MAX : WARPS_MAX / 2;
    int rounds = ceil_div(m->n_heads, most);
    return ceil_div(m->n_heads, rounds);
}

static size_t shared_of(const struct prefill_batch *b,
                        const struct mamba2_batch *m, int warps)
{
    return memory_of(*m, b->d_inner, b->d_state).rooms +
           warps * sizeof(struct warp_room);
}

enum status launch_chain_heads(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m,
                               const struct chain_rows *rows,
                               const struct cuda_layer *layer, struct tick tick)
{
    int warps = warps_of(b, m, tick.rows);
    return launch("the heads", q, dim3(tick.rows), warps * WARP,
                  shared_of(b, m, warps), kernel_of(b), *b, *m, *rows, *layer,
                  tick);
}

enum status chain_heads_prepare(const struct prefill_batch *b,
                                const struct mamba2_batch *m)
{
    return cuda_status(
        cudaFuncSetAttribute((const void *)kernel_of(b),
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)shared_of(b, m, WARPS_MAX)),
        "the heads");
}
