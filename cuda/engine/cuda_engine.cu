/* cuda_engine.cu -- engine_ops on a GPU: which path a call takes.
 *
 *     a few bytes of one stream     the persistent kernel of decode.cu
 *     several streams, a byte each  the teams of batch.cu
 *     everything else               the microbatches of prefill.cu
 *
 * All give the same bits.  Each is set up when it is first needed.  A call
 * sleeps until its work is done (batch decode polls at the end), and then
 * returns; only what cuda_feed_start started goes on afterwards.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/batch.cuh"
#include "cuda/decode/decode.cuh"
#include "cuda/engine/cuda_model.cuh"
#include "cuda/engine/cuda_states.cuh"
#include "cuda/prefill/prefill.cuh"
extern "C" {
#include "base/large_pages.h"
}

#include <stdio.h>

enum {
    /* Up to so many bytes of one stream the persistent kernel is faster. */
    DECODE_MAX = 8,

    /* So many streams, a byte each, keep the device busy. */
    BUSY_STREAMS = 1024,

    /* Up to so many short streams are worth reading in one call, if their
     * states take no more than 1 / TOGETHER_SHARE of the device's memory. */
    STREAMS_TOGETHER = 4 * BUSY_STREAMS,
    TOGETHER_SHARE = 16,

    /* Bytes of results from which on they are in large pages. */
    LARGE_FROM = 1 << 26
};

struct cuda_engine {
    struct engine base;
    struct cuda_model model;
    int index; /* of the device                             */
    struct cudaDeviceProp device;
    cudaStream_t stream;     /* of everything but prefill                 */
    bool has_decoder;        /* opening it was tried                      */
    struct decoder *decoder; /* NULL until then, or where it cannot run   */
    bool has_batch_decoder;
    struct batch_decoder *batch_decoder; /* the same */
    struct prefill *prefill; /* NULL until needed                         */
    struct cuda_states states;
    struct host_floats *floats; /* pinned, the callers'                     */
};

struct pinned_floats {
    struct host_floats base;
    bool is_registered; /* else it came from CUDA */
};

static struct cuda_engine *cuda_engine_of(struct engine *engine)
{
    return (struct cuda_engine *)engine;
}

/* CUDA keeps the current device for each thread; any thread may call. */
static enum status enter(const struct cuda_engine *e)
{
    CUDA_TRY(cudaSetDevice(e->index), "choosing the device");
    return OK;
}

static enum status finish(const struct cuda_engine *e, const char *what)
{
    CUDA_TRY(cudaStreamSynchronize(e->stream), what);
    return OK;
}

/* Enqueues the copies of states that wait. */
static enum status settle(struct cuda_engine *e)
{
    TRY(enter(e));
    return cuda_states_settle(&e->states);
}

/* Gives the memory back of freed states, and of the paths that prefill can
 * stand in for; false where they have none. */
static bool make_room(struct cuda_engine *e)
{
    bool had_states = cuda_states_release(&e->states);
    if (!e->decoder && !e->batch_decoder)
        return had_states;
    decoder_close(e->decoder);
    batch_decoder_close(e->batch_decoder);
    e->decoder = NULL;
    e->batch_decoder = NULL;
    return true;
}

/* ---- states ------------------------------------------------------------- */

static enum status cuda_state_new(struct engine *engine, struct state **state)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    *state = NULL;
    TRY(enter(e));
    enum status status = cuda_states_new(&e->states, state);
    if (status == E_MEMORY && make_room(e))
        return cuda_states_new(&e->states, state);
    return status;
}

static void cuda_state_free(struct engine *engine, struct state *state)
{
    cuda_states_free(&cuda_engine_of(engine)->states, state);
}

/* Returns before the copy is made.  Decode comes after it on the same stream;
 * batch decode and prefill start when the host has waited for it. */
static enum status cuda_state_copy(struct engine *engine, struct state *to,
                                   const struct state *from)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    TRY(enter(e));
    return cuda_states_copy(&e->states, to, (struct state *)from);
}

static enum status cuda_state_get(struct engine *engine,
                                  const struct state *state, float *image)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    TRY(enter(e));
    return cuda_states_get(&e->states, state, image);
}

static enum status cuda_state_set(struct engine *engine, struct state *state,
                                  const float *image)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    TRY(enter(e));
    return cuda_states_set(&e->states, state, image);
}

/* ---- reading and writing bytes ------------------------------------------ */

static enum status need_decoder(struct cuda_engine *e)
{
    if (!e->has_decoder)
        TRY(decoder_open(&e->decoder, &e->model, e->stream));
    e->has_decoder = true;
    return OK;
}

static enum status need_batch_decoder(struct cuda_engine *e)
{
    if (!e->has_batch_decoder)
        TRY(batch_decoder_open(&e->batch_decoder, &e->model));
    e->has_batch_decoder = true;
    return OK;
}

