/* mamba2.c -- the mixer of Mamba-2 in the backward pass.
 *
 * Rows of zx and of what the engine's kernels make are places: window w has
 * n_chunks whole chunks, of which those past its end have no input, delta 0
 * and decay 1.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/mamba2.h"

#include <stdlib.h>
#include <string.h>

#include "base/exact.h"

/* What the forward pass keeps of the mixer of a layer. */
struct mixer_tape {
    struct layer layer; /* for the engine's kernels                         */
    float *conv;        /* [d_conv][conv_channels()]                        */
    float *dconv;       /* the same                                         */
    float *a_log2e;     /* [n_heads]                                        */
    float *d;           /* [d_inner]                                        */
    float *xbc;         /* [t][conv_channels()], after the convolution      */
    float *v;           /* [t][d_inner], y silu(z)                          */
    float *states;      /* [window][n_chunks][d_inner][d_state], before
                         * each chunk                                       */
};

struct mamba2 {
    struct mixer_tape *tapes; /* [n_layer]                              */
    int n_chunks;             /* of a window                            */

    /* Forward.  Of a window: S^, its scales, the weights of a chunk. */
    struct mamba2_rows rows;   /* [place]                               */
    struct mamba2_state *held; /* [window][n_chunks]: of a chunk, x, b  */
    int8_t *no_x, *no_b;       /* x^ and B^ of no bytes                 */

    /* Backward. */
    float *dv;       /* [t][d_inner]                                     */
    float *r;        /* [t][n_groups], of the norm                       */
    float *dxbc;     /* [t][conv_channels()]                             */
    float *dbc;      /* [t][n_heads][2 d_state]                          */
    float *ds;       /* [thread][headdim][d_state]                       */
    float *room;     /* [thread][chunk_room_floats()]                    */
    float *da;       /* [thread][n_t][LANES], of the convolution         */
    float *dscalars; /* [window][n_heads][3]: of dt_bias, A_log, D      */
};

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

static size_t state_floats(const struct model_config *c)
{
    return (size_t)c->d_inner * (size_t)c->d_state;
}

