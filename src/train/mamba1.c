/* mamba1.c -- the mixer of Mamba-1 in the backward pass.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/mamba1.h"

#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "engine/engine.h"
#include "engine/state_image.h"

/* What the forward pass keeps of the mixer of a layer. */
struct mixer_tape {
    struct linear x_proj, dt_proj;
    float *conv, *dconv;       /* [d_conv][d_inner] */
    float *a_log2e, *da_log2e; /* [d_state][d_inner] */
    float *u;                  /* [t][d_inner], after the convolution */
    float *dtbc;               /* [t][dt_rank + 2 d_state] */
    float *v;                  /* [t][d_inner], dt_proj dt */
};

/* Room of one thread for the states of a block. */
struct state_room {
    float *states; /* [n_t + 1][d_state][LANES] */
    float *decays; /* [n_t][d_state][LANES] */
    float *da;     /* [n_t][LANES] */
};

struct mamba1 {
    struct mixer_tape *tapes; /* [n_layer] */
    struct state_room *rooms; /* [threads] */
    float *du, *dv;           /* [t][d_inner] */
    float *ddtbc;             /* [t][dt_rank + 2 d_state] */
    float *dbc;               /* [t][blocks][2 d_state] */
};

static size_t ld_dtbc(const struct backward *b)
{
    const struct model_config *c = config_of(b);
    return (size_t)(c->dt_rank + 2 * c->d_state);
}

/* ---- memory ------------------------------------------------------------- */

static bool open_mixers(struct backward *b)
{
    struct mamba1 *m = b->mamba1 = calloc(1, sizeof *m);
    if (!m)
        return false;
    m->tapes = calloc((size_t)config_of(b)->n_layer, sizeof *m->tapes);
    m->rooms = calloc((size_t)threads_count(b->team), sizeof *m->rooms);
    return m->tapes && m->rooms;
}

static void close_mixers(struct backward *b)
{
    if (!b->mamba1)
        return;
    free(b->mamba1->tapes);
    free(b->mamba1->rooms);
    free(b->mamba1);
}

static void lay_out_tape(struct backward *b, struct carver *carver, int l)
{
    const struct model_config *c = config_of(b);
    const struct parameters *p = b->parameters;
    struct mixer_tape *tape = &b->mamba1->tapes[l];
    size_t n = (size_t)b->n_rows, d_inner = (size_t)c->d_inner;
    size_t d_conv = (size_t)c->d_conv, d_state = (size_t)c->d_state;
    linear_lay_out(b, carver, &tape->x_proj, parameters_at(p, l, P_X_PROJ));
    linear_lay_out(b, carver, &tape->dt_proj, parameters_at(p, l, P_DT_PROJ));
    tape->conv = carve_floats(carver, d_conv, d_inner);
    tape->dconv = carve_floats(carver, d_conv, d_inner);
    tape->a_log2e = carve_floats(carver, d_state, d_inner);
    tape->da_log2e = carve_floats(carver, d_state, d_inner);
    tape->u = carve_floats(carver, n, d_inner);
    tape->dtbc = carve_floats(carver, n, ld_dtbc(b));
    tape->v = carve_floats(carver, n, d_inner);
}

static void lay_out_room(struct backward *b, struct carver *carver, int i)
{
    size_t d_state = (size_t)config_of(b)->d_state, n_t = (size_t)b->n_t;
    struct state_room *room = &b->mamba1->rooms[i];
    room->states = carve_floats(carver, (n_t + 1) * d_state, LANES);
    room->decays = carve_floats(carver, n_t * d_state, LANES);
    room->da = carve_floats(carver, n_t, LANES);
}

static void lay_out(struct backward *b, struct carver *carver)
{
    const struct model_config *c = config_of(b);
    struct mamba1 *m = b->mamba1;
    size_t n = (size_t)b->n_rows, d_inner = (size_t)c->d_inner;
    size_t n_blocks = (size_t)blocks_of(c->d_inner);
    for (int l = 0; l < c->n_layer; l++)
        lay_out_tape(b, carver, l);
    for (int i = 0; i < threads_count(b->team); i++)
        lay_out_room(b, carver, i);
    m->du = carve_floats(carver, n, d_inner);
    m->dv = carve_floats(carver, n, d_inner);
    m->ddtbc = carve_floats(carver, n, ld_dtbc(b));
    m->dbc = carve_floats(carver, n, n_blocks * 2 * (size_t)c->d_state);
}

/* ---- weights, made ready ------------------------------------------------ */

static void prepare(struct backward *b, int thread, int l)
{
    struct mixer_tape *tape = &b->mamba1->tapes[l];
    linear_prepare(b, thread, &tape->x_proj);
    linear_prepare(b, thread, &tape->dt_proj);
}

