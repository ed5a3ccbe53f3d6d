/* chain_heads.cu -- a byte of a stream through the mixer of a layer of
 * Mamba-2, without clusters or where chain_streams.cu has too little shared
 * memory: a block a stream, a warp a head at a time.
 *
 * What is read of a state does not depend on the byte, so that it is on its
 * way before in_proj has ended: S^ to registers, x^ to the L2 cache.  Some
 * warps make B^ and C^ for all.  Then a warp needs nothing of other heads until
 * v is complete, and each warp finds the norm for itself.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/chain_norm.cuh"
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

/* x^ of the byte, to the state. */
static __device__ __forceinline__ void
keep_byte(const struct byte_block &k, const struct head_byte &byte, int h)
{
    store_pair(k.state.x + (size_t)k.place * k.b.d_inner + h * HEADDIM +
                   2 * k.lane,
               byte.x);
}

/* Heads `warp`, warp + n_warps, ..; of the first one x^ is made.  What the next
 * one needs is on its way while a head ends. */
template <int n_states>
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
        int2 read = read_states<n_states>(k, rows, h, group);
        load_bytes(rows, k, h);
        float m_scale = mix<false>(k, in, byte, scores, h, group);
        int2 mixed = mix_bytes(k, rows, byte);
        const struct head_output out = in.out;
        struct head_zx zx;
        __syncwarp(); /* m^ is read */
        if (next < k.m.n_heads) {
            start_rows<n_states>(rows, k, next);
            load_head(in, k, next);
            zx = load_zx(k, next);
        }
        read_out(k, out, byte, m_scale, mixed, read, h, group);
        if (next >= k.m.n_heads)
            return;
        h = next;
        keep_head_past(k, in, zx, h);
        byte = convolve_head(in, zx);
        keep_byte(k, byte, h);
    }
}

/* ---- the kernel ---------------------------------------------------------- */

/* Before await_previous it reads nothing that a kernel of this launch wrote,
 * but the rows: the first norm has waited for the kernel that wrote them. */
template <int n_states>
static __global__ void __launch_bounds__(WARPS_MAX *WARP)
    take_byte(struct prefill_batch b, struct mamba2_batch m,
              struct chain_rows rows, struct cuda_layer layer, struct tick tick)
{
    extern __shared__ __align__(128) char shared[];
    const struct byte_block k =
        block_of(b, m, layer, tick, stream_of(b, rows, blockIdx.x),
                 memory_of(m, b.d_inner, b.d_state), shared);
    const bool has_vector = k.warp < 2 * m.n_groups;
    const bool has_decays = k.warp == k.n_warps - 1;
    vector_input<n_states> vector;
    struct head_input in;
    struct head_rows head;
    fetch_b(k, n_states);
    start_rows<n_states>(head, k, k.warp);
    load_head(in, k, k.warp);
    if (has_vector)
        load_vector(vector, k, vector_at(k, k.warp));
    if (has_decays)
        prefetch_line(k.state.e + min(k.lane, m.n_heads - 1));
#pragma unroll 1
    for (int h = k.warp + k.n_warps; h < m.n_heads; h += k.n_warps)
        prefetch_head(k, h);
    await_previous();

    const struct head_zx zx = load_zx(k, k.warp);
    if (has_vector)
        convolve_vectors<n_states>(k, vector);
    if (has_decays)
        find_decays(k);
    keep_head_past(k, in, zx, k.warp);
    struct head_byte byte = convolve_head(in, zx);
    keep_byte(k, byte, k.warp);
    copy_wait<0>();
    __syncthreads(); /* B^, C^ and the decays are there */
    take_heads<n_states>(k, in, head, byte);
    __syncthreads(); /* v is there, with its squares and maxima */
    norm_quantise(k);
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
    return memory_of(*m, b->d_inner, b->d_state).mix + warps * CHUNK;
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

bool chain_heads_fit(const struct prefill_batch *b,
                     const struct mamba2_batch *m)
{
    return shared_of(b, m, WARPS_MAX) <= (size_t)b->max_shared;
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
