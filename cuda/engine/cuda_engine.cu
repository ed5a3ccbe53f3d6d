/* cuda_engine.cu -- engine_ops on a GPU: memory, states, errors.
 *
 * A few bytes of one stream go through the persistent kernel of decode.cu,
 * several streams by a byte each through the teams of step.cu, everything else
 * through the waves of prefill.cu; all give the same bits.
 * Each is set up when it is first needed.  Every call returns when its work
 * is done, and sleeps until then, but for a moment at the end of a step; only
 * waves may go on behind cuda_feed_start.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/batch.cuh"
#include "cuda/decode/decode.cuh"
#include "cuda/prefill/prefill.cuh"

#include <stdio.h>

/* Up to so many bytes of one stream a persistent kernel is faster. */
enum { DECODE_MAX = 8 };

/* So many streams, stepped together, keep the device busy, and as many are
 * asked for as half of its free memory can hold.  Short ones are worth reading
 * so many in a call, if a small share of the device's memory holds them. */
enum {
    BUSY_STREAMS = 1024,
    STREAMS_TOGETHER = 4 * BUSY_STREAMS,
    TOGETHER_SHARE = 16
};

/* Copies of states that wait for company. */
enum { COPIES = 128 };

struct image_copy {
    float *to;
    const float *from;
};

struct copies {
    struct image_copy list[COPIES];
};

struct cuda_engine {
    struct engine base;
    struct cuda_model model;
    int index; /* of the device                             */
    struct cudaDeviceProp device;
    cudaStream_t stream;     /* of everything but prefill                 */
    struct decoder *decoder; /* NULL until needed, or where it cannot run */
    bool has_decoder;        /* decoder is what it will be                */
    struct stepper *stepper; /* the same                                  */
    bool has_stepper;
    struct prefill *prefill; /* NULL until needed                         */
    struct state *free_states;
    struct state *targets[COPIES], *sources[COPIES]; /* of copies that wait */
    int n_copies;
    struct host_floats *floats; /* pinned, the callers'                     */
};

enum status cuda_status(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return OK;
    cudaGetLastError(); /* what can be forgotten is forgotten */
    if (error == cudaErrorMemoryAllocation)
        return fail(E_MEMORY, "the GPU is out of memory: %s", what);
    return fail(E_DEVICE, "the GPU failed: %s: %s", what,
                cudaGetErrorString(error));
}

static struct cuda_engine *self(struct engine *engine)
{
    return (struct cuda_engine *)engine;
}

/* The device is chosen a thread, and the caller may be any. */
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

/* ---- the model ---------------------------------------------------------- */

/* Walks over everything of the model twice: first to count, then to copy. */
struct upload {
    char *base; /* NULL: only count */
    size_t used;
    enum status status;
};

