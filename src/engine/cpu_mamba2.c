/* cpu_mamba2.c -- the mixer of Mamba-2 on the CPU.
 *
 *     z | x | B | C | dt = in_proj x;  x | B | C = silu(conv(x | B | C))
 *     v = the recurrence of mamba2.h, times silu(z);  then the norm of v
 *
 * Convolution and recurrence are split by heads; B and C of a group count as
 * one more.  A span that crosses the border of a chunk is cut there into
 * parts, and the first parts of all spans are a round, then the second ones:
 * B^ of a new chunk takes the place of that of the old one, which heads read
 * until their round is over.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>

#include "engine/cpu_engine.h"
#include "engine/state_image.h"
#include "kernels/mamba2_rows.h"

/* The bytes of a span that are of one chunk. */
struct part {
    const struct span *span;
    int row, n;
    int place; /* of the first in its chunk */
};

/* The most chunks that a span of BATCH rows can touch. */
enum { ROUNDS = 2 + (BATCH - 1) / CHUNK };

struct mixing {
    void *room; /* owned: the arrays of rows */
    struct mamba2_rows rows;
    struct part parts[BATCH]; /* round by round; none is empty */
    int round_end[ROUNDS];
    int n_rounds;
};

/* ---- a state ------------------------------------------------------------- */

static size_t rounded(size_t n_bytes)
{
    return (n_bytes + 63) / 64 * 64;
}

/* Of a layer: S^ and its scales, x^, B^. */
static size_t layer_size(const struct model_config *c)
{
    return rounded(mamba2_s_size(c)) + rounded(mamba2_x_size(c)) +
           rounded(mamba2_b_size(c)) +
           rounded((size_t)c->d_inner * sizeof(float));
}

static size_t derived_size(const struct model_config *c)
{
    return c->is_float ? 0 : (size_t)c->n_layer * layer_size(c);
}

static struct mamba2_state state_of(const struct model_config *c,
                                    const struct state *state, int l)
{
    struct mamba2_state s = {
        .past = state_conv(c, state->floats, l),
        .s = state_s(c, state->floats, l),
    };
    if (c->is_float)
        return s;
    s.w = s.s + (size_t)c->d_inner * (size_t)c->d_state;
    s.e = s.w + (size_t)c->n_heads * CHUNK;
    s.s_q = state->derived + (size_t)l * layer_size(c);
    s.x = s.s_q + rounded(mamba2_s_size(c));
    s.b = s.x + rounded(mamba2_x_size(c));
    s.s_scale = (float *)(void *)(s.b + rounded(mamba2_b_size(c)));
    return s;
}

/* The int8 of an image. */
static int8_t *image_x(const struct model_config *c, int8_t *int8s, int l)
{
    size_t a_byte = (size_t)(c->d_inner + c->n_groups * c->d_state);
    return int8s + (size_t)l * CHUNK * a_byte;
}

static int8_t *image_b(const struct model_config *c, int8_t *int8s, int l)
{
    return image_x(c, int8s, l) + (size_t)CHUNK * (size_t)c->d_inner;
}

static void derive(struct cpu_engine *e, struct state *state,
                   const int8_t *int8s)
{
    const struct model_config *c = config_of(e);
    if (c->is_float)
        return;
    for (int l = 0; l < c->n_layer; l++) {
        struct mamba2_state s = state_of(c, state, l);
        e->kernels->mamba2->load(&s, image_x(c, (int8_t *)int8s, l),
                                 image_b(c, (int8_t *)int8s, l), c);
    }
    state->place = int8s[model_state_int8s(c) - 1];
}

static void save(const struct cpu_engine *e, const struct state *state,
                 int8_t *int8s)
{
    const struct model_config *c = config_of(e);
    if (c->is_float)
        return;
    for (int l = 0; l < c->n_layer; l++) {
        struct mamba2_state s = state_of(c, state, l);
        e->kernels->mamba2->save(image_x(c, int8s, l), image_b(c, int8s, l), &s,
                                 c, state->place);
    }
    int8s[model_state_int8s(c) - 1] = (int8_t)state->place;
}

/* ---- a batch ------------------------------------------------------------- */

/* Finds part number `round` of a span; n is 0 when it has fewer parts. */
static struct part find_part(const struct span *span, int round)
{
    int place = span->segment->state->place, row = span->row, left = span->n;
    for (int i = 0;; i++) {
        int n = left < CHUNK - place ? left : CHUNK - place;
        if (i == round)
            return (struct part){span, row, n, place};
        row += n;
        left -= n;
        place = 0;
    }
}

static void plan(struct cpu_engine *e)
{
    struct mixing *m = e->mixing;
    int n = 0;
    m->n_rounds = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int first = n;
        for (int i = 0; i < e->n_spans; i++) {
            struct part part = find_part(&e->spans[i], round);
            if (part.n > 0)
                m->parts[n++] = part;
        }
        if (n == first)
            break;
        m->round_end[m->n_rounds++] = n;
    }
}

static void finish(struct cpu_engine *e)
{
    for (int i = 0; i < e->n_spans; i++) {
        struct state *state = e->spans[i].segment->state;
        state->place = (state->place + e->spans[i].n) % CHUNK;
    }
}

/* Channels [c0, c1) of x | B | C; next as in struct conv_job. */
static void convolve(const struct cpu_engine *e, const struct mamba2_job *job,
                     const float *next, int c0, int c1)
{
    struct conv_job conv = {
        .u = mamba2_x(job, 0),
        .ld = job->rows->ld,
        .n_t = job->n_t,
        .history = job->state->past,
        .conv = job->layer->conv,
        .bias = job->layer->conv_bias,
        .d_inner = conv_channels(job->config),
        .d_conv = job->config->d_conv,
        .next = next,
    };
    e->kernels->conv_silu(&conv, c0, c1);
}

