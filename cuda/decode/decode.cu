/* decode.cu -- one stream, a byte at a time, in one persistent kernel.
 *
 * A launch steps all layers of many bytes.  Every block keeps the residual h
 * and its own channels; a layer is
 *
 *   norm, quantise         every block, the whole of h
 *   in_proj, conv, silu    the block's channels            -> u to all
 *   quantise, x_proj       the block's rows of the cluster -> x to the cluster
 *   dt_proj, scan, gate    the block's channels            -> y to all
 *   quantise, out_proj     the block's rows of h           -> h to all
 *
 * so three times a layer a block waits for the whole grid, and once for its
 * cluster; each wait is for data that a dot product over the whole vector
 * needs, behind a scale that is known only with its last element.  Nothing
 * else waits: see exchange.cuh, and weight_stream.cuh for the weights.
 *
 * The last byte's logits are known to all blocks, and all of them draw the
 * next byte: the host only starts launches and receives bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode.cuh"

#include "cuda/decode/decode_layer.cuh"

enum {
    BATCH_MAX = 256, /* bytes a launch */
    CLUSTER_MAX = 16 /* blocks */
};

/* What a launch is to do.  What it writes is the host's memory, mapped. */
struct decode_job {
    float *image;
    struct sampler sampler;
    uint64_t index; /* of the first byte that is drawn */
    uint32_t epoch; /* the last one that was used */
    int n;
    uint8_t *bytes; /* [n], drawn; NULL: bytes are given */
    uint8_t given[BATCH_MAX];
    float *bits;   /* [n] or NULL */
    float *logits; /* [n][256] or NULL */
};

/* ---- a byte ------------------------------------------------------------- */

enum { VECTOR_V, VECTOR_H };

/* Waits for a vector of epoch, from all blocks of the grid, into v or h; and
 * meanwhile for the next n_ahead bytes of weights, so that nobody waits for
 * them when the vector is there.  Every thread may read all of the vector. */
static __device__ __forceinline__ void receive(struct self *me, int vector,
                                               const uint64_t *words, int n,
                                               int n_ahead, uint32_t epoch)
{
    float *values = vector == VECTOR_H ? me->h : me->v;
#ifdef HAS_CLUSTER
    if (me->plan->cluster > 0) {
        const struct cluster_member member = {
            me->source.part, me->plan->cluster_bits, me->thread, N_THREADS};
        cluster_gather(values, me->complete + vector, words, n, epoch, &member);
        if (me->warp == WAITING_WARP)
            weights_wait(&me->weights, n_ahead);
        mbarrier_wait(me->complete + vector, me->parity >> vector & 1);
        me->parity ^= 1u << vector;
        return;
    }
#endif
    words_gather(values, words, n, epoch, me->thread, N_THREADS);
    if (me->warp == WAITING_WARP)
        weights_wait(&me->weights, n_ahead);
    compute_barrier(); /* values are complete */
}

/* The largest magnitude among this thread's share of values [n]. */
static __device__ __forceinline__ uint32_t share_amax(const struct self *me,
                                                      const float *values,
                                                      int n)
{
    uint32_t amax = 0;
#pragma unroll 4
    for (int first = 0; first < n; first += 4 * N_THREADS) {
        const int i = first + 4 * me->thread;
        if (first + 4 * N_THREADS > n && i >= n)
            break;
        const float4 x = *(const float4 *)(values + i);
        amax = max(max(amax, max(magnitude_bits(x.x), magnitude_bits(x.y))),
                   max(magnitude_bits(x.z), magnitude_bits(x.w)));
    }
    return amax;
}

/* Receives a vector in v and multiplies it; returns the scale of its q. */
template <class S>
static __device__ __forceinline__ float
receive_and_multiply(struct self *me, const struct piece *m,
                     const uint64_t *words, int ahead, uint32_t epoch)
{
    const int n = S::d_inner(me);
    receive(me, VECTOR_V, words, n, batch_bytes(m, n, m->rows, ahead), epoch);
    const float scale =
        quantise(me, me->v, n, share_amax(me, me->v, n), m->rows);
    multiply<S>(me, m, n, ahead);
    return scale;
}

/* A layer; in: what in_begin() made of it, and then of the next.  Stages that
 * few warps have work in belong to different ones, and what can be done ahead
 * is done by the others while the scan runs. */
