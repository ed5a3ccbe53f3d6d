/* batch.cu -- the host's side of batch decode.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/batch.cuh"

#include <math.h>
#include <sched.h>
#include <time.h>

#include "cuda/batch/batch_pack.cuh"
#include "cuda/batch/batch_plan.cuh"

enum {
    LAUNCH_ROWS = 4096,  /* at most                                         */
    TILE_ROWS_LEAST = 8, /* where there are as many                         */
    LOGITS_FLOATS = LAUNCH_ROWS * N_BYTES_VOCAB,
    ASK_EARLY_US = 100, /* a sleep ends up to 60 us late                   */
    ASK_US = 200
};

struct batch_decoder {
    struct batch_model model; /* without `at`, which depends on the rows    */
    struct batch_variant few, many; /* for tiles of few rows, and of more   */
    int n_teams;    /* that can run at the same time                      */
    int max_shared; /* bytes                                               */
    cudaStream_t stream;
    cudaEvent_t done;
    int timed_rows;     /* of a tile in the last launch; 0: none */
    double last_us;     /* what that launch took                 */
    void *weights;      /* owned                                */
    char *sent;         /* owned, pinned, read by the kernel: images, places
                           for logits, bytes                    */
    float *host_bits;   /* owned, pinned                        */
    float *host_logits; /* the same; NULL until wanted          */
    float *logits;      /* owned                                */
    const struct segment *segments[LAUNCH_ROWS]; /* of the rows             */
};

static void set_launch(cudaLaunchConfig_t *config,
                       cudaLaunchAttribute *attribute,
                       const struct batch_decoder *d, int n_teams, int shared)
{
    *config = {};
    attribute->id = cudaLaunchAttributeClusterDimension;
    attribute->val.clusterDim.x = d->model.size;
    attribute->val.clusterDim.y = attribute->val.clusterDim.z = 1;
    config->gridDim = dim3(n_teams * d->model.size);
    config->blockDim = dim3(BATCH_THREADS);
    config->dynamicSmemBytes = shared;
    config->stream = d->stream;
    config->attrs = attribute;
    config->numAttrs = 1;
}

/* Takes the next segments that have a byte; returns how many. */
static int take_rows(struct batch_decoder *d, const struct segment **next,
                     const struct segment *end)
{
    int n = 0;
    for (; *next < end && n < LAUNCH_ROWS; (*next)++) {
        if ((*next)->n > 0)
            d->segments[n++] = *next;
    }
    return n;
}

/* Where the kernel is to write the logits of row i: where the caller wants
 * them, or into memory of ours, or nowhere. */
static enum status place_logits(struct batch_decoder *d, int i,
                                const struct host_floats *floats, float **place)
{
    float *wanted = d->segments[i]->logits;
    *place = wanted;
    if (!wanted || are_pinned(floats, wanted, N_BYTES_VOCAB))
        return OK;
    if (!d->host_logits)
        CUDA_TRY(cudaMallocHost(&d->host_logits,
                                LOGITS_FLOATS * sizeof *d->host_logits),
                 "memory for results");
    *place = d->host_logits + (size_t)i * N_BYTES_VOCAB;
    return OK;
}

/* Rows of a tile: as few rounds as the memory of a team allows, with equal
 * shares for all teams. */
static int tile_rows(const struct batch_decoder *d, int n)
{
    int rounds = ceil_div(n, d->n_teams * d->many.rows);
    int rows = ceil_div(n, d->n_teams * rounds);
    return rows < TILE_ROWS_LEAST ? TILE_ROWS_LEAST : rows;
}

