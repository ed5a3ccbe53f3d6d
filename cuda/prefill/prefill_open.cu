/* prefill_open.cu -- the memory, CUDA streams and events of prefill.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/carver.h"
#include "cuda/prefill/prefill_parts.cuh"

enum {
    ROW_LAYERS = 131072, /* rows under way in all layers together          */
    /* Rows of a stream in a microbatch, where it has them: to fetch a state for
     * fewer does not pay.  Those of Mamba-2 are larger, and a part of a chunk
     * costs as much as all of it. */
    MAMBA1_LEAST = 32,
    MAMBA2_LEAST = 256,

    MEMORY_SHARE = 16 /* more than 1 / MEMORY_SHARE of the device's memory
                       * is taken for a few rows only                    */
};

/* ---- memory -------------------------------------------------------------- */

static void carve_mamba1(struct carver *c, struct prefill_batch *b, size_t all)
{
    b->uz = carve_floats(c, all * 2, b->d_inner);
    b->dtbc = carve_floats(c, all, b->dtbc_stride);
}

static void carve_mamba2(struct carver *c, struct prefill_batch *b,
                         struct mamba2_batch *m, size_t all)
{
    b->uz = carve_floats(c, all, m->zx_stride);
    m->x = (int8_t *)carve(c, all, b->d_inner);
    m->x_scale = carve_floats(c, all, m->n_heads);
    m->bc = (int8_t *)carve(c, all * 2 * m->n_groups, b->d_state);
    m->bc_scale = carve_floats(c, all * 2, m->n_groups);
    m->delta = carve_floats(c, all, m->n_heads);
    m->alpha = carve_floats(c, all, m->n_heads);
    m->squares = carve_floats(c, all, m->n_heads);
    m->largest = (uint32_t *)carve(c, all, m->n_heads * sizeof *m->largest);
    m->places = (int *)carve(c, all, sizeof *m->places);

    /* one span of all rows has rows / CHUNK + 1 at most; spans of 32 rows have
     * one each */
    m->starts = b->rows / CHUNK + b->rows / 32 + 1;
    size_t kept = (size_t)b->n_layer * m->starts * m->n_heads * m->tiles;
    m->s_q = (int8_t *)carve(c, kept, m->state_tiles * S_TILE);
    m->s_scale = carve_floats(c, kept, 16);
}

static void carve_batch(struct carver *c, struct prefill *p)
{
    struct prefill_batch *b = &p->batch;
    size_t rows = b->rows, all = (b->n_layer + 1) * rows;
    b->slots = (struct microbatch *)carve(c, b->n_slots, sizeof *b->slots);
    b->h = carve_floats(c, b->n_slots * rows, b->d_model);
    b->x = (int8_t *)carve(c, all, b->x_stride);
    b->x_scale = carve_floats(c, all, 1);
    b->u = carve_floats(c, all, b->d_inner);
    b->u_q = (int8_t *)carve(c, all, b->u_stride);
    b->u_scale = carve_floats(c, all, 1);
    b->dt_amax = (uint32_t *)carve(c, all, sizeof *b->dt_amax);
    b->y_amax = (uint32_t *)carve(c, all, sizeof *b->y_amax);
    b->logits = carve_floats(c, rows, N_BYTES_VOCAB);
    b->bits = carve_floats(c, rows, 1);
    if (p->is_mamba2)
        carve_mamba2(c, b, &p->mamba2, all);
    else
        carve_mamba1(c, b, all);
}

static size_t batch_bytes(struct prefill *p)
{
    struct carver counted = {};
    carve_batch(&counted, p);
    return counted.n_bytes;
}

