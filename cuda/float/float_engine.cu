/* float_engine.cu -- engine_ops on a GPU for models of floats.
 *
 * The layer loop of cpu_batch.c, a launch for each of its phases, on batches of
 * up to FLOAT_BATCH rows.  Weights lie on the device in the type of the file.
 * Costs are taken on the host, from the logits of the batch.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/carver.h"
#include "cuda/common/launch.cuh"
#include "cuda/float/float_kernels.cuh"
#include "cuda/float/float_model.cuh"
extern "C" {
#include "base/signals.h"
}

#include <stdio.h>

enum { FLOAT_BATCH = 512, FLOAT_STREAMS = 256 };

struct float_engine {
    struct engine base;
    int index; /* of the device */
    struct cudaDeviceProp device;
    struct queue queue;

    struct float_model model;

    /* One batch; arrays on the device, [t][..]. */
    void *arena; /* owned: the arrays */
    uint8_t *bytes;
    struct float_span *spans;
    float *h, *x, *uz, *dtbc, *y, *logits;

    /* The same batch on the host. */
    uint8_t host_bytes[FLOAT_BATCH];
    struct float_span host_spans[FLOAT_BATCH];
    const struct segment *segments[FLOAT_BATCH]; /* of the spans */
    size_t offsets[FLOAT_BATCH];                 /* in their segments */
    int n_rows, n_spans;
    float *host_logits; /* [FLOAT_BATCH][256], owned */
    float *host_y;      /* [FLOAT_BATCH][d_inner], owned */
    uint32_t *overflow; /* owned, pinned: see overflow.cuh */
};

static struct float_engine *float_engine_of(struct engine *engine)
{
    return (struct float_engine *)engine;
}

static const struct model_config *config_of(const struct float_engine *e)
{
    return &e->base.model->config;
}

static enum status enter(const struct float_engine *e)
{
    CUDA_TRY(cudaSetDevice(e->index), "choosing the device");
    return OK;
}

static enum status finish(const struct float_engine *e, const char *what)
{
    CUDA_TRY(cudaStreamSynchronize(e->queue.stream), what);
    return OK;
}

static enum status copy(const struct float_engine *e, void *to,
                        const void *from, size_t n, enum cudaMemcpyKind kind)
{
    CUDA_TRY(cudaMemcpyAsync(to, from, n, kind, e->queue.stream),
             "copying to or from the device");
    return finish(e, "copying to or from the device");
}

/* ---- one batch ---------------------------------------------------------- */

static enum status norm(struct float_engine *e, const float *weight,
                        const float *bias, uint32_t *overflow)
{
    const struct model_config *c = config_of(e);
    return launch("a norm", e->queue, dim3(e->n_rows), NORM_THREADS, 0,
                  norm_kernel, e->x, (const float *)e->h, weight, bias,
                  c->norm_epsilon, c->d_model, overflow);
}

template <typename T>
static enum status launch_product(struct float_engine *e,
                                  struct float_product p)
{
    int warps = FEW_THREADS / WARP;
    if (p.n_t <= 4 * FEW)
        return launch("a product", e->queue,
                      dim3(ceil_div(p.rows, warps), ceil_div(p.n_t, FEW)),
                      FEW_THREADS, 0, few_kernel<T>, p);
    return launch("a product", e->queue,
                  dim3(ceil_div(p.rows, TILE), ceil_div(p.n_t, TILE)),
                  TILE_THREADS, 0, tile_kernel<T>, p);
}

/* y (+)= w x, rows of y and x being ld_y and ld_x floats apart. */
static enum status project(struct float_engine *e, float *y, int ld_y,
                           const struct float_matrix *w, const float *x,
                           int ld_x, bool accumulate)
{
    struct float_product p = {y,    ld_y,    x,       ld_x,      e->n_rows,
                              w->w, w->rows, w->cols, accumulate};
    if (w->dtype == DTYPE_F32)
        return launch_product<float>(e, p);
    if (w->dtype == DTYPE_BF16)
        return launch_product<__nv_bfloat16>(e, p);
    return launch_product<__half>(e, p);
}

static enum status scan(struct float_engine *e,
                        const struct float_layer_job &job, dim3 grid)
{
    switch (config_of(e)->d_state) {
    case 4:
        return launch("a scan", e->queue, grid, CHANNEL_THREADS, 0,
                      scan_kernel<4>, job);
    case 8:
        return launch("a scan", e->queue, grid, CHANNEL_THREADS, 0,
                      scan_kernel<8>, job);
    case 16:
        return launch("a scan", e->queue, grid, CHANNEL_THREADS, 0,
                      scan_kernel<16>, job);
    case 32:
        return launch("a scan", e->queue, grid, CHANNEL_THREADS, 0,
                      scan_kernel<32>, job);
    default:
        return launch("a scan", e->queue, grid, CHANNEL_THREADS, 0,
                      scan_kernel<64>, job);
    }
}

