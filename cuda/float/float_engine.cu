/* float_engine.cu -- engine_ops on a GPU for models of floats.
 *
 * The layer loop of cpu_engine.c, a launch for each of its phases, on batches
 * of up to FLOAT_BATCH rows.  Weights lie on the device in the type of the
 * file.  Costs are taken on the host, from the logits of the batch.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/kernels.cuh"
#include "cuda/float/float_kernels.cuh"

#include <stdio.h>

enum { FLOAT_BATCH = 512, FLOAT_STREAMS = 256 };

struct device_matrix {
    int rows, cols;
    enum dtype dtype;
    const void *w; /* [rows][cols] */
};

struct device_layer {
    const float *norm, *norm_bias, *conv, *conv_bias, *dt_bias, *a_log2e, *d;
    struct device_matrix in_proj, x_proj, dt_proj, out_proj;
};

struct float_engine {
    struct engine base;
    int index; /* of the device */
    struct cudaDeviceProp device;
    struct queue queue;

    /* On the device; freed one by one, as allocated. */
    void **owned; /* [n_owned] */
    int n_owned;
    const float *embedding, *norm_f, *norm_f_bias;
    struct device_matrix lm_head;
    struct device_layer *layers; /* [n_layer], host */

    /* One batch; arrays on the device, [t][..]. */
    uint8_t *bytes;
    struct float_piece *pieces;
    float *h, *x, *uz, *dtbc, *y, *logits;

    /* The same batch on the host. */
    uint8_t host_bytes[FLOAT_BATCH];
    struct float_piece host_pieces[FLOAT_BATCH];
    const struct segment *segments[FLOAT_BATCH]; /* of the pieces */
    size_t offsets[FLOAT_BATCH];
    int n_rows, n_pieces;
    float *host_logits; /* [FLOAT_BATCH][256], owned */
    float *host_y;      /* [FLOAT_BATCH][d_inner], owned */
};

