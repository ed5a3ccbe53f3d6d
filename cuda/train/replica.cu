/* replica.cu -- opening and closing what one GPU holds.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/replica.cuh"

#include "cuda/train/products.cuh"
#include "cuda/train/stopwatch.cuh"
#include "cuda/train/train_mamba1.cuh"
#include "cuda/train/train_mamba2.cuh"
#include "cuda/train/train_memory.cuh"
extern "C" {
#include "base/threads.h"
}

const struct mixer_ops *mixer_of(const struct model_config *config)
{
    return config->mixer == MIXER_MAMBA1 ? &mamba1_mixer : &mamba2_mixer;
}

void replica_set_windows(struct replica *r, int first, int n)
{
    r->first_window = first;
    r->n_windows = n;
    r->n_rows = n * r->n_t;
}

enum status replica_describe(struct replica *r,
                             const struct parameters *parameters,
                             const struct trainer_options *options, int i,
                             int n_replicas)
{
    struct range windows = threads_split(options->n_windows, i, n_replicas);
    r->parameters = parameters;
    r->config = parameters->config;
    r->device = options->cuda_index + i;
    r->imitates = options->imitates_int8;
    if (options->tuning) {
        r->in_float = options->tuning->products_in_float;
        r->recomputes = options->tuning->recomputes;
    }
    r->n_t = options->n_t;
    r->all_rows = options->n_windows * options->n_t;
    replica_set_windows(r, windows.begin, windows.end - windows.begin);
    r->tapes =
        (struct train_tape *)calloc(r->config.n_layer + 1, sizeof *r->tapes);
    if (!r->tapes)
        return fail_memory("training");
    if (options->tuning && options->tuning->measures)
        r->watch = stopwatch_open();
    r->mixer = mixer_of(&r->config);
    return r->mixer->open(r);
}

enum status replica_enter(const struct replica *r)
{
    CUDA_TRY(cudaSetDevice(r->device), "choosing the device");
    return OK;
}

enum status replica_wait(const struct replica *r, const char *what)
{
    CUDA_TRY(cudaGetLastError(), what);
    CUDA_TRY(cudaStreamSynchronize(r->stream), what);
    return OK;
}

enum status replica_send(const struct replica *r, const void *to,
                         const void *from, size_t n)
{
    CUDA_TRY(
        cudaMemcpyAsync((void *)to, from, n, cudaMemcpyHostToDevice, r->stream),
        "sending tables");
    CUDA_TRY(cudaStreamSynchronize(r->stream), "sending tables");
    return OK;
}

enum status replica_open(struct replica *r, double *rate)
{
    CUDA_TRY(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking),
             "a stream");
    TRY(products_open(&r->products, r->in_float, r->stream));
    TRY(r->mixer->prepare_device(r));
    TRY(replica_allocate(r));
    size_t area = (size_t)RATE_SIDE * RATE_SIDE;
    if (rate && r->n_bytes >= 3 * area * sizeof(__nv_bfloat16))
        *rate = products_rate(r->products, r->arena);
    TRY(replica_fill(r));
    return replica_wait(r, "setting up");
}

void replica_close(struct replica *r)
{
    if (replica_enter(r) == OK && r->stream) {
        cudaStreamSynchronize(r->stream);
        products_close(r->products);
        cudaFree(r->arena);
        cudaStreamDestroy(r->stream);
    }
    if (r->mixer)
        r->mixer->close(r);
    stopwatch_close(r->watch);
    free(r->tapes);
}