static enum status launch_rows(struct batch_decoder *d, int n,
                               const struct host_floats *floats)
{
    float **images = (float **)d->sent;
    uint8_t *bytes = (uint8_t *)(images + 2 * n);
    struct batch_job job = {n,         tile_rows(d, n), images,      bytes,
                            d->logits, images + n,      d->host_bits};
    for (int i = 0; i < n; i++) {
        images[i] = d->segments[i]->state->image;
        bytes[i] = d->segments[i]->bytes[0];
        TRY(place_logits(d, i, floats, &images[n + i]));
    }
    int n_tiles = ceil_div(n, job.tile_rows);
    cudaLaunchConfig_t config;
    cudaLaunchAttribute attribute;
    const struct batch_variant *v =
        job.tile_rows <= d->few.rows ? &d->few : &d->many;
    struct batch_model m = d->model;
    batch_place_memory(&m, v, job.tile_rows, d->max_shared);
    set_launch(&config, &attribute, d,
               n_tiles < d->n_teams ? n_tiles : d->n_teams, m.at.bytes);
    CUDA_TRY(cudaLaunchKernelEx(&config, v->kernel, m, job),
             "decoding a batch");
    return cuda_status(cudaEventRecord(d->done, d->stream), "decoding a batch");
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static void sleep_us(double us)
{
    if (us <= 0.0)
        return;
    struct timespec t = {(time_t)(us / 1e6), (long)(fmod(us, 1e6) * 1e3)};
    nanosleep(&t, NULL);
}

/* Waits for what was launched at `start`.  The device would wake us some 50 us
 * late.  So if the last launch had tiles of as many rows, this sleeps until
 * shortly before as much time has passed, and then polls; not for long, to
 * leave the core to others. */
static enum status await_launch(struct batch_decoder *d, int tile_rows,
                                double start)
{
    const double expected = d->timed_rows == tile_rows ? d->last_us : 0.0;
    const double early = start + expected - ASK_EARLY_US;
    cudaError_t error = cudaErrorNotReady;
    int asked = 0;
    if (expected > 0.0) {
        sleep_us(early - now_us());
        while ((error = cudaEventQuery(d->done)) == cudaErrorNotReady &&
               now_us() < early + ASK_US) {
            asked++;
            sched_yield();
        }
    }
    cudaGetLastError(); /* forgets "not ready", which is no failure */
    if (error == cudaErrorNotReady)
        error = cudaEventSynchronize(d->done);
    /* What had ended before the first poll may have taken much less. */
    bool is_late = error == cudaSuccess && expected > 0.0 && asked == 0;
    d->timed_rows = tile_rows;
    d->last_us = is_late ? 0.75 * expected : now_us() - start;
    return cuda_status(error, "decoding a batch");
}

/* The kernel has written the results to pinned memory. */
static void take_results(struct batch_decoder *d, int n)
{
    for (int i = 0; i < n; i++) {
        const struct segment *segment = d->segments[i];
        if (segment->bits)
            segment->bits[0] = d->host_bits[i];
        const float *made = ((float **)d->sent)[n + i];
        if (made != segment->logits)
            memcpy(segment->logits, made, N_BYTES_VOCAB * sizeof *made);
    }
}

enum status batch_decoder_feed(struct batch_decoder *d,
                               const struct segment *segments, size_t n,
                               const struct host_floats *floats)
{
    const struct segment *next = segments;
    for (;;) {
        int rows = take_rows(d, &next, segments + n);
        if (rows == 0)
            return OK;
        double start = now_us();
        TRY(launch_rows(d, rows, floats));
        TRY(await_launch(d, tile_rows(d, rows), start));
        take_results(d, rows);
    }
}

/* ---- opening ------------------------------------------------------------- */

/* The most rows of a tile that fit beside a ring large enough to be of use, if
 * the variant has one; 0 when not even a small tile fits. */
static int most_rows(const struct batch_decoder *d,
                     const struct batch_variant *v)
{
    struct batch_model m = d->model;
    for (int rows = v->rows_max; rows >= TILE_ROWS_LEAST; rows--) {
        batch_place_memory(&m, v, rows, d->max_shared);
        if (m.at.bytes <= d->max_shared &&
            (!v->has_ring || m.at.ring_stages >= RING_STAGES_LEAST))
            return rows;
    }
    return 0;
}

static enum status prepare(struct batch_variant *v,
                           const struct batch_decoder *d)
{
    const char *what = "preparing the kernel of batch decode";
    v->rows = most_rows(d, v);
    CUDA_TRY(cudaFuncSetAttribute((const void *)v->kernel,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  d->max_shared),
             what);
    return cuda_status(
        cudaFuncSetAttribute((const void *)v->kernel,
                             cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
        what);
}

/* How many teams can run at the same time; 0 where the shape does not fit. */
static enum status count_teams(struct batch_decoder *d, int channels)
{
    cudaLaunchConfig_t config;
    cudaLaunchAttribute attribute;
    batch_choose_variants(&d->few, &d->many, channels);
    TRY(prepare(&d->few, d));
    TRY(prepare(&d->many, d));
    if (d->many.rows == 0)
        return OK;
    set_launch(&config, &attribute, d, 1, d->max_shared);
    if (cudaOccupancyMaxActiveClusters(
            &d->n_teams, (const void *)d->many.kernel, &config) != cudaSuccess)
        d->n_teams = 0;
    cudaGetLastError(); /* it is no failure: there is prefill */
    return OK;
}

static enum status choose_grid(struct batch_decoder *d, int channels)
{
    int device, major;
    CUDA_TRY(cudaGetDevice(&device), "asking for the device");
    CUDA_TRY(cudaDeviceGetAttribute(&d->max_shared,
                                    cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                    device),
             "asking for the device's properties");
    CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor,
                                    device),
             "asking for the device's properties");
    return major < 9 ? OK /* no clusters */ : count_teams(d, channels);
}