static void lay_out_tape(struct backward *b, struct carver *carver, int l)
{
    const struct model_config *c = config_of(b);
    struct mixer_tape *tape = &b->mamba2->tapes[l];
    size_t n = (size_t)b->n_rows, channels = (size_t)conv_channels(c);
    size_t n_chunks = (size_t)b->n_windows * (size_t)b->mamba2->n_chunks;
    tape->conv = carve_floats(carver, (size_t)c->d_conv, channels);
    tape->dconv = carve_floats(carver, (size_t)c->d_conv, channels);
    tape->a_log2e = carve_floats(carver, (size_t)c->n_heads, 1);
    tape->d = carve_floats(carver, (size_t)c->d_inner, 1);
    tape->xbc = carve_floats(carver, n, channels);
    tape->v = carve_floats(carver, n, (size_t)c->d_inner);
    tape->states = carve_floats(carver, n_chunks, state_floats(c));
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
    const struct model_config *c = config_of(b);
    struct mamba2_rows *r = &b->mamba2->rows;
    size_t n = (size_t)(b->n_windows * b->mamba2->n_chunks) * CHUNK;
    size_t heads = (size_t)c->n_heads, groups = (size_t)c->n_groups;
    r->ld = (size_t)(b->d_in + CPU_PAD - 1) / CPU_PAD * CPU_PAD;
    r->zx = carve_floats(carver, n, r->ld);
    r->x = carve(carver, n * (size_t)c->d_inner, 1);
    r->x_scale = carve_floats(carver, n, heads);
    r->c = carve(carver, n * groups * (size_t)c->d_state, 1);
    r->c_scale = carve_floats(carver, n, groups);
    r->c_sum = carve(carver, n * groups, sizeof(int32_t));
    r->b_scale = carve_floats(carver, n, groups);
    r->scores = carve(carver, n * groups * CHUNK, sizeof(int32_t));
    r->delta = carve_floats(carver, n, heads);
    r->alpha = carve_floats(carver, n, heads);
    r->squares = carve_floats(carver, n, heads);
    r->largest = carve_floats(carver, n, heads);
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

/* As model.c has them. */
static void prepare_rest(struct backward *b, int l)
{
    const struct model_config *c = config_of(b);
    struct mixer_tape *tape = &b->mamba2->tapes[l];
    const float *conv = weight_at(b, l, P_CONV);
    const float *a_log = weight_at(b, l, P_A_LOG), *d = weight_at(b, l, P_D);
    int channels = conv_channels(c);
    for (int i = 0; i < channels; i++) {
        for (int k = 0; k < c->d_conv; k++)
            tape->conv[k * channels + i] = *conv++;
    }
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
    const struct mixer_tape *tape = &b->mamba2->tapes[l];
    float *dconv = gradient_at(b, l, P_CONV);
    int channels = conv_channels(c);
    for (int i = 0; i < channels; i++) {
        for (int k = 0; k < c->d_conv; k++)
            *dconv++ = tape->dconv[k * channels + i];
    }
}

/* ---- where things are ---------------------------------------------------- */

/* The layer of a window's state: the convolution's inputs, then S. */
static float *conv_state(const struct backward *b, float *state, int l)
{
    const struct model_config *c = config_of(b);
    return state + (size_t)l * (trainer_state_floats(c) / (size_t)c->n_layer);
}

static float *s_state(const struct backward *b, float *state, int l)
{
    const struct model_config *c = config_of(b);
    return conv_state(b, state, l) +
           (size_t)(c->d_conv - 1) * (size_t)conv_channels(c);
}

/* The states before a chunk of a window. */
static float *states_at(const struct backward *b, int l, int w, int chunk)
{
    const struct mamba2 *m = b->mamba2;
    size_t at = (size_t)w * (size_t)m->n_chunks + (size_t)chunk;
    return m->tapes[l].states + at * state_floats(config_of(b));
}

static int first_place(const struct backward *b, int w, int chunk)
{
    return (w * b->mamba2->n_chunks + chunk) * CHUNK;
}

static size_t first_row(const struct backward *b, int w, int chunk)
{
    return (size_t)w * (size_t)b->n_t + (size_t)chunk * CHUNK;
}

/* Bytes of a chunk. */
static int chunk_bytes(const struct backward *b, int chunk)
{
    int left = b->n_t - chunk * CHUNK;
    return left < CHUNK ? left : CHUNK;
}

/* A chunk as the engine's kernels take it; state is filled. */
static struct mamba2_job job_of(const struct backward *b, int l, int w,
                                int chunk, struct mamba2_state *state)
{
    const struct mamba2 *m = b->mamba2;
    *state = m->held[w * m->n_chunks + chunk];
    state->past = conv_state(b, state_after(b, w), l);
    state->s = s_state(b, state_after(b, w), l);
    return (struct mamba2_job){
        .config = config_of(b),
        .layer = &m->tapes[l].layer,
        .state = state,
        .rows = &m->rows,
        .row = first_place(b, w, chunk),
        .n_t = b->imitates ? CHUNK : chunk_bytes(b, chunk),
    };
}

/* ---- forward ------------------------------------------------------------- */

/* This thread's rows of in_proj's product, and its windows' states. */
static void begin(struct backward *b, int thread, int l)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    struct share t = rows_of(b, thread);
    struct share windows = share_of(b, b->n_windows, thread);
    size_t d_in = (size_t)b->d_in;
    for (int row = t.begin; row < t.end; row++) {
        int w = row / b->n_t, i = row % b->n_t;
        size_t place = (size_t)(first_place(b, w, 0) + i);
        memcpy(m->rows.zx + place * m->rows.ld,
               b->tapes[l].in + (size_t)row * d_in, d_in * sizeof(float));
    }
    for (int w = windows.begin; w < windows.end; w++) {
        struct mamba2_state state;
        job_of(b, l, w, 0, &state);
        memcpy(state.past, conv_state(b, state_before(b, w), l),
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
        size_t row = first_row(b, w, 0) + (size_t)t;
        if (t < b->n_t)
            memcpy(m->tapes[l].xbc + row * channels + first, u, n_bytes);
        else
            memset(u, 0, n_bytes);
    }
}

/* Places past the end of a window. */
static void still(struct backward *b, const struct mamba2_job *job, int head,
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
        still(b, &job, i, chunk_bytes(b, k));
    }
}