template <class S>
static __device__ __forceinline__ void step_layer(struct self *me, int layer,
                                                  struct in_share *in,
                                                  float *image, uint32_t epoch)
{
    const struct decode_plan *p = me->plan;
    const bool is_last = layer + 1 == p->config.n_layer;
    const struct piece *next = is_last ? &p->head : &p->in;
    const int n = S::d_model(me);
    const int after_in = p->scan.bytes + p->x.float_bytes;

    /* in_proj */
    weights_advance(&me->weights, p->in.float_bytes);
    weights_open(&me->weights, source_norms(&me->source, layer));
    if (layer > 0)
        /* wait for the grid: the norm needs all of h */
        receive(me, VECTOR_H, p->h_words, n,
                p->norm_bytes + batch_bytes(&p->in, n, p->in.rows, after_in),
                epoch - 1);
    float scale = quantise(me, me->x, n, normalise(me, n), p->in.rows);
    weights_open(&me->weights,
                 source_in(&me->source, layer) + p->in.float_bytes);
    multiply<S>(me, &p->in, n, after_in);
    free_weights(me);
    in_finish<S>(me, in, image, layer, scale, epoch);

    /* x_proj */
    struct scan_share share;
    weights_open(&me->weights, source_scan(&me->source, layer));
    const weight_place scan_floats = me->weights.at;
    if (me->scan_thread < p->scan_threads)
        share = scan_begin<S>(me, scan_floats, me->scan_thread);
    weights_advance(&me->weights, p->scan.bytes);
    weights_open(&me->weights, source_x(&me->source, layer));
    const weight_place x_floats = me->weights.at;
    const float x_scale = x_row_scale(me, x_floats, me->thread);
    weights_advance(&me->weights, p->x.float_bytes);
    /* wait for the grid: x_proj needs all of u, and the scale of u */
    scale = receive_and_multiply<S>(me, &p->x, p->u_words,
                                    p->out.bytes + next->float_bytes, epoch);
    x_finish<S>(me, x_floats, x_scale, scale, epoch);

    /* wait for the cluster, in the scan: a channel needs all of dt, B, C */
    weights_open(&me->weights, source_out(&me->source, layer));
#pragma unroll 1
    for (int t = me->scan_thread; t < p->scan_threads; t += N_THREADS) {
        if (t >= N_THREADS)
            share = scan_begin<S>(me, scan_floats, t);
        scan<S>(me, &share, image, layer, epoch);
    }
    const int row = min(me->thread, max(me->n_rows, 1) - 1);
    const float out_scale = share_float(me, me->weights.at, row);
    const float h = me->h[me->r0 + row];
    if (!is_last)
        *in = in_begin<S>(me,
                          weights_place(&me->weights,
                                        source_in(&me->source, layer + 1),
                                        p->out.bytes),
                          image, layer + 1);
    compute_barrier(); /* the rows of dt_proj are read: they are freed; and
                        * nobody asks for y before this block's is sent */
    free_weights(me);

    /* out_proj */
    weights_advance(&me->weights, p->out.float_bytes);
    /* wait for the grid: out_proj needs all of y, and the scale of y */
    scale = receive_and_multiply<S>(me, &p->out, p->y_words,
                                    next->float_bytes + p->norm_bytes, epoch);
    free_weights(me);
    if (me->thread < me->n_rows)
        word_publish(p->h_words + me->r0 + row,
                     h + exact_dequantise(me->sums[row], scale, out_scale),
                     epoch);
}

/* logits <- the prediction from h, in every block. */
template <class S>
static __device__ __forceinline__ void predict(struct self *me, uint32_t epoch)
{
    const struct decode_plan *p = me->plan;
    const int n_layer = p->config.n_layer, n = S::d_model(me);
    weights_open(&me->weights, source_in(&me->source, n_layer));
    const float row_scale =
        share_float(me, me->weights.at, min(me->thread, p->n_logits - 1));
    weights_advance(&me->weights, p->head.float_bytes);
    weights_open(&me->weights, source_norms(&me->source, n_layer));
    /* wait for the grid: the norm needs all of h */
    receive(me, VECTOR_H, p->h_words, n,
            p->norm_bytes + batch_bytes(&p->head, n, p->head.rows, 0),
            epoch - 1);
    const float scale = quantise(me, me->x, n, normalise(me, n), p->head.rows);
    weights_open(&me->weights,
                 source_in(&me->source, n_layer) + p->head.float_bytes);
    multiply<S>(me, &p->head, n, 0);
    free_weights(me);
    if (me->thread < me->n_logits) {
        const float logit =
            exact_dequantise(me->sums[me->thread], scale, row_scale);
        word_publish(p->logit_words + me->l0 + me->thread, exact_logit(logit),
                     epoch);
    }
    /* wait for the grid: the choice of a byte needs all logits */
    for (int i = me->thread; i < N_BYTES_VOCAB; i += N_THREADS)
        me->logits[i] = word_wait(p->logit_words + i, epoch);
    compute_barrier(); /* logits are complete */
}

