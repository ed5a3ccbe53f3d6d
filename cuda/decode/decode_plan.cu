/* decode_plan.cu -- deals a model out to the blocks of the decode kernel.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode_plan.cuh"

enum {
    STATE_SHARE = 8, /* the state may take 1 / STATE_SHARE of the memory      */
    STAGES_MIN = 4
};

/* ---- sizes -------------------------------------------------------------- */

static struct matrix_share share_make(int rows, int cols, int n_floats)
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
 * waited for with the last ones; false when it all does not fit. */
static bool share_fit(struct matrix_share *p, int before, int after, int usable)
{
    int left = usable - before - after;
    int at_once = (left < usable / 2 ? left : usable / 2) / p->stride;
    if (at_once < 1)
        return false;
    p->rows_at_once = at_once < p->rows ? at_once : p->rows;
    return true;
}

static int take(int *offset, size_t bytes)
{
    int at = *offset;
    *offset += round_up((int)bytes, ROW_ALIGN);
    return at;
}

/* Everything but the ring. */
static void lay_out_memory(struct decode_plan *p)
{
    const struct model_config *c = &p->config;
    struct decode_memory *m = &p->memory;
    const int widest = c->d_inner > c->d_model ? c->d_inner : c->d_model;
    const int n_x = p->x_states + 2 * c->d_state;
    int n_sums = p->in.rows;
    n_sums = p->x.rows > n_sums ? p->x.rows : n_sums;
    n_sums = p->out.rows > n_sums ? p->out.rows : n_sums;
    n_sums = p->head.rows > n_sums ? p->head.rows : n_sums;

    int offset = 0;
    m->h = take(&offset, c->d_model * sizeof(float));
    m->x = take(&offset, c->d_model * sizeof(float));
    m->v = take(&offset, c->d_inner * sizeof(float));
    m->u = take(&offset, p->n_channels * sizeof(float));
    m->gate = take(&offset, p->n_channels * sizeof(float));
    m->logits = take(&offset, N_BYTES_VOCAB * sizeof(float));
    m->q = take(&offset, round_up(widest, COPY_ALIGN));
    m->dt = take(&offset, (size_t)N_WARPS * p->scan.stride);
    m->sums = take(&offset, n_sums * sizeof(int32_t));
    m->state = take(&offset,
                    (size_t)p->state_layers * p->state_floats * sizeof(float));
    m->x_words = take(&offset, n_x * sizeof(uint64_t));
    m->complete = take(&offset, 2 * sizeof(uint64_t));
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
    return share_fit(&p->in, in, p->scan.bytes + p->x.float_bytes, usable) &&
           share_fit(&p->out, p->out.float_bytes, next, usable) &&
           share_fit(&p->head, head, 0, usable) &&
           p->scan.bytes + p->x.bytes + p->out.bytes + next <= usable;
}

static bool lay_out(struct decode_plan *p, const struct decode_limits *limits)
{
    lay_out_memory(p);
    if (limits->has_ring)
        return lay_out_ring(p, limits->shared_bytes);
    return p->memory.bytes <= limits->shared_bytes;
}

/* Blocks, and what each has at most.  False when a block would have nothing:
 * the order of the exchanges relies on a channel in every block. */
static bool deal_out(struct decode_plan *p, const struct decode_limits *limits)
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
    p->n_rows = ceil_div(c->d_model, p->n_blocks);
    p->n_x_rows = ceil_div(c->dt_rank + 2 * c->d_state, p->n_parts);
    p->n_logits = ceil_div(N_BYTES_VOCAB, p->n_blocks);
    /* Two threads a channel, one a row. */
    return p->n_channels <= N_THREADS / 2 && p->n_rows <= N_THREADS &&
           p->n_logits <= N_THREADS;
}

static void size_shares(struct decode_plan *p)
{
    const struct model_config *c = &p->config;
    const int n = p->n_channels;
    p->in = share_make(2 * n, c->d_model, (2 + c->d_conv + 1) * n);
    p->x = share_make(p->n_x_rows, c->d_inner, p->n_x_rows);
    p->scan = share_make(n, c->dt_rank, (3 + c->d_state) * n);
    p->out = share_make(p->n_rows, c->d_inner, p->n_rows);
    p->head = share_make(p->n_logits, c->d_model, p->n_logits);
    p->norm_bytes =
        c->d_model * (int)sizeof(float) * (c->has_norm_bias ? 2 : 1);
    p->layer_bytes = (size_t)p->in.bytes + p->scan.bytes + p->out.bytes;
    p->block_bytes = c->n_layer * p->layer_bytes + p->head.bytes;
}

static void size_state(struct decode_plan *p)
{
    const struct model_config *c = &p->config;
    p->x_states = round_up(c->dt_rank, 2);
    while (EXACT_GROUP << p->state_bits < c->d_state)
        p->state_bits++;
    p->scan_threads =
        round_up(p->n_channels * (c->d_state / EXACT_GROUP), WARP);
    p->state_floats =
        (c->d_conv - 1) * p->n_channels + EXACT_GROUP * p->scan_threads;
}

bool decode_plan_make(struct decode_plan *p, const struct cuda_model *model,
                      const struct decode_limits *limits)
{
    memset(p, 0, sizeof *p);
    p->config = model->config;
    p->image = model->image;
    p->embedding = model->embedding;
    if (!deal_out(p, limits))
        return false;
    size_shares(p);
    size_state(p);

    /* The state of all layers stays in shared memory if it is small; else the
     * ring needs the room more. */
    size_t state_bytes = p->config.n_layer * p->state_floats * sizeof(float);
    if (state_bytes <= (size_t)limits->shared_bytes / STATE_SHARE) {
        p->state_layers = p->config.n_layer;
        if (lay_out(p, limits))
            return true;
    }
    p->state_layers = 1;
    return lay_out(p, limits);
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
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        uint8_t *at = memory == NULL ? NULL : memory + offset;
        memcpy(arrays[i].pointer, &at, sizeof at);
        offset +=
            (arrays[i].bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    }
    return offset;
}