/* v of a head, and the states that it came from. */
static void recur(struct backward *b, int l, int w, int head)
{
    const struct model_config *c = config_of(b);
    const struct mixer_tape *tape = &b->mamba2->tapes[l];
    size_t n = (size_t)c->headdim * (size_t)c->d_state;
    size_t first = (size_t)head * (size_t)c->headdim;
    for (int k = 0; k < b->mamba2->n_chunks; k++) {
        struct mamba2_state state;
        struct mamba2_job job = job_of(b, l, w, k, &state);
        memcpy(states_at(b, l, w, k) + (size_t)head * n,
               state.s + (size_t)head * n, n * sizeof(float));
        if (b->imitates)
            b->int8->mamba2->heads(&job, head, head + 1);
        else
            b->int8->mamba2->float_heads(&job, head, head + 1);
        for (int t = 0; t < chunk_bytes(b, k); t++) {
            size_t row = first_row(b, w, k) + (size_t)t;
            memcpy(tape->v + row * (size_t)c->d_inner + first,
                   mamba2_x(&job, t) + first,
                   sizeof(float) * (size_t)c->headdim);
        }
    }
}

static void forward(struct backward *b, int thread, int l)
{
    const struct model_config *c = config_of(b);
    int n_in = c->n_heads + c->n_groups;
    struct share in = share_of(b, b->n_windows * n_in, thread);
    struct share heads = share_of(b, b->n_windows * c->n_heads, thread);
    begin(b, thread, l);
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
    struct mamba2_rows rows =
        rows_from(b, first_place(b, w, 0), (int)first_row(b, w, 0));
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

static void output(struct backward *b, int thread, int l,
                   struct activations next)
{
    const struct linear *out_proj = &b->tapes[l].out_proj;
    struct activations y = {b->tapes[l].y, (size_t)config_of(b)->d_inner};
    struct share t = rows_of(b, thread);
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

/* ---- backward ------------------------------------------------------------ */

static struct gate_pass gate_of(struct backward *b, int l)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    return (struct gate_pass){
        .v = m->tapes[l].v,
        .weight = weight_at(b, l, P_GATE_NORM),
        .epsilon = c->norm_epsilon,
        .d = c->d_inner,
        .n_groups = c->n_groups,
        .r = m->r,
        .dy = b->dy,
        .dv = m->dv,
        .dweight = gradient_at(b, l, P_GATE_NORM),
    };
}

static struct chunk_pass chunk_of(struct backward *b, int thread, int l, int w,
                                  int head, int k)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    const struct mixer_tape *tape = &m->tapes[l];
    size_t row = first_row(b, w, k), heads = (size_t)c->n_heads;
    size_t d_in = (size_t)b->d_in, channels = (size_t)conv_channels(c);
    size_t d_inner = (size_t)c->d_inner, n = (size_t)c->d_state;
    size_t first = (size_t)head * (size_t)c->headdim;
    size_t group = (size_t)(head / (c->n_heads / c->n_groups));
    const float *xbc = tape->xbc + row * channels;
    const float *in = b->tapes[l].in + row * d_in;
    float *din = b->din + row * d_in;
    float *dbc = m->dbc + (row * heads + (size_t)head) * 2 * n;
    float *dscalars = m->dscalars + ((size_t)w * heads + (size_t)head) * 3;
    size_t b_at = d_inner + group * n, dt_at = d_inner + channels;
    return (struct chunk_pass){
        .n_t = chunk_bytes(b, k),
        .headdim = c->headdim,
        .d_state = c->d_state,
        .imitates = b->imitates,
        .x = xbc + first,
        .b = xbc + b_at,
        .c = xbc + b_at + (size_t)c->n_groups * n,
        .ld_xbc = channels,
        .z = in + first,
        .dt = in + dt_at + head,
        .ld_in = d_in,
        .s = states_at(b, l, w, k) + first * n,
        .a_log2e = tape->a_log2e[head],
        .dt_bias = weight_at(b, l, P_DT_BIAS)[head],
        .d = weight_at(b, l, P_D)[head],
        .delta_min = c->delta_min,
        .delta_max = c->delta_max,
        .dv = m->dv + row * d_inner + first,
        .ld_dv = d_inner,
        .ds = m->ds + (size_t)thread * (size_t)c->headdim * n,
        .dx = m->dxbc + row * channels + first,
        .dz = din + first,
        .ddt = din + dt_at + head,
        .db = dbc,
        .dc = dbc + n,
        .ld_dbc = heads * 2 * n,
        .ddt_bias = dscalars,
        .da_log = dscalars + 1,
        .dd = dscalars + 2,
        .room = m->room +
                (size_t)thread * chunk_room_floats(c->headdim, c->d_state),
    };
}

