/* cpu_batch.c -- the layer loop on the CPU, in terms of struct cpu_kernels.
 *
 * Bytes of all segments are gathered into batches of up to BATCH rows, so
 * that the weights are read once for many bytes.  A batch runs inside one
 * threads_run: every thread walks the layers, takes its part of each phase by
 * index, and meets the others at a barrier where one phase needs what
 * another thread wrote.  What happens between in_proj and out_proj is split
 * by channels or heads: see cpu_mamba1.c and cpu_mamba2.c.  The rest is split
 * in one of two ways:
 *
 *     a long batch    by its rows: from quantising to the last product, a
 *                     thread needs nothing of the others
 *     a short batch   by the rows of the matrices: every thread quantises
 *                     all rows of the batch for itself, which is cheaper
 *                     than to wait for another that does
 *
 * SPDX-License-Identifier: MIT
 */
#include <float.h>
#include <string.h>

#include "base/clock.h"
#include "base/signals.h"
#include "engine/cpu_engine.h"
#include "engine/pooled.h"
#include "engine/probe.h"
#include "engine/state_image.h"

/* A batch with at least so many rows for each thread is a long one. */
enum { MIN_ROWS_A_THREAD = 16 };

struct range cpu_split(const struct cpu_engine *e, int n, int unit, int thread)
{
    struct range r =
        threads_split((n + unit - 1) / unit, thread, threads_count(e->team));
    r.begin *= unit;
    r.end = r.end * unit < n ? r.end * unit : n;
    return r;
}

/* ---- one batch, on every thread ---------------------------------------- */

struct range cpu_rows_of(const struct cpu_engine *e, int thread)
{
    struct range all = {0, e->n_rows};
    return e->is_long ? cpu_split(e, e->n_rows, 1, thread) : all;
}

struct range cpu_channels_of(const struct cpu_engine *e, int n, int thread)
{
    const struct cpu_kernels *k = e->kernels;
    int unit =
        k->rows_unit > k->channels_unit ? k->rows_unit : k->channels_unit;
    return cpu_split(e, n, unit, thread);
}

void cpu_project(struct cpu_engine *e, int thread, float *y, size_t ld,
                 const struct projection *w, const struct cpu_input *x,
                 bool accumulate)
{
    const struct cpu_kernels *k = e->kernels;
    struct range t = cpu_rows_of(e, thread);
    struct range r = {0, w->matrix.rows};
    if (!e->is_long)
        r = cpu_channels_of(e, w->matrix.rows, thread);
    if (t.begin == t.end || r.begin == r.end)
        return;
    if (w->matrix.q)
        k->matmul(y, ld, w, &x->q, accumulate, t.begin, t.end, r.begin, r.end);
    else
        k->float_matmul(y, ld, &w->matrix, &x->floats, accumulate, t.begin,
                        t.end, r.begin, r.end);
}

static void embed(struct cpu_engine *e, int thread)
{
    size_t d = (size_t)config_of(e)->d_model;
    struct range mine = cpu_split(e, e->n_rows, 1, thread);
    for (int i = 0; i < e->n_spans; i++) {
        const struct span *p = &e->spans[i];
        for (int t = 0; t < p->n; t++) {
            int row = p->row + t;
            if (row < mine.begin || row >= mine.end)
                continue;
            uint8_t byte = p->segment->bytes[p->offset + (size_t)t];
            memcpy(e->h + (size_t)row * d,
                   e->base.model->embedding + (size_t)byte * d,
                   d * sizeof(float));
        }
    }
}

void cpu_show(const struct cpu_engine *e, int l, enum projection_place place,
              const struct cpu_input *input, int n)
{
    const struct float_rows *rows = &input->floats;
    if (e->probe)
        e->probe->see(e->probe->arg, l, place,
                      rows->x + (size_t)(e->n_rows - 1) * rows->ld, n);
}

/* The norm of h, as the input of a projection. */
static void take_norm(struct cpu_engine *e, int thread, const float *weight,
                      const float *bias)
{
    const struct model_config *c = config_of(e);
    struct norm norm = {weight, bias, c->norm_epsilon, c->d_model};
    struct cpu_inputs *in = &e->inputs[thread];
    struct range mine = cpu_rows_of(e, thread);
    in->x.floats = (struct float_rows){in->normed, (size_t)c->d_model};
    if (c->is_float)
        e->kernels->norm(in->normed, e->h, &norm, mine.begin, mine.end);
    else
        e->kernels->norm_quantise(&in->x.q, e->h, &norm, mine.begin, mine.end);
}