static char *upload_room(struct upload *up, size_t size)
{
    char *to = up->base ? up->base + up->used : NULL;
    up->used += (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    return to;
}

static const float *upload_floats(struct upload *up, const float *from,
                                  size_t n)
{
    if (!from)
        return NULL;
    char *to = upload_room(up, n * sizeof *from);
    if (to && up->status == OK)
        up->status = cuda_status(
            cudaMemcpy(to, from, n * sizeof *from, cudaMemcpyHostToDevice),
            "sending the weights");
    return (const float *)to;
}

static struct cuda_matrix upload_matrix(struct upload *up,
                                        const struct matrix *from)
{
    struct cuda_matrix m = {};
    m.rows = from->rows;
    m.cols = from->cols;
    m.stride = round_up(from->cols, ROW_ALIGN);
    char *to = upload_room(up, (size_t)m.rows * m.stride);
    if (to && up->status == OK)
        up->status =
            cuda_status(cudaMemcpy2D(to, m.stride, from->q, m.cols, m.cols,
                                     m.rows, cudaMemcpyHostToDevice),
                        "sending the weights");
    m.q = (const int8_t *)to;
    m.scale = upload_floats(up, from->scale, m.rows);
    return m;
}

static struct cuda_layer upload_layer(struct upload *up,
                                      const struct layer *from,
                                      const struct model_config *c)
{
    struct cuda_layer l = {};
    size_t d_inner = c->d_inner;
    l.norm = upload_floats(up, from->norm, c->d_model);
    l.norm_bias = upload_floats(up, from->norm_bias, c->d_model);
    l.in_proj = upload_matrix(up, &from->in_proj);
    l.conv = upload_floats(up, from->conv, c->d_conv * d_inner);
    l.conv_bias = upload_floats(up, from->conv_bias, d_inner);
    l.x_proj = upload_matrix(up, &from->x_proj);
    l.dt_proj = upload_matrix(up, &from->dt_proj);
    l.dt_bias = upload_floats(up, from->dt_bias, d_inner);
    l.a_log2e = upload_floats(up, from->a_log2e, c->d_state * d_inner);
    l.d = upload_floats(up, from->d, d_inner);
    l.out_proj = upload_matrix(up, &from->out_proj);
    return l;
}

static void upload_model(struct upload *up, struct cuda_model *m,
                         const struct model *from)
{
    const struct model_config *c = &m->config;
    m->embedding =
        upload_floats(up, from->embedding, (size_t)N_BYTES_VOCAB * c->d_model);
    for (int i = 0; i < c->n_layer; i++)
        m->layers[i] = upload_layer(up, &from->layers[i], c);

    struct cuda_layer *head = &m->layers[c->n_layer];
    m->norm_f = head->norm = upload_floats(up, from->norm_f, c->d_model);
    m->norm_f_bias = head->norm_bias =
        upload_floats(up, from->norm_f_bias, c->d_model);
    m->lm_head = head->in_proj = upload_matrix(up, &from->lm_head);

    size_t size = (c->n_layer + 1) * sizeof *m->layers;
    char *to = upload_room(up, size);
    if (to && up->status == OK)
        up->status =
            cuda_status(cudaMemcpy(to, m->layers, size, cudaMemcpyHostToDevice),
                        "sending the weights");
    m->device_layers = (const struct cuda_layer *)to;
}

static enum status open_model(struct cuda_model *m, const struct model *from)
{
    m->config = from->config;
    m->image.layer = state_layer_floats(&m->config);
    m->image.s = (size_t)(m->config.d_conv - 1) * m->config.d_inner;
    m->image.logits = m->image.layer * m->config.n_layer;
    m->layers =
        (struct cuda_layer *)calloc(m->config.n_layer + 1, sizeof *m->layers);
    if (!m->layers)
        return fail_memory("the weights");
    struct upload up = {NULL, 0, OK};
    upload_model(&up, m, from);
    m->arena_bytes = up.used;
    CUDA_TRY(cudaMalloc(&m->arena, up.used), "memory for the weights");
    CUDA_TRY(cudaMemset(m->arena, 0, up.used), "clearing the weights");
    up.base = (char *)m->arena;
    up.used = 0;
    upload_model(&up, m, from);
    return up.status;
}

/* ---- states ------------------------------------------------------------- */

static size_t image_bytes(const struct engine *engine)
{
    return model_state_floats(&engine->model->config) * sizeof(float);
}

static enum status cuda_state_new(struct engine *engine, struct state **state)
{
    struct cuda_engine *e = self(engine);
    *state = NULL;
    TRY(enter(e));
    struct state *s = e->free_states;
    if (s) {
        e->free_states = s->next;
    } else {
        s = (struct state *)calloc(1, sizeof *s);
        if (!s)
            return fail_memory("a state");
        enum status status = cuda_status(
            cudaMalloc(&s->image, image_bytes(engine)), "memory for a state");
        if (status != OK) {
            free(s);
            return status;
        }
    }
    *state = s;
    return OK;
}

/* Kept for the next cuda_state_new: allocating on a GPU is slow. */
static void cuda_state_free(struct engine *engine, struct state *state)
{
    struct cuda_engine *e = self(engine);
    state->next = e->free_states;
    e->free_states = state;
}

/* A block copies a part of an image. */
static __global__ void copy_images(const struct copies copies, int n_floats)
{
    const struct image_copy copy = copies.list[blockIdx.y];
    const int step = gridDim.x * blockDim.x;
#pragma unroll 4
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n_floats; i += step)
        copy.to[i] = copy.from[i];
}