/* Adds y of this layer to the features of the segments that want them. */
static enum status add_to_pooled(struct float_engine *e, int l)
{
    size_t d_inner = (size_t)config_of(e)->d_inner;
    int at = pooled_find(config_of(e), l);
    bool is_wanted = false;
    for (int i = 0; at >= 0 && i < e->n_spans; i++)
        is_wanted = is_wanted || e->segments[i]->pooled;
    if (!is_wanted)
        return OK;
    TRY(copy(e, e->host_y, e->y, (size_t)e->n_rows * d_inner * sizeof(float),
             cudaMemcpyDeviceToHost));
    for (int i = 0; i < e->n_spans; i++) {
        const struct float_span *p = &e->host_spans[i];
        float *pooled = e->segments[i]->pooled;
        for (int t = p->row; pooled && t < p->row + p->n; t++) {
            for (size_t c = 0; c < d_inner; c++)
                pooled[(size_t)at * d_inner + c] +=
                    e->host_y[(size_t)t * d_inner + c];
        }
    }
    return OK;
}

static enum status run_layer(struct float_engine *e, int l)
{
    const struct model_config *c = config_of(e);
    const struct float_layer *w = &e->model.layers[l];
    int d_inner = c->d_inner, ld_dtbc = c->dt_rank + 2 * c->d_state;
    size_t image = (size_t)l * state_layer_floats(c);
    struct float_layer_job job = {
        e->spans,  image,        image + (size_t)(c->d_conv - 1) * d_inner,
        e->uz,     e->y,         e->dtbc,
        w->conv,   w->conv_bias, w->a_log2e,
        w->d,      w->dt_bias,   d_inner,
        c->d_conv, c->dt_rank};
    dim3 channels(ceil_div(d_inner, CHANNEL_THREADS), e->n_spans);

    TRY(norm(e, w->norm, w->norm_bias, NULL));
    TRY(project(e, e->uz, 2 * d_inner, &w->in_proj, e->x, c->d_model, false));
    TRY(launch("a convolution", e->queue, channels, CHANNEL_THREADS, 0,
               conv_kernel, job));
    TRY(project(e, e->dtbc, ld_dtbc, &w->x_proj, e->uz, 2 * d_inner, false));
    TRY(project(e, e->y, d_inner, &w->dt_proj, e->dtbc, ld_dtbc, false));
    TRY(scan(e, job, channels));
    TRY(add_to_pooled(e, l));
    return project(e, e->h, c->d_model, &w->out_proj, e->y, d_inner, true);
}

/* Hands the costs and logits of a span to its segment; before: the prediction
 * of its state before the batch. */
static void deliver(const struct float_engine *e, int i, const float *before)
{
    const struct float_span *p = &e->host_spans[i];
    const struct segment *s = e->segments[i];
    const float *logits = e->host_logits + (size_t)p->row * N_BYTES_VOCAB;
    size_t n = (size_t)p->n * N_BYTES_VOCAB, at = e->offsets[i];
    for (int t = 0; t < p->n && s->bits; t++) {
        s->bits[at + t] = odds_cost(before, s->bytes[at + t]);
        before = logits + (size_t)t * N_BYTES_VOCAB;
    }
    if (s->logits)
        memcpy(s->logits + at * N_BYTES_VOCAB, logits, n * sizeof(float));
}

static enum status deliver_all(struct float_engine *e,
                               const float (*before)[N_BYTES_VOCAB])
{
    TRY(copy(e, e->host_logits, e->logits,
             (size_t)e->n_rows * N_BYTES_VOCAB * sizeof(float),
             cudaMemcpyDeviceToHost));
    TRY(overflow_take(e->overflow, e->base.model));
    for (int i = 0; i < e->n_spans; i++)
        deliver(e, i, before[i]);
    return OK;
}

/* The predictions of the states, where costs are wanted. */
static enum status fetch_predictions(struct float_engine *e,
                                     float (*before)[N_BYTES_VOCAB])
{
    size_t at =
        (size_t)config_of(e)->n_layer * state_layer_floats(config_of(e));
    for (int i = 0; i < e->n_spans; i++) {
        if (e->segments[i]->bits)
            TRY(copy(e, before[i], e->host_spans[i].image + at,
                     sizeof before[i], cudaMemcpyDeviceToHost));
    }
    return OK;
}

