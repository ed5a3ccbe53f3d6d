/* cpu_engine.c -- the layer loop on the CPU, in terms of struct cpu_kernels.
 *
 * Bytes of all segments are gathered into batches of up to BATCH rows, so
 * that the weights are read once for many bytes.  A batch runs inside one
 * threads_run: every thread walks the layers, takes its part of each phase by
 * index, and meets the others at a barrier where one phase needs what
 * another thread wrote.  Convolution and scan are split by channels, the
 * rest in one of two ways:
 *
 *     a long batch    by its rows: from quantising to the last product, a
 *                     thread needs nothing of the others
 *     a short batch   by the rows of the matrices: every thread quantises
 *                     all rows of the batch for itself, which is cheaper
 *                     than to wait for another that does
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/threads.h"
#include "engine/engine.h"
#include "kernels/cpu_kernels.h"

/* Rows of a batch: enough to read the weights rarely, few enough for its
 * activations to stay in the cache. */
enum { BATCH = 96 };

/* From how many rows a thread on a batch is a long one. */
enum { MIN_ROWS_A_THREAD = 16 };

/* Between rows of floats: without it, rows of a power of two floats would
 * all meet in a few sets of the cache where a loop walks along time. */
enum { ROW_GAP = 16 };

/* Large pages, where the system has them, are read a third faster. */
enum { LARGE_PAGE = 2 << 20 };

struct state {
    float *image; /* as engine_state_get describes it */
};

/* The bytes of one segment in a batch: rows [row, row + n). */
struct piece {
    const struct segment *segment;
    size_t offset; /* of the first byte in the segment */
    int row, n;
};

struct cpu_layer {
    struct projection in_proj, x_proj, dt_proj, out_proj;
};

/* What a projection multiplies: vectors in int8, or as they are in a model of
 * floats. */
struct cpu_input {
    struct quantised q;
    struct float_rows floats;
};

/* The inputs of one thread, [t][..]. */
struct cpu_inputs {
    struct cpu_input x;     /* of the norms */
    struct cpu_input inner; /* of u, then of y */
    struct cpu_input dt;    /* of dt */
    float *normed;          /* [t][d_model], what x.floats shows */
};

struct cpu_engine {
    struct engine base;
    const struct cpu_kernels *kernels;
    const struct probe *probe; /* or NULL */
    struct threads *team;
    struct cpu_layer *layers; /* [n_layer] */
    struct projection lm_head;
    void *panels; /* owned: everything repacked */

    /* One batch; row t is a byte. */
    struct piece pieces[BATCH];
    int n_pieces, n_rows;
    bool is_long;
    float *scratch; /* owned: the floats of what follows */
    float *h;       /* [t][d_model] */
    float *uz;      /* [t][ld_uz], 2 d_inner of them used */
    float *dtbc;    /* [t][dt_rank + 2 d_state] */
    float *y;       /* [t][ld_y], d_inner of them used */
    float *logits;  /* [t][256] */
    size_t ld_uz, ld_y;
    int8_t *scratch_q;         /* owned: the q of the inputs */
    struct cpu_inputs *inputs; /* [threads] */
};

static struct cpu_engine *self(struct engine *engine)
{
    return (struct cpu_engine *)engine;
}

static const struct model_config *config_of(const struct cpu_engine *e)
{
    return &e->base.model->config;
}

struct range {
    int begin, end;
};

/* This thread's part of [0, n), in whole units. */
static struct range split(const struct cpu_engine *e, int n, int unit,
                          int thread)
{
    struct range r;
    threads_split(&r.begin, &r.end, (n + unit - 1) / unit, thread,
                  threads_count(e->team));
    r.begin *= unit;
    r.end = r.end * unit < n ? r.end * unit : n;
    return r;
}

/* ---- one batch, on every thread ---------------------------------------- */

/* The rows of the batch that this thread quantises and projects. */
static struct range rows_of(const struct cpu_engine *e, int thread)
{
    struct range all = {0, e->n_rows};
    return e->is_long ? split(e, e->n_rows, 1, thread) : all;
}

/* The channels that this thread convolves and scans, and the rows of a
 * matrix that it multiplies in a short batch.  Of n = d_inner both are the
 * same, whatever the units of the level. */
static struct range channels_of(const struct cpu_engine *e, int n, int thread)
{
    const struct cpu_kernels *k = e->kernels;
    int unit =
        k->rows_unit > k->channels_unit ? k->rows_unit : k->channels_unit;
    return split(e, n, unit, thread);
}

