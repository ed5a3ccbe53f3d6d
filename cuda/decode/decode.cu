/* decode.cu -- the host's side of decode: the grid, launches, results.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode.cuh"

#include "cuda/common/overflow.cuh"
#include "cuda/decode/decode_kernel.cuh"

enum { CLUSTER_MAX = 16 }; /* blocks */

/* What a launch writes: memory of the host, mapped into the device. */
struct mailbox {
    float logits[LAUNCH_BYTES][N_BYTES_VOCAB];
    float bits[LAUNCH_BYTES];
    uint8_t bytes[LAUNCH_BYTES];
};

struct decoder {
    struct decode_plan plan;
    decode_function *kernel;
    cudaStream_t stream;
    cudaEvent_t done;
    void *memory; /* the arrays of the plan */
    struct mailbox *mailbox;
    const struct model *model;
    uint32_t epoch;
};

static void set_launch(cudaLaunchConfig_t *config, cudaLaunchAttribute at[2],
                       const struct decode_plan *plan, cudaStream_t stream)
{
    *config = cudaLaunchConfig_t();
    config->gridDim = dim3(plan->n_blocks);
    config->blockDim = dim3(BLOCK_THREADS);
    config->dynamicSmemBytes = plan->memory.bytes;
    config->stream = stream;
    config->attrs = at;
    /* Blocks wait for each other: all are resident, or the launch fails. */
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

/* How many blocks can be resident, in clusters of that size. */
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
    /* An error says that the device has no clusters of this size. */
    if (cudaOccupancyMaxActiveClusters(&n, kernel, &config) != cudaSuccess)
        n = 0;
    cudaGetLastError();
    limits->n_blocks = n * limits->cluster;
}

/* Chooses the cluster size that leaves the fewest bytes to the busiest block:
 * large clusters deal x_proj out to more blocks, but leave more multiprocessors
 * unused. */
static void choose_cluster(struct decode_limits *limits,
                           const struct cuda_model *model,
                           decode_function *kernel)
{
    size_t least = SIZE_MAX;
    struct decode_limits trial = *limits;
    for (trial.cluster = 1; trial.cluster <= CLUSTER_MAX; trial.cluster++) {
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

/* What this device gives the kernel; n_blocks is 0 when it cannot run. */
static enum status find_limits(struct decode_limits *limits,
                               const struct cuda_model *model,
                               decode_function *kernel)
{
    const char *what = "preparing the decode kernel";
    int n_sm, is_cooperative, shared;
    struct cudaFuncAttributes attributes;
    memset(limits, 0, sizeof *limits);
    TRY(device_get(&n_sm, cudaDevAttrMultiProcessorCount));
    TRY(device_get(&is_cooperative, cudaDevAttrCooperativeLaunch));
    TRY(device_get(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin));
    CUDA_TRY(cudaFuncGetAttributes(&attributes, kernel), what);
    if (!is_cooperative)
        return OK;
    limits->n_blocks = n_sm;
    limits->shared_bytes = shared - (int)attributes.sharedSizeBytes;
    TRY(cuda_has_clusters(&limits->has_ring));
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
    const size_t n_bytes = decode_plan_place(&d->plan, NULL);
    TRY(overflow_open(&d->plan.overflow));
    CUDA_TRY(cudaMalloc(&d->memory, n_bytes), what);
    decode_plan_place(&d->plan, (uint8_t *)d->memory);
    /* words of epoch 0, which no exchange has */
    CUDA_TRY(cudaMemsetAsync(d->memory, 0, n_bytes, d->stream), what);
    return decode_plan_pack(&d->plan, model, d->stream);
}

enum status decoder_open(struct decoder **decoder,
                         const struct cuda_model *model, cudaStream_t stream)
{
    struct decode_limits limits;
    *decoder = NULL;
    decode_function *kernel = decode_choose_kernel(&model->config);
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
    d->model = model->source;
    enum status status = allocate(d, model);
    if (status != OK)
        decoder_close(d);
    else
        *decoder = d;
    return status == E_MEMORY ? OK : status; /* prefill needs less */
}

void decoder_close(struct decoder *d)
{
    if (d == NULL)
        return;
    cudaFree(d->memory);
    cudaFreeHost(d->mailbox);
    cudaFreeHost(d->plan.overflow);
    if (d->done != NULL)
        cudaEventDestroy(d->done);
    free(d);
}

/* Launches the job and sleeps until it is done. */
static enum status run(struct decoder *d, struct decode_job *job)
{
    const char *what = "decoding";
    cudaLaunchConfig_t config;
    cudaLaunchAttribute attributes[2];
    set_launch(&config, attributes, &d->plan, d->stream);
    job->epoch = d->epoch;
    d->epoch += (uint32_t)job->n * (uint32_t)(d->plan.config.n_layer + 1);
    CUDA_TRY(cudaLaunchKernelEx(&config, d->kernel, d->plan, *job), what);
    CUDA_TRY(cudaEventRecord(d->done, d->stream), what);
    CUDA_TRY(cudaEventSynchronize(d->done), what);
    return overflow_take(d->plan.overflow, d->model);
}

static size_t launch_bytes(size_t n)
{
    return n < (size_t)LAUNCH_BYTES ? n : (size_t)LAUNCH_BYTES;
}

enum status decoder_generate(struct decoder *d, float *image,
                             const struct sampler *sampler, uint64_t index,
                             uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i += launch_bytes(n - i)) {
        struct decode_job job;
        memset(&job, 0, sizeof job);
        job.image = image;
        job.sampler = *sampler;
        job.index = index + i;
        job.n = (int)launch_bytes(n - i);
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
    for (size_t i = 0; i < n; i += launch_bytes(n - i)) {
        const size_t at_once = launch_bytes(n - i);
        struct decode_job job;
        memset(&job, 0, sizeof job);
        job.image = image;
        job.n = (int)at_once;
        job.bits = bits == NULL ? NULL : m->bits;
        job.logits = logits == NULL ? NULL : m->logits[0];
        memcpy(job.given, bytes + i, at_once);
        TRY(run(d, &job));
        if (bits != NULL)
            memcpy(bits + i, m->bits, at_once * sizeof *bits);
        if (logits != NULL)
            memcpy(logits + i * N_BYTES_VOCAB, m->logits,
                   at_once * sizeof m->logits[0]);
    }
    return OK;
}
