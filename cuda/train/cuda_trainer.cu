/* cuda_trainer.cu -- trainer_ops on GPUs.
 *
 * Each GPU has all weights and moments, and some of the windows; a thread of
 * the host drives each.  When the gradients are summed over the GPUs, all make
 * the same update, so that their weights keep the same bits.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/nccl.cuh"
#include "cuda/train/products.cuh"
#include "cuda/train/replica.cuh"
#include "cuda/train/stopwatch.cuh"
#include "cuda/train/train_layers.cuh"

#include <stdio.h>
extern "C" {
#include "base/text.h"
#include "base/threads.h"
}

/* How the work of a thread ended. */
struct outcome {
    enum status status;
    char sentence[STATUS_CHARS];
};

struct cuda_trainer {
    struct trainer base;
    bool imitates, in_float;
    int n;                    /* GPUs */
    struct replica *replicas; /* [n] */
    struct outcome *outcomes; /* [n] */
    struct threads *team;     /* of n */
    struct nccl *nccl;        /* NULL with one GPU */
    char name[64];            /* of the first GPU */

    /* What the team does now, and with what. */
    enum status (*work)(struct cuda_trainer *, int i);
    const struct windows *windows;
    const struct update *update;
    enum trainer_part part;
    float *host;
    struct step step;
};

static struct cuda_trainer *cuda_trainer_of(struct trainer *trainer)
{
    return (struct cuda_trainer *)trainer;
}

/* ---- the team ------------------------------------------------------------ */

static void work_one(void *context, int i)
{
    struct cuda_trainer *t = (struct cuda_trainer *)context;
    struct outcome *outcome = &t->outcomes[i];
    outcome->status = replica_enter(&t->replicas[i]);
    if (outcome->status == OK)
        outcome->status = t->work(t, i);
    if (outcome->status != OK)
        snprintf(outcome->sentence, STATUS_CHARS, "%s", status_message());
}

/* Does work for all GPUs at the same time.  Of several failures the first
 * GPU's is reported. */
static enum status work_all(struct cuda_trainer *t,
                            enum status (*work)(struct cuda_trainer *, int i))
{
    t->work = work;
    threads_run(t->team, work_one, t);
    for (int i = 0; i < t->n; i++) {
        if (t->outcomes[i].status != OK)
            return fail(t->outcomes[i].status, "%s", t->outcomes[i].sentence);
    }
    return OK;
}

/* ---- a step -------------------------------------------------------------- */

static enum status send_windows(struct replica *r, const struct windows *w)
{
    size_t n = trainer_state_floats(&r->config), row = (size_t)r->n_t + 1;
    CUDA_TRY(cudaMemcpyAsync(r->bytes, w->bytes + r->first_window * row,
                             r->n_windows * row, cudaMemcpyHostToDevice,
                             r->stream),
             "sending the windows");
    for (int i = 0; i < r->n_windows; i++) {
        if (w->begins[r->first_window + i])
            CUDA_TRY(cudaMemsetAsync(r->states + i * n, 0, n * sizeof(float),
                                     r->stream),
                     "starting a stream");
    }
    return OK;
}

/* All threads take part in the sum, or none: it waits for all. */
static enum status sum_gradients(struct cuda_trainer *t, int i,
                                 enum status status)
{
    struct replica *r = &t->replicas[i];
    t->outcomes[i].status = status;
    threads_barrier(t->team);
    for (int k = 0; k < t->n; k++) {
        if (t->outcomes[k].status != OK)
            return status;
    }
    threads_barrier(t->team);
    return nccl_sum(t->nccl, i, r->gradient, r->parameters->n_floats + 1,
                    r->stream);
}

static enum status make_gradient(struct replica *r, const struct windows *w)
{
    TRY(send_windows(r, w));
    replica_gradient(r);
    TRY(products_status(r->products));
    CUDA_TRY(cudaGetLastError(), "the gradient");
    return OK;
}

