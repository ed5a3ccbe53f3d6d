/* cpu_mamba1.c -- the mixer of Mamba-1 on the CPU.
 *
 *     u | z = in_proj x;  u = silu(conv(u));  dt | B | C = x_proj u
 *     y = the selective scan of u by dt_proj dt, B and C, times silu(z)
 *
 * Convolution and scan are split by channels.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "engine/cpu_engine.h"
#include "engine/state_image.h"

struct mixing {
    void *room; /* owned: what follows */
    float *uz;  /* [t][ld_uz], 2 d_inner of them used */
    size_t ld_uz;
    float *dtbc; /* [t][ld_dtbc], dt_rank + 2 d_state of them used */
    size_t ld_dtbc;
    float *y; /* [t][ld_y], d_inner of them used */
    size_t ld_y;
};

static void convolve(struct cpu_engine *e, int thread, int l)
{
    const struct model_config *c = config_of(e);
    const struct mixing *m = e->mixing;
    const struct layer *layer = &e->base.model->layers[l];
    struct range mine = cpu_channels_of(e, c->d_inner, thread);
    for (int i = 0; i < e->n_spans; i++) {
        const struct span *p = &e->spans[i];
        struct conv_job job = {
            .u = m->uz + (size_t)p->row * m->ld_uz,
            .ld = m->ld_uz,
            .n_t = p->n,
            .history = state_conv(c, p->segment->state->floats, l),
            .conv = layer->conv,
            .bias = layer->conv_bias,
            .d_inner = c->d_inner,
            .d_conv = c->d_conv,
        };
        e->kernels->conv_silu(&job, mine.begin, mine.end);
    }
}

static void scan(struct cpu_engine *e, int thread, int l)
{
    const struct model_config *c = config_of(e);
    const struct mixing *m = e->mixing;
    const struct layer *layer = &e->base.model->layers[l];
    struct range mine = cpu_channels_of(e, c->d_inner, thread);
    for (int i = 0; i < e->n_spans; i++) {
        const struct span *p = &e->spans[i];
        size_t row = (size_t)p->row;
        const float *b = m->dtbc + row * m->ld_dtbc + c->dt_rank;
        struct scan_job job = {
            .y = m->y + row * m->ld_y,
            .ld_y = m->ld_y,
            .u = m->uz + row * m->ld_uz,
            .z = m->uz + row * m->ld_uz + c->d_inner,
            .ld_uz = m->ld_uz,
            .b = b,
            .c = b + c->d_state,
            .ld_bc = m->ld_dtbc,
            .n_t = p->n,
            .s = state_s(c, p->segment->state->floats, l),
            .a_log2e = layer->a_log2e,
            .d = layer->d,
            .dt_bias = layer->dt_bias,
            .d_inner = c->d_inner,
            .d_state = c->d_state,
        };
        e->kernels->scan(&job, mine.begin, mine.end);
        cpu_add_to_pooled(e, p, l, job.y, m->ld_y, p->n, mine);
    }
}

static void mamba1_run(struct cpu_engine *e, int thread, int l)
{
    const struct model_config *c = config_of(e);
    const struct mixing *m = e->mixing;
    const struct cpu_layer *w = &e->layers[l];
    struct cpu_inputs *in = &e->inputs[thread];

    /* u | z = in_proj norm(h) */
    cpu_project(e, thread, m->uz, m->ld_uz, &w->in_proj, &in->x, false);
    threads_barrier(e->team);

    /* u = silu(conv(u)) */
    convolve(e, thread, l);
    threads_barrier(e->team);

    /* dt | B | C = x_proj u */
    cpu_take_input(e, thread, &in->inner, m->uz, m->ld_uz, c->d_inner);
    cpu_show(e, l, X_PROJ, &in->inner, c->d_inner);
    cpu_project(e, thread, m->dtbc, m->ld_dtbc, &w->x_proj, &in->inner, false);
    cpu_meet_if(e, !e->is_long);

    /* delta and the recurrence; y replaces dt_proj dt */
    cpu_take_input(e, thread, &in->dt, m->dtbc, m->ld_dtbc, c->dt_rank);
    cpu_show(e, l, DT_PROJ, &in->dt, c->dt_rank);
    cpu_project(e, thread, m->y, m->ld_y, &w->dt_proj, &in->dt, false);
    cpu_meet_if(e, e->is_long);
    scan(e, thread, l);
    threads_barrier(e->team);
    cpu_take_input(e, thread, &in->inner, m->y, m->ld_y, c->d_inner);
}

static void lay_out(struct cpu_engine *e, struct carver *carver)
{
    const struct model_config *c = config_of(e);
    struct mixing *m = e->mixing;
    m->ld_uz = (size_t)cpu_padded(2 * c->d_inner) + ROW_GAP;
    m->ld_dtbc = (size_t)(c->dt_rank + 2 * c->d_state);
    m->ld_y = (size_t)cpu_padded(c->d_inner) + ROW_GAP;
    m->uz = carve_floats(carver, BATCH, m->ld_uz);
    m->dtbc = carve_floats(carver, BATCH, m->ld_dtbc);
    m->y = carve_floats(carver, BATCH, m->ld_y);
}

static void mamba1_close(struct cpu_engine *e)
{
    struct mixing *m = e->mixing;
    free(m->room);
    free(m);
}

static enum status mamba1_open(struct cpu_engine *e)
{
    struct mixing *m = e->mixing = calloc(1, sizeof *m);
    if (m)
        m->room = cpu_carve(e, lay_out);
    return m && m->room ? OK : fail_memory("a batch of activations");
}

const struct cpu_mixer cpu_mamba1 = {
    .open = mamba1_open,
    .close = mamba1_close,
    .run = mamba1_run,
};