/* The heads of this thread; those from n_heads on are groups. */
static struct range heads_of(const struct cpu_engine *e, int n, int thread)
{
    return cpu_split(e, n, 1, thread);
}

/* What comes before the recurrence. */
static void go_in(const struct cpu_engine *e, const struct mamba2_job *job,
                  const float *next, int thread)
{
    const struct model_config *c = job->config;
    struct range mine = heads_of(e, c->n_heads + c->n_groups, thread);
    int end = mine.end < c->n_heads ? mine.end : c->n_heads;
    if (mine.begin < end) {
        convolve(e, job, next, mine.begin * c->headdim, end * c->headdim);
        if (!c->is_float)
            e->kernels->mamba2->heads_in(job, mine.begin, end);
    }
    for (int i = mine.begin > end ? mine.begin : end; i < mine.end; i++) {
        int n = c->d_state, b = c->d_inner + (i - c->n_heads) * n;
        convolve(e, job, next, b, b + n);
        b += c->n_groups * n;
        convolve(e, job, next, b, b + n);
        if (!c->is_float)
            e->kernels->mamba2->group_in(job, i - c->n_heads);
    }
}

/* v of a part, of layer l. */
static void recur(const struct cpu_engine *e, const struct mamba2_job *job,
                  int thread, const struct span *span, int l)
{
    const struct mamba2_kernels *kernels = e->kernels->mamba2;
    int headdim = job->config->headdim;
    struct range mine = heads_of(e, job->config->n_heads, thread);
    if (job->config->is_float)
        kernels->float_heads(job, mine.begin, mine.end);
    else
        kernels->heads(job, mine.begin, mine.end);
    struct range channels = {mine.begin * headdim, mine.end * headdim};
    cpu_add_to_pooled(e, span, l, mamba2_x(job, 0), job->rows->ld, job->n_t,
                      channels);
}

/* What the convolution of the part after part i of a round reads. */
static const float *next_past(const struct cpu_engine *e, int i, int round,
                              int l)
{
    const struct mixing *m = e->mixing;
    if (i + 1 == m->round_end[round])
        return NULL;
    const struct state *state = m->parts[i + 1].span->segment->state;
    return state_of(config_of(e), state, l).past;
}

/* Both, for the parts of a round. */
static void run_round(struct cpu_engine *e, int thread, int l, int round)
{
    const struct mixing *m = e->mixing;
    int first = round > 0 ? m->round_end[round - 1] : 0;
    for (int phase = 0; phase < 2; phase++) {
        for (int i = first; i < m->round_end[round]; i++) {
            const struct part *part = &m->parts[i];
            struct mamba2_state state =
                state_of(config_of(e), part->span->segment->state, l);
            struct mamba2_job job = {
                .config = config_of(e),
                .layer = &e->base.model->layers[l],
                .state = &state,
                .rows = &m->rows,
                .row = part->row,
                .n_t = part->n,
                .place = part->place,
            };
            if (phase == 0)
                go_in(e, &job, next_past(e, i, round, l), thread);
            else
                recur(e, &job, thread, part->span, l);
        }
        threads_barrier(e->team);
    }
}

static void mamba2_run(struct cpu_engine *e, int thread, int l)
{
    const struct model_config *c = config_of(e);
    const struct mixing *m = e->mixing;
    const struct layer *layer = &e->base.model->layers[l];
    struct cpu_inputs *in = &e->inputs[thread];

    /* z | x | B | C | dt = in_proj norm(h) */
    cpu_project(e, thread, m->rows.zx, m->rows.ld, &e->layers[l].in_proj,
                &in->x, false);
    threads_barrier(e->team);

    /* v, in place of x */
    for (int round = 0; round < m->n_rounds; round++)
        run_round(e, thread, l, round);

    struct range mine = cpu_rows_of(e, thread);
    if (!c->is_float) {
        e->kernels->mamba2->norm_quantise(&in->inner.q, &m->rows, layer, c,
                                          mine.begin, mine.end);
        return;
    }
    /* In place, so every row by one thread only. */
    mine = cpu_split(e, e->n_rows, 1, thread);
    e->kernels->mamba2->float_norm(&m->rows, layer, c, mine.begin, mine.end);
    cpu_meet_if(e, !e->is_long);
    in->inner.floats = (struct float_rows){m->rows.zx + c->d_inner, m->rows.ld};
}

/* ---- opening ------------------------------------------------------------- */

static void lay_out(struct cpu_engine *e, struct carver *carver)
{
    const struct model_config *c = config_of(e);
    struct mixing *m = e->mixing;
    m->rows.ld = (size_t)cpu_padded(in_proj_rows(c)) + ROW_GAP;
    mamba2_rows_carve(&m->rows, carver, c, BATCH);
}

static void mamba2_close(struct cpu_engine *e)
{
    struct mixing *m = e->mixing;
    free(m->room);
    free(m);
}

static enum status mamba2_open(struct cpu_engine *e)
{
    struct mixing *m = e->mixing = calloc(1, sizeof *m);
    if (m)
        m->room = cpu_carve(e, lay_out);
    return m && m->room ? OK : fail_memory("a batch of activations");
}

const struct cpu_mixer cpu_mamba2 = {
    .open = mamba2_open,
    .close = mamba2_close,
    .run = mamba2_run,
    .plan = plan,
    .finish = finish,
    .derived_size = derived_size,
    .derive = derive,
    .save = save,
};