void cpu_take_input(struct cpu_engine *e, int thread, struct cpu_input *input,
                    const float *x, size_t ld, int n)
{
    struct range mine = cpu_rows_of(e, thread);
    input->floats = (struct float_rows){x, ld};
    if (!config_of(e)->is_float)
        e->kernels->quantise(&input->q, x, ld, n, mine.begin, mine.end);
}

void cpu_add_to_pooled(const struct cpu_engine *e, const struct span *span,
                       int l, const float *y, size_t ld, int n,
                       struct range channels)
{
    const struct model_config *c = config_of(e);
    int at = pooled_find(c, l);
    if (at < 0 || !span->segment->pooled)
        return;
    float *pooled = span->segment->pooled + (size_t)at * (size_t)c->d_inner;
    for (int t = 0; t < n; t++, y += ld) {
        for (int i = channels.begin; i < channels.end; i++)
            pooled[i] += y[i];
    }
}

void cpu_meet_if(struct cpu_engine *e, bool has_to)
{
    if (has_to)
        threads_barrier(e->team);
}

static void run_layer(struct cpu_engine *e, int thread, int l)
{
    const struct model_config *c = config_of(e);
    const struct layer *layer = &e->base.model->layers[l];
    struct cpu_inputs *in = &e->inputs[thread];

    take_norm(e, thread, layer->norm, layer->norm_bias);
    cpu_show(e, l, IN_PROJ, &in->x, c->d_model);
    e->mixer->run(e, thread, l);

    /* h = h + out_proj of what the mixer gives */
    cpu_show(e, l, OUT_PROJ, &in->inner, c->d_inner);
    cpu_project(e, thread, e->h, (size_t)c->d_model, &e->layers[l].out_proj,
                &in->inner, true);
    cpu_meet_if(e, !e->is_long);
}

/* Finds the costs of the bytes of a span whose rows are mine, except its first
 * byte. */
static void find_costs(const struct cpu_engine *e, const struct span *p,
                       struct range mine)
{
    const struct segment *s = p->segment;
    int begin = mine.begin > p->row + 1 ? mine.begin : p->row + 1;
    int end = mine.end < p->row + p->n ? mine.end : p->row + p->n;
    for (int row = begin; row < end && s->bits; row++) {
        size_t at = p->offset + (size_t)(row - p->row);
        const float *before = e->logits + (size_t)(row - 1) * N_BYTES_VOCAB;
        s->bits[at] = e->kernels->cost(before, s->bytes[at]);
    }
}

/* Hands the predictions of a span to its segment and its state.  The prediction
 * that the state has until then is that of the first byte. */
static void deliver(struct cpu_engine *e, const struct span *p)
{
    const struct segment *s = p->segment;
    float *prediction = state_logits(config_of(e), s->state->floats);
    const float *logits = e->logits + (size_t)p->row * N_BYTES_VOCAB;
    if (s->bits)
        s->bits[p->offset] = e->kernels->cost(prediction, s->bytes[p->offset]);
    size_t row = N_BYTES_VOCAB * sizeof(float);
    memcpy(prediction, logits + (size_t)(p->n - 1) * N_BYTES_VOCAB, row);
    if (s->logits)
        memcpy(s->logits + p->offset * N_BYTES_VOCAB, logits,
               (size_t)p->n * row);
}

/* Whether this thread's rows have a norm: where the sum of squares is no float,
 * the last norm makes zeros, and the prediction looks like one.  In four lanes,
 * for speed: d_model is a multiple of 4. */
static bool have_norms(const struct cpu_engine *e, int thread)
{
    enum { LANES = 4 };
    struct range mine = cpu_rows_of(e, thread);
    size_t d = (size_t)config_of(e)->d_model;
    bool have = true;
    for (int t = mine.begin; t < mine.end; t++) {
        const float *h = e->h + (size_t)t * d;
        float sum[LANES] = {0};
        for (size_t i = 0; i < d; i += LANES) {
            for (size_t lane = 0; lane < LANES; lane++)
                sum[lane] += h[i + lane] * h[i + lane];
        }
        have &= sum[0] + sum[1] + sum[2] + sum[3] <= FLT_MAX;
    }
    return have;
}