void prefill_describe(struct prefill_batch *b, const struct cuda_model *m)
{
    const struct model_config *c = &m->config;
    b->d_model = c->d_model;
    b->d_inner = c->d_inner;
    b->d_state = c->d_state;
    b->d_conv = c->d_conv;
    b->dt_rank = c->dt_rank;
    b->n_layer = c->n_layer;
    b->has_norm_bias = c->has_norm_bias;
    b->epsilon = c->norm_epsilon;
    b->image = m->image;
    b->embedding = m->embedding;
    b->layers = m->device_layers;
    b->n_slots = c->n_layer + RESULTS;
    b->x_stride = round_up(c->d_model, ROW_ALIGN);
    b->u_stride = round_up(c->d_inner, ROW_ALIGN);
    b->dt_room = round_up(c->dt_rank, 4);
    b->dtbc_stride = b->dt_room + 2 * c->d_state;
    b->rows = round_up(ROW_LAYERS / c->n_layer, ROWS_UNIT);
    b->rows = b->rows < ROWS_MAX ? b->rows : ROWS_MAX;
    b->n_pooled = pooled_layers(c);
    for (int l = 0; l < c->n_layer; l++) {
        if (pooled_find(c, l) >= 0)
            b->pooled_layers[pooled_find(c, l)] = l;
    }
}

void mamba2_describe(struct mamba2_batch *m, const struct model_config *c)
{
    m->n_heads = c->n_heads;
    m->headdim = c->headdim;
    m->n_groups = c->n_groups;
    m->conv_channels = conv_channels(c);
    m->delta_min = c->delta_min;
    m->delta_max = c->delta_max;
    m->state = mamba2_layout_of(c);
    m->zx_columns = in_proj_rows(c);
    m->zx_stride = round_up(m->zx_columns, 4);
    m->tiles = ceil_div(m->headdim, 16);
    m->state_tiles = ceil_div(c->d_state, 64);
}

static void halve_rows(struct prefill_batch *b)
{
    b->rows = round_up(b->rows / 2, ROWS_UNIT);
}

/* Many rows are faster by a tenth or two: not worth much of a small device.
 * Half of what is free is left for states. */
static enum status limit_rows(struct prefill *p)
{
    struct prefill_batch *b = &p->batch;
    size_t free_bytes, all_bytes;
    CUDA_TRY(cudaMemGetInfo(&free_bytes, &all_bytes), "asking for memory");
    while (b->rows > ENOUGH_ROWS && batch_bytes(p) > all_bytes / MEMORY_SHARE)
        halve_rows(b);
    while (b->rows > ROWS_UNIT && batch_bytes(p) > free_bytes / 2)
        halve_rows(b);
    return OK;
}

/* Fewer rows are slower, but a small device can still run. */
static enum status allocate_batch(struct prefill *p)
{
    struct prefill_batch *b = &p->batch;
    TRY(limit_rows(p));
    for (;;) {
        size_t n = batch_bytes(p);
        cudaError_t error = cudaMalloc(&p->memory, n);
        if (error == cudaErrorMemoryAllocation && b->rows > ROWS_UNIT) {
            cudaGetLastError();
            halve_rows(b);
            continue;
        }
        CUDA_TRY(error, "memory for activations");
        CUDA_TRY(cudaMemset(p->memory, 0, n), "clearing activations");
        struct carver carver = {(char *)p->memory, 0};
        carve_batch(&carver, p);
        return OK;
    }
}

static enum status allocate_host(struct prefill *p)
{
    const struct prefill_batch *b = &p->batch;
    size_t bits = b->rows * sizeof(float);
    size_t logits = (size_t)b->rows * N_BYTES_VOCAB * sizeof(float);
    CUDA_TRY(cudaMallocHost(&p->pinned, RESULTS * (bits + logits)),
             "memory for results");
    CUDA_TRY(cudaMallocHost(&p->slots, b->n_slots * sizeof *p->slots),
             "memory for microbatches");
    TRY(overflow_open(&p->overflow));
    char *next = (char *)p->pinned;
    for (int i = 0; i < RESULTS; i++) {
        p->deliveries[i].logits = (float *)next;
        p->deliveries[i].bits = (float *)(next + logits);
        next += logits + bits;
    }
    p->shares = (struct segment_share(*)[ROWS_MAX])malloc(b->n_slots *
                                                          sizeof *p->shares);
    return p->shares ? OK : fail_memory("microbatches");
}

/* ---- streams and events -------------------------------------------------- */

static enum status create_stream(cudaStream_t *stream)
{
    return cuda_status(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking),
                       "a stream");
}

static enum status create_event(cudaEvent_t *event, unsigned flags)
{
    return cuda_status(
        cudaEventCreateWithFlags(event, cudaEventDisableTiming | flags),
        "an event");
}