/* y <- x W, this thread's part; nobody waits. */
static void project(struct cpu_engine *e, int thread, float *y, size_t ld,
                    const struct projection *w, const struct cpu_input *x,
                    bool accumulate)
{
    const struct cpu_kernels *k = e->kernels;
    struct range t = rows_of(e, thread);
    struct range r = {0, w->matrix.rows};
    if (!e->is_long)
        r = channels_of(e, w->matrix.rows, thread);
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
    struct range mine = split(e, e->n_rows, 1, thread);
    for (int i = 0; i < e->n_pieces; i++) {
        const struct piece *p = &e->pieces[i];
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

/* Shows the last row of what a projection multiplies. */
static void show(const struct cpu_engine *e, int l, enum projection_place place,
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
    struct range mine = rows_of(e, thread);
    in->x.floats = (struct float_rows){in->normed, (size_t)c->d_model};
    if (c->is_float)
        e->kernels->norm(in->normed, e->h, &norm, mine.begin, mine.end);
    else
        e->kernels->norm_quantise(&in->x.q, e->h, &norm, mine.begin, mine.end);
}

/* n floats of each row, as the input of a projection. */
static void take_input(struct cpu_engine *e, int thread,
                       struct cpu_input *input, const float *x, size_t ld,
                       int n)
{
    struct range mine = rows_of(e, thread);
    input->floats = (struct float_rows){x, ld};
    if (!config_of(e)->is_float)
        e->kernels->quantise(&input->q, x, ld, n, mine.begin, mine.end);
}

static void convolve(struct cpu_engine *e, int thread, int l)
{
    const struct model_config *c = config_of(e);
    const struct layer *layer = &e->base.model->layers[l];
    struct range mine = channels_of(e, c->d_inner, thread);
    for (int i = 0; i < e->n_pieces; i++) {
        const struct piece *p = &e->pieces[i];
        struct conv_job job = {
            .u = e->uz + (size_t)p->row * e->ld_uz,
            .ld = e->ld_uz,
            .n_t = p->n,
            .history = state_conv(c, p->segment->state->image, l),
            .conv = layer->conv,
            .bias = layer->conv_bias,
            .d_inner = c->d_inner,
            .d_conv = c->d_conv,
        };
        e->kernels->conv_silu(&job, mine.begin, mine.end);
    }
}

/* Adds y of a piece, channels [c0, c1), to the sums of its segment. */
static void add_to_sums(const struct cpu_engine *e, const struct piece *p,
                        int l, int c0, int c1)
{
    const struct model_config *c = config_of(e);
    int at = sums_find(c, l);
    if (at < 0 || !p->segment->sums)
        return;
    float *sums = p->segment->sums + (size_t)at * (size_t)c->d_inner;
    for (int t = p->row; t < p->row + p->n; t++) {
        const float *y = e->y + (size_t)t * e->ld_y;
        for (int i = c0; i < c1; i++)
            sums[i] += y[i];
    }
}

static void scan(struct cpu_engine *e, int thread, int l)
{
    const struct model_config *c = config_of(e);
    const struct layer *layer = &e->base.model->layers[l];
    struct range mine = channels_of(e, c->d_inner, thread);
    size_t ld_bc = (size_t)(c->dt_rank + 2 * c->d_state);
    for (int i = 0; i < e->n_pieces; i++) {
        const struct piece *p = &e->pieces[i];
        size_t row = (size_t)p->row;
        const float *b = e->dtbc + row * ld_bc + c->dt_rank;
        struct scan_job job = {
            .y = e->y + row * e->ld_y,
            .ld_y = e->ld_y,
            .u = e->uz + row * e->ld_uz,
            .z = e->uz + row * e->ld_uz + c->d_inner,
            .ld_uz = e->ld_uz,
            .b = b,
            .c = b + c->d_state,
            .ld_bc = ld_bc,
            .n_t = p->n,
            .s = state_s(c, p->segment->state->image, l),
            .a_log2e = layer->a_log2e,
            .d = layer->d,
            .dt_bias = layer->dt_bias,
            .d_inner = c->d_inner,
            .d_state = c->d_state,
        };
        e->kernels->scan(&job, mine.begin, mine.end);
        add_to_sums(e, p, l, mine.begin, mine.end);
    }
}

/* Where the next phase of this thread needs what others wrote in this one,
 * if the batch is a long one, or if it is a short one. */
static void meet_if(struct cpu_engine *e, bool has_to)
{
    if (has_to)
        threads_barrier(e->team);
}

static void run_layer(struct cpu_engine *e, int thread, int l)
{
    const struct model_config *c = config_of(e);
    const struct layer *layer = &e->base.model->layers[l];
    const struct cpu_layer *w = &e->layers[l];
    struct cpu_inputs *in = &e->inputs[thread];
    size_t ld_dtbc = (size_t)(c->dt_rank + 2 * c->d_state);

    /* u | z = in_proj norm(h) */
    take_norm(e, thread, layer->norm, layer->norm_bias);
    show(e, l, IN_PROJ, &in->x, c->d_model);
    project(e, thread, e->uz, e->ld_uz, &w->in_proj, &in->x, false);
    threads_barrier(e->team);

    /* u = silu(conv(u)) */
    convolve(e, thread, l);
    threads_barrier(e->team);

    /* dt | B | C = x_proj u */
    take_input(e, thread, &in->inner, e->uz, e->ld_uz, c->d_inner);
    show(e, l, X_PROJ, &in->inner, c->d_inner);
    project(e, thread, e->dtbc, ld_dtbc, &w->x_proj, &in->inner, false);
    meet_if(e, !e->is_long);

    /* delta and the recurrence; y replaces dt_proj dt */
    take_input(e, thread, &in->dt, e->dtbc, ld_dtbc, c->dt_rank);
    show(e, l, DT_PROJ, &in->dt, c->dt_rank);
    project(e, thread, e->y, e->ld_y, &w->dt_proj, &in->dt, false);
    meet_if(e, e->is_long);
    scan(e, thread, l);
    threads_barrier(e->team);

    /* h = h + out_proj y */
    take_input(e, thread, &in->inner, e->y, e->ld_y, c->d_inner);
    show(e, l, OUT_PROJ, &in->inner, c->d_inner);
    project(e, thread, e->h, (size_t)c->d_model, &w->out_proj, &in->inner,
            true);
    meet_if(e, !e->is_long);
}

/* Hands the predictions of a piece to its segment and its state. */
static void deliver(struct cpu_engine *e, const struct piece *p)
{
    const struct segment *s = p->segment;
    float *prediction = state_logits(config_of(e), s->state->image);
    const float *logits = e->logits + (size_t)p->row * N_BYTES_VOCAB;
    for (int t = 0; t < p->n && s->bits; t++) {
        size_t at = p->offset + (size_t)t;
        const float *before =
            t > 0 ? logits + (size_t)(t - 1) * N_BYTES_VOCAB : prediction;
        s->bits[at] = odds_cost(before, s->bytes[at]);
    }
    size_t row = N_BYTES_VOCAB * sizeof(float);
    memcpy(prediction, logits + (size_t)(p->n - 1) * N_BYTES_VOCAB, row);
    if (s->logits)
        memcpy(s->logits + p->offset * N_BYTES_VOCAB, logits,
               (size_t)p->n * row);
}

static void run_batch(void *arg, int thread)
{
    struct cpu_engine *e = arg;
    const struct model *m = e->base.model;

    embed(e, thread);
    threads_barrier(e->team);
    for (int l = 0; l < m->config.n_layer; l++)
        run_layer(e, thread, l);

    take_norm(e, thread, m->norm_f, m->norm_f_bias);
    show(e, m->config.n_layer, LM_HEAD, &e->inputs[thread].x,
         m->config.d_model);
    project(e, thread, e->logits, N_BYTES_VOCAB, &e->lm_head,
            &e->inputs[thread].x, false);
    threads_barrier(e->team);
    struct range mine = split(e, e->n_rows, 1, thread);
    for (size_t i = (size_t)mine.begin * N_BYTES_VOCAB;
         i < (size_t)mine.end * N_BYTES_VOCAB; i++)
        e->logits[i] = exact_logit(e->logits[i]);
    threads_barrier(e->team);
    for (int i = thread; i < e->n_pieces; i += threads_count(e->team))
        deliver(e, &e->pieces[i]);
}

/* ---- engine_ops --------------------------------------------------------- */

static enum status cpu_feed(struct engine *engine,
                            const struct segment *segments, size_t n_segments)
{
    struct cpu_engine *e = self(engine);
    size_t i = 0, offset = 0;
    while (i < n_segments) {
        e->n_pieces = 0;
        e->n_rows = 0;
        while (i < n_segments && e->n_rows < BATCH) {
            size_t left = segments[i].n - offset;
            int n = left < (size_t)(BATCH - e->n_rows) ? (int)left
                                                       : BATCH - e->n_rows;
            if (n > 0) {
                struct piece p = {&segments[i], offset, e->n_rows, n};
                e->pieces[e->n_pieces++] = p;
            }
            e->n_rows += n;
            offset += (size_t)n;
            if (offset == segments[i].n) {
                i++;
                offset = 0;
            }
        }
        int threads = threads_count(e->team);
        e->is_long = e->n_rows >= MIN_ROWS_A_THREAD * threads;
        if (e->n_rows > 0)
            threads_run(e->team, run_batch, e);
    }
    return OK;
}

static enum status cpu_generate(struct engine *engine, struct state *state,
                                const struct sampler *sampler, uint64_t index,
                                uint8_t *bytes, size_t n)
{
    const struct model_config *c = &engine->model->config;
    for (size_t i = 0; i < n; i++) {
        bytes[i] =
            sampler_choose(sampler, state_logits(c, state->image), index + i);
        struct segment one = {.state = state, .bytes = bytes + i, .n = 1};
        TRY(cpu_feed(engine, &one, 1));
    }
    return OK;
}

static enum status cpu_state_new(struct engine *engine, struct state **state)
{
    size_t n = model_state_floats(&engine->model->config);
    struct state *s = malloc(sizeof *s);
    float *image = calloc(n, sizeof *image);
    if (!s || !image) {
        free(s);
        free(image);
        *state = NULL;
        return fail_memory("a state");
    }
    s->image = image;
    *state = s;
    return OK;
}

static void cpu_state_free(struct engine *engine, struct state *state)
{
    (void)engine;
    if (state)
        free(state->image);
    free(state);
}

static size_t image_bytes(const struct engine *engine)
{
    return model_state_floats(&engine->model->config) * sizeof(float);
}

static enum status cpu_state_copy(struct engine *engine, struct state *to,
                                  const struct state *from)
{
    memcpy(to->image, from->image, image_bytes(engine));
    return OK;
}

static enum status cpu_state_get(struct engine *engine,
                                 const struct state *state, float *image)
{
    memcpy(image, state->image, image_bytes(engine));
    return OK;
}

static enum status cpu_state_set(struct engine *engine, struct state *state,
                                 const float *image)
{
    memcpy(state->image, image, image_bytes(engine));
    return OK;
}

static void cpu_describe(const struct engine *engine, char text[160])
{
    const struct cpu_engine *e = (const struct cpu_engine *)engine;
    int n = threads_count(e->team);
    snprintf(text, 160, "cpu %s, %d thread%s", e->kernels->name, n,
             n == 1 ? "" : "s");
}

static void cpu_close(struct engine *engine)
{
    struct cpu_engine *e = self(engine);
    threads_close(e->team);
    free(e->layers);
    free(e->panels);
    free(e->scratch);
    free(e->scratch_q);
    free(e->inputs);
    free(e);
}

static const struct engine_ops cpu_ops = {
    .state_new = cpu_state_new,
    .state_free = cpu_state_free,
    .state_copy = cpu_state_copy,
    .state_get = cpu_state_get,
    .state_set = cpu_state_set,
    .feed = cpu_feed,
    .generate = cpu_generate,
    .describe = cpu_describe,
    .close = cpu_close,
};

/* ---- opening ------------------------------------------------------------ */

/* The projections of the model, in one order; NULL past the last. */
static struct projection *projection_at(struct cpu_engine *e, int i)
{
    int l = i / 4, n_layer = config_of(e)->n_layer;
    if (l >= n_layer)
        return i == 4 * n_layer ? &e->lm_head : NULL;
    struct cpu_layer *w = &e->layers[l];
    struct projection *all[] = {&w->in_proj, &w->x_proj, &w->dt_proj,
                                &w->out_proj};
    return all[i % 4];
}

static void bind_projections(struct cpu_engine *e)
{
    const struct model *m = e->base.model;
    for (int l = 0; l < m->config.n_layer; l++) {
        const struct layer *layer = &m->layers[l];
        e->layers[l].in_proj.matrix = layer->in_proj;
        e->layers[l].x_proj.matrix = layer->x_proj;
        e->layers[l].dt_proj.matrix = layer->dt_proj;
        e->layers[l].out_proj.matrix = layer->out_proj;
    }
    e->lm_head.matrix = m->lm_head;
}

/* One thread's share of the repacking. */
static void pack_share(void *arg, int thread)
{
    struct cpu_engine *e = arg;
    struct projection *p;
    for (int i = thread; (p = projection_at(e, i)); i += threads_count(e->team))
        e->kernels->pack(p->panels, &p->matrix);
}

static enum status repack(struct cpu_engine *e)
{
    struct projection *p;
    size_t total = 0;
    if (config_of(e)->is_float)
        return OK;
    for (int i = 0; (p = projection_at(e, i)); i++)
        total += e->kernels->panels_size(&p->matrix);
    if (total == 0)
        return OK;
    total = (total + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    e->panels = aligned_alloc(LARGE_PAGE, total);
    if (!e->panels)
        return fail_memory("the weights");
    madvise(e->panels, total, MADV_HUGEPAGE); /* or they stay small */
    char *at = e->panels;
    for (int i = 0; (p = projection_at(e, i)); i++) {
        p->panels = at;
        at += e->kernels->panels_size(&p->matrix);
    }
    threads_run(e->team, pack_share, e);
    return OK;
}

static int padded(int n)
{
    return (n + CPU_PAD - 1) / CPU_PAD * CPU_PAD;
}

/* Cuts the part of one quantised buffer from the two scratch areas. */
static void cut_quantised(struct quantised *out, int n, int8_t **q,
                          float **floats)
{
    out->ld = padded(n);
    out->q = *q;
    *q += (size_t)BATCH * (size_t)out->ld;
    out->scale = *floats;
    *floats += BATCH;
    out->sum = (int32_t *)(void *)*floats;
    *floats += BATCH;
}

static float *cut_floats(size_t row, float **floats)
{
    float *cut = *floats;
    *floats += BATCH * row;
    return cut;
}

static enum status make_scratch(struct cpu_engine *e)
{
    const struct model_config *c = config_of(e);
    size_t threads = (size_t)threads_count(e->team);
    size_t ld_h = (size_t)padded(c->d_model);
    size_t ld_dtbc = (size_t)padded(c->dt_rank + 2 * c->d_state);
    e->ld_uz = (size_t)padded(2 * c->d_inner) + ROW_GAP;
    e->ld_y = (size_t)padded(c->d_inner) + ROW_GAP;

    /* An input in int8 has a scale and a sum a row. */
    size_t a_thread = c->is_float ? ld_h : 3 * 2;
    size_t row_floats = ld_h + e->ld_uz + ld_dtbc + e->ld_y + N_BYTES_VOCAB +
                        threads * a_thread;
    size_t row_q = (size_t)padded(c->d_model) + (size_t)padded(c->d_inner) +
                   (size_t)padded(c->dt_rank);
    e->scratch = aligned_alloc(64, BATCH * row_floats * sizeof(float));
    e->scratch_q = aligned_alloc(64, BATCH * threads * row_q);
    e->inputs = calloc(threads, sizeof *e->inputs);
    if (!e->scratch || !e->scratch_q || !e->inputs)
        return fail_memory("a batch of activations");

    float *floats = e->scratch;
    int8_t *q = e->scratch_q;
    e->h = cut_floats(ld_h, &floats);
    e->uz = cut_floats(e->ld_uz, &floats);
    e->dtbc = cut_floats(ld_dtbc, &floats);
    e->y = cut_floats(e->ld_y, &floats);
    e->logits = cut_floats(N_BYTES_VOCAB, &floats);
    for (size_t i = 0; i < threads; i++) {
        struct cpu_inputs *in = &e->inputs[i];
        if (c->is_float) {
            in->normed = cut_floats(ld_h, &floats);
            continue;
        }
        cut_quantised(&in->x.q, c->d_model, &q, &floats);
        cut_quantised(&in->inner.q, c->d_inner, &q, &floats);
        cut_quantised(&in->dt.q, c->dt_rank, &q, &floats);
    }
    return OK;
}

static enum status set_up(struct cpu_engine *e,
                          const struct engine_options *options)
{
    e->kernels = cpu_kernels_find(options->cpu);
    if (!e->kernels)
        return fail(E_USAGE, "this CPU has no level \"%s\"", options->cpu);
    e->layers = calloc((size_t)config_of(e)->n_layer, sizeof *e->layers);
    if (!e->layers)
        return fail_memory("the layers");
    e->probe = options->probe;
    TRY(threads_open(&e->team, options->n_threads));
    bind_projections(e);
    TRY(repack(e));
    return make_scratch(e);
}

enum status cpu_engine_open(struct engine **engine, const struct model *model,
                            const struct engine_options *options)
{
    *engine = NULL;
    if (model->config.mixer == MIXER_MAMBA2)
        return fail(E_MODEL, "no engine for Mamba-2 yet");
    struct cpu_engine *e = calloc(1, sizeof *e);
    if (!e)
        return fail_memory("an engine");
    e->base.ops = &cpu_ops;
    e->base.model = model;
    enum status status = set_up(e, options);
    if (status != OK)
        cpu_close(&e->base);
    else
        *engine = &e->base;
    return status;
}
