/* chain_heads.cu -- a byte of a stream through the mixer of a layer of
 * Mamba-2: a block a stream, a warp a head at a time.
 *
 * What is read of a state does not depend on the byte, so that it is on its
 * way before in_proj has ended.  Of few streams it is staged, where that fits:
 * bulk copies bring S^, x^ and B^ to shared memory, which leaves registers for
 * blocks of in_proj and out_proj on the same multiprocessor.  Else S^ goes to
 * registers and x^ to the L2 cache.  Some warps make B^ and C^ for all.  Then a
 * warp needs nothing of other heads until v is complete, and each warp finds
 * the norm for itself.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/chain_sums.cuh"

/* Before the byte is known: loads S^ of a head, and asks the L2 cache for x^,
 * which would take registers that spill. */
template <int n_states>
static __device__ __forceinline__ void
start_rows(struct head_rows &rows, const struct byte_block &k, int h)
{
    load_states<n_states>(rows, k, h, 0);
    prefetch_bytes(k, h);
}

/* ---- v ------------------------------------------------------------------- */

/* v of a channel. */
static __device__ __forceinline__ float value_of(int mixed, float m_scale,
                                                 int read, float s_scale,
                                                 float d, float x, float gate)
{
    float y = (float)mixed * m_scale;
    y = fmaf((float)read, s_scale, y);
    y = fmaf(d, x, y);
    return y * gate;
}

/* v of the head, and what the norm has to know of it.  The squares are added in
 * the order of exact.h: channels 32 apart first, .., neighbours last. */
static __device__ __forceinline__ void read_out(const struct byte_block &k,
                                                const struct head_output &out,
                                                const struct head_byte &byte,
                                                float m_scale, int2 mixed,
                                                int2 read, int h, int group)
{
    const float c_scale = k.floats(k.at.c_scale)[group];
    const float e = c_scale * k.floats(k.at.e)[h];
    float2 v;
    m_scale *= c_scale;
    v.x = value_of(mixed.x, m_scale, read.x, out.s_scale.x * e, out.d.x,
                   (float)byte.x.x * byte.x_scale, byte.gate.x);
    v.y = value_of(mixed.y, m_scale, read.y, out.s_scale.y * e, out.d.y,
                   (float)byte.x.y * byte.x_scale, byte.gate.y);
    ((float2 *)k.floats(k.at.v))[h * HEADDIM / 2 + k.lane] = v;
    float squares = warp_sum(v.x * v.x) + warp_sum(v.y * v.y);
    uint32_t largest =
        warp_max(magnitude2(make_float2(v.x * out.norm.x, v.y * out.norm.y)));
    if (k.lane == 0) {
        k.floats(k.at.squares)[h] = squares;
        ((uint32_t *)k.floats(k.at.largest))[h] = largest;
    }
}

/* x^ of the byte, to the state, and where the state is staged. */
template <bool is_staged>
static __device__ __forceinline__ void
keep_byte(const struct byte_block &k, const struct head_byte &byte, int h)
{
    store_pair(k.state.x + (size_t)k.place * k.b.d_inner + h * HEADDIM +
                   2 * k.lane,
               byte.x);
    if (is_staged)
        store_pair(k.bytes(k.at.x) + k.place * (k.b.d_inner + X_GAP) +
                       h * HEADDIM + 2 * k.lane,
                   byte.x);
}

/* Heads `warp`, warp + n_warps, ..; of the first one x^ is made.  What the next
 * one needs is on its way while a head ends. */