/* Begins the copies that wait: before anything else is done with a state. */
static enum status settle(struct cuda_engine *e)
{
    enum { THREADS = 256, PARTS_MAX = 64 };
    TRY(enter(e));
    if (e->n_copies == 0)
        return OK;
    int n_floats = (int)model_state_floats(&e->base.model->config);
    int n_parts = ceil_div(n_floats, 4 * THREADS);
    dim3 grid(n_parts < PARTS_MAX ? n_parts : PARTS_MAX, e->n_copies);
    struct copies copies = {};
    for (int i = 0; i < e->n_copies; i++) {
        copies.list[i] = {e->targets[i]->image, e->sources[i]->image};
        e->targets[i]->is_target = e->sources[i]->is_source = false;
    }
    copy_images<<<grid, THREADS, 0, e->stream>>>(copies, n_floats);
    e->n_copies = 0;
    return cuda_status(cudaGetLastError(), "copying states");
}

static enum status copy_image(struct engine *engine, void *to, const void *from,
                              enum cudaMemcpyKind kind)
{
    struct cuda_engine *e = self(engine);
    TRY(settle(e));
    CUDA_TRY(cudaMemcpyAsync(to, from, image_bytes(engine), kind, e->stream),
             "copying a state");
    return finish(e, "copying a state");
}

/* Many are begun at once, with the next call that does anything else.  Nobody
 * waits for them: what follows on the stream comes after, and waves begin when
 * the stream has ended. */
static enum status cuda_state_copy(struct engine *engine, struct state *to,
                                   const struct state *from)
{
    struct cuda_engine *e = self(engine);
    struct state *source = (struct state *)from;
    if (e->n_copies == COPIES || to->is_target || to->is_source ||
        from->is_target)
        TRY(settle(e));
    e->targets[e->n_copies] = to;
    e->sources[e->n_copies++] = source;
    to->is_target = source->is_source = true;
    return OK;
}

static enum status cuda_state_get(struct engine *engine,
                                  const struct state *state, float *image)
{
    return copy_image(engine, image, state->image, cudaMemcpyDeviceToHost);
}

static enum status cuda_state_set(struct engine *engine, struct state *state,
                                  const float *image)
{
    return copy_image(engine, state->image, image, cudaMemcpyHostToDevice);
}

/* ---- reading and writing bytes ------------------------------------------ */

static enum status need_decoder(struct cuda_engine *e)
{
    if (!e->has_decoder)
        TRY(decoder_open(&e->decoder, &e->model, e->stream));
    e->has_decoder = true;
    return OK;
}

static enum status need_stepper(struct cuda_engine *e)
{
    if (!e->has_stepper)
        TRY(stepper_open(&e->stepper, &e->model));
    e->has_stepper = true;
    return OK;
}

static enum status need_prefill(struct cuda_engine *e)
{
    return e->prefill
               ? OK
               : prefill_open(&e->prefill, &e->model, e->device.major >= 9);
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

/* Whether every stream reads a byte or none, and nothing but predictions is
 * wanted. */
static bool is_step(const struct segment *segments, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (segments[i].n > 1 || segments[i].sums)
            return false;
    }
    return true;
}

/* Copies have been made, and there is who takes waves. */
static enum status prepare_waves(struct cuda_engine *e)
{
    TRY(settle(e));
    TRY(finish(e, "copying a state"));
    return need_prefill(e);
}

static enum status cuda_feed_start(struct engine *engine,
                                   const struct segment *segments,
                                   size_t n_segments)
{
    struct cuda_engine *e = self(engine);
    enum status status = prepare_waves(e);
    if (status == OK)
        return prefill_start(e->prefill, segments, n_segments, e->floats);
    if (e->prefill)
        prefill_abandon(e->prefill);
    return status;
}

static enum status cuda_feed_finish(struct engine *engine)
{
    struct cuda_engine *e = self(engine);
    if (!e->prefill)
        return OK;
    TRY(enter(e));
    return prefill_finish(e->prefill);
}

static enum status cuda_feed(struct engine *engine,
                             const struct segment *segments, size_t n_segments)
{
    struct cuda_engine *e = self(engine);
    const struct segment *one = only_segment(segments, n_segments);
    TRY(settle(e));
    if (one && one->n <= DECODE_MAX && !one->sums) {
        TRY(need_decoder(e));
        if (e->decoder)
            return decoder_feed(e->decoder, one->state->image, one->bytes,
                                one->n, one->bits, one->logits);
    }
    TRY(finish(e, "copying a state"));
    if (is_step(segments, n_segments)) {
        TRY(need_stepper(e));
        if (e->stepper)
            return stepper_feed(e->stepper, segments, n_segments, e->floats);
    }
    TRY(cuda_feed_start(engine, segments, n_segments));
    return cuda_feed_finish(engine);
}