static enum status allocate(struct batch_decoder *d)
{
    size_t sent = LAUNCH_ROWS * (2 * sizeof(float *) + 1);
    CUDA_TRY(cudaEventCreateWithFlags(&d->done, cudaEventDisableTiming |
                                                    cudaEventBlockingSync),
             "an event");
    CUDA_TRY(cudaMallocHost(&d->sent, sent), "memory for bytes");
    CUDA_TRY(cudaMallocHost(&d->host_bits, LAUNCH_ROWS * sizeof(float)),
             "memory for results");
    return cuda_status(
        cudaMalloc(&d->logits, LOGITS_FLOATS * sizeof *d->logits),
        "memory for results");
}

static enum status set_up(struct batch_decoder *d,
                          const struct cuda_model *model)
{
    int channels = batch_choose_channels(&model->config);
    if (channels == 0)
        return OK;
    batch_describe_model(&d->model, model, channels);
    TRY(choose_grid(d, channels));
    if (d->n_teams == 0)
        return OK;
    CUDA_TRY(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking),
             "a stream");
    TRY(batch_pack(&d->weights, &d->model, model, channels, d->stream));
    return allocate(d);
}

enum status batch_decoder_open(struct batch_decoder **decoder,
                               const struct cuda_model *model)
{
    *decoder = NULL;
    struct batch_decoder *d = (struct batch_decoder *)calloc(1, sizeof *d);
    if (!d)
        return fail_memory("the GPU engine");
    enum status status = set_up(d, model);
    if (status == OK && d->n_teams > 0)
        *decoder = d;
    else
        batch_decoder_close(d);
    return status == E_MEMORY ? OK : status; /* prefill needs less */
}

void batch_decoder_close(struct batch_decoder *d)
{
    if (!d)
        return;
    if (d->done)
        cudaEventDestroy(d->done);
    if (d->stream)
        cudaStreamDestroy(d->stream);
    cudaFreeHost(d->sent);
    cudaFreeHost(d->host_bits);
    cudaFreeHost(d->host_logits);
    cudaFree(d->logits);
    cudaFree(d->weights);
    free(d);
}
