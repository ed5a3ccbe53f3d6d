/* decode_kernel.cu -- one stream, byte by byte, in one persistent kernel.
 *
 * A launch takes many bytes through all layers.  Every block keeps the residual
 * h and the state of its own channels.  A layer is
 *
 *   norm, quantise         every block, the whole of h
 *   in_proj, conv, silu    the block's channels            -> u to all
 *   quantise, x_proj       the block's rows of the cluster -> x to the cluster
 *   dt_proj, scan, gate    the block's channels            -> y to all
 *   quantise, out_proj     the block's rows of h           -> h to all
 *
 * So a block waits three times a layer for the whole grid, and once for its
 * cluster: a product needs all of a vector, and the last element may decide the
 * vector's scale.  Nothing else waits: see exchange.cuh, and for the weights
 * weight_stream.cuh.
 *
 * Every block has the logits, and draws the next byte for itself: the host only
 * starts launches and receives bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode_kernel.cuh"

#include "cuda/decode/decode_mixer.cuh"

/* Receives a vector in v, quantises and multiplies it; returns its scale. */
template <class S>
static __device__ __forceinline__ float
receive_and_multiply(struct decode_block *block, const struct matrix_share *m,
                     const uint64_t *words, int ahead, uint32_t epoch)
{
    const int n = S::d_inner(block);
    receive(block, VECTOR_V, words, n, next_bytes(m, n, m->rows, ahead), epoch);
    const float scale =
        quantise(block, block->v, n, share_amax(block, block->v, n), m->rows);
    multiply<S>(block, m, n, ahead);
    return scale;
}

/* A layer.  in: what in_begin() returned for it; then, for the next one. Phases
 * that have work for few warps give it to different ones, so that the other
 * warps can work ahead while the scan runs. */
template <class S>
static __device__ __forceinline__ void
decode_layer(struct decode_block *block, int layer, struct in_share *in,
             float *image, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const bool is_last = layer + 1 == p->config.n_layer;
    const struct matrix_share *next = is_last ? &p->head : &p->in;
    const int n = S::d_model(block);
    const int after_in = p->scan.bytes + p->x.float_bytes;

    /* in_proj */
    weights_advance(&block->weights, p->in.float_bytes);
    weights_open(&block->weights, packed_norms(&block->packed, layer));
    if (layer > 0)
        /* wait for the grid: the norm needs all of h */
        receive(block, VECTOR_H, p->h_words, n,
                p->norm_bytes + next_bytes(&p->in, n, p->in.rows, after_in),
                epoch - 1);
    float scale = quantise(block, block->x, n, normalise(block, n), p->in.rows);
    weights_open(&block->weights,
                 packed_in(&block->packed, layer) + p->in.float_bytes);
    multiply<S>(block, &p->in, n, after_in);
    free_weights(block);
    in_finish<S>(block, in, image, layer, scale, epoch);

    /* x_proj */
    struct scan_share share;
    weights_open(&block->weights, packed_scan(&block->packed, layer));
    const weight_place scan_floats = block->weights.at;
    if (block->scan_thread < p->scan_threads)
        share = scan_begin<S>(block, scan_floats, block->scan_thread);
    weights_advance(&block->weights, p->scan.bytes);
    weights_open(&block->weights, packed_x(&block->packed, layer));
    const weight_place x_floats = block->weights.at;
    const float x_scale = x_row_scale(block, x_floats, block->thread);
    weights_advance(&block->weights, p->x.float_bytes);
    /* wait for the grid: x_proj needs all of u, and the scale of u */
    scale = receive_and_multiply<S>(block, &p->x, p->u_words,
                                    p->out.bytes + next->float_bytes, epoch);
    x_finish<S>(block, x_floats, x_scale, scale, epoch);

    /* wait for the cluster, in the scan: a channel needs all of dt, B, C */
    weights_open(&block->weights, packed_out(&block->packed, layer));
#pragma unroll 1
    for (int t = block->scan_thread; t < p->scan_threads; t += N_THREADS) {
        if (t >= N_THREADS)
            share = scan_begin<S>(block, scan_floats, t);
        scan<S>(block, &share, image, layer, epoch);
    }
    const int row = min(block->thread, max(block->n_rows, 1) - 1);
    const float out_scale = share_float(block, block->weights.at, row);
    const float h = block->h[block->r0 + row];
    if (!is_last)
        *in = in_begin<S>(block,
                          weights_place(&block->weights,
                                        packed_in(&block->packed, layer + 1),
                                        p->out.bytes),
                          image, layer + 1);
    compute_barrier(); /* the rows of dt_proj are read, and can be freed; this
                        * block's part of y is sent before it asks for y */
    free_weights(block);

    /* out_proj */
    weights_advance(&block->weights, p->out.float_bytes);
    /* wait for the grid: out_proj needs all of y, and the scale of y */
    scale = receive_and_multiply<S>(block, &p->out, p->y_words,
                                    next->float_bytes + p->norm_bytes, epoch);
    free_weights(block);
    if (block->thread < block->n_rows)
        word_publish(p->h_words + block->r0 + row,
                     h + exact_dequantise(block->sums[row], scale, out_scale),
                     epoch);
}

