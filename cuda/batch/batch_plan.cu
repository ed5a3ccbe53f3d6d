/* batch_plan.cu -- gives out places in the weights and in shared memory.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/batch_plan.cuh"

/* The next free place, at a multiple of 16 bytes. */
static int next_place(int *used, size_t bytes)
{
    int at = *used;
    *used += round_up((int)bytes, 16);
    return at;
}

static void place_share(struct batch_model *m, int channels)
{
    struct batch_share *s = &m->share;
    const size_t f = sizeof(float), bias = m->has_norm_bias ? m->d_model : 0;
    int used = 0;
    s->norm = next_place(&used, m->d_model * f);
    s->norm_bias = next_place(&used, bias * f);
    s->conv = next_place(&used, BATCH_TAPS * channels * f);
    s->conv_bias = next_place(&used, channels * f);
    s->dt_scale = next_place(&used, channels * f);
    s->dt_bias = next_place(&used, channels * f);
    s->d = next_place(&used, channels * f);
    s->in_scale = next_place(&used, 2 * channels * f);
    s->x_scale = next_place(&used, m->x_tiles * 8 * f);
    s->dt_proj = next_place(&used, m->dt_words * channels * f);
    s->a = next_place(&used, BATCH_STATES * channels * f);
    s->out_scale = next_place(&used, m->d_model / m->size * f);
    used = round_up(used, ARENA_ALIGN);

    int in_tiles = 2 * channels / 8 / BATCH_WARPS,
        depth = m->d_inner / UNIT_DEPTH;
    s->in_units = m->d_model / UNIT_DEPTH;
    s->x_stages = ceil_div(depth, BATCH_WARPS);
    s->n_x_tiles = ceil_div(m->x_tiles, m->size);
    s->n_out_tiles = m->d_model / 8 / m->size;
    s->out_units = out_is_shared(s->n_out_tiles) ? depth / 2 : depth;
    s->n_stages =
        s->in_units * in_tiles + s->n_x_tiles * s->x_stages + s->out_units;
    s->stages = next_place(&used, (size_t)s->n_stages * STAGE_BYTES);
    s->bytes = round_up(used, ARENA_ALIGN);

    struct batch_head *h = &m->head;
    used = 0;
    h->tiles = ceil_div(N_BYTES_VOCAB / 8, m->size);
    h->norm = next_place(&used, m->d_model * f);
    h->norm_bias = next_place(&used, bias * f);
    h->scale = next_place(&used, h->tiles * 8 * f);
    h->units = next_place(&used, (size_t)h->tiles * 8 * m->d_model);
    h->bytes = round_up(used, ARENA_ALIGN);
}

void batch_place_memory(struct batch_model *m, const struct batch_variant *v,
                        int rows, int max_shared)
{
    struct batch_memory *at = &m->at;
    const size_t f = sizeof(float);
    size_t own = (size_t)ceil_div(rows, m->size) * m->d_model * f;
    size_t x = (size_t)ceil_div(m->x_tiles, m->size) * rows * 8 * f;
    int resident = m->share.a > m->head.units ? m->share.a : m->head.units;
    int used = 0;
    m->rows = rows;
    at->q_pitch = m->d_inner + 16;
    if (at->q_pitch < m->d_model + 16)
        at->q_pitch = m->d_model + 16;
    at->h = next_place(&used, own);
    at->q = next_place(&used, (size_t)rows * at->q_pitch);
    at->uz = next_place(&used, rows * v->uz_pitch * f);
    at->dv = at->sums = next_place(&used, own > x ? own : x);
    at->dtbc = next_place(&used, rows * m->dtbc_stride * f);
    at->dt_q = next_place(&used, rows * m->dt_words * f);
    at->maxima = next_place(&used, m->size * rows * f);
    at->resident = next_place(&used, resident);
    at->amax = next_place(&used, rows * f);
    at->scale = next_place(&used, rows * f);
    at->inverse = next_place(&used, rows * f);
    at->dt_unit = next_place(&used, rows * f);
    at->image = next_place(&used, rows * sizeof(float *));
    at->byte = next_place(&used, rows);
    at->norm = next_place(&used, NORM_BYTES);
    at->come = next_place(&used, EXCHANGES * sizeof(uint64_t));
    at->filled = next_place(&used, sizeof(int));
    at->full = next_place(&used, RING_STAGES_MAX * sizeof(uint64_t));
    at->ring = used = round_up(used, 128);
    at->ring_stages = v->has_ring ? (max_shared - used) / STAGE_BYTES : 0;
    if (at->ring_stages > RING_STAGES_MAX)
        at->ring_stages = RING_STAGES_MAX;
    if (at->ring_stages > 0)
        used += at->ring_stages * STAGE_BYTES;
    /* The last product of a tile reads rows past the tile. */
    int fed = at->q + round_up(rows, ROW_TILE) * at->q_pitch;
    at->bytes = used > fed ? used : fed;
}

int batch_choose_channels(const struct model_config *c)
{
    static const int choice[] = {batch_128::channels, batch_256::channels};
    if (c->d_state != BATCH_STATES || c->d_conv != BATCH_TAPS ||
        c->d_model % UNIT_DEPTH != 0)
        return 0;
    for (int i = 0; i < 2; i++) {
        int size = c->d_inner / choice[i];
        if (c->d_inner % choice[i] == 0 && size >= TEAM_SIZE_MIN &&
            size <= TEAM_SIZE_MAX && c->d_model % (8 * size) == 0 &&
            c->d_model / 8 / size <= BATCH_WARPS)
            return choice[i];
    }
    return 0;
}

void batch_describe_model(struct batch_model *m, const struct cuda_model *from,
                          int channels)
{
    const struct model_config *c = &from->config;
    m->d_model = c->d_model;
    m->d_inner = c->d_inner;
    m->dt_rank = c->dt_rank;
    m->n_layer = c->n_layer;
    m->size = c->d_inner / channels;
    m->has_norm_bias = c->has_norm_bias;
    m->epsilon = c->norm_epsilon;
    m->image = from->image;
    m->embedding = from->embedding;
    m->dt_room = round_up(c->dt_rank, 4);
    m->dt_words = m->dt_room / 4;
    m->dtbc_stride = m->dt_room + 2 * BATCH_STATES;
    m->x_tiles = ceil_div(m->dtbc_stride, 8);
    place_share(m, channels);
}
