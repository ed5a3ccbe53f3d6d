/* chain.cu -- a chain of kernels, launched: batch decode of Mamba-2.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/chain.cuh"

#include "base/carver.h"
#include "cuda/prefill/recording.cuh"

enum {
    PARTS = 2,
    SPLIT_ROWS = 256 /* from so many on, rows may be in two parts          */
};

/* Rows that go through the layers together. */
struct part {
    struct prefill_batch batch;
    struct chain_rows rows;
    cudaStream_t stream; /* owned, of all parts but the first */
    cudaEvent_t done;
};

struct chain {
    const struct cuda_model *model;
    struct mamba2_batch mamba2;
    struct part parts[PARTS];
    bool fits;     /* a block has room for the heads                       */
    bool overlaps; /* see struct queue                                     */
    int priority;  /* of products over heads                               */
    void *memory;  /* owned: the arrays of the parts                       */
    cudaEvent_t start;
    struct recording recording;
};

/* ---- launches ------------------------------------------------------------ */

/* The norm and in_proj.  Layer 0 makes h of embeddings first. */
static enum status run_in(const struct chain *c, struct queue q,
                          const struct prefill_batch *b, struct tick tick)
{
    struct queue of_norm = q;
    if (tick.number == 0) /* the rows are there before any kernel after */
        of_norm.overlaps = false;
    TRY(launch_norm(of_norm, b, tick));
    return launch_mamba2_in(q, b, &c->mamba2, tick);
}

static enum status run_heads(const struct chain *c, const struct chain_rows *r,
                             struct queue q, const struct prefill_batch *b,
                             struct tick tick, int layer)
{
    const struct cuda_layer *l = &c->model->layers[layer];
    q.priority = 0;
    if (r->part_heads > 0)
        return launch_chain_streams(q, b, &c->mamba2, r, l, tick);
    return launch_chain_heads(q, b, &c->mamba2, r, l, tick);
}

static enum status run_layer(const struct chain *c, const struct part *p,
                             struct queue q, int layer, int n)
{
    struct prefill_batch b = p->batch;
    struct tick tick = chain_tick(&b, layer, n);
    TRY(run_in(c, q, &b, tick));
    TRY(run_heads(c, &p->rows, q, &b, tick, layer));
    return launch_product(q, &b, tick, PRODUCT_OUT);
}

static enum status run_head(const struct part *p, struct queue q,
                            const struct batch_job *job)
{
    struct prefill_batch b = p->batch;
    struct tick tick = chain_tick(&b, b.n_layer, job->n_rows);
    b.logits = job->logits;
    b.overflow = job->overflow;
    TRY(launch_norm(q, &b, tick));
    TRY(launch_product(q, &b, tick, PRODUCT_HEAD));
    return launch_chain_deliver(q, &b, &p->rows, job);
}

static enum status run_part(const struct chain *c, const struct part *p,
                            cudaStream_t stream, const struct batch_job *job)
{
    const struct prefill_batch *b = &p->batch;
    struct queue q = {stream, c->overlaps, c->priority};
    struct queue plain = {stream, false, c->priority};
    TRY(launch_chain_enter(plain, b, &c->mamba2, &p->rows, job));
    for (int i = 0; i < b->n_layer; i++)
        TRY(run_layer(c, p, q, i, job->n_rows));
    TRY(launch_chain_states(q, b, &c->mamba2, &p->rows));
    return run_head(p, q, job);
}

/* Rows [first, first + n) of a job. */
static struct batch_job part_of(const struct batch_job *job, int first, int n)
{
    struct batch_job part = *job;
    part.n_rows = n;
    part.images += first;
    part.bytes += first;
    part.logits += (size_t)first * N_BYTES_VOCAB;
    part.host_logits += first;
    part.host_bits += first;
    return part;
}

/* Two parts run beside each other: while one waits for states, the other
 * multiplies.  One is faster where a block takes whole streams, and in_proj of
 * all rows has large tiles, in_proj of half of them has not. */
static bool splits(const struct chain *c, int n)
{
    const struct part *p = &c->parts[0];
    if (p->rows.part_heads == c->mamba2.n_heads &&
        mamba2_in_is_large(&p->batch, &c->mamba2, n) &&
        !mamba2_in_is_large(&p->batch, &c->mamba2, n / PARTS))
        return false;
    return n >= SPLIT_ROWS;
}

static enum status run_chain(const struct chain *c, cudaStream_t stream,
                             const struct batch_job *job)
{
    const char *what = "decoding a batch";
    if (!splits(c, job->n_rows))
        return run_part(c, c->parts, stream, job);
    const struct part *side = &c->parts[1];
    int n = job->n_rows / 2;
    struct batch_job first = part_of(job, 0, job->n_rows - n);
    struct batch_job second = part_of(job, job->n_rows - n, n);
    CUDA_TRY(cudaEventRecord(c->start, stream), what);
    CUDA_TRY(cudaStreamWaitEvent(side->stream, c->start, 0), what);
    TRY(run_part(c, c->parts, stream, &first));
    TRY(run_part(c, side, side->stream, &second));
    CUDA_TRY(cudaEventRecord(side->done, side->stream), what);
    return cuda_status(cudaStreamWaitEvent(stream, side->done, 0), what);
}

static void record(struct chain *c, cudaStream_t stream,
                   const struct batch_job *job)
{
    if (!recording_start(&c->recording, stream))
        return;
    enum status status = run_chain(c, stream, job);
    recording_end(&c->recording, stream, status == OK);
}

/* A job differs from others of as many rows in what the host's memory holds
 * only. */