static enum status compute_batch(struct float_engine *e)
{
    const struct model_config *c = config_of(e);
    TRY(copy(e, e->bytes, e->host_bytes, (size_t)e->n_rows,
             cudaMemcpyHostToDevice));
    TRY(copy(e, e->spans, e->host_spans, (size_t)e->n_spans * sizeof *e->spans,
             cudaMemcpyHostToDevice));
    TRY(launch("embedding", e->queue, dim3(e->n_rows), NORM_THREADS, 0,
               embed_kernel, e->h, e->model.embedding,
               (const uint8_t *)e->bytes, c->d_model));
    for (int l = 0; l < c->n_layer; l++)
        TRY(run_layer(e, l));
    TRY(norm(e, e->model.norm_f, e->model.norm_f_bias, e->overflow));
    TRY(project(e, e->logits, N_BYTES_VOCAB, &e->model.lm_head, e->x,
                c->d_model, false));
    return launch("logits", e->queue, dim3(e->n_spans), N_BYTES_VOCAB, 0,
                  logits_kernel, e->logits, (const struct float_span *)e->spans,
                  (size_t)c->n_layer * state_layer_floats(c), e->overflow);
}

static enum status run_batch(struct float_engine *e)
{
    size_t n = (size_t)e->n_spans;
    float(*before)[N_BYTES_VOCAB] =
        (float(*)[N_BYTES_VOCAB])calloc(n, sizeof *before);
    if (!before)
        return fail_memory("predictions");
    enum status status = fetch_predictions(e, before);
    if (status == OK)
        status = compute_batch(e);
    if (status == OK)
        status = deliver_all(e, before);
    free(before);
    return status;
}

/* ---- reading and writing bytes ------------------------------------------ */

/* Adds bytes of a segment, from offset on, while there is room.  Returns how
 * many. */
static size_t add_span(struct float_engine *e, const struct segment *s,
                       size_t offset)
{
    size_t n = s->n - offset, room = (size_t)(FLOAT_BATCH - e->n_rows);
    n = n < room ? n : room;
    if (n == 0)
        return 0;
    memcpy(e->host_bytes + e->n_rows, s->bytes + offset, n);
    struct float_span span = {s->state->image, e->n_rows, (int)n};
    e->host_spans[e->n_spans] = span;
    e->segments[e->n_spans] = s;
    e->offsets[e->n_spans++] = offset;
    e->n_rows += (int)n;
    return n;
}

static enum status float_feed(struct engine *engine,
                              const struct segment *segments, size_t n_segments)
{
    struct float_engine *e = float_engine_of(engine);
    size_t i = 0, offset = 0;
    TRY(enter(e));
    while (i < n_segments) {
        e->n_rows = e->n_spans = 0;
        while (i < n_segments && e->n_rows < FLOAT_BATCH) {
            offset += add_span(e, &segments[i], offset);
            if (offset == segments[i].n) {
                i++;
                offset = 0;
            }
        }
        if (e->n_rows > 0)
            TRY(run_batch(e));
        if (i < n_segments)
            TRY(signals_check());
    }
    return OK;
}