/* As model/layer.c has them: A log2(e) = -exp(A_log) log2(e). */
static void prepare_rest(struct backward *b, int l)
{
    const struct model_config *c = config_of(b);
    struct mixer_tape *tape = &b->mamba1->tapes[l];
    size_t n_taps = (size_t)c->d_conv * (size_t)c->d_inner;
    size_t n_states = (size_t)c->d_state * (size_t)c->d_inner;
    transpose(tape->conv, weight_at(b, l, P_CONV), c->d_inner, c->d_conv);
    transpose(tape->a_log2e, weight_at(b, l, P_A_LOG), c->d_inner, c->d_state);
    for (size_t i = 0; i < n_states; i++)
        tape->a_log2e[i] = -exact_exp(tape->a_log2e[i]) * EXACT_LOG2E;
    memset(tape->dconv, 0, n_taps * sizeof(float));
    memset(tape->da_log2e, 0, n_states * sizeof(float));
    linear_pack(b, &tape->x_proj);
    linear_pack(b, &tape->dt_proj);
}

/* A_log from A log2(e) = -exp(A_log) log2(e), whose derivative is itself. */
static void finish(struct backward *b, int l)
{
    const struct model_config *c = config_of(b);
    const struct mixer_tape *tape = &b->mamba1->tapes[l];
    float *da_log = gradient_at(b, l, P_A_LOG);
    size_t d_inner = (size_t)c->d_inner;
    transpose(gradient_at(b, l, P_CONV), tape->dconv, c->d_conv, c->d_inner);
    for (size_t i = 0; i < d_inner; i++) {
        for (size_t s = 0; s < (size_t)c->d_state; s++)
            *da_log++ = tape->da_log2e[s * d_inner + i] *
                        tape->a_log2e[s * d_inner + i];
    }
}

/* ---- passes over windows and channels ----------------------------------- */

static struct conv_pass conv_of(struct backward *b, int l, int w, int thread)
{
    const struct model_config *c = config_of(b);
    const struct mixer_tape *tape = &b->mamba1->tapes[l];
    size_t d_inner = (size_t)c->d_inner;
    size_t row = (size_t)w * (size_t)b->n_t;
    return (struct conv_pass){
        .in = b->tapes[l].in + row * 2 * d_inner,
        .ld_in = 2 * d_inner,
        .u = tape->u + row * d_inner,
        .history = state_conv(c, state_before(b, w), l),
        .history_after = state_conv(c, state_after(b, w), l),
        .conv = tape->conv,
        .bias = weight_at(b, l, P_CONV_BIAS),
        .n_t = b->n_t,
        .d_inner = c->d_inner,
        .d_conv = c->d_conv,
        .du = b->mamba1->du + row * d_inner,
        .din = b->din + row * 2 * d_inner,
        .dconv = tape->dconv,
        .dbias = gradient_at(b, l, P_CONV_BIAS),
        .da = b->mamba1->rooms[thread].da,
    };
}

static struct scan_pass scan_of(struct backward *b, int l, int w, int thread)
{
    const struct model_config *c = config_of(b);
    const struct mamba1 *m = b->mamba1;
    const struct mixer_tape *tape = &m->tapes[l];
    size_t d_inner = (size_t)c->d_inner;
    size_t row = (size_t)w * (size_t)b->n_t;
    const float *b_c = tape->dtbc + row * ld_dtbc(b) + c->dt_rank;
    size_t n_blocks = (size_t)blocks_of(c->d_inner);
    return (struct scan_pass){
        .v = tape->v + row * d_inner,
        .u = tape->u + row * d_inner,
        .z = b->tapes[l].in + row * 2 * d_inner + d_inner,
        .ld_z = 2 * d_inner,
        .b = b_c,
        .c = b_c + c->d_state,
        .ld_bc = ld_dtbc(b),
        .y = b->tapes[l].y + row * d_inner,
        .s = state_s(c, state_before(b, w), l),
        .s_after = state_s(c, state_after(b, w), l),
        .a_log2e = tape->a_log2e,
        .d = weight_at(b, l, P_D),
        .dt_bias = weight_at(b, l, P_DT_BIAS),
        .n_t = b->n_t,
        .d_inner = c->d_inner,
        .d_state = c->d_state,
        .dy = b->dy + row * d_inner,
        .du = m->du + row * d_inner,
        .dv = m->dv + row * d_inner,
        .dz = b->din + row * 2 * d_inner + d_inner,
        .dbc = m->dbc + row * n_blocks * 2 * (size_t)c->d_state,
        .da_log2e = tape->da_log2e,
        .dd = gradient_at(b, l, P_D),
        .ddt_bias = gradient_at(b, l, P_DT_BIAS),
        .states = m->rooms[thread].states,
        .decays = m->rooms[thread].decays,
    };
}

