/* decode_plan.cu -- deals a model out to the blocks of the decode kernel.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode_plan.cuh"

enum { STAGES_MIN = 4 };

/* ---- sizes -------------------------------------------------------------- */

struct matrix_share share_make(int rows, int cols, int n_floats)
{
    struct matrix_share p;
    memset(&p, 0, sizeof p);
    p.rows = rows;
    p.stride = round_up(cols, COPY_ALIGN);
    p.float_bytes = round_up(n_floats * (int)sizeof(float), COPY_ALIGN);
    p.bytes = p.float_bytes + rows * p.stride;
    p.rows_at_once = rows;
    return p;
}

/* Sets how many rows are waited for at once: at most half of the usable bytes,
 * so that the rest fills meanwhile.  Beside them there must be room for the
 * `before` bytes that come before the rows, and the `after` bytes that are
 * waited for with the last ones; false when it all does not fit.  Where these
 * are not all rows, they are a multiple of `unit`. */
static bool share_fit(struct matrix_share *p, int unit, int before, int after,
                      int usable)
{
    int left = usable - before - after;
    int at_once = (left < usable / 2 ? left : usable / 2) / p->stride;
    at_once = at_once >= p->rows ? p->rows : at_once / unit * unit;
    if (at_once < 1)
        return false;
    p->rows_at_once = at_once < p->rows ? at_once : p->rows;
    return true;
}

int memory_take(int *offset, size_t bytes)
{
    int at = *offset;
    *offset += round_up((int)bytes, ROW_ALIGN);
    return at;
}

/* Everything but the ring. */
static void lay_out_memory(struct decode_plan *p,
                           const struct plan_mixer *mixer)
{
    const struct model_config *c = &p->config;
    struct decode_memory *m = &p->memory;
    const int widest = c->d_inner > c->d_model ? c->d_inner : c->d_model;
    int n_sums = p->in.rows;
    n_sums = p->x.rows > n_sums ? p->x.rows : n_sums;
    n_sums = p->out.rows > n_sums ? p->out.rows : n_sums;
    n_sums = p->head.rows > n_sums ? p->head.rows : n_sums;

    int offset = 0;
    m->h = memory_take(&offset, c->d_model * sizeof(float));
    m->x = memory_take(&offset, c->d_model * sizeof(float));
    m->v = memory_take(&offset, c->d_inner * sizeof(float));
    m->u = memory_take(&offset, p->n_channels * sizeof(float));
    m->gate = memory_take(&offset, p->n_channels * sizeof(float));
    m->logits = memory_take(&offset, N_BYTES_VOCAB * sizeof(float));
    m->q = memory_take(&offset, round_up(widest, COPY_ALIGN));
    m->sums = memory_take(&offset, n_sums * sizeof(int32_t));
    m->state = memory_take(&offset, (size_t)p->state_layers * p->state_floats *
                                        sizeof(float));
    mixer->lay_out(p, &offset);
    m->complete = memory_take(&offset, 2 * sizeof(uint64_t));
    m->full = offset;
    m->bytes = offset;
}

/* Gives the ring what is left of the shared memory. */
static bool lay_out_ring(struct decode_plan *p, int shared_bytes)
{
    struct decode_memory *m = &p->memory;
    int left = shared_bytes - m->full - ARENA_ALIGN;
    m->n_stages = left / (STAGE_BYTES + (int)sizeof(uint64_t));
    if (m->n_stages < STAGES_MIN)
        return false;
    m->ring =
        round_up(m->full + m->n_stages * (int)sizeof(uint64_t), ARENA_ALIGN);
    m->bytes = m->ring + m->n_stages * STAGE_BYTES;

    /* A stage is fetched when all of it is free, and what is waited for may
     * begin and end within a stage. */
    int usable = (m->n_stages - 2) * STAGE_BYTES;
    int in = p->in.float_bytes + p->norm_bytes;
    int head = p->head.float_bytes + p->norm_bytes;
    int next = in > head ? in : head;
    return share_fit(&p->in, p->rows_unit, in, p->scan.bytes + p->x.float_bytes,
                     usable) &&
           share_fit(&p->out, 1, p->out_before + p->out.float_bytes, next,
                     usable) &&
           share_fit(&p->head, 1, head, 0, usable) &&
           p->scan.bytes + p->x.bytes + p->out.bytes + next <= usable;
}

static bool lay_out(struct decode_plan *p, const struct decode_limits *limits,
                    const struct plan_mixer *mixer)
{
    lay_out_memory(p, mixer);
    if (limits->has_ring)
        return lay_out_ring(p, limits->shared_bytes);
    return p->memory.bytes <= limits->shared_bytes;
}

/* ---- Mamba-1 ------------------------------------------------------------ */

static bool mamba1_deal_out(struct decode_plan *p,
                            const struct decode_limits *limits)
{
    const struct model_config *c = &p->config;
    int unit = limits->cluster > 0 ? limits->cluster : 1;
    int wanted = c->d_inner < limits->n_blocks ? c->d_inner : limits->n_blocks;
    p->n_blocks = wanted / unit * unit;
    if (p->n_blocks == 0 || c->d_model / 4 < unit || c->d_inner / 4 < unit)
        return false;
    p->cluster = limits->cluster;
    while (1 << p->cluster_bits < p->cluster)
        p->cluster_bits++;
    p->n_parts = p->cluster > 0 ? p->cluster : p->n_blocks;
    p->n_channels = ceil_div(c->d_inner, p->n_blocks);
    p->n_x_rows = ceil_div(c->dt_rank + 2 * c->d_state, p->n_parts);
    /* Two threads a channel. */
    return 1 << p->cluster_bits == unit && p->n_channels <= N_THREADS / 2;
}

