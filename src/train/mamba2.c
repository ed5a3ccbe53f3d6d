/* mamba2.c -- the mixer of Mamba-2 in the backward pass: its memory, and its
 * weights, made ready for a step.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/mamba2.h"

#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "kernels/mamba2_rows.h"
#include "train/mamba2_parts.h"

/* ---- memory -------------------------------------------------------------- */

static bool open_mixers(struct backward *b)
{
    struct mamba2 *m = b->mamba2 = calloc(1, sizeof *m);
    if (!m)
        return false;
    m->n_chunks = (b->n_t + CHUNK - 1) / CHUNK;
    m->tapes = calloc((size_t)config_of(b)->n_layer, sizeof *m->tapes);
    m->held =
        calloc((size_t)b->n_windows * (size_t)m->n_chunks, sizeof *m->held);
    return m->tapes && m->held;
}

static void close_mixers(struct backward *b)
{
    if (!b->mamba2)
        return;
    free(b->mamba2->tapes);
    free(b->mamba2->held);
    free(b->mamba2);
}

static void lay_out_tape(struct backward *b, struct carver *carver, int l)
{
    const struct model_config *c = config_of(b);
    struct mamba2_tape *tape = &b->mamba2->tapes[l];
    size_t n = (size_t)b->n_rows, channels = (size_t)conv_channels(c);
    size_t n_chunks = (size_t)b->n_windows * (size_t)b->mamba2->n_chunks;
    tape->conv = carve_floats(carver, (size_t)c->d_conv, channels);
    tape->dconv = carve_floats(carver, (size_t)c->d_conv, channels);
    tape->a_log2e = carve_floats(carver, (size_t)c->n_heads, 1);
    tape->d = carve_floats(carver, (size_t)c->d_inner, 1);
    tape->xbc = carve_floats(carver, n, channels);
    tape->v = carve_floats(carver, n, (size_t)c->d_inner);
    tape->states = carve_floats(carver, n_chunks, mamba2_state_floats(c));
}

/* The first chunk of a window owns what all chunks of it share. */
static void lay_out_held(struct backward *b, struct carver *carver)
{
    const struct model_config *c = config_of(b);
    struct mamba2 *m = b->mamba2;
    size_t n_heads = (size_t)c->n_heads;
    for (int i = 0; i < b->n_windows * m->n_chunks; i++) {
        struct mamba2_state *s = &m->held[i];
        if (i % m->n_chunks == 0) {
            s->w = carve_floats(carver, n_heads, CHUNK);
            s->e = carve_floats(carver, n_heads, 1);
            s->s_scale = carve_floats(carver, (size_t)c->d_inner, 1);
            s->s_q = carve(carver, mamba2_s_size(c), 1);
        } else {
            *s = m->held[i - 1];
        }
        s->x = carve(carver, mamba2_x_size(c), 1);
        s->b = carve(carver, mamba2_b_size(c), 1);
    }
    m->no_x = carve(carver, CHUNK * (size_t)c->d_inner, 1);
    m->no_b = carve(carver, CHUNK * (size_t)(c->n_groups * c->d_state), 1);
}

static void lay_out_rows(struct backward *b, struct carver *carver)
{
    struct mamba2_rows *r = &b->mamba2->rows;
    size_t n = (size_t)(b->n_windows * b->mamba2->n_chunks) * CHUNK;
    r->ld = (size_t)cpu_padded(b->d_in);
    mamba2_rows_carve(r, carver, config_of(b), n);
}

static void lay_out(struct backward *b, struct carver *carver)
{
    const struct model_config *c = config_of(b);
    struct mamba2 *m = b->mamba2;
    size_t n = (size_t)b->n_rows, n_heads = (size_t)c->n_heads;
    size_t n_threads = (size_t)threads_count(b->team);
    for (int l = 0; l < c->n_layer; l++)
        lay_out_tape(b, carver, l);
    lay_out_rows(b, carver);
    lay_out_held(b, carver);
    m->dv = carve_floats(carver, n, (size_t)c->d_inner);
    m->r = carve_floats(carver, n, (size_t)c->n_groups);
    m->dxbc = carve_floats(carver, n, (size_t)conv_channels(c));
    m->dbc = carve_floats(carver, n, n_heads * 2 * (size_t)c->d_state);
    m->ds = carve_floats(carver, n_threads,
                         (size_t)c->headdim * (size_t)c->d_state);
    m->room = carve_floats(carver, n_threads,
                           chunk_room_floats(c->headdim, c->d_state));
    m->da = carve_floats(carver, n_threads, (size_t)b->n_t * LANES);
    m->dscalars = carve_floats(carver, (size_t)b->n_windows, 3 * n_heads);
}

/* ---- weights, made ready ------------------------------------------------- */

static void prepare(struct backward *b, int thread, int l)
{
    (void)b;
    (void)thread;
    (void)l;
}

/* As model/layer.c has them. */
static void prepare_rest(struct backward *b, int l)
{
    const struct model_config *c = config_of(b);
    struct mamba2_tape *tape = &b->mamba2->tapes[l];
    const float *a_log = weight_at(b, l, P_A_LOG), *d = weight_at(b, l, P_D);
    int channels = conv_channels(c);
    transpose(tape->conv, weight_at(b, l, P_CONV), channels, c->d_conv);
    memset(tape->dconv, 0, sizeof(float) * (size_t)(c->d_conv * channels));
    for (int h = 0; h < c->n_heads; h++)
        tape->a_log2e[h] = -exact_exp(a_log[h]) * EXACT_LOG2E;
    for (int i = 0; i < c->d_inner; i++)
        tape->d[i] = d[i / c->headdim];
    tape->layer = (struct layer){
        .conv = tape->conv,
        .conv_bias = weight_at(b, l, P_CONV_BIAS),
        .dt_bias = weight_at(b, l, P_DT_BIAS),
        .a_log2e = tape->a_log2e,
        .d = tape->d,
        .gate_norm = weight_at(b, l, P_GATE_NORM),
    };
}

static void finish(struct backward *b, int l)
{
    const struct model_config *c = config_of(b);
    transpose(gradient_at(b, l, P_CONV), b->mamba2->tapes[l].dconv, c->d_conv,
              conv_channels(c));
}

const struct mixer_pass mamba2_pass = {
    .open = open_mixers,
    .close = close_mixers,
    .lay_out = lay_out,
    .prepare = prepare,
    .prepare_rest = prepare_rest,
    .forward = mamba2_forward,
    .output = mamba2_output,
    .backward = mamba2_backward,
    .finish = finish,
};