/* Kernels of Mamba-2 do not overlap: a long stream would be 7 % slower. */
static enum status need_prefill(struct cuda_engine *e)
{
    bool overlaps;
    if (e->prefill)
        return OK;
    TRY(cuda_has_clusters(&overlaps));
    overlaps = overlaps && e->model.config.mixer == MIXER_MAMBA1;
    enum status status = prefill_open(&e->prefill, &e->model, overlaps);
    if (status == E_MEMORY && make_room(e))
        return prefill_open(&e->prefill, &e->model, overlaps);
    return status;
}

/* The one segment that has bytes; NULL when there are several. */
static const struct segment *only_segment(const struct segment *segments,
                                          size_t n)
{
    const struct segment *only = NULL;
    for (size_t i = 0; i < n; i++) {
        if (segments[i].n == 0)
            continue;
        if (only)
            return NULL;
        only = &segments[i];
    }
    return only;
}

/* Whether every stream reads a byte or none, and only predictions and costs
 * are wanted. */
static bool is_batch_decode(const struct segment *segments, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (segments[i].n > 1 || segments[i].pooled)
            return false;
    }
    return true;
}

/* Copies of states are made, and prefill has the memory for a call. */
static enum status prepare_prefill(struct cuda_engine *e,
                                   const struct segment *segments, size_t n)
{
    TRY(settle(e));
    TRY(finish(e, "copying a state"));
    TRY(need_prefill(e));
    enum status status = prefill_reserve(e->prefill, segments, n);
    if (status == E_MEMORY && make_room(e))
        return prefill_reserve(e->prefill, segments, n);
    return status;
}

static enum status cuda_feed_start(struct engine *engine,
                                   const struct segment *segments,
                                   size_t n_segments)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    enum status status = prepare_prefill(e, segments, n_segments);
    if (status == OK)
        return prefill_start(e->prefill, segments, n_segments, e->floats);
    if (e->prefill)
        prefill_abandon(e->prefill);
    return status;
}

static enum status cuda_feed_finish(struct engine *engine)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    if (!e->prefill)
        return OK;
    TRY(enter(e));
    return prefill_finish(e->prefill);
}

static enum status cuda_feed(struct engine *engine,
                             const struct segment *segments, size_t n_segments)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    const struct segment *one = only_segment(segments, n_segments);
    TRY(settle(e));
    if (one && one->n <= DECODE_MAX && !one->pooled) {
        TRY(need_decoder(e));
        if (e->decoder)
            return decoder_feed(e->decoder, one->state->image, one->bytes,
                                one->n, one->bits, one->logits);
    }
    TRY(finish(e, "copying a state"));
    if (is_batch_decode(segments, n_segments)) {
        TRY(need_batch_decoder(e));
        if (e->batch_decoder)
            return batch_decoder_feed(e->batch_decoder, segments, n_segments,
                                      e->floats);
    }
    TRY(cuda_feed_start(engine, segments, n_segments));
    return cuda_feed_finish(engine);
}

/* Where the decoder cannot run, the host draws a byte and reads it. */
static enum status generate_on_host(struct engine *engine, struct state *state,
                                    const struct sampler *sampler,
                                    uint64_t index, uint8_t *bytes, size_t n)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    float logits[N_BYTES_VOCAB];
    TRY(finish(e, "copying a state"));
    CUDA_TRY(cudaMemcpy(logits, state->image + e->model.image.logits,
                        sizeof logits, cudaMemcpyDeviceToHost),
             "fetching logits");
    for (size_t i = 0; i < n; i++) {
        bytes[i] = sampler_choose(sampler, logits, index + i);
        struct segment one = {state, bytes + i, 1, NULL, logits, NULL};
        TRY(cuda_feed(engine, &one, 1));
    }
    return OK;
}

static enum status cuda_generate(struct engine *engine, struct state *state,
                                 const struct sampler *sampler, uint64_t index,
                                 uint8_t *bytes, size_t n)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    TRY(settle(e));
    TRY(need_decoder(e));
    if (!e->decoder)
        return generate_on_host(engine, state, sampler, index, bytes, n);
    return decoder_generate(e->decoder, state->image, sampler, index, bytes, n);
}

static void cuda_describe(const struct engine *engine, char text[160])
{
    const struct cuda_engine *e = (const struct cuda_engine *)engine;
    snprintf(text, 160, "cuda %d, %.80s, compute capability %d.%d", e->index,
             e->device.name, e->device.major, e->device.minor);
}

static void cuda_close(struct engine *engine)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    cudaSetDevice(e->index);
    decoder_close(e->decoder);
    batch_decoder_close(e->batch_decoder);
    prefill_close(e->prefill);
    cuda_states_close(&e->states);
    cuda_model_close(&e->model);
    if (e->stream)
        cudaStreamDestroy(e->stream);
    free(e);
}