template <bool is_staged, int n_states>
static __device__ __forceinline__ void
take_heads(const struct byte_block &k, struct head_input &in,
           struct head_rows &rows, struct head_byte byte)
{
    int2 scores = {};
    int scored = -1, h = k.warp;
#pragma unroll 1
    for (;;) {
        const int group = k.group_of(h), next = h + k.n_warps;
        if (group != scored)
            scores = score<n_states>(k, group);
        scored = group;
        int2 read = read_states<is_staged, n_states>(k, rows, h, group);
        if (!is_staged)
            load_bytes(rows, k, h);
        float m_scale = mix<is_staged>(k, in, byte, scores, h, group);
        if (is_staged)
            take_bytes(rows, k, h);
        int2 mixed = mix_bytes<is_staged>(k, rows, byte);
        const struct head_output out = in.out;
        struct head_zx zx;
        __syncwarp(); /* m^ is read */
        if (next < k.m.n_heads) {
            if (!is_staged)
                start_rows<n_states>(rows, k, next);
            load_head(in, k, next);
            zx = load_zx(k, next);
        }
        read_out(k, out, byte, m_scale, mixed, read, h, group);
        if (next >= k.m.n_heads)
            return;
        h = next;
        byte = convolve_head(k, in, zx, h);
        keep_byte<is_staged>(k, byte, h);
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
static __device__ __forceinline__ void norm_quantise(const struct byte_block &k)
{
    struct exact_scale scale;
    float r = norm_groups(k, &scale);
    const int n = k.b.d_inner / 4;
    const float4 *v = (const float4 *)k.floats(k.at.v);
    const float4 *weight = (const float4 *)k.layer.gate_norm;
    uint32_t *q = (uint32_t *)(k.b.u_q + k.out_row * k.b.u_stride);
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
        k.b.u_scale[k.out_row] = scale.scale;
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

/* Starts to copy S^, and x^ and B^ of the chunk so far, to shared memory: by
 * one warp. */
static __device__ __forceinline__ void fetch_state(const struct byte_block &k,
                                                   int d_state)
{
#ifdef HAS_CLUSTER
    uint64_t *come = (uint64_t *)(k.shared + k.at.come);
    const int s = k.b.d_inner * d_state, x = k.b.d_inner;
    const int b = k.place * k.m.n_groups * d_state;
    if (k.lane == 0) {
        mbarrier_init(come);
        mbarrier_publish();
        mbarrier_expect(come, s + k.place * x + b);
        bulk_copy(k.bytes(k.at.s), k.state.s_q, s, come);
        if (b > 0)
            bulk_copy(k.bytes(k.at.b), k.state.b, b, come);
    }
    __syncwarp(); /* the mbarrier is made */
#pragma unroll 1
    for (int i = k.lane; i < k.place; i += WARP)
        bulk_copy(k.bytes(k.at.x) + i * (x + X_GAP), k.state.x + (size_t)i * x,
                  x, come);
#endif
}

static __device__ __forceinline__ void await_state(const struct byte_block &k)
{
#ifdef HAS_CLUSTER
    mbarrier_wait((uint64_t *)(k.shared + k.at.come), 0);
#endif
}

static __device__ __forceinline__ struct byte_block
block_of(const struct prefill_batch &b, const struct mamba2_batch &m,
         const struct cuda_layer &layer, const struct chain_rows &rows,
         const struct tick &tick, char *shared)
{
    const int t = blockIdx.x, lane = threadIdx.x % WARP;
    const size_t row = (size_t)tick.first * b.rows + t;
    return {b,
            m,
            layer,
            mamba2_layer_state(b.slots->spans[t].image, m.state, tick.number),
            memory_of(m, b.d_inner, b.d_state),
            shared,
            row,
            b.uz + row * m.zx_stride,
            rows.places[t],
            (int)threadIdx.x / WARP,
            (int)blockDim.x / WARP,
            lane,
            lane / 4,
            lane % 4,
            m.n_groups == 1 ? m.n_heads : m.n_heads / m.n_groups};
}

/* Before await_previous it reads nothing that a kernel of this launch wrote,
 * but the rows: the first norm has waited for the kernel that wrote them. */
template <bool is_staged, int n_states>
static __global__ void __launch_bounds__(is_staged ? STAGED_BOUND
                                                   : WARPS_MAX *WARP)
    take_byte(struct prefill_batch b, struct mamba2_batch m,
              struct chain_rows rows, struct cuda_layer layer, struct tick tick)
{
    extern __shared__ __align__(128) char shared[];
    const struct byte_block k = block_of(b, m, layer, rows, tick, shared);
    const bool has_vector = k.warp < 2 * m.n_groups;
    const bool has_decays = k.warp == k.n_warps - 1;
    vector_input<n_states> vector;
    struct head_input in;
    struct head_rows head;
    if (!is_staged) {
        fetch_b(k, n_states);
        start_rows<n_states>(head, k, k.warp);
    } else if (k.warp == k.n_warps / 2) {
        fetch_state(k, n_states);
    }
    load_head(in, k, k.warp);
    if (has_vector)
        load_vector(vector, k, vector_at(k, k.warp));
    if (has_decays)
        prefetch_line(k.state.e + min(k.lane, m.n_heads - 1));
#pragma unroll 1
    for (int h = k.warp + k.n_warps; h < m.n_heads; h += k.n_warps)
        prefetch_head<is_staged>(k, h);
    await_previous();

    const struct head_zx zx = load_zx(k, k.warp);
    if (has_vector)
        convolve_vectors<n_states>(k, vector);
    if (has_decays)
        find_decays(k);
    struct head_byte byte = convolve_head(k, in, zx, k.warp);
    keep_byte<is_staged>(k, byte, k.warp);
    if (!is_staged)
        copy_wait<0>();
    __syncthreads(); /* B^, C^ and the decays are there, and the mbarrier */
    if (is_staged)
        await_state(k);
    take_heads<is_staged, n_states>(k, in, head, byte);
    __syncthreads(); /* v is there, with its squares and maxima */
    norm_quantise(k);
    if (threadIdx.x == 0)
        *k.state.place = (k.place + 1) % CHUNK;
}

typedef void heads_kernel(struct prefill_batch, struct mamba2_batch,
                          struct chain_rows, struct cuda_layer, struct tick);

static heads_kernel *kernel_of(const struct prefill_batch *b, bool staged)
{
    if (staged)
        return b->d_state == 64 ? take_byte<true, 64> : take_byte<true, 128>;
    return b->d_state == 64 ? take_byte<false, 64> : take_byte<false, 128>;
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
                        const struct mamba2_batch *m, int warps, bool staged)
{
    struct heads_memory at = memory_of(*m, b->d_inner, b->d_state);
    return staged ? at.end : at.mix + warps * CHUNK;
}

enum status launch_chain_heads(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m,
                               const struct chain_rows *rows,
                               const struct cuda_layer *layer, struct tick tick)
{
    int warps = warps_of(b, m, tick.rows);
    bool staged = rows->can_stage && tick.rows <= b->n_processors;
    return launch("the heads", q, dim3(tick.rows), warps * WARP,
                  shared_of(b, m, warps, staged), kernel_of(b, staged), *b, *m,
                  *rows, *layer, tick);
}

static enum status prepare(const struct prefill_batch *b,
                           const struct mamba2_batch *m, bool staged)
{
    return cuda_status(
        cudaFuncSetAttribute((const void *)kernel_of(b, staged),
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)shared_of(b, m, WARPS_MAX, staged)),
        "the heads");
}

bool chain_heads_fit(const struct prefill_batch *b,
                     const struct mamba2_batch *m)
{
    return shared_of(b, m, WARPS_MAX, false) <= (size_t)b->max_shared;
}

enum status chain_heads_prepare(const struct prefill_batch *b,
                                const struct mamba2_batch *m, bool *can_stage)
{
    struct cudaFuncAttributes attributes;
    CUDA_TRY(cudaFuncGetAttributes(&attributes, kernel_of(b, true)),
             "the heads");
    *can_stage = attributes.ptxVersion >= 90 /* it has bulk copies */ &&
                 memory_of(*m, b->d_inner, b->d_state).end <= b->max_shared;
    if (*can_stage)
        TRY(prepare(b, m, true));
    return prepare(b, m, false);
}