/* The host draws, and the waves read, where the decoder cannot run. */
static enum status generate_by_waves(struct engine *engine, struct state *state,
                                     const struct sampler *sampler,
                                     uint64_t index, uint8_t *bytes, size_t n)
{
    struct cuda_engine *e = self(engine);
    float logits[N_BYTES_VOCAB];
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
    struct cuda_engine *e = self(engine);
    TRY(settle(e));
    TRY(need_decoder(e));
    if (!e->decoder)
        return generate_by_waves(engine, state, sampler, index, bytes, n);
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
    struct cuda_engine *e = self(engine);
    cudaSetDevice(e->index);
    decoder_close(e->decoder);
    stepper_close(e->stepper);
    prefill_close(e->prefill);
    while (e->free_states) {
        struct state *s = e->free_states;
        e->free_states = s->next;
        cudaFree(s->image);
        free(s);
    }
    cudaFree(e->model.arena);
    free(e->model.layers);
    if (e->stream)
        cudaStreamDestroy(e->stream);
    free(e);
}

static enum status cuda_floats_new(struct engine *engine, float **floats,
                                   size_t n)
{
    struct cuda_engine *e = self(engine);
    *floats = NULL;
    TRY(enter(e));
    struct host_floats *one = (struct host_floats *)calloc(1, sizeof *one);
    if (!one)
        return fail_memory("results");
    enum status status = cuda_status(
        cudaMallocHost(&one->begin, n * sizeof **floats), "memory for results");
    if (status != OK) {
        free(one);
        return status;
    }
    one->end = one->begin + n;
    one->next = e->floats;
    e->floats = one;
    *floats = one->begin;
    return OK;
}

static void cuda_floats_free(struct engine *engine, float *floats)
{
    struct cuda_engine *e = self(engine);
    struct host_floats **at = &e->floats;
    while (*at && (*at)->begin != floats)
        at = &(*at)->next;
    struct host_floats *one = *at;
    if (!one)
        return;
    *at = one->next;
    cudaSetDevice(e->index);
    cudaFreeHost(one->begin);
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

enum status cuda_find_device(int index)
{
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    cudaGetLastError();
    if (error == cudaErrorInsufficientDriver) {
        int driver = 0;
        cudaDriverGetVersion(&driver);
        if (driver == 0)
            return fail(E_DEVICE, "no NVIDIA driver is installed");
        return fail(E_DEVICE,
                    "the NVIDIA driver is too old: it supports CUDA %d.%d, "
                    "this build needs %d.%d",
                    driver / 1000, driver % 100 / 10, CUDART_VERSION / 1000,
                    CUDART_VERSION % 100 / 10);
    }
    if (error == cudaErrorNoDevice || (error == cudaSuccess && n == 0))
        return fail(E_DEVICE, "no NVIDIA GPU is visible");
    if (error != cudaSuccess)
        return cuda_status(error, "looking for devices");
    if (index < 0 || index >= n)
        return fail(E_DEVICE, "there is no GPU %d: the machine has %d", index,
                    n);
    return OK;
}

static enum status count_streams(struct cuda_engine *e)
{
    size_t free_bytes, all_bytes;
    CUDA_TRY(cudaMemGetInfo(&free_bytes, &all_bytes), "asking for memory");
    size_t each = image_bytes(&e->base), n = free_bytes / 2 / each;
    size_t some = all_bytes / TOGETHER_SHARE / each;
    e->base.n_streams = n < BUSY_STREAMS ? (int)n : BUSY_STREAMS;
    n = n < some ? n : some;
    if (n > STREAMS_TOGETHER)
        n = STREAMS_TOGETHER;
    e->base.n_together =
        (int)n > e->base.n_streams ? (int)n : e->base.n_streams;
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
    TRY(open_model(&e->model, model));
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
    e->base.is_apart = true;
    e->index = options->cuda_index;
    enum status status = set_up(e, model);
    if (status != OK)
        cuda_close(&e->base);
    else
        *engine = &e->base;
    return status;
}