static struct float_engine *self(struct engine *engine)
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
                        const float *bias)
{
    const struct model_config *c = config_of(e);
    return launch("a norm", e->queue, dim3(e->n_rows), NORM_THREADS, 0,
                  norm_kernel, e->x, (const float *)e->h, weight, bias,
                  c->norm_epsilon, c->d_model);
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
                           const struct device_matrix *w, const float *x,
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

/* What a segment wants to know of y of this layer. */
static enum status add_to_sums(struct float_engine *e, int l)
{
    size_t d_inner = (size_t)config_of(e)->d_inner;
    int at = sums_find(config_of(e), l);
    bool is_wanted = false;
    for (int i = 0; at >= 0 && i < e->n_pieces; i++)
        is_wanted = is_wanted || e->segments[i]->sums;
    if (!is_wanted)
        return OK;
    TRY(copy(e, e->host_y, e->y, (size_t)e->n_rows * d_inner * sizeof(float),
             cudaMemcpyDeviceToHost));
    for (int i = 0; i < e->n_pieces; i++) {
        const struct float_piece *p = &e->host_pieces[i];
        float *sums = e->segments[i]->sums;
        for (int t = p->row; sums && t < p->row + p->n; t++) {
            for (size_t c = 0; c < d_inner; c++)
                sums[(size_t)at * d_inner + c] +=
                    e->host_y[(size_t)t * d_inner + c];
        }
    }
    return OK;
}

static enum status run_layer(struct float_engine *e, int l)
{
    const struct model_config *c = config_of(e);
    const struct device_layer *w = &e->layers[l];
    int d_inner = c->d_inner, ld_dtbc = c->dt_rank + 2 * c->d_state;
    size_t image = (size_t)l * state_layer_floats(c);
    struct float_layer_job job = {
        e->pieces, image,        image + (size_t)(c->d_conv - 1) * d_inner,
        e->uz,     e->y,         e->dtbc,
        w->conv,   w->conv_bias, w->a_log2e,
        w->d,      w->dt_bias,   d_inner,
        c->d_conv, c->dt_rank};
    dim3 channels(ceil_div(d_inner, CHANNEL_THREADS), e->n_pieces);

    TRY(norm(e, w->norm, w->norm_bias));
    TRY(project(e, e->uz, 2 * d_inner, &w->in_proj, e->x, c->d_model, false));
    TRY(launch("a convolution", e->queue, channels, CHANNEL_THREADS, 0,
               conv_kernel, job));
    TRY(project(e, e->dtbc, ld_dtbc, &w->x_proj, e->uz, 2 * d_inner, false));
    TRY(project(e, e->y, d_inner, &w->dt_proj, e->dtbc, ld_dtbc, false));
    TRY(scan(e, job, channels));
    TRY(add_to_sums(e, l));
    return project(e, e->h, c->d_model, &w->out_proj, e->y, d_inner, true);
}

/* Costs and logits of a piece to its segment; before: the prediction of the
 * state when the batch began. */
static void deliver(const struct float_engine *e, int i, const float *before)
{
    const struct float_piece *p = &e->host_pieces[i];
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
    for (int i = 0; i < e->n_pieces; i++)
        deliver(e, i, before[i]);
    return OK;
}

/* The predictions of the states, where costs are wanted. */
static enum status fetch_predictions(struct float_engine *e,
                                     float (*before)[N_BYTES_VOCAB])
{
    size_t at =
        (size_t)config_of(e)->n_layer * state_layer_floats(config_of(e));
    for (int i = 0; i < e->n_pieces; i++) {
        if (e->segments[i]->bits)
            TRY(copy(e, before[i], e->host_pieces[i].image + at,
                     sizeof before[i], cudaMemcpyDeviceToHost));
    }
    return OK;
}

static enum status compute_batch(struct float_engine *e)
{
    const struct model_config *c = config_of(e);
    TRY(copy(e, e->bytes, e->host_bytes, (size_t)e->n_rows,
             cudaMemcpyHostToDevice));
    TRY(copy(e, e->pieces, e->host_pieces,
             (size_t)e->n_pieces * sizeof *e->pieces, cudaMemcpyHostToDevice));
    TRY(launch("embedding", e->queue, dim3(e->n_rows), NORM_THREADS, 0,
               embed_kernel, e->h, e->embedding, (const uint8_t *)e->bytes,
               c->d_model));
    for (int l = 0; l < c->n_layer; l++)
        TRY(run_layer(e, l));
    TRY(norm(e, e->norm_f, e->norm_f_bias));
    TRY(project(e, e->logits, N_BYTES_VOCAB, &e->lm_head, e->x, c->d_model,
                false));
    return launch("logits", e->queue, dim3(e->n_pieces), N_BYTES_VOCAB, 0,
                  logits_kernel, e->logits,
                  (const struct float_piece *)e->pieces,
                  (size_t)c->n_layer * state_layer_floats(c));
}

static enum status run_batch(struct float_engine *e)
{
    size_t n = (size_t)e->n_pieces;
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

/* n bytes of a segment from offset on, as far as there is room. */
static size_t add_piece(struct float_engine *e, const struct segment *s,
                        size_t offset)
{
    size_t n = s->n - offset, room = (size_t)(FLOAT_BATCH - e->n_rows);
    n = n < room ? n : room;
    if (n == 0)
        return 0;
    memcpy(e->host_bytes + e->n_rows, s->bytes + offset, n);
    struct float_piece piece = {s->state->image, e->n_rows, (int)n};
    e->host_pieces[e->n_pieces] = piece;
    e->segments[e->n_pieces] = s;
    e->offsets[e->n_pieces++] = offset;
    e->n_rows += (int)n;
    return n;
}

static enum status float_feed(struct engine *engine,
                              const struct segment *segments, size_t n_segments)
{
    struct float_engine *e = self(engine);
    size_t i = 0, offset = 0;
    TRY(enter(e));
    while (i < n_segments) {
        e->n_rows = e->n_pieces = 0;
        while (i < n_segments && e->n_rows < FLOAT_BATCH) {
            offset += add_piece(e, &segments[i], offset);
            if (offset == segments[i].n) {
                i++;
                offset = 0;
            }
        }
        if (e->n_rows > 0)
            TRY(run_batch(e));
    }
    return OK;
}

static enum status float_generate(struct engine *engine, struct state *state,
                                  const struct sampler *sampler, uint64_t index,
                                  uint8_t *bytes, size_t n)
{
    struct float_engine *e = self(engine);
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
    struct float_engine *e = self(engine);
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
    cudaSetDevice(self(engine)->index);
    cudaFree(state->image);
    free(state);
}

static enum status float_state_copy(struct engine *engine, struct state *to,
                                    const struct state *from)
{
    TRY(enter(self(engine)));
    return copy(self(engine), to->image, from->image, image_bytes(engine),
                cudaMemcpyDeviceToDevice);
}

static enum status float_state_get(struct engine *engine,
                                   const struct state *state, float *image)
{
    TRY(enter(self(engine)));
    return copy(self(engine), image, state->image, image_bytes(engine),
                cudaMemcpyDeviceToHost);
}

static enum status float_state_set(struct engine *engine, struct state *state,
                                   const float *image)
{
    TRY(enter(self(engine)));
    return copy(self(engine), state->image, image, image_bytes(engine),
                cudaMemcpyHostToDevice);
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
    struct float_engine *e = self(engine);
    cudaSetDevice(e->index);
    for (int i = 0; i < e->n_owned; i++)
        cudaFree(e->owned[i]);
    if (e->queue.stream)
        cudaStreamDestroy(e->queue.stream);
    free(e->owned);
    free(e->layers);
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
    NULL,
    NULL, /* any memory will do for logits */
    NULL,
    NULL, /* a call follows another when it is done */
};

static enum status allocate(struct float_engine *e, void **room, size_t n)
{
    CUDA_TRY(cudaMalloc(room, n), "memory for the weights");
    e->owned[e->n_owned++] = *room;
    return OK;
}

/* from NULL stays NULL. */
static enum status upload(struct float_engine *e, const void **to,
                          const void *from, size_t n)
{
    void *room = NULL;
    if (from) {
        TRY(allocate(e, &room, n));
        CUDA_TRY(cudaMemcpy(room, from, n, cudaMemcpyHostToDevice),
                 "sending the weights");
    }
    *to = room;
    return OK;
}

static enum status upload_floats(struct float_engine *e, const float **to,
                                 const float *from, int rows, int cols)
{
    const void *room;
    TRY(upload(e, &room, from, (size_t)rows * cols * sizeof *from));
    *to = (const float *)room;
    return OK;
}

static enum status upload_matrix(struct float_engine *e,
                                 struct device_matrix *to,
                                 const struct matrix *from)
{
    to->rows = from->rows;
    to->cols = from->cols;
    to->dtype = from->dtype;
    return upload(e, &to->w, from->floats,
                  (size_t)from->rows * from->cols * dtype_size(from->dtype));
}

static enum status upload_layer(struct float_engine *e, struct device_layer *to,
                                const struct layer *from)
{
    const struct model_config *c = config_of(e);
    int d_inner = c->d_inner;
    TRY(upload_floats(e, &to->norm, from->norm, 1, c->d_model));
    TRY(upload_floats(e, &to->norm_bias, from->norm_bias, 1, c->d_model));
    TRY(upload_matrix(e, &to->in_proj, &from->in_proj));
    TRY(upload_floats(e, &to->conv, from->conv, c->d_conv, d_inner));
    TRY(upload_floats(e, &to->conv_bias, from->conv_bias, 1, d_inner));
    TRY(upload_matrix(e, &to->x_proj, &from->x_proj));
    TRY(upload_matrix(e, &to->dt_proj, &from->dt_proj));
    TRY(upload_floats(e, &to->dt_bias, from->dt_bias, 1, d_inner));
    TRY(upload_floats(e, &to->a_log2e, from->a_log2e, c->d_state, d_inner));
    TRY(upload_floats(e, &to->d, from->d, 1, d_inner));
    return upload_matrix(e, &to->out_proj, &from->out_proj);
}

static enum status upload_model(struct float_engine *e)
{
    const struct model *m = e->base.model;
    const struct model_config *c = &m->config;
    TRY(upload_floats(e, &e->embedding, m->embedding, N_BYTES_VOCAB,
                      c->d_model));
    for (int l = 0; l < c->n_layer; l++)
        TRY(upload_layer(e, &e->layers[l], &m->layers[l]));
    TRY(upload_floats(e, &e->norm_f, m->norm_f, 1, c->d_model));
    TRY(upload_floats(e, &e->norm_f_bias, m->norm_f_bias, 1, c->d_model));
    return upload_matrix(e, &e->lm_head, &m->lm_head);
}

static enum status batch_floats(struct float_engine *e, float **to, int n)
{
    return allocate(e, (void **)to,
                    (size_t)FLOAT_BATCH * (size_t)n * sizeof(float));
}

static enum status make_batch(struct float_engine *e)
{
    const struct model_config *c = config_of(e);
    TRY(allocate(e, (void **)&e->bytes, FLOAT_BATCH));
    TRY(allocate(e, (void **)&e->pieces, FLOAT_BATCH * sizeof *e->pieces));
    TRY(batch_floats(e, &e->h, c->d_model));
    TRY(batch_floats(e, &e->x, c->d_model));
    TRY(batch_floats(e, &e->uz, 2 * c->d_inner));
    TRY(batch_floats(e, &e->dtbc, c->dt_rank + 2 * c->d_state));
    TRY(batch_floats(e, &e->y, c->d_inner));
    return batch_floats(e, &e->logits, N_BYTES_VOCAB);
}

enum { ARRAYS_OF_A_LAYER = 11, OTHER_ARRAYS = 16 };

static enum status make_host(struct float_engine *e)
{
    const struct model_config *c = config_of(e);
    size_t n_layer = (size_t)c->n_layer;
    e->layers = (struct device_layer *)calloc(n_layer, sizeof *e->layers);
    e->owned = (void **)calloc(n_layer * ARRAYS_OF_A_LAYER + OTHER_ARRAYS,
                               sizeof *e->owned);
    e->host_logits =
        (float *)calloc(FLOAT_BATCH * N_BYTES_VOCAB, sizeof(float));
    e->host_y =
        (float *)calloc((size_t)FLOAT_BATCH * c->d_inner, sizeof(float));
    if (!e->layers || !e->owned || !e->host_logits || !e->host_y)
        return fail_memory("the GPU engine");
    return OK;
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
    TRY(upload_model(e));
    TRY(make_batch(e));
    /* Copies need not have ended, and the stream does not wait for them. */
    CUDA_TRY(cudaDeviceSynchronize(), "sending the weights");
    return OK;
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
    e->base.n_streams = FLOAT_STREAMS;
    e->base.is_apart = true;
    e->index = options->cuda_index;
    enum status status = set_up(e);
    if (status != OK)
        float_close(&e->base);
    else
        *engine = &e->base;
    return status;
}
