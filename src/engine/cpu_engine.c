/* cpu_engine.c -- states, weights and buffers of the engine on the CPU.
 *
 * cpu_batch.c is the layer loop.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/cpu_engine.h"
#include "engine/engine_ops.h"
#include "engine/state_image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/large_pages.h"
#include "base/text.h"

/* Aligned for every level; or NULL. */
static void *make_zeros(size_t n_bytes)
{
    void *room = large_pages_alloc(n_bytes);
    if (room)
        memset(room, 0, n_bytes);
    return room;
}

/* ---- engine_ops --------------------------------------------------------- */

static enum status cpu_generate(struct engine *engine, struct state *state,
                                const struct sampler *sampler, uint64_t index,
                                uint8_t *bytes, size_t n)
{
    const struct model_config *c = &engine->model->config;
    for (size_t i = 0; i < n; i++) {
        bytes[i] =
            sampler_choose(sampler, state_logits(c, state->floats), index + i);
        struct segment one = {.state = state, .bytes = bytes + i, .n = 1};
        TRY(cpu_feed(engine, &one, 1));
    }
    return OK;
}

static size_t floats_size(const struct engine *engine)
{
    return model_state_floats(&engine->model->config) * sizeof(float);
}

static size_t derived_size(const struct engine *engine)
{
    const struct cpu_engine *e = (const struct cpu_engine *)engine;
    return e->mixer->derived_size ? e->mixer->derived_size(config_of(e)) : 0;
}

static void cpu_state_free(struct engine *engine, struct state *state)
{
    (void)engine;
    if (state) {
        free(state->floats);
        free(state->derived);
    }
    free(state);
}

static enum status cpu_state_new(struct engine *engine, struct state **state)
{
    size_t n_derived = derived_size(engine);
    struct state *s = *state = calloc(1, sizeof *s);
    if (!s)
        return fail_memory("a state");
    s->floats = make_zeros(floats_size(engine));
    s->derived = n_derived > 0 ? make_zeros(n_derived) : NULL;
    if (!s->floats || (n_derived > 0 && !s->derived)) {
        cpu_state_free(engine, s);
        *state = NULL;
        return fail_memory("a state");
    }
    return OK;
}

static enum status cpu_state_copy(struct engine *engine, struct state *to,
                                  const struct state *from)
{
    memcpy(to->floats, from->floats, floats_size(engine));
    if (to->derived)
        memcpy(to->derived, from->derived, derived_size(engine));
    to->place = from->place;
    return OK;
}

static enum status cpu_state_get(struct engine *engine,
                                 const struct state *state, float *image)
{
    const struct cpu_engine *e = (const struct cpu_engine *)engine;
    memcpy(image, state->floats, floats_size(engine));
    if (e->mixer->save)
        e->mixer->save(e, state, state_int8s(config_of(e), image));
    return OK;
}

static enum status cpu_state_set(struct engine *engine, struct state *state,
                                 const float *image)
{
    struct cpu_engine *e = (struct cpu_engine *)engine;
    memcpy(state->floats, image, floats_size(engine));
    if (e->mixer->derive)
        e->mixer->derive(e, state, state_int8s(config_of(e), (float *)image));
    return OK;
}

static void cpu_describe(const struct engine *engine, char text[160])
{
    const struct cpu_engine *e = (const struct cpu_engine *)engine;
    int n = threads_count(e->team);
    snprintf(text, 160, "cpu %s, %d thread%s", e->kernels->name, n,
             text_plural((uint64_t)n));
}

static void cpu_close(struct engine *engine)
{
    struct cpu_engine *e = (struct cpu_engine *)engine;
    if (e->mixing)
        e->mixer->close(e);
    threads_close(e->team);
    free(e->layers);
    free(e->panels);
    free(e->scratch);
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

/* Projections that Mamba-2 lacks have no rows. */
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
    e->panels = large_pages_alloc(total); /* read a third faster */
    if (!e->panels)
        return fail_memory("the weights");
    char *at = e->panels;
    for (int i = 0; (p = projection_at(e, i)); i++) {
        p->panels = at;
        at += e->kernels->panels_size(&p->matrix);
    }
    threads_run(e->team, pack_share, e);
    return OK;
}

void *cpu_carve(struct cpu_engine *e, cpu_layout *lay_out)
{
    struct carver carver = {NULL, 0};
    lay_out(e, &carver);
    void *room = make_zeros(carver.n_bytes);
    carver = (struct carver){room, 0};
    if (room)
        lay_out(e, &carver);
    return room;
}

static void carve_quantised(struct quantised *out, struct carver *carver, int n)
{
    out->ld = cpu_padded(n);
    out->q = carve(carver, BATCH, (size_t)out->ld);
    out->scale = carve_floats(carver, BATCH, 1);
    out->sum = carve(carver, BATCH, sizeof *out->sum);
}

static void lay_out_scratch(struct cpu_engine *e, struct carver *carver)
{
    const struct model_config *c = config_of(e);
    size_t ld_h = (size_t)cpu_padded(c->d_model);
    e->h = carve_floats(carver, BATCH, ld_h);
    e->logits = carve_floats(carver, BATCH, N_BYTES_VOCAB);
    for (int i = 0; i < threads_count(e->team); i++) {
        struct cpu_inputs *in = &e->inputs[i];
        if (c->is_float) {
            in->normed = carve_floats(carver, BATCH, ld_h);
            continue;
        }
        carve_quantised(&in->x.q, carver, c->d_model);
        carve_quantised(&in->inner.q, carver, c->d_inner);
        carve_quantised(&in->dt.q, carver, c->dt_rank);
    }
}

static enum status make_scratch(struct cpu_engine *e)
{
    size_t threads = (size_t)threads_count(e->team);
    e->inputs = calloc(threads, sizeof *e->inputs);
    if (e->inputs)
        e->scratch = cpu_carve(e, lay_out_scratch);
    if (!e->scratch)
        return fail_memory("a batch of activations");
    return e->mixer->open(e);
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
    struct cpu_engine *e = calloc(1, sizeof *e);
    if (!e)
        return fail_memory("an engine");
    e->base.ops = &cpu_ops;
    e->base.model = model;
    e->base.is_on_cpu = true;
    e->mixer = model->config.mixer == MIXER_MAMBA2 ? &cpu_mamba2 : &cpu_mamba1;
    enum status status = set_up(e, options);
    if (status != OK)
        cpu_close(&e->base);
    else
        *engine = &e->base;
    return status;
}
