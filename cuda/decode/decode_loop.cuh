/* decode_loop.cuh -- one stream, byte by byte, in one persistent kernel:
 * everything but a layer.
 *
 * A launch takes many bytes through all layers.  M says how a layer is
 * computed: decode_kernel.cu has Mamba-1, decode_mamba2.cu Mamba-2.
 *
 * Every block has the logits, and draws the next byte for itself: the host only
 * starts launches and receives bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_LOOP_CUH
#define MAMBYTE_DECODE_LOOP_CUH

#include "cuda/common/overflow.cuh"
#include "cuda/decode/decode_kernel.cuh"
#include "cuda/decode/decode_product.cuh"
#include "cuda/decode/decode_vector.cuh"

/* logits <- the prediction from h, in every block. */
template <class M>
static __device__ __forceinline__ void predict(struct decode_block *block,
                                               uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const int n_layer = p->config.n_layer, n = M::d_model(block);
    weights_open(&block->weights, packed_in(&block->packed, n_layer));
    const float row_scale = share_float(block, block->weights.at,
                                        min(block->thread, p->n_logits - 1));
    weights_advance(&block->weights, p->head.float_bytes);
    weights_open(&block->weights, packed_norms(&block->packed, n_layer));
    /* wait for the grid: the norm needs all of h */
    receive(block, VECTOR_H, p->h_words, n,
            p->norm_bytes + next_bytes(&p->head, n, p->head.rows, 0),
            epoch - 1);
    const float scale =
        quantise(block, block->x, n, normalise(block, n), p->head.rows);
    check_finite(p->overflow, block->squares);
    weights_open(&block->weights,
                 packed_in(&block->packed, n_layer) + p->head.float_bytes);
    multiply<M>(block, &p->head, n, 0);
    free_weights(block);
    if (block->thread < block->n_logits) {
        const float logit =
            exact_dequantise(block->sums[block->thread], scale, row_scale);
        check_finite(p->overflow, logit);
        word_publish(p->logit_words + block->l0 + block->thread,
                     exact_logit(logit), epoch);
    }
    /* wait for the grid: the choice of a byte needs all logits */
    for (int i = block->thread; i < N_BYTES_VOCAB; i += N_THREADS)
        block->logits[i] = word_wait(p->logit_words + i, epoch);
    compute_barrier(); /* logits are complete */
}

/* All layers and lm_head, from h to logits. */
template <class M>
static __device__ __forceinline__ void decode_byte(struct decode_block *block,
                                                   float *image, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const int n_layer = p->config.n_layer;
    M::start(block, image);
    if (block->warp == WAITING_WARP)
        weights_wait(&block->weights, p->in.float_bytes + p->norm_bytes);
    compute_barrier(); /* h is complete, the first weights are there */
    weights_open(&block->weights, packed_in(&block->packed, 0));
    typename M::in in = M::begin(block, image);
#pragma unroll 1
    for (int l = 0; l < n_layer; l++)
        M::layer(block, l, &in, image, epoch++);
    predict<M>(block, epoch);
}

/* The byte to read next, given or drawn.  Reports it, or what it cost. */
static __device__ int next_byte(const struct decode_block *block,
                                const struct decode_job *job, int t)
{
    const bool is_first = block->packed.block == 0 && block->thread == 0;
    if (job->bytes != NULL) {
        const int byte =
            sample_choose(block->sample, &job->sampler, block->logits,
                          job->index + t, block->thread);
        if (is_first)
            job->bytes[t] = byte;
        return byte;
    }
    const int byte = job->given[t];
    if (job->bits != NULL && block->packed.block == 0) {
        const float cost =
            sample_cost(block->sample, block->logits, byte, block->thread);
        if (is_first)
            job->bits[t] = cost;
    }
    return byte;
}

template <class M>
static __device__ void decode_bytes(struct decode_block *block,
                                    const struct decode_job *job)
{
    const struct decode_plan *p = block->plan;
    const int d_model = M::d_model(block);
    uint32_t epoch = job->epoch;
    M::load(block, job->image);
#pragma unroll 1
    for (int t = 0; t < job->n; t++) {
        const int byte = next_byte(block, job, t);
        const float *embedding = p->embedding + (size_t)byte * d_model;
        for (int i = block->thread; i < d_model; i += N_THREADS)
            block->h[i] = embedding[i];
        decode_byte<M>(block, job->image, epoch + 1);
        epoch += p->config.n_layer + 1;
        if (job->logits != NULL && block->packed.block == 0) {
            for (int i = block->thread; i < N_BYTES_VOCAB; i += N_THREADS)
                job->logits[t * N_BYTES_VOCAB + i] = block->logits[i];
        }
    }
    M::store(block, job->image, job->n);
}

/* Clears the shared memory before the ring: the words of the cluster then have
 * an epoch that never comes, and q and dt are padded with zeros.  Then prepares
 * the ring. */
static __device__ void block_start(struct decode_block *block, uint8_t *memory,
                                   const struct decode_job *job,
                                   uint32_t *freed)
{
    const struct decode_plan *p = block->plan;
    for (int i = threadIdx.x; i < p->memory.full / 4; i += blockDim.x)
        ((uint32_t *)memory)[i] = 0;
    __syncthreads(); /* the zeros are there before the logits */
    for (int i = threadIdx.x; i < N_BYTES_VOCAB; i += blockDim.x)
        block->logits[i] = job->image[p->image.logits + i];
#ifdef HAS_RING
    struct weights *w = &block->weights;
    memset(w, 0, sizeof *w);
    w->ring = memory + p->memory.ring;
    w->full = (uint64_t *)(memory + p->memory.full);
    w->freed = freed;
    w->n_stages = p->memory.n_stages;
    w->ring_bytes = w->n_stages * STAGE_BYTES;
    if (threadIdx.x == 0) {
        *freed = 0;
        for (uint32_t i = 0; i < w->n_stages; i++)
            mbarrier_init(w->full + i);
        mbarrier_init(block->complete + VECTOR_V);
        mbarrier_init(block->complete + VECTOR_H);
        /* the copies and the cluster see the mbarriers */
        mbarrier_publish();
        fence_async_proxy();
    }
    if (p->cluster > 0)
        cluster_barrier(); /* words and mbarriers of all are ready */
#endif
    __syncthreads(); /* logits and mbarriers are there */
}

template <class M>
static __global__ void __launch_bounds__(BLOCK_THREADS, 1)
    decode_kernel(const __grid_constant__ struct decode_plan plan,
                  const __grid_constant__ struct decode_job job)
{
    extern __shared__ __align__(ARENA_ALIGN) uint8_t memory[];
    __shared__ __align__(16) uint32_t maxima[N_WARPS];
    __shared__ struct sample_scratch sample;
    __shared__ uint32_t freed;
    struct decode_block block = block_make(&plan, memory);
    block.maxima = maxima;
    block.sample = &sample;
    block_start(&block, memory, &job, &freed);
    if (block.warp == N_WARPS) {
#ifdef HAS_RING
        if (block.lane == 0)
            fetch_all(&block.weights, block.packed, job.n);
#endif
        return;
    }
    decode_bytes<M>(&block, &job);
    if (block.packed.block == 0) {
        for (int i = block.thread; i < N_BYTES_VOCAB; i += N_THREADS)
            job.image[plan.image.logits + i] = block.logits[i];
    }
}

#endif