/* logits <- the prediction from h, in every block. */
template <class S>
static __device__ __forceinline__ void predict(struct decode_block *block,
                                               uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const int n_layer = p->config.n_layer, n = S::d_model(block);
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
    weights_open(&block->weights,
                 packed_in(&block->packed, n_layer) + p->head.float_bytes);
    multiply<S>(block, &p->head, n, 0);
    free_weights(block);
    if (block->thread < block->n_logits) {
        const float logit =
            exact_dequantise(block->sums[block->thread], scale, row_scale);
        word_publish(p->logit_words + block->l0 + block->thread,
                     exact_logit(logit), epoch);
    }
    /* wait for the grid: the choice of a byte needs all logits */
    for (int i = block->thread; i < N_BYTES_VOCAB; i += N_THREADS)
        block->logits[i] = word_wait(p->logit_words + i, epoch);
    compute_barrier(); /* logits are complete */
}

/* All layers and lm_head, from h to logits. */
template <class S>
static __device__ __forceinline__ void decode_byte(struct decode_block *block,
                                                   float *image, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const int n_layer = p->config.n_layer;
    if (!state_stays(block))
        fetch_past<S>(block, image, 0);
    if (block->warp == WAITING_WARP)
        weights_wait(&block->weights, p->in.float_bytes + p->norm_bytes);
    compute_barrier(); /* h is complete, the first weights are there */
    weights_open(&block->weights, packed_in(&block->packed, 0));
    struct in_share in = in_begin<S>(block, block->weights.at, image, 0);
#pragma unroll 1
    for (int l = 0; l < n_layer; l++)
        decode_layer<S>(block, l, &in, image, epoch++);
    predict<S>(block, epoch);
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

template <class S>
static __device__ void decode_bytes(struct decode_block *block,
                                    const struct decode_job *job)
{
    const struct decode_plan *p = block->plan;
    const int d_model = S::d_model(block);
    uint32_t epoch = job->epoch;
    state_load<S>(block, job->image);
#pragma unroll 1
    for (int t = 0; t < job->n; t++) {
        const int byte = next_byte(block, job, t);
        const float *embedding = p->embedding + (size_t)byte * d_model;
        for (int i = block->thread; i < d_model; i += N_THREADS)
            block->h[i] = embedding[i];
        decode_byte<S>(block, job->image, epoch + 1);
        epoch += p->config.n_layer + 1;
        if (job->logits != NULL && block->packed.block == 0) {
            for (int i = block->thread; i < N_BYTES_VOCAB; i += N_THREADS)
                job->logits[t * N_BYTES_VOCAB + i] = block->logits[i];
        }
    }
    state_store<S>(block, job->image);
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

template <class S>
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
    decode_bytes<S>(&block, &job);
    if (block.packed.block == 0) {
        for (int i = block.thread; i < N_BYTES_VOCAB; i += N_THREADS)
            job.image[plan.image.logits + i] = block.logits[i];
    }
}

static bool is_shape(const struct model_config *c, int d_model, int dt_rank)
{
    return c->d_model == d_model && c->d_inner == 2 * d_model &&
           c->dt_rank == dt_rank && c->d_state == 16 && c->d_conv == 4;
}

decode_function *decode_choose_kernel(const struct model_config *c)
{
    if (is_shape(c, 512, 32))
        return decode_kernel<decode_shape<512, 1024, 32, 16, 4>>;
    if (is_shape(c, 1024, 64))
        return decode_kernel<decode_shape<1024, 2048, 64, 16, 4>>;
    if (is_shape(c, 1792, 112))
        return decode_kernel<decode_shape<1792, 3584, 112, 16, 4>>;
    return decode_kernel<decode_shape<0, 0, 0, 0, 0>>;
}
