/* batch_kernel.cu -- the kernel of batch decode: the order of a layer, and when
 * a place may be overwritten.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/batch_kernel.cuh"

#include "cuda/batch/batch_conv.cuh"
#include "cuda/batch/batch_head.cuh"
#include "cuda/batch/batch_norm.cuh"
#include "cuda/batch/batch_projections.cuh"
#include "cuda/batch/batch_quantise.cuh"
#include "cuda/batch/batch_scan.cuh"

#ifdef HAS_CLUSTER

static_assert(NORM_GROUPS * sizeof(struct norm_words) <= NORM_BYTES,
              "the words of the norms have room");

/* A layer of a tile; names as in cpu_mamba1.c.  A block overwrites a place in
 * another block only when that block is done with it: it has received something
 * that the other sent after its last use of the place.
 *
 *   place    holds     reused by       the sender has received
 *   q        x         u               all maxima of u, sent after x was read
 *            u         y               all maxima of y, sent after u was read
 *            y         x, next layer   all of dv, sent after y was read
 *   maxima   of u      those of y      dt, B and C: made of all of u, which
 *                                      blocks send after reading maxima of u
 *            of y      those of u      all of x: made of all of dv
 *   dtbc     a layer   the next layer  all of u, sent after the last scan
 *   sums     x_proj    dv, same place  all of y, sent after x_proj
 *   dv       a layer   sums            (the block itself clears them, when it
 *                                      has read dv)
 *
 * The first layer of a tile does not wait for dv: tiles end with a barrier of
 * the cluster. */
template <class T>
static __device__ __forceinline__ void batch_layer(batch_block<T> &k, int layer)
{
    const struct batch_model &m = k.m;
    const bool is_last = layer + 1 == m.n_layer;
    const int maxima = m.size * k.n * (int)sizeof(uint32_t);
    in_stream<T> in;
    x_stream<T> x;
    out_stream<T> out;
    struct past_rows past;
    float s[BATCH_STATES], a[BATCH_STATES];

    copy_wait<0>();
    __syncthreads(); /* the resident part is there */
    load_past(past, k, layer, own_row(k));
    start_in(in, k, layer);
    if (!is_last)
        prefetch_weights(k, layer + 1);
    batch_norm(k, layer == 0, m.share.norm, m.share.norm_bias, NULL);
    batch_await(k, X_COMES, k.n * (m.d_model + (int)sizeof(float)));
    batch_in(in, k);
    __syncthreads(); /* u and z are written */
    ring_fill(k);
    batch_forget(k);
    batch_convolve(past, k, layer);
    __syncthreads(); /* u and its maxima are complete */
    batch_forget(k);
    tell_maxima(k, U_MAXIMA);
    clear_x(k);
    start_x(x, k, layer, 0);
    batch_await(k, U_MAXIMA, maxima);
    batch_quantise(k, U_COMES);
    batch_await(k, U_COMES, k.n * m.d_inner);
    batch_x(x, k, layer);
    load_states(s, k, layer, own_row(k));
#pragma unroll
    for (int i = 0; i < BATCH_STATES; i++)
        a[i] = ((const float *)(k.share(layer) +
                                m.share.a))[i * T::channels + own_channel(k)];
    batch_await(k, DTBC_COMES, k.n * m.dtbc_stride * (int)sizeof(float));
    quantise_dt(k);
    __syncthreads(); /* dt_q is written */
    batch_forget(k);
    batch_scan(k, layer, s, a);
    __syncthreads(); /* y and its maxima are complete */
    batch_forget(k);
    tell_maxima(k, Y_MAXIMA);
    if (!is_last)
        prefetch_states(k, layer + 1);
    start_out(out, k, layer);
    batch_await(k, Y_MAXIMA, maxima);
    batch_quantise(k, Y_COMES);
    batch_await(k, Y_COMES, k.n * m.d_inner);
    fetch_resident(k, is_last ? k.head_share() : k.share(layer + 1),
                   is_last ? m.head.units : m.share.a);
    batch_out(out, k, layer);
    batch_await(k, DV_COMES, k.n_own() * m.d_model * (int)sizeof(float));
}

