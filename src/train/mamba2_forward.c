/* mamba2_forward.c -- the mixer of Mamba-2, from in_proj's product to
 * out_proj's.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "train/mamba2_parts.h"

/* A chunk as the engine's kernels take it; state is filled. */
static struct mamba2_job job_of(const struct backward *b, int l, int w,
                                int chunk, struct mamba2_state *state)
{
    const struct mamba2 *m = b->mamba2;
    *state = m->held[w * m->n_chunks + chunk];
    state->past = mamba2_conv_state(b, state_after(b, w), l);
    state->s = mamba2_s_state(b, state_after(b, w), l);
    return (struct mamba2_job){
        .config = config_of(b),
        .layer = &m->tapes[l].layer,
        .state = state,
        .rows = &m->rows,
        .row = mamba2_first_place(b, w, chunk),
        .n_t = b->imitates ? CHUNK : mamba2_chunk_bytes(b, chunk),
    };
}

/* This thread's rows of in_proj's product, and its windows' states. */
static void take_input(struct backward *b, int thread, int l)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    struct range t = rows_of(b, thread);
    struct range windows = share_of(b, b->n_windows, thread);
    size_t d_in = (size_t)b->d_in;
    for (int row = t.begin; row < t.end; row++) {
        int w = row / b->n_t, i = row % b->n_t;
        size_t place = (size_t)(mamba2_first_place(b, w, 0) + i);
        memcpy(m->rows.zx + place * m->rows.ld,
               b->tapes[l].in + (size_t)row * d_in, d_in * sizeof(float));
    }
    for (int w = windows.begin; w < windows.end; w++) {
        struct mamba2_state state;
        job_of(b, l, w, 0, &state);
        memcpy(state.past, mamba2_conv_state(b, state_before(b, w), l),
               trainer_state_floats(c) / (size_t)c->n_layer * sizeof(float));
        if (!b->imitates)
            continue;
        memset(state.w, 0, sizeof(float) * CHUNK * (size_t)c->n_heads);
        memset(state.e, 0, sizeof(float) * (size_t)c->n_heads);
        b->int8->mamba2->load(&state, m->no_x, m->no_b, c);
    }
}

/* n channels from the first of x | B | C: the convolution over a window, and
 * nothing at the places after it. */
static void convolve(struct backward *b, int l, int w, int first, int n)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    struct mamba2_state state;
    struct mamba2_job job = job_of(b, l, w, 0, &state);
    size_t channels = (size_t)conv_channels(c), n_bytes = sizeof(float);
    n_bytes *= (size_t)n;
    struct conv_job conv = {
        .u = mamba2_x(&job, 0),
        .ld = m->rows.ld,
        .n_t = b->n_t,
        .history = state.past,
        .conv = job.layer->conv,
        .bias = job.layer->conv_bias,
        .d_inner = (int)channels,
        .d_conv = c->d_conv,
    };
    b->int8->conv_silu(&conv, first, first + n);
    for (int t = 0; t < m->n_chunks * CHUNK; t++) {
        float *u = mamba2_x(&job, t) + first;
        size_t row = mamba2_first_row(b, w, 0) + (size_t)t;
        if (t < b->n_t)
            memcpy(m->tapes[l].xbc + row * channels + first, u, n_bytes);
        else
            memset(u, 0, n_bytes);
    }
}

/* Nothing enters at places past the end of a window, and nothing decays. */
static void rest(struct backward *b, const struct mamba2_job *job, int head,
                 int n_t)
{
    const struct mamba2_rows *rows = &b->mamba2->rows;
    for (int t = n_t; t < CHUNK; t++) {
        size_t at = (size_t)(job->row + t) * (size_t)job->config->n_heads +
                    (size_t)head;
        rows->delta[at] = 0.0f;
        rows->alpha[at] = 1.0f;
    }
}

/* Head i of a window, or group i - n_heads, up to its recurrence. */
static void go_in(struct backward *b, int l, int w, int i)
{
    const struct model_config *c = config_of(b);
    struct mamba2_state state;
    int group = i - c->n_heads, n = c->d_state;
    int first = c->d_inner + group * n;
    if (group < 0) {
        convolve(b, l, w, i * c->headdim, c->headdim);
    } else {
        convolve(b, l, w, first, n);
        convolve(b, l, w, first + c->n_groups * n, n);
    }
    for (int k = 0; b->imitates && k < b->mamba2->n_chunks; k++) {
        struct mamba2_job job = job_of(b, l, w, k, &state);
        if (group >= 0) {
            b->int8->mamba2->group_in(&job, group);
            continue;
        }
        b->int8->mamba2->heads_in(&job, i, i + 1);
        rest(b, &job, i, mamba2_chunk_bytes(b, k));
    }
}