static enum status float_generate(struct engine *engine, struct state *state,
                                  const struct sampler *sampler, uint64_t index,
                                  uint8_t *bytes, size_t n)
{
    struct float_engine *e = float_engine_of(engine);
    const struct model_config *c = config_of(e);
    float logits[N_BYTES_VOCAB];
    TRY(enter(e));
    TRY(copy(e, logits,
             state->image + (size_t)c->n_layer * state_layer_floats(c),
             sizeof logits, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < n; i++) {
        bytes[i] = sampler_choose(sampler, logits, index + i);
        struct segment one = {};
        one.state = state;
        one.bytes = bytes + i;
        one.n = 1;
        one.logits = logits;
        TRY(float_feed(engine, &one, 1));
    }
    return OK;
}

/* ---- states ------------------------------------------------------------- */

static size_t image_bytes(const struct engine *engine)
{
    return model_state_floats(&engine->model->config) * sizeof(float);
}

static enum status float_state_new(struct engine *engine, struct state **state)
{
    struct float_engine *e = float_engine_of(engine);
    *state = NULL;
    TRY(enter(e));
    struct state *s = (struct state *)calloc(1, sizeof *s);
    if (!s)
        return fail_memory("a state");
    enum status status =
        cuda_status(cudaMalloc((void **)&s->image, image_bytes(engine)),
                    "memory for a state");
    if (status == OK)
        *state = s;
    else
        free(s);
    return status;
}

static void float_state_free(struct engine *engine, struct state *state)
{
    cudaSetDevice(float_engine_of(engine)->index);
    cudaFree(state->image);
    free(state);
}

static enum status float_state_copy(struct engine *engine, struct state *to,
                                    const struct state *from)
{
    TRY(enter(float_engine_of(engine)));
    return copy(float_engine_of(engine), to->image, from->image,
                image_bytes(engine), cudaMemcpyDeviceToDevice);
}

static enum status float_state_get(struct engine *engine,
                                   const struct state *state, float *image)
{
    TRY(enter(float_engine_of(engine)));
    return copy(float_engine_of(engine), image, state->image,
                image_bytes(engine), cudaMemcpyDeviceToHost);
}

static enum status float_state_set(struct engine *engine, struct state *state,
                                   const float *image)
{
    TRY(enter(float_engine_of(engine)));
    return copy(float_engine_of(engine), state->image, image,
                image_bytes(engine), cudaMemcpyHostToDevice);
}

/* ---- opening ------------------------------------------------------------ */

static void float_describe(const struct engine *engine, char text[160])
{
    const struct float_engine *e = (const struct float_engine *)engine;
    snprintf(text, 160, "cuda %d, %.80s, weights in floats", e->index,
             e->device.name);
}

static void float_close(struct engine *engine)
{
    struct float_engine *e = float_engine_of(engine);
    cudaSetDevice(e->index);
    float_model_close(&e->model);
    cudaFree(e->arena);
    if (e->queue.stream)
        cudaStreamDestroy(e->queue.stream);
    cudaFreeHost(e->overflow);
    free(e->host_logits);
    free(e->host_y);
    free(e);
}

/* In the order of struct engine_ops. */
static const struct engine_ops float_ops = {
    float_state_new,
    float_state_free,
    float_state_copy,
    float_state_get,
    float_state_set,
    float_feed,
    float_generate,
    float_describe,
    float_close,
    NULL, /* logits may go to any memory */
    NULL,
    NULL, /* a call ends before the next one starts */
    NULL,
};

static void carve_batch(struct float_engine *e, struct carver *carver)
{
    const struct model_config *c = config_of(e);
    int ld_dtbc = c->dt_rank + 2 * c->d_state;
    e->bytes = (uint8_t *)carve(carver, FLOAT_BATCH, 1);
    e->spans =
        (struct float_span *)carve(carver, FLOAT_BATCH, sizeof *e->spans);
    e->h = carve_floats(carver, FLOAT_BATCH, c->d_model);
    e->x = carve_floats(carver, FLOAT_BATCH, c->d_model);
    e->uz = carve_floats(carver, FLOAT_BATCH, 2 * (size_t)c->d_inner);
    e->dtbc = carve_floats(carver, FLOAT_BATCH, ld_dtbc);
    e->y = carve_floats(carver, FLOAT_BATCH, c->d_inner);
    e->logits = carve_floats(carver, FLOAT_BATCH, N_BYTES_VOCAB);
}

static enum status make_batch(struct float_engine *e)
{
    struct carver carver = {};
    carve_batch(e, &carver);
    CUDA_TRY(cudaMalloc(&e->arena, carver.n_bytes), "memory for activations");
    carver = {(char *)e->arena, 0};
    carve_batch(e, &carver);
    return OK;
}

static enum status make_host(struct float_engine *e)
{
    size_t d_inner = config_of(e)->d_inner;
    e->host_logits =
        (float *)calloc(FLOAT_BATCH * N_BYTES_VOCAB, sizeof(float));
    e->host_y = (float *)calloc(FLOAT_BATCH * d_inner, sizeof(float));
    return e->host_logits && e->host_y ? OK : fail_memory("the GPU engine");
}

static enum status set_up(struct float_engine *e)
{
    CUDA_TRY(cudaInitDevice(e->index, cudaDeviceScheduleBlockingSync,
                            cudaInitDeviceFlagsAreValid),
             "starting the device");
    TRY(enter(e));
    CUDA_TRY(cudaGetDeviceProperties(&e->device, e->index),
             "asking for the device's properties");
    CUDA_TRY(cudaStreamCreateWithFlags(&e->queue.stream, cudaStreamNonBlocking),
             "a stream");
    TRY(make_host(e));
    TRY(overflow_open(&e->overflow));
    TRY(float_model_open(&e->model, e->base.model));
    return make_batch(e);
}

extern "C" enum status
cuda_float_engine_open(struct engine **engine, const struct model *model,
                       const struct engine_options *options)
{
    *engine = NULL;
    TRY(cuda_find_device(options->cuda_index));
    struct float_engine *e = (struct float_engine *)calloc(1, sizeof *e);
    if (!e)
        return fail_memory("the GPU engine");
    e->base.ops = &float_ops;
    e->base.model = model;
    e->base.busy_streams = FLOAT_STREAMS;
    e->base.is_asynchronous = true;
    e->index = options->cuda_index;
    enum status status = set_up(e);
    if (status != OK)
        float_close(&e->base);
    else
        *engine = &e->base;
    return status;
}