static enum status chain_launch(void *self, const struct batch_job *job,
                                cudaStream_t stream)
{
    struct chain *c = (struct chain *)self;
    struct launch_form form = {job->n_rows, job->n_rows, job->n_rows, 0, false};
    if (recording_meets(&c->recording, &form))
        record(c, stream, job);
    if (!c->recording.launch)
        return run_chain(c, stream, job);
    return cuda_status(cudaGraphLaunch(c->recording.launch, stream),
                       "decoding a batch");
}

static int chain_form(const void *self, int n)
{
    (void)self;
    return n;
}

/* ---- opening ------------------------------------------------------------- */

/* Layer 0 has activations of its own, the others share some: chain_tick. */
static void carve_part(struct carver *c, struct part *p, int zx_stride)
{
    struct prefill_batch *b = &p->batch;
    size_t rows = b->rows, all = 2 * rows;
    b->slots = (struct microbatch *)carve(c, 1, sizeof *b->slots);
    b->h = carve_floats(c, rows, b->d_model);
    b->x = (int8_t *)carve(c, all, b->x_stride);
    b->x_scale = carve_floats(c, all, 1);
    b->uz = carve_floats(c, all, zx_stride);
    b->u_q = (int8_t *)carve(c, all, b->u_stride);
    b->u_scale = carve_floats(c, all, 1);
    b->dt_amax = (uint32_t *)carve(c, all, sizeof *b->dt_amax);
    b->y_amax = (uint32_t *)carve(c, all, sizeof *b->y_amax);
    p->rows.places = (int *)carve(c, rows, sizeof(int));
    p->rows.ended = (int *)carve(c, rows + 1, sizeof(int));
    p->rows.wanted = (float **)carve(c, rows, sizeof(float *));
}

static void carve_chain(struct carver *c, struct chain *chain)
{
    for (int i = 0; i < PARTS; i++)
        carve_part(c, &chain->parts[i], chain->mamba2.zx_stride);
}

static enum status allocate(struct chain *c, cudaStream_t stream)
{
    struct carver counted = {};
    carve_chain(&counted, c);
    CUDA_TRY(cudaMalloc(&c->memory, counted.n_bytes), "memory for activations");
    CUDA_TRY(cudaMemsetAsync(c->memory, 0, counted.n_bytes, stream),
             "clearing activations");
    struct carver carver = {(char *)c->memory, 0};
    carve_chain(&carver, c);
    return OK;
}

/* Whether the kernels are made for the shape.  States are read 16 bytes at a
 * time, S two floats. */
static bool fits(const struct model_config *c)
{
    struct mamba2_layout l = mamba2_layout_of(c);
    return c->headdim == CHAIN_HEADDIM && c->d_conv == CHAIN_TAPS &&
           (c->d_state == 64 || c->d_state == 128) && l.int8s % 16 == 0 &&
           l.layer_floats % 2 == 0;
}

static enum status describe(struct chain *c, const struct cuda_model *model)
{
    mamba2_describe(&c->mamba2, &model->config);
    for (int i = 0; i < PARTS; i++) {
        struct prefill_batch *b = &c->parts[i].batch;
        prefill_describe(b, model);
        b->n_slots = 1;
        b->rows = i == 0 ? CHAIN_ROWS : CHAIN_ROWS / PARTS;
        TRY(prefill_ask_device(b));
    }
    c->fits = chain_heads_fit(&c->parts[0].batch, &c->mamba2);
    return OK;
}

static enum status prepare(struct chain *c)
{
    int part_heads;
    TRY(products_prepare(&c->parts[0].batch));
    TRY(chain_heads_prepare(&c->parts[0].batch, &c->mamba2));
    TRY(chain_streams_prepare(&c->parts[0].batch, &c->mamba2, &part_heads));
    for (int i = 0; i < PARTS; i++)
        c->parts[i].rows.part_heads = part_heads;
    return OK;
}

static enum status create_streams(struct chain *c)
{
    const char *what = "a stream";

    int least;
    CUDA_TRY(cudaDeviceGetStreamPriorityRange(&least, &c->priority), what);
    CUDA_TRY(cudaEventCreateWithFlags(&c->start, cudaEventDisableTiming), what);
    struct part *side = &c->parts[1];
    CUDA_TRY(cudaStreamCreateWithFlags(&side->stream, cudaStreamNonBlocking),
             what);
    return cuda_status(
        cudaEventCreateWithFlags(&side->done, cudaEventDisableTiming), what);
}

static enum status set_up(struct chain *c, const struct cuda_model *model,
                          cudaStream_t stream)
{
    c->model = model;
    TRY(cuda_has_clusters(&c->overlaps));
    TRY(describe(c, model));
    if (!c->fits)
        return OK;
    TRY(prepare(c));
    TRY(create_streams(c));
    return allocate(c, stream);
}

static void chain_close(void *self)
{
    struct chain *c = (struct chain *)self;
    if (!c)
        return;
    recording_free(&c->recording);
    if (c->start)
        cudaEventDestroy(c->start);
    for (int i = 0; i < PARTS; i++) {
        if (c->parts[i].done)
            cudaEventDestroy(c->parts[i].done);
        if (c->parts[i].stream)
            cudaStreamDestroy(c->parts[i].stream);
    }
    cudaFree(c->memory);
    free(c);
}

static enum status chain_open(void **self, const struct cuda_model *model,
                              cudaStream_t stream)
{
    *self = NULL;
    if (!fits(&model->config))
        return OK;
    struct chain *c = (struct chain *)calloc(1, sizeof *c);
    if (!c)
        return fail_memory("the GPU engine");
    enum status status = set_up(c, model, stream);
    if (status == OK && c->fits)
        *self = c;
    else
        chain_close(c);
    return status;
}

const struct batch_method batch_chain = {
    CHAIN_ROWS, chain_open, chain_close, chain_form, chain_launch,
};