static void mamba1_size(struct decode_plan *p)
{
    const struct model_config *c = &p->config;
    const int n = p->n_channels;
    p->in = share_make(2 * n, c->d_model, (2 + c->d_conv + 1) * n);
    p->rows_unit = 1;
    p->x = share_make(p->n_x_rows, c->d_inner, p->n_x_rows);
    p->scan = share_make(n, c->dt_rank, (3 + c->d_state) * n);
    p->x_states = round_up(c->dt_rank, 2);
    while (EXACT_GROUP << p->state_bits < c->d_state)
        p->state_bits++;
    p->scan_threads =
        round_up(p->n_channels * (c->d_state / EXACT_GROUP), WARP);
    p->state_floats =
        (c->d_conv - 1) * p->n_channels + EXACT_GROUP * p->scan_threads;
}

static void mamba1_lay_out(struct decode_plan *p, int *offset)
{
    const int n_x = p->x_states + 2 * p->config.d_state;
    p->memory.dt = memory_take(offset, (size_t)N_WARPS * p->scan.stride);
    p->memory.x_words = memory_take(offset, n_x * sizeof(uint64_t));
}

static const struct plan_mixer plan_mamba1 = {mamba1_deal_out, mamba1_size,
                                              mamba1_lay_out, 1, 1};

/* ---- all mixers --------------------------------------------------------- */

/* Rows of h and logits; false when a block has more than it has threads. */
static bool deal_rows(struct decode_plan *p)
{
    p->n_rows = ceil_div(p->config.d_model, p->n_blocks);
    p->n_logits = ceil_div(N_BYTES_VOCAB, p->n_blocks);
    return p->n_rows <= N_THREADS && p->n_logits <= N_THREADS;
}

static void size_shares(struct decode_plan *p)
{
    const struct model_config *c = &p->config;
    p->out = share_make(p->n_rows, c->d_inner, p->n_rows);
    p->head = share_make(p->n_logits, c->d_model, p->n_logits);
    p->norm_bytes =
        c->d_model * (int)sizeof(float) * (c->has_norm_bias ? 2 : 1);
    p->layer_bytes = (size_t)p->in.bytes + p->scan.bytes + p->out.bytes;
    p->block_bytes = c->n_layer * p->layer_bytes + p->head.bytes;
}

bool decode_plan_make(struct decode_plan *p, const struct cuda_model *model,
                      const struct decode_limits *limits)
{
    memset(p, 0, sizeof *p);
    p->config = model->config;
    p->image = model->image;
    p->embedding = model->embedding;
    const struct plan_mixer *mixer =
        p->config.mixer == MIXER_MAMBA2 ? &plan_mamba2 : &plan_mamba1;
    if (!mixer->deal_out(p, limits) || !deal_rows(p))
        return false;
    mixer->size(p);
    size_shares(p);

    /* The state of all layers stays in shared memory if it is small; else the
     * ring needs the room more. */
    size_t state_bytes = p->config.n_layer * p->state_floats * sizeof(float);
    if (8 * state_bytes <=
        (size_t)mixer->state_eighths * (size_t)limits->shared_bytes) {
        p->state_layers = p->config.n_layer;
        if (lay_out(p, limits, mixer))
            return true;
    }
    p->state_layers = mixer->layers_ahead < p->config.n_layer
                          ? mixer->layers_ahead
                          : p->config.n_layer;
    return lay_out(p, limits, mixer);
}

size_t decode_plan_place(struct decode_plan *p, uint8_t *memory)
{
    const struct model_config *c = &p->config;
    size_t offset = 0;
    const struct {
        void *pointer;
        size_t bytes;
    } arrays[] = {
        {&p->own, p->n_blocks * p->block_bytes},
        {&p->parts, (size_t)p->n_parts * c->n_layer * p->x.bytes},
        {&p->norms, (size_t)(c->n_layer + 1) * p->norm_bytes},
        {&p->u_words, c->d_inner * sizeof(uint64_t)},
        {&p->y_words, c->d_inner * sizeof(uint64_t)},
        {&p->h_words, c->d_model * sizeof(uint64_t)},
        {&p->x_words, (p->x_states + 2 * c->d_state) * sizeof(uint64_t)},
        {&p->logit_words, N_BYTES_VOCAB * sizeof(uint64_t)},
        {&p->deal.rows, p->config.mixer == MIXER_MAMBA2
                            ? (size_t)p->n_blocks * p->in.rows * sizeof(int)
                            : 0},
        {&p->states,
         p->state_layers == c->n_layer
             ? 0
             : (size_t)p->n_blocks * c->n_layer * p->deal.state_bytes},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        uint8_t *at = memory == NULL ? NULL : memory + offset;
        memcpy(arrays[i].pointer, &at, sizeof at);
        offset +=
            (arrays[i].bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    }
    return offset;
}