/* Forward: windows and blocks are independent of each other. */
static void convolve(struct backward *b, int thread, int l)
{
    int n_blocks = blocks_of(config_of(b)->d_inner);
    struct range mine = share_of(b, b->n_windows * n_blocks, thread);
    for (int i = mine.begin; i < mine.end; i++) {
        struct conv_pass job = conv_of(b, l, i / n_blocks, thread);
        b->kernels->conv(&job, i % n_blocks);
    }
}

static void scan(struct backward *b, int thread, int l)
{
    int n_blocks = blocks_of(config_of(b)->d_inner);
    struct range mine = share_of(b, b->n_windows * n_blocks, thread);
    for (int i = mine.begin; i < mine.end; i++) {
        struct scan_pass job = scan_of(b, l, i / n_blocks, thread);
        b->kernels->scan(&job, i % n_blocks);
    }
}

/* Backward: the windows of a block add to the same weights, in turn. */
static void convolve_backward(struct backward *b, int thread, int l)
{
    struct range mine = share_of(b, blocks_of(config_of(b)->d_inner), thread);
    for (int block = mine.begin; block < mine.end; block++) {
        for (int w = 0; w < b->n_windows; w++) {
            struct conv_pass job = conv_of(b, l, w, thread);
            b->kernels->conv_backward(&job, block);
        }
    }
}

static void scan_backward(struct backward *b, int thread, int l)
{
    struct range mine = share_of(b, blocks_of(config_of(b)->d_inner), thread);
    for (int block = mine.begin; block < mine.end; block++) {
        for (int w = 0; w < b->n_windows; w++) {
            struct scan_pass job = scan_of(b, l, w, thread);
            b->kernels->scan_backward(&job, block);
        }
    }
}

/* dB and dC of this thread's rows: the sum over blocks. */
static void sum_blocks(struct backward *b, int thread)
{
    const struct model_config *c = config_of(b);
    const struct mamba1 *m = b->mamba1;
    struct range t = rows_of(b, thread);
    int n_blocks = blocks_of(c->d_inner), n = 2 * c->d_state;
    for (int row = t.begin; row < t.end; row++) {
        float *to = m->ddtbc + (size_t)row * ld_dtbc(b) + c->dt_rank;
        const float *from = m->dbc + (size_t)row * (size_t)(n_blocks * n);
        memcpy(to, from, sizeof(float) * (size_t)n);
        for (int block = 1; block < n_blocks; block++) {
            from += n;
            for (int i = 0; i < n; i++)
                to[i] += from[i];
        }
    }
}

/* ---- a layer ------------------------------------------------------------ */

static void forward(struct backward *b, int thread, int l)
{
    struct mixer_tape *tape = &b->mamba1->tapes[l];
    size_t d_inner = (size_t)config_of(b)->d_inner;
    struct activations u = {tape->u, d_inner}, v = {tape->v, d_inner};
    struct activations dtbc = {tape->dtbc, ld_dtbc(b)};

    convolve(b, thread, l);
    meet(b);
    linear_forward(b, thread, dtbc, &tape->x_proj, u, false);
    linear_forward(b, thread, v, &tape->dt_proj, dtbc, false);
    meet(b);
    scan(b, thread, l);
}

static void output(struct backward *b, int thread, int l,
                   struct activations next)
{
    struct activations y = {b->tapes[l].y, (size_t)config_of(b)->d_inner};
    linear_forward(b, thread, next, &b->tapes[l].out_proj, y, true);
}

static void backward(struct backward *b, int thread, int l)
{
    struct mamba1 *m = b->mamba1;
    struct mixer_tape *tape = &m->tapes[l];
    size_t d_inner = (size_t)config_of(b)->d_inner;
    struct activations u = {tape->u, d_inner}, du = {m->du, d_inner};
    struct activations dv = {m->dv, d_inner};
    struct activations dtbc = {tape->dtbc, ld_dtbc(b)};
    struct activations ddtbc = {m->ddtbc, ld_dtbc(b)};

    scan_backward(b, thread, l);
    meet(b);
    sum_blocks(b, thread);
    linear_backward(b, thread, &tape->dt_proj, ddtbc, dv, dtbc, false);
    linear_backward(b, thread, &tape->x_proj, du, ddtbc, u, true);
    convolve_backward(b, thread, l);
    meet(b);
}

const struct mixer_pass mamba1_pass = {
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