/* Logits that are not finite become 0; returns whether there was none. */
static bool clean_logits(struct cpu_engine *e, int thread)
{
    struct range mine = cpu_split(e, e->n_rows, 1, thread);
    uint32_t largest = 0;
    for (size_t i = (size_t)mine.begin * N_BYTES_VOCAB;
         i < (size_t)mine.end * N_BYTES_VOCAB; i++) {
        uint32_t magnitude = exact_bits(e->logits[i]) & EXACT_ABS_MASK;
        largest = magnitude > largest ? magnitude : largest;
        e->logits[i] = exact_logit(e->logits[i]);
    }
    return largest < EXACT_INF_BITS;
}

static void run_batch(void *arg, int thread)
{
    struct cpu_engine *e = arg;
    const struct model *m = e->base.model;

    embed(e, thread);
    threads_barrier(e->team);
    for (int l = 0; l < m->config.n_layer; l++)
        run_layer(e, thread, l);

    e->inputs[thread].has_overflown = !have_norms(e, thread);
    take_norm(e, thread, m->norm_f, m->norm_f_bias);
    cpu_show(e, m->config.n_layer, LM_HEAD, &e->inputs[thread].x,
             m->config.d_model);
    cpu_project(e, thread, e->logits, N_BYTES_VOCAB, &e->lm_head,
                &e->inputs[thread].x, false);
    threads_barrier(e->team);
    if (!clean_logits(e, thread))
        e->inputs[thread].has_overflown = true;
    threads_barrier(e->team);
    for (int i = 0; i < e->n_spans; i++)
        find_costs(e, &e->spans[i], cpu_split(e, e->n_rows, 1, thread));
    for (int i = thread; i < e->n_spans; i += threads_count(e->team))
        deliver(e, &e->spans[i]);
}

/* One choice for batches of 1 row, one for 2 and 3, for 4 to 7, and so on. */
static struct team_choice *choice_for(struct cpu_engine *e, int n_rows)
{
    int size = 0;
    while (n_rows >> (size + 1) > 0)
        size++;
    return &e->choices[size];
}

static void choose_team(struct cpu_engine *e)
{
    threads_set_alone(e->team, false);
    int n = threads_count(e->team);
    bool is_open = n > 1 && e->n_rows < MIN_ROWS_A_THREAD * n;
    e->choice = is_open && !e->splits_all ? choice_for(e, e->n_rows) : NULL;
    if (e->choice && e->choice->team == TEAM_ALONE)
        threads_set_alone(e->team, true);
    e->is_long = e->n_rows >= MIN_ROWS_A_THREAD * threads_count(e->team);
}

static void run(struct cpu_engine *e)
{
    double start = clock_now();
    threads_run(e->team, run_batch, e);
    if (e->choice)
        team_choice_learn(e->choice, clock_now() - start);
}

/* Fills a batch from segment *i, byte *offset on; both move on. */
static void gather(struct cpu_engine *e, const struct segment *segments,
                   size_t n_segments, size_t *i, size_t *offset)
{
    e->n_spans = 0;
    e->n_rows = 0;
    while (*i < n_segments && e->n_rows < BATCH) {
        size_t left = segments[*i].n - *offset,
               room = BATCH - (size_t)e->n_rows;
        int n = (int)(left < room ? left : room);
        if (n > 0)
            e->spans[e->n_spans++] =
                (struct span){&segments[*i], *offset, e->n_rows, n};
        e->n_rows += n;
        *offset += (size_t)n;
        if (*offset == segments[*i].n) {
            (*i)++;
            *offset = 0;
        }
    }
}

static enum status check_finite(const struct cpu_engine *e)
{
    for (int i = 0; i < threads_count(e->team); i++) {
        if (e->inputs[i].has_overflown)
            return model_overflows(e->base.model);
    }
    return OK;
}

enum status cpu_feed(struct engine *engine, const struct segment *segments,
                     size_t n_segments)
{
    struct cpu_engine *e = (struct cpu_engine *)engine;
    size_t i = 0, offset = 0;
    while (i < n_segments) {
        threads_adapt(e->team);
        gather(e, segments, n_segments, &i, &offset);
        if (e->n_rows == 0)
            continue;
        choose_team(e);
        if (e->mixer->plan)
            e->mixer->plan(e);
        run(e);
        if (e->mixer->finish)
            e->mixer->finish(e);
        TRY(check_finite(e));
        if (i < n_segments)
            TRY(signals_check()); /* what is left may take minutes */
    }
    return OK;
}