/* All layers and the head, from h to logits. */
template <class S>
static __device__ __forceinline__ void step(struct self *me, float *image,
                                            uint32_t epoch)
{
    const struct decode_plan *p = me->plan;
    const int n_layer = p->config.n_layer;
    if (!state_stays(me))
        fetch_past<S>(me, image, 0);
    if (me->warp == WAITING_WARP)
        weights_wait(&me->weights, p->in.float_bytes + p->norm_bytes);
    compute_barrier(); /* h is complete, the first weights are there */
    weights_open(&me->weights, source_in(&me->source, 0));
    struct in_share in = in_begin<S>(me, me->weights.at, image, 0);
#pragma unroll 1
    for (int l = 0; l < n_layer; l++)
        step_layer<S>(me, l, &in, image, epoch++);
    predict<S>(me, epoch);
}

/* The byte to read next: given, or drawn; and what it cost. */
static __device__ int next_byte(const struct self *me,
                                const struct decode_job *job, int t)
{
    const bool is_first = me->source.block == 0 && me->thread == 0;
    if (job->bytes != NULL) {
        const int byte = sample_choose(me->sample, &job->sampler, me->logits,
                                       job->index + t, me->thread);
        if (is_first)
            job->bytes[t] = byte;
        return byte;
    }
    const int byte = job->given[t];
    if (job->bits != NULL && me->source.block == 0) {
        const float cost =
            sample_cost(me->sample, me->logits, byte, me->thread);
        if (is_first)
            job->bits[t] = cost;
    }
    return byte;
}

template <class S>
static __device__ void step_bytes(struct self *me, const struct decode_job *job)
{
    const struct decode_plan *p = me->plan;
    const int d_model = S::d_model(me);
    uint32_t epoch = job->epoch;
    state_load<S>(me, job->image);
#pragma unroll 1
    for (int t = 0; t < job->n; t++) {
        const int byte = next_byte(me, job, t);
        const float *embedding = p->embedding + (size_t)byte * d_model;
        for (int i = me->thread; i < d_model; i += N_THREADS)
            me->h[i] = embedding[i];
        step<S>(me, job->image, epoch + 1);
        epoch += p->config.n_layer + 1;
        if (job->logits != NULL && me->source.block == 0) {
            for (int i = me->thread; i < N_BYTES_VOCAB; i += N_THREADS)
                job->logits[t * N_BYTES_VOCAB + i] = me->logits[i];
        }
    }
    state_store<S>(me, job->image);
}

/* Clears the shared memory before the ring, which makes the words of the
 * cluster ones of an epoch that never comes, and pads q and dt with zeros;
 * then readies the ring. */
static __device__ void begin(struct self *me, uint8_t *memory,
                             const struct decode_job *job, uint32_t *freed)
{
    const struct decode_plan *p = me->plan;
    for (int i = threadIdx.x; i < p->memory.full / 4; i += blockDim.x)
        ((uint32_t *)memory)[i] = 0;
    __syncthreads(); /* zeros are there before logits */
    for (int i = threadIdx.x; i < N_BYTES_VOCAB; i += blockDim.x)
        me->logits[i] = job->image[p->image.logits + i];
#ifdef HAS_RING
    struct weights *w = &me->weights;
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
        mbarrier_init(me->complete + VECTOR_V);
        mbarrier_init(me->complete + VECTOR_H);
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
    struct self me = self_make(&plan, memory);
    me.maxima = maxima;
    me.sample = &sample;
    begin(&me, memory, &job, &freed);
    if (me.warp == N_WARPS) {
#ifdef HAS_RING
        if (me.lane == 0)
            fetch_all(&me.weights, me.source, job.n);
#endif
        return;
    }
    step_bytes<S>(&me, &job);
    if (me.source.block == 0) {
        for (int i = me.thread; i < N_BYTES_VOCAB; i += N_THREADS)
            job.image[plan.image.logits + i] = me.logits[i];
    }
}

/* ---- the host ----------------------------------------------------------- */

/* Bytes go in and out through these, mapped into the device. */
struct mailbox {
    float logits[BATCH_MAX][N_BYTES_VOCAB];
    float bits[BATCH_MAX];
    uint8_t bytes[BATCH_MAX];
};

typedef void decode_function(struct decode_plan, struct decode_job);