/* A head of a window, from its last chunk to its first. */
static void head_backward(struct backward *b, int thread, int l, int w,
                          int head)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    size_t n = (size_t)c->headdim * (size_t)c->d_state;
    size_t at = ((size_t)w * (size_t)c->n_heads + (size_t)head) * 3;
    memset(m->ds + (size_t)thread * n, 0, n * sizeof(float));
    memset(m->dscalars + at, 0, 3 * sizeof(float));
    for (int k = m->n_chunks - 1; k >= 0; k--) {
        struct chunk_pass job = chunk_of(b, thread, l, w, head, k);
        b->kernels->chunk_backward(&job);
    }
}

/* dB and dC of this thread's rows: the sums over the heads of each group. */
static void sum_heads(struct backward *b, int thread)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    struct share t = rows_of(b, thread);
    int n = c->d_state, a_group = c->n_heads / c->n_groups;
    for (int row = t.begin; row < t.end; row++) {
        float *db =
            m->dxbc + (size_t)row * (size_t)conv_channels(c) + c->d_inner;
        float *dc = db + c->n_groups * n;
        const float *from = m->dbc + (size_t)row * (size_t)(2 * c->n_heads * n);
        memset(db, 0, sizeof(float) * (size_t)(2 * c->n_groups * n));
        for (int h = 0; h < c->n_heads; h++, from += 2 * n) {
            int at = h / a_group * n;
            for (int i = 0; i < n; i++) {
                db[at + i] += from[i];
                dc[at + i] += from[n + i];
            }
        }
    }
}

/* dt_bias, A_log and D get the sums over the windows. */
static void sum_windows(struct backward *b, int l)
{
    static const enum place places[] = {P_DT_BIAS, P_A_LOG, P_D};
    int n_heads = config_of(b)->n_heads;
    const float *from = b->mamba2->dscalars;
    for (int w = 0; w < b->n_windows; w++) {
        for (int h = 0; h < n_heads; h++) {
            for (int i = 0; i < 3; i++)
                gradient_at(b, l, places[i])[h] += *from++;
        }
    }
}

static void convolve_backward(struct backward *b, int thread, int l)
{
    const struct model_config *c = config_of(b);
    const struct mamba2 *m = b->mamba2;
    const struct mixer_tape *tape = &m->tapes[l];
    size_t channels = (size_t)conv_channels(c), d_in = (size_t)b->d_in;
    struct share mine = share_of(b, blocks_of((int)channels), thread);
    for (int block = mine.begin; block < mine.end; block++) {
        for (int w = 0; w < b->n_windows; w++) {
            size_t row = first_row(b, w, 0);
            struct conv_pass job = {
                .in = b->tapes[l].in + row * d_in + c->d_inner,
                .ld_in = d_in,
                .history = conv_state(b, state_before(b, w), l),
                .conv = tape->conv,
                .bias = weight_at(b, l, P_CONV_BIAS),
                .n_t = b->n_t,
                .d_inner = (int)channels,
                .d_conv = c->d_conv,
                .du = m->dxbc + row * channels,
                .din = b->din + row * d_in + c->d_inner,
                .dconv = tape->dconv,
                .dbias = gradient_at(b, l, P_CONV_BIAS),
                .da = m->da + (size_t)thread * (size_t)b->n_t * LANES,
            };
            b->kernels->conv_backward(&job, block);
        }
    }
}

static void backward(struct backward *b, int thread, int l)
{
    const struct model_config *c = config_of(b);
    struct share t = rows_of(b, thread);
    struct share heads = share_of(b, b->n_windows * c->n_heads, thread);
    struct share columns = share_of(b, c->d_inner, thread);
    struct gate_pass gate = gate_of(b, l);

    b->kernels->gate_backward(&gate, t.begin, t.end);
    meet(b);
    b->kernels->gate_backward_weight(&gate, b->n_rows, columns.begin,
                                     columns.end);
    for (int i = heads.begin; i < heads.end; i++)
        head_backward(b, thread, l, i / c->n_heads, i % c->n_heads);
    meet(b);
    sum_heads(b, thread);
    if (thread == 0)
        sum_windows(b, l);
    meet(b);
    convolve_backward(b, thread, l);
    meet(b);
}

const struct mixer_pass mamba2_pass = {
    .open = open_mixers,
    .close = close_mixers,
    .lay_out = lay_out,
    .prepare = prepare,
    .prepare_rest = prepare_rest,
    .forward = forward,
    .output = output,
    .backward = backward,
    .finish = finish,
};