static enum status create_streams(struct prefill *p)
{
    for (int i = 0; i < GROUPS; i++) {
        TRY(create_stream(&p->groups[i].stream));
        TRY(create_event(&p->groups[i].done, 0));
    }
    TRY(create_stream(&p->head));
    TRY(create_stream(&p->copies));
    TRY(create_event(&p->copied, 0));
    for (int i = 0; i < RESULTS; i++)
        TRY(create_event(&p->deliveries[i].done, cudaEventBlockingSync));
    return OK;
}

static void destroy_stream(cudaStream_t stream)
{
    if (stream)
        cudaStreamDestroy(stream);
}

static void destroy_event(cudaEvent_t event)
{
    if (event)
        cudaEventDestroy(event);
}

static void destroy_streams(struct prefill *p)
{
    for (int i = 0; i < GROUPS; i++) {
        destroy_event(p->groups[i].done);
        destroy_stream(p->groups[i].stream);
    }
    destroy_stream(p->head);
    destroy_stream(p->copies);
    destroy_event(p->copied);
    for (int i = 0; i < RESULTS; i++)
        destroy_event(p->deliveries[i].done);
}

/* ---- opening ------------------------------------------------------------- */

enum status prefill_ask_device(struct prefill_batch *b)
{
    int device;
    CUDA_TRY(cudaGetDevice(&device), "asking for the device");
    CUDA_TRY(cudaDeviceGetAttribute(&b->max_shared,
                                    cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                    device),
             "asking for the device's properties");
    CUDA_TRY(cudaDeviceGetAttribute(&b->n_processors,
                                    cudaDevAttrMultiProcessorCount, device),
             "asking for the device's properties");
    return OK;
}

enum status prefill_check(const struct cuda_model *model)
{
    struct prefill_batch b = {};
    struct mamba2_batch m = {};
    if (model->config.mixer != MIXER_MAMBA2)
        return OK;
    prefill_describe(&b, model);
    TRY(prefill_ask_device(&b));
    mamba2_describe(&m, &model->config);
    TRY(mamba2_states_check(&b, &m));
    return mamba2_outputs_check(&b, &m);
}

static enum status prepare_mixer(struct prefill *p,
                                 const struct model_config *c)
{
    p->is_mamba2 = c->mixer == MIXER_MAMBA2;
    p->least = p->is_mamba2 ? MAMBA2_LEAST : MAMBA1_LEAST;
    if (!p->is_mamba2)
        return scan_prepare(&p->batch);
    mamba2_describe(&p->mamba2, c);
    TRY(mamba2_inputs_prepare(&p->batch, &p->mamba2));
    TRY(mamba2_states_prepare(&p->batch, &p->mamba2));
    return mamba2_outputs_prepare(&p->batch, &p->mamba2);
}

static enum status set_up(struct prefill *p, const struct cuda_model *model)
{
    prefill_describe(&p->batch, model);
    TRY(prefill_ask_device(&p->batch));
    TRY(products_prepare(&p->batch));
    TRY(prepare_mixer(p, &model->config));
    TRY(create_streams(p));
    if (p->is_mamba2)
        TRY(mamba2_inputs_pack(&p->batch, &p->mamba2));
    TRY(allocate_batch(p));
    TRY(allocate_host(p));
    CUDA_TRY(cudaDeviceSynchronize(), "preparing the device");
    return OK;
}

enum status prefill_open(struct prefill **prefill,
                         const struct cuda_model *model, bool overlaps)
{
    *prefill = NULL;
    struct prefill *p = (struct prefill *)calloc(1, sizeof *p);
    if (!p)
        return fail_memory("the GPU engine");
    p->overlaps = overlaps;
    p->model = model->source;
    enum status status = set_up(p, model);
    if (status != OK)
        prefill_close(p);
    else
        *prefill = p;
    return status;
}

void prefill_close(struct prefill *p)
{
    if (!p)
        return;
    if (p->n_calls > 0)
        prefill_abandon(p);
    recording_free(&p->recording);
    destroy_streams(p);
    cudaFree(p->memory);
    cudaFree(p->mamba2.in_packed);
    for (int i = 0; i < 2; i++)
        call_free(&p->calls[i]);
    cudaFreeHost(p->pinned);
    cudaFreeHost(p->slots);
    cudaFreeHost(p->overflow);
    free(p->shares);
    free(p);
}