struct decoder {
    struct decode_plan plan;
    decode_function *kernel;
    cudaStream_t stream;
    cudaEvent_t done;
    void *memory; /* the arrays of the plan */
    struct mailbox *mailbox;
    uint32_t epoch;
};

static bool is_shape(const struct model_config *c, int d_model, int dt_rank)
{
    return c->d_model == d_model && c->d_inner == 2 * d_model &&
           c->dt_rank == dt_rank && c->d_state == 16 && c->d_conv == 4;
}

/* A kernel compiled for the shape of the model that ships, or of a published
 * one; else the one for all. */
static decode_function *choose_kernel(const struct model_config *c)
{
    if (is_shape(c, 512, 32))
        return decode_kernel<shape<512, 1024, 32, 16, 4>>;
    if (is_shape(c, 1024, 64))
        return decode_kernel<shape<1024, 2048, 64, 16, 4>>;
    if (is_shape(c, 1792, 112))
        return decode_kernel<shape<1792, 3584, 112, 16, 4>>;
    return decode_kernel<shape<0, 0, 0, 0, 0>>;
}

static void set_launch(cudaLaunchConfig_t *config, cudaLaunchAttribute at[2],
                       const struct decode_plan *plan, cudaStream_t stream)
{
    *config = cudaLaunchConfig_t();
    config->gridDim = dim3(plan->n_blocks);
    config->blockDim = dim3(BLOCK_THREADS);
    config->dynamicSmemBytes = plan->memory.bytes;
    config->stream = stream;
    config->attrs = at;
    /* All blocks are resident, or the launch fails: they wait for another. */
    at[0].id = cudaLaunchAttributeCooperative;
    at[0].val.cooperative = 1;
    config->numAttrs = 1;
    if (plan->cluster > 0) {
        at[1].id = cudaLaunchAttributeClusterDimension;
        at[1].val.clusterDim.x = plan->cluster;
        at[1].val.clusterDim.y = 1;
        at[1].val.clusterDim.z = 1;
        config->numAttrs = 2;
    }
}

/* The blocks of clusters of that size that can be resident. */
static void count_blocks(struct decode_limits *limits, decode_function *kernel)
{
    struct decode_plan trial;
    cudaLaunchConfig_t config;
    cudaLaunchAttribute attributes[2];
    int n = 0;
    memset(&trial, 0, sizeof trial);
    trial.n_blocks = trial.cluster = limits->cluster;
    trial.memory.bytes = limits->shared_bytes;
    set_launch(&config, attributes, &trial, NULL);
    /* An error says that clusters of this size there are none. */
    if (cudaOccupancyMaxActiveClusters(&n, kernel, &config) != cudaSuccess)
        n = 0;
    cudaGetLastError();
    limits->n_blocks = n * limits->cluster;
}

/* Of the cluster sizes, the one that leaves the least to the busiest block:
 * large clusters share x_proj among more, but leave more of the
 * multiprocessors out. */
static void choose_cluster(struct decode_limits *limits,
                           const struct cuda_model *model,
                           decode_function *kernel)
{
    size_t least = SIZE_MAX;
    struct decode_limits trial = *limits;
    for (trial.cluster = 1; trial.cluster <= CLUSTER_MAX; trial.cluster *= 2) {
        struct decode_plan plan;
        count_blocks(&trial, kernel);
        if (!decode_plan_make(&plan, model, &trial))
            continue;
        if (plan.layer_bytes + plan.x.bytes < least) {
            least = plan.layer_bytes + plan.x.bytes;
            *limits = trial;
        }
    }
}

static enum status device_get(int *value, enum cudaDeviceAttr attribute)
{
    const char *what = "asking the device for its limits";
    int device;
    CUDA_TRY(cudaGetDevice(&device), what);
    CUDA_TRY(cudaDeviceGetAttribute(value, attribute, device), what);
    return OK;
}