static enum status gradient_one(struct cuda_trainer *t, int i)
{
    struct replica *r = &t->replicas[i];
    double norm = 0;
    float loss = 0;
    enum status status = make_gradient(r, t->windows);
    if (t->nccl)
        status = sum_gradients(t, i, status);
    TRY(status);
    launch_gradient_norm(r);
    CUDA_TRY(cudaMemcpyAsync(&loss, r->gradient + r->parameters->n_floats,
                             sizeof loss, cudaMemcpyDeviceToHost, r->stream),
             "reading the loss");
    CUDA_TRY(cudaMemcpyAsync(&norm, r->sums + NORM_PARTS, sizeof norm,
                             cudaMemcpyDeviceToHost, r->stream),
             "reading the size of the gradient");
    TRY(replica_wait(r, "the gradient"));
    if (i == 0) {
        t->step.loss = (double)loss;
        t->step.gradient_norm = norm;
    }
    return OK;
}

static enum status cuda_gradient(struct trainer *trainer, struct step *step,
                                 const struct windows *windows)
{
    struct cuda_trainer *t = cuda_trainer_of(trainer);
    t->windows = windows;
    TRY(work_all(t, gradient_one));
    *step = t->step;
    return OK;
}

static enum status update_one(struct cuda_trainer *t, int i)
{
    struct replica *r = &t->replicas[i];
    replica_update(r, t->update);
    TRY(products_status(r->products));
    CUDA_TRY(cudaGetLastError(), "the update");
    return OK;
}

static enum status cuda_update(struct trainer *trainer,
                               const struct update *update)
{
    struct cuda_trainer *t = cuda_trainer_of(trainer);
    t->update = update;
    return work_all(t, update_one);
}

/* ---- parts --------------------------------------------------------------- */

static float *part_of(struct replica *r, enum trainer_part part)
{
    switch (part) {
    case PART_WEIGHTS:
        return r->weights;
    case PART_MOMENT_1:
        return r->moment_1;
    case PART_MOMENT_2:
        return r->moment_2;
    default:
        return r->states;
    }
}

/* The floats of a part that a replica has, and where they are on the host. */
static size_t part_floats(const struct replica *r, enum trainer_part part,
                          size_t *at)
{
    size_t n = trainer_state_floats(&r->config);
    *at = part == PART_STATES ? r->first_window * n : 0;
    return part == PART_STATES ? r->n_windows * n : r->parameters->n_floats;
}

static enum status get_one(struct cuda_trainer *t, int i)
{
    struct replica *r = &t->replicas[i];
    size_t at, n = part_floats(r, t->part, &at);
    if (i > 0 && t->part != PART_STATES)
        return OK;
    CUDA_TRY(cudaMemcpyAsync(t->host + at, part_of(r, t->part),
                             n * sizeof(float), cudaMemcpyDeviceToHost,
                             r->stream),
             "reading the weights");
    return replica_wait(r, "reading the weights");
}

static enum status set_one(struct cuda_trainer *t, int i)
{
    struct replica *r = &t->replicas[i];
    size_t at, n = part_floats(r, t->part, &at);
    CUDA_TRY(cudaMemcpyAsync(part_of(r, t->part), t->host + at,
                             n * sizeof(float), cudaMemcpyHostToDevice,
                             r->stream),
             "sending the weights");
    return replica_wait(r, "sending the weights");
}

static enum status cuda_get(struct trainer *trainer, enum trainer_part part,
                            float *host)
{
    struct cuda_trainer *t = cuda_trainer_of(trainer);
    t->part = part;
    t->host = host;
    return work_all(t, get_one);
}

static enum status cuda_set(struct trainer *trainer, enum trainer_part part,
                            const float *host)
{
    struct cuda_trainer *t = cuda_trainer_of(trainer);
    t->part = part;
    t->host = (float *)host;
    return work_all(t, set_one);
}