template <class T>
static __device__ __forceinline__ void
batch_predict(batch_block<T> &k, const struct batch_job &job)
{
    copy_wait<0>();
    __syncthreads(); /* the resident part is there */
    batch_norm(k, false, k.m.head.norm, k.m.head.norm_bias, job.overflow);
    batch_await(k, X_COMES, k.n * (k.m.d_model + (int)sizeof(float)));
    batch_head_product(k, job);
    __syncwarp();
    cluster_barrier(); /* the logits are there, q has been read */
    batch_deliver(k, job);
}

template <class T>
static __device__ __forceinline__ void
enter_tile(batch_block<T> &k, const struct batch_job &job, int tile)
{
    k.row = tile * job.tile_rows;
    k.n = min(job.tile_rows, job.n_rows - k.row);
    k.own = ceil_div(k.n, k.m.size);
    __syncthreads(); /* images and bytes of the last tile are read */
    for (int i = k.thread; i < k.n; i += BATCH_THREADS) {
        k.template place<float *>(k.m.at.image)[i] = job.images[k.row + i];
        k.template place<uint8_t>(k.m.at.byte)[i] = job.bytes[k.row + i];
        k.template place<uint32_t>(k.m.at.amax)[i] = 0;
    }
    fetch_resident(k, k.share(0), k.m.share.a);
    __syncthreads(); /* images and bytes are written */
    prefetch_states(k, 0);
}
#endif

template <class T>
static __global__ void __launch_bounds__(BATCH_THREADS, 1)
    batch_decode(const __grid_constant__ struct batch_model m,
                 const __grid_constant__ struct batch_job job)
{
#ifdef HAS_CLUSTER
    const int n_tiles = ceil_div(job.n_rows, job.tile_rows);
    const int n_teams = gridDim.x / m.size;
    const int team = blockIdx.x / m.size;
    const int own_tiles = (n_tiles - team + n_teams - 1) / n_teams;
    batch_block<T> k = {m,
                        (int)blockIdx.x % m.size,
                        (int)threadIdx.x,
                        (int)threadIdx.x / WARP,
                        (int)threadIdx.x % WARP,
                        0,
                        0,
                        0,
                        0,
                        0,
                        0,
                        0,
                        own_tiles * m.n_layer * m.share.n_stages};
    if (threadIdx.x < EXCHANGES)
        mbarrier_init(k.template place<uint64_t>(m.at.come) + threadIdx.x);
    if (T::has_ring && threadIdx.x < m.at.ring_stages)
        mbarrier_init(k.template place<uint64_t>(m.at.full) + threadIdx.x);
    if (threadIdx.x == 0)
        *k.template place<int>(m.at.filled) = 0;
    cluster_barrier(); /* all blocks are here */
    ring_fill(k);
#pragma unroll 1
    for (int i = team; i < n_tiles; i += n_teams) {
        enter_tile(k, job, i);
#pragma unroll 1
        for (int layer = 0; layer < m.n_layer; layer++)
            batch_layer(k, layer);
        batch_predict(k, job);
    }
    __syncwarp();
    cluster_barrier(); /* nobody writes to a block that is gone */
#endif
}

template <class T> static struct batch_variant variant_of(void)
{
    struct batch_variant v = {batch_decode<T>, T::rows_max, T::uz_pitch,
                              T::has_ring, 0};
    return v;
}

void batch_choose_variants(struct batch_variant *few,
                           struct batch_variant *many, int channels)
{
    bool is_128 = channels == batch_128::channels;
    *few = is_128 ? variant_of<batch_128_few>() : variant_of<batch_256_few>();
    *many = is_128 ? variant_of<batch_128>() : variant_of<batch_256>();
}