/* What this device lets the kernel have; n_blocks 0 when it cannot run. */
static enum status find_limits(struct decode_limits *limits,
                               const struct cuda_model *model,
                               decode_function *kernel)
{
    const char *what = "preparing the decode kernel";
    int n_sm, is_cooperative, shared, major;
    struct cudaFuncAttributes attributes;
    memset(limits, 0, sizeof *limits);
    TRY(device_get(&n_sm, cudaDevAttrMultiProcessorCount));
    TRY(device_get(&is_cooperative, cudaDevAttrCooperativeLaunch));
    TRY(device_get(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin));
    TRY(device_get(&major, cudaDevAttrComputeCapabilityMajor));
    CUDA_TRY(cudaFuncGetAttributes(&attributes, kernel), what);
    if (!is_cooperative)
        return OK;
    limits->n_blocks = n_sm;
    limits->shared_bytes = shared - (int)attributes.sharedSizeBytes;
    /* What the kernel was compiled for decides what is in it. */
    limits->has_ring = major >= 9 && attributes.ptxVersion >= 90;
    CUDA_TRY(cudaFuncSetAttribute(kernel,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  limits->shared_bytes),
             what);
    if (!limits->has_ring)
        return OK;
    CUDA_TRY(cudaFuncSetAttribute(
                 kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
             what);
    choose_cluster(limits, model, kernel);
    return OK;
}

static enum status allocate(struct decoder *d, const struct cuda_model *model)
{
    const char *what = "memory for decoding";
    CUDA_TRY(cudaEventCreateWithFlags(&d->done, cudaEventBlockingSync |
                                                    cudaEventDisableTiming),
             what);
    CUDA_TRY(cudaHostAlloc((void **)&d->mailbox, sizeof *d->mailbox,
                           cudaHostAllocMapped),
             what);
    CUDA_TRY(cudaMalloc(&d->memory, decode_plan_bytes(&d->plan)), what);
    return decode_plan_pack(&d->plan, model, d->memory, d->stream);
}

enum status decoder_open(struct decoder **decoder,
                         const struct cuda_model *model, cudaStream_t stream)
{
    struct decode_limits limits;
    *decoder = NULL;
    decode_function *kernel = choose_kernel(&model->config);
    TRY(find_limits(&limits, model, kernel));
    struct decode_plan plan;
    if (limits.n_blocks == 0 || !decode_plan_make(&plan, model, &limits))
        return OK;
    struct decoder *d = (struct decoder *)calloc(1, sizeof *d);
    if (d == NULL)
        return fail_memory("the decoder");
    d->plan = plan;
    d->stream = stream;
    d->kernel = kernel;
    enum status status = allocate(d, model);
    if (status != OK)
        decoder_close(d);
    else
        *decoder = d;
    return status;
}

void decoder_close(struct decoder *d)
{
    if (d == NULL)
        return;
    cudaFree(d->memory);
    cudaFreeHost(d->mailbox);
    if (d->done != NULL)
        cudaEventDestroy(d->done);
    free(d);
}

/* Launches the job and sleeps until it is done. */
static enum status run(struct decoder *d, struct decode_job *job)
{
    const char *what = "stepping a stream";
    cudaLaunchConfig_t config;
    cudaLaunchAttribute attributes[2];
    set_launch(&config, attributes, &d->plan, d->stream);
    job->epoch = d->epoch;
    d->epoch += (uint32_t)job->n * (uint32_t)(d->plan.config.n_layer + 1);
    CUDA_TRY(cudaLaunchKernelEx(&config, d->kernel, d->plan, *job), what);
    CUDA_TRY(cudaEventRecord(d->done, d->stream), what);
    CUDA_TRY(cudaEventSynchronize(d->done), what);
    return OK;
}

static size_t batch_of(size_t n)
{
    return n < (size_t)BATCH_MAX ? n : (size_t)BATCH_MAX;
}

enum status decoder_generate(struct decoder *d, float *image,
                             const struct sampler *sampler, uint64_t index,
                             uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i += batch_of(n - i)) {
        struct decode_job job;
        memset(&job, 0, sizeof job);
        job.image = image;
        job.sampler = *sampler;
        job.index = index + i;
        job.n = (int)batch_of(n - i);
        job.bytes = d->mailbox->bytes;
        TRY(run(d, &job));
        memcpy(bytes + i, d->mailbox->bytes, job.n);
    }
    return OK;
}

enum status decoder_feed(struct decoder *d, float *image, const uint8_t *bytes,
                         size_t n, float *bits, float *logits)
{
    struct mailbox *m = d->mailbox;
    for (size_t i = 0; i < n; i += batch_of(n - i)) {
        const size_t batch = batch_of(n - i);
        struct decode_job job;
        memset(&job, 0, sizeof job);
        job.image = image;
        job.n = (int)batch;
        job.bits = bits == NULL ? NULL : m->bits;
        job.logits = logits == NULL ? NULL : m->logits[0];
        memcpy(job.given, bytes + i, batch);
        TRY(run(d, &job));
        if (bits != NULL)
            memcpy(bits + i, m->bits, batch * sizeof *bits);
        if (logits != NULL)
            memcpy(logits + i * N_BYTES_VOCAB, m->logits,
                   batch * sizeof m->logits[0]);
    }
    return OK;
}