/* Pins memory, if kernels then find it where the host does. */
static bool pin(void *memory, size_t n_bytes)
{
    void *of_kernels = NULL;
    if (cudaHostRegister(memory, n_bytes, cudaHostRegisterDefault) !=
        cudaSuccess)
        return false;
    cudaHostGetDevicePointer(&of_kernels, memory, 0);
    if (of_kernels != memory)
        cudaHostUnregister(memory);
    return of_kernels == memory;
}

/* Memory in large pages is pinned in half the time.  False: it is not much, or
 * cannot be pinned. */
static bool pin_large_pages(struct pinned_floats *one, size_t n_bytes)
{
    if (n_bytes < LARGE_FROM)
        return false;
    void *memory = large_pages_alloc(n_bytes);
    if (!memory)
        return false;
    one->is_registered = pin(memory, n_bytes);
    if (one->is_registered)
        one->base.begin = (float *)memory;
    else
        free(memory);
    cudaGetLastError(); /* no failure: there is another way */
    return one->is_registered;
}

static enum status cuda_floats_new(struct engine *engine, float **floats,
                                   size_t n)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    *floats = NULL;
    TRY(enter(e));
    struct pinned_floats *one = (struct pinned_floats *)calloc(1, sizeof *one);
    if (!one)
        return fail_memory("results");
    size_t n_bytes = n * sizeof **floats;
    enum status status = OK;
    if (!pin_large_pages(one, n_bytes))
        status = cuda_status(cudaMallocHost(&one->base.begin, n_bytes),
                             "memory for results");
    if (status != OK) {
        free(one);
        return status;
    }
    one->base.end = one->base.begin + n;
    one->base.next = e->floats;
    e->floats = &one->base;
    *floats = one->base.begin;
    return OK;
}

static void cuda_floats_free(struct engine *engine, float *floats)
{
    struct cuda_engine *e = cuda_engine_of(engine);
    struct host_floats **at = &e->floats;
    while (*at && (*at)->begin != floats)
        at = &(*at)->next;
    struct pinned_floats *one = (struct pinned_floats *)*at;
    if (!one)
        return;
    *at = one->base.next;
    cudaSetDevice(e->index);
    if (one->is_registered) {
        cudaDeviceSynchronize(); /* as cudaFreeHost does */
        cudaHostUnregister(floats);
        free(floats);
    } else {
        cudaFreeHost(floats);
    }
    free(one);
}

/* In the order of struct engine_ops. */
static const struct engine_ops cuda_ops = {
    cuda_state_new,   cuda_state_free, cuda_state_copy,  cuda_state_get,
    cuda_state_set,   cuda_feed,       cuda_generate,    cuda_describe,
    cuda_close,       cuda_floats_new, cuda_floats_free, cuda_feed_start,
    cuda_feed_finish,
};

/* ---- opening ------------------------------------------------------------ */

static enum status count_streams(struct cuda_engine *e)
{
    size_t free_bytes, all_bytes;
    CUDA_TRY(cudaMemGetInfo(&free_bytes, &all_bytes), "asking for memory");
    size_t each = e->states.n_bytes, n = free_bytes / 2 / each;
    size_t some = all_bytes / TOGETHER_SHARE / each;
    e->base.busy_streams = n < BUSY_STREAMS ? (int)n : BUSY_STREAMS;
    n = n < some ? n : some;
    if (n > STREAMS_TOGETHER)
        n = STREAMS_TOGETHER;
    e->base.busy_bytes =
        (int)n > e->base.busy_streams ? (int)n : e->base.busy_streams;
    return OK;
}

static enum status set_up(struct cuda_engine *e, const struct model *model)
{
    CUDA_TRY(cudaInitDevice(e->index, cudaDeviceScheduleBlockingSync,
                            cudaInitDeviceFlagsAreValid),
             "starting the device");
    TRY(enter(e));
    CUDA_TRY(cudaGetDeviceProperties(&e->device, e->index),
             "asking for the device's properties");
    CUDA_TRY(cudaStreamCreateWithFlags(&e->stream, cudaStreamNonBlocking),
             "a stream");
    cuda_states_open(&e->states, &model->config, e->stream);
    TRY(cuda_model_open(&e->model, model));
    TRY(prefill_check(&e->model));
    return count_streams(e);
}

extern "C" enum status cuda_engine_open(struct engine **engine,
                                        const struct model *model,
                                        const struct engine_options *options)
{
    *engine = NULL;
    TRY(cuda_find_device(options->cuda_index));
    struct cuda_engine *e = (struct cuda_engine *)calloc(1, sizeof *e);
    if (!e)
        return fail_memory("the GPU engine");
    e->base.ops = &cuda_ops;
    e->base.model = model;
    e->base.is_asynchronous = true;
    e->index = options->cuda_index;
    enum status status = set_up(e, model);
    if (status != OK)
        cuda_close(&e->base);
    else
        *engine = &e->base;
    return status;
}