static void cuda_describe(const struct trainer *trainer, char text[160])
{
    const struct cuda_trainer *t = (const struct cuda_trainer *)trainer;
    const struct replica *r = &t->replicas[0];
    snprintf(text, 160, "cuda %s, %d GPU%s, %zu MB each%s", t->name, t->n,
             text_plural((uint64_t)t->n), r->n_bytes >> 20,
             r->recomputes ? ", layers computed twice" : "");
}

/* ---- time ---------------------------------------------------------------- */

extern "C" enum status
cuda_trainer_times(struct trainer *trainer,
                   struct trainer_time times[TRAINER_TIMES])
{
    struct replica *r = &cuda_trainer_of(trainer)->replicas[0];
    TRY(replica_enter(r));
    return stopwatch_read(r, times);
}

/* ---- opening ------------------------------------------------------------- */

/* The first GPU measures the rate of products for all. */
static enum status open_one(struct cuda_trainer *t, int i)
{
    double rate = 0;
    TRY(replica_open(&t->replicas[i], i == 0 ? &rate : NULL));
    if (i == 0)
        t->base.peak = t->n * rate;
    return OK;
}

static enum status find_devices(const struct trainer_options *options, int n)
{
    for (int i = 0; i < n; i++)
        TRY(cuda_find_device(options->cuda_index + i));
    if (options->n_windows < n)
        return fail(E_USAGE, "%d GPUs cannot divide %d window%s", n,
                    options->n_windows,
                    text_plural((uint64_t)options->n_windows));
    return OK;
}

static enum status open_nccl(struct cuda_trainer *t)
{
    int devices[N_THREADS_MAX];
    for (int i = 0; i < t->n; i++)
        devices[i] = t->replicas[i].device;
    return nccl_open(&t->nccl, devices, t->n);
}

static enum status open_all(struct cuda_trainer *t,
                            const struct trainer_options *options)
{
    struct cudaDeviceProp device;
    t->replicas = (struct replica *)calloc(t->n, sizeof *t->replicas);
    t->outcomes = (struct outcome *)calloc(t->n, sizeof *t->outcomes);
    if (!t->replicas || !t->outcomes)
        return fail_memory("training");
    for (int i = 0; i < t->n; i++)
        TRY(replica_describe(&t->replicas[i], t->base.parameters, options, i,
                             t->n));
    CUDA_TRY(cudaGetDeviceProperties(&device, options->cuda_index),
             "asking for the device's properties");
    snprintf(t->name, sizeof t->name, "%.63s", device.name);
    TRY(threads_open(&t->team, t->n));
    if (t->n > 1)
        TRY(open_nccl(t));
    return work_all(t, open_one);
}

static void cuda_close(struct trainer *trainer)
{
    struct cuda_trainer *t = cuda_trainer_of(trainer);
    for (int i = 0; t->replicas && i < t->n; i++)
        replica_close(&t->replicas[i]);
    nccl_close(t->nccl);
    threads_close(t->team);
    free(t->replicas);
    free(t->outcomes);
    free(t);
}

/* In the order of struct trainer_ops. */
static const struct trainer_ops cuda_ops = {
    cuda_gradient, cuda_update, cuda_get, cuda_set, cuda_describe, cuda_close,
};

extern "C" enum status cuda_trainer_open(struct trainer **trainer,
                                         const struct parameters *parameters,
                                         const struct trainer_options *options)
{
    int n = options->n_gpus > 1 ? options->n_gpus : 1;
    *trainer = NULL;
    TRY(find_devices(options, n));
    struct cuda_trainer *t = (struct cuda_trainer *)calloc(1, sizeof *t);
    if (!t)
        return fail_memory("training");
    t->base.ops = &cuda_ops;
    t->base.parameters = parameters;
    t->base.n_windows = options->n_windows;
    t->base.n_t = options->n_t;
    t->base.device = DEVICE_CUDA;
    t->base.cuda_index = options->cuda_index;
    t->n = n;
    enum status status = open_all(t, options);
    if (status != OK) {
        cuda_close(&t->base);
        return status;
    }
    *trainer = &t->base;
    return OK;
}
