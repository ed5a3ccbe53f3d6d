/* batch.cu -- the host's side of batch decode.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/batch.cuh"

#include <math.h>
#include <sched.h>
#include <time.h>

#include "cuda/batch/batch_method.cuh"
#include "cuda/common/overflow.cuh"

enum {
    LAUNCH_ROWS = 4096, /* at most                                         */
    LOGITS_FLOATS = LAUNCH_ROWS * N_BYTES_VOCAB,
    ASK_EARLY_US = 100, /* a sleep ends up to 60 us late                   */
    ASK_US = 200
};

struct batch_decoder {
    const struct batch_method *method;
    void *self; /* owned, the method's                                     */
    cudaStream_t stream;
    cudaEvent_t done;
    int timed_form;     /* of the last launch; 0: none          */
    double last_us;     /* what that launch took                */
    char *sent;         /* owned, pinned, read by the kernel: images, places
                           for logits, bytes                    */
    float *host_bits;   /* owned, pinned                        */
    float *host_logits; /* the same; NULL until wanted          */
    float *logits;      /* owned                                */
    uint32_t *overflow; /* owned, pinned: see overflow.cuh      */
    const struct model *model;
    const struct segment *segments[LAUNCH_ROWS]; /* of the rows             */
};

/* Takes the next segments that have a byte; returns how many. */
static int take_rows(struct batch_decoder *d, const struct segment **next,
                     const struct segment *end)
{
    int n = 0;
    for (; *next < end && n < d->method->rows_max; (*next)++) {
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
    if (!wanted || find_pinned(floats, wanted, N_BYTES_VOCAB))
        return OK;
    if (!d->host_logits)
        CUDA_TRY(cudaMallocHost(&d->host_logits,
                                LOGITS_FLOATS * sizeof *d->host_logits),
                 "memory for results");
    *place = d->host_logits + (size_t)i * N_BYTES_VOCAB;
    return OK;
}

static enum status launch_rows(struct batch_decoder *d, int n,
                               const struct host_floats *floats)
{
    float **images = (float **)d->sent;
    uint8_t *bytes = (uint8_t *)(images + 2 * n);
    struct batch_job job = {n,         0,          images,       bytes,
                            d->logits, images + n, d->host_bits, d->overflow};
    for (int i = 0; i < n; i++) {
        images[i] = d->segments[i]->state->image;
        bytes[i] = d->segments[i]->bytes[0];
        TRY(place_logits(d, i, floats, &images[n + i]));
    }
    TRY(d->method->launch(d->self, &job, d->stream));
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
 * late.  So if the last launch had the same form, this sleeps until
 * shortly before as much time has passed, and then polls; not for long, to
 * leave the core to others. */
static enum status await_launch(struct batch_decoder *d, int form, double start)
{
    const double expected = d->timed_form == form ? d->last_us : 0.0;
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
    /* What had ended before the first poll may have taken much less.  One that
     * took much more, as some chunks ended, says little of the next. */
    bool is_late = error == cudaSuccess && expected > 0.0 && asked == 0;
    double took = now_us() - start;
    if (expected > 0.0 && took > 1.1 * expected)
        took = 1.1 * expected;
    d->timed_form = form;
    d->last_us = is_late ? 0.75 * expected : took;
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
        TRY(await_launch(d, d->method->form(d->self, rows), start));
        TRY(overflow_take(d->overflow, d->model));
        take_results(d, rows);
    }
}

/* ---- opening ------------------------------------------------------------- */

static enum status allocate(struct batch_decoder *d)
{
    size_t sent = LAUNCH_ROWS * (2 * sizeof(float *) + 1);
    CUDA_TRY(cudaEventCreateWithFlags(&d->done, cudaEventDisableTiming |
                                                    cudaEventBlockingSync),
             "an event");
    CUDA_TRY(cudaMallocHost(&d->sent, sent), "memory for bytes");
    CUDA_TRY(cudaMallocHost(&d->host_bits, LAUNCH_ROWS * sizeof(float)),
             "memory for results");
    TRY(overflow_open(&d->overflow));
    return cuda_status(
        cudaMalloc(&d->logits, LOGITS_FLOATS * sizeof *d->logits),
        "memory for results");
}

static enum status set_up(struct batch_decoder *d,
                          const struct cuda_model *model)
{
    d->model = model->source;
    d->method =
        model->config.mixer == MIXER_MAMBA2 ? &batch_chain : &batch_team;
    CUDA_TRY(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking),
             "a stream");
    TRY(d->method->open(&d->self, model, d->stream));
    return d->self ? allocate(d) : OK;
}

enum status batch_decoder_open(struct batch_decoder **decoder,
                               const struct cuda_model *model)
{
    *decoder = NULL;
    struct batch_decoder *d = (struct batch_decoder *)calloc(1, sizeof *d);
    if (!d)
        return fail_memory("the GPU engine");
    enum status status = set_up(d, model);
    if (status == OK && d->self)
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
    cudaFreeHost(d->overflow);
    cudaFree(d->logits);
    if (d->method)
        d->method->close(d->self);
    free(d);
}