/* v of a head, and the states that it came from. */
static void recur(struct backward *b, int l, int w, int head)
{
    const struct model_config *c = config_of(b);
    const struct mamba2_tape *tape = &b->mamba2->tapes[l];
    size_t n = (size_t)c->headdim * (size_t)c->d_state;
    size_t first = (size_t)head * (size_t)c->headdim;
    for (int k = 0; k < b->mamba2->n_chunks; k++) {
        struct mamba2_state state;
        struct mamba2_job job = job_of(b, l, w, k, &state);
        memcpy(mamba2_states_at(b, l, w, k) + (size_t)head * n,
               state.s + (size_t)head * n, n * sizeof(float));
        if (b->imitates)
            b->int8->mamba2->heads(&job, head, head + 1);
        else
            b->int8->mamba2->float_heads(&job, head, head + 1);
        for (int t = 0; t < mamba2_chunk_bytes(b, k); t++) {
            size_t row = mamba2_first_row(b, w, k) + (size_t)t;
            memcpy(tape->v + row * (size_t)c->d_inner + first,
                   mamba2_x(&job, t) + first,
                   sizeof(float) * (size_t)c->headdim);
        }
    }
}

void mamba2_forward(struct backward *b, int thread, int l)
{
    const struct model_config *c = config_of(b);
    int n_in = c->n_heads + c->n_groups;
    struct range in = share_of(b, b->n_windows * n_in, thread);
    struct range heads = share_of(b, b->n_windows * c->n_heads, thread);
    take_input(b, thread, l);
    meet(b);
    for (int i = in.begin; i < in.end; i++)
        go_in(b, l, i / n_in, i % n_in);
    meet(b);
    for (int i = heads.begin; i < heads.end; i++)
        recur(b, l, i / c->n_heads, i % c->n_heads);
}

/* Rows from a place on, as if they began at row `row`. */
static struct mamba2_rows rows_from(const struct backward *b, int place,
                                    int row)
{
    struct mamba2_rows rows = b->mamba2->rows;
    size_t skipped = (size_t)(place - row);
    rows.zx += skipped * rows.ld;
    rows.squares += skipped * (size_t)config_of(b)->n_heads;
    rows.largest += skipped * (size_t)config_of(b)->n_heads;
    return rows;
}

/* The norm of v, rows [t0, t1) of one window, as out_proj multiplies it; y is
 * the same in floats. */
static void norm_rows(struct backward *b, int l, const struct quantised *q,
                      int t0, int t1)
{
    const struct model_config *c = config_of(b);
    const struct layer *layer = &b->mamba2->tapes[l].layer;
    int w = t0 / b->n_t;
    struct mamba2_rows rows = rows_from(b, mamba2_first_place(b, w, 0),
                                        (int)mamba2_first_row(b, w, 0));
    if (b->imitates)
        b->int8->mamba2->norm_quantise(q, &rows, layer, c, t0, t1);
    else
        b->int8->mamba2->float_norm(&rows, layer, c, t0, t1);
    for (int t = t0; t < t1; t++) {
        float *y = b->tapes[l].y + (size_t)t * (size_t)c->d_inner;
        const float *v = rows.zx + (size_t)t * rows.ld + c->d_inner;
        size_t at = (size_t)t * (size_t)q->ld; /* q is NULL in floats */
        for (int i = 0; i < c->d_inner; i++)
            y[i] =
                b->imitates ? (float)q->q[at + (size_t)i] * q->scale[t] : v[i];
    }
}

void mamba2_output(struct backward *b, int thread, int l,
                   struct activations next)
{
    const struct linear *out_proj = &b->tapes[l].out_proj;
    struct activations y = {b->tapes[l].y, (size_t)config_of(b)->d_inner};
    struct range t = rows_of(b, thread);
    struct quantised q = {0};
    if (b->imitates)
        q = linear_room(b, out_proj->cols, t.begin);
    for (int t0 = t.begin; t0 < t.end;) {
        int end = (t0 / b->n_t + 1) * b->n_t;
        end = end < t.end ? end : t.end;
        norm_rows(b, l, &q, t0, end);
        t0 = end;
    }
    if (b->imitates)
        linear_multiply(b, thread, next, out_proj, &q, true);
    else
        linear_forward(b, thread, next, out_proj, y, true);
}
