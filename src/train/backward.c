/* backward.c -- the gradient of the loss by every weight, on the CPU.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/backward.h"

#include <stdlib.h>
#include <string.h>

#include "train/backward_pass.h"
#include "train/mamba1.h"
#include "train/mamba2.h"

/* ---- the weights, made ready -------------------------------------------- */

static void clear_gradient(struct backward *b, int thread)
{
    size_t n = b->parameters->n_floats;
    size_t team = (size_t)threads_count(b->team), i = (size_t)thread;
    size_t begin = n * i / team, end = n * (i + 1) / team;
    memset(b->gradient + begin, 0, (end - begin) * sizeof(float));
}

static void prepare(struct backward *b, int thread)
{
    int n_layer = config_of(b)->n_layer;
    clear_gradient(b, thread);
    for (int l = 0; l < n_layer; l++) {
        linear_prepare(b, thread, &b->tapes[l].in_proj);
        b->mixer->prepare(b, thread, l);
        linear_prepare(b, thread, &b->tapes[l].out_proj);
    }
    linear_prepare(b, thread, &b->lm_head);
    meet(b);
    for (int l = thread; l < n_layer; l += threads_count(b->team)) {
        linear_pack(b, &b->tapes[l].in_proj);
        b->mixer->prepare_rest(b, l);
        linear_pack(b, &b->tapes[l].out_proj);
    }
    if (thread == 0)
        linear_pack(b, &b->lm_head);
    meet(b);
}

/* ---- layers ------------------------------------------------------------- */

/* h + out_proj mixer(in_proj norm(h)) */
static void run_layer(struct backward *b, int thread, int l)
{
    struct tape *tape = &b->tapes[l];
    size_t d_model = (size_t)config_of(b)->d_model;
    struct activations x = {b->x, d_model};
    struct activations in = {tape->in, (size_t)b->d_in};
    struct activations next = {b->tapes[l + 1].h, d_model};
    struct range t = rows_of(b, thread);
    size_t begin = (size_t)t.begin * d_model, end = (size_t)t.end * d_model;

    norm_forward(b, thread, l);
    linear_forward(b, thread, in, &tape->in_proj, x, false);
    meet(b);
    b->mixer->forward(b, thread, l);
    meet(b);
    memcpy(next.x + begin, tape->h + begin, (end - begin) * sizeof(float));
    b->mixer->output(b, thread, l, next);
}

static void run_layer_backward(struct backward *b, int thread, int l)
{
    struct tape *tape = &b->tapes[l];
    size_t d_model = (size_t)config_of(b)->d_model;
    size_t d_inner = (size_t)config_of(b)->d_inner;
    struct activations x = {b->x, d_model}, dx = {b->dx, d_model};
    struct activations dh = {b->dh, d_model}, y = {tape->y, d_inner};
    struct activations dy = {b->dy, d_inner}, din = {b->din, (size_t)b->d_in};

    linear_backward(b, thread, &tape->out_proj, dy, dh, y, false);
    b->mixer->backward(b, thread, l);
    norm_forward(b, thread, l);
    linear_backward(b, thread, &tape->in_proj, dx, din, x, false);
    norm_backward(b, thread, l);
}

static void run(void *context, int thread)
{
    struct backward *b = context;
    int n_layer = config_of(b)->n_layer;
    prepare(b, thread);
    embed(b, thread);
    for (int l = 0; l < n_layer; l++)
        run_layer(b, thread, l);
    predict(b, thread);
    for (int l = n_layer - 1; l >= 0; l--)
        run_layer_backward(b, thread, l);
    meet(b);
    embed_backward(b, thread);
    for (int l = thread; l < n_layer; l += threads_count(b->team))
        b->mixer->finish(b, l);
}

/* ---- a step ------------------------------------------------------------- */

static void begin_states(struct backward *b)
{
    size_t n = trainer_state_floats(config_of(b));
    for (int w = 0; w < b->n_windows; w++) {
        if (b->windows->begins[w])
            memset(state_before(b, w), 0, n * sizeof(float));
    }
}

double backward_run(struct backward *backward, float *gradient,
                    const float *weights, const struct windows *windows)
{
    struct backward *b = backward;
    b->gradient = gradient;
    b->weights = weights;
    b->windows = windows;
    begin_states(b);
    threads_run(b->team, run, b);
    float *states = b->states;
    b->states = b->after;
    b->after = states;

    double loss = 0;
    for (int row = 0; row < b->n_rows; row++)
        loss += (double)b->loss[row];
    return loss / b->n_rows;
}

float *backward_states(struct backward *backward)
{
    return backward->states;
}

size_t backward_bytes(const struct backward *backward)
{
    return backward->n_bytes;
}

/* ---- memory ------------------------------------------------------------- */

static void lay_out_tape(struct backward *b, struct carver *carver, int l)
{
    const struct model_config *c = config_of(b);
    const struct parameters *p = b->parameters;
    struct tape *tape = &b->tapes[l];
    size_t n = (size_t)b->n_rows;
    linear_lay_out(b, carver, &tape->in_proj, parameters_at(p, l, P_IN_PROJ));
    linear_lay_out(b, carver, &tape->out_proj, parameters_at(p, l, P_OUT_PROJ));
    tape->h = carve_floats(carver, n, (size_t)c->d_model);
    tape->in = carve_floats(carver, n, (size_t)b->d_in);
    tape->y = carve_floats(carver, n, (size_t)c->d_inner);
}

static void lay_out_forward(struct backward *b, struct carver *carver)
{
    const struct model_config *c = config_of(b);
    size_t n = (size_t)b->n_rows, n_windows = (size_t)b->n_windows;
    int widest = c->d_inner > c->d_model ? c->d_inner : c->d_model;
    widest = widest > c->dt_rank ? widest : c->dt_rank;
    b->q_ld = cpu_padded(widest);
    b->states = carve_floats(carver, n_windows, trainer_state_floats(c));
    b->after = carve_floats(carver, n_windows, trainer_state_floats(c));
    b->x = carve_floats(carver, n, (size_t)c->d_model);
    b->mean = carve_floats(carver, n, 1);
    b->r = carve_floats(carver, n, 1);
    b->logits = carve_floats(carver, n, N_BYTES_VOCAB);
    b->loss = carve_floats(carver, n, 1);
    if (!b->imitates)
        return;
    b->q = carve(carver, n * (size_t)b->q_ld, 1);
    b->q_scale = carve_floats(carver, n, 1);
    b->q_sum = carve(carver, n, sizeof(int32_t));
    b->seen = carve_floats(carver, n, (size_t)widest);
}

static void lay_out_backward(struct backward *b, struct carver *carver)
{
    const struct model_config *c = config_of(b);
    size_t n = (size_t)b->n_rows;
    b->dh = carve_floats(carver, n, (size_t)c->d_model);
    b->dx = carve_floats(carver, n, (size_t)c->d_model);
    b->dy = carve_floats(carver, n, (size_t)c->d_inner);
    b->din = carve_floats(carver, n, (size_t)b->d_in);
}

/* Without a base it only counts.  Returns the bytes. */
static size_t lay_out(struct backward *b, void *base)
{
    struct carver carver = {.base = base};
    const struct model_config *c = config_of(b);
    for (int l = 0; l < c->n_layer; l++)
        lay_out_tape(b, &carver, l);
    b->tapes[c->n_layer].h =
        carve_floats(&carver, (size_t)b->n_rows, (size_t)c->d_model);
    b->mixer->lay_out(b, &carver);
    linear_lay_out(b, &carver, &b->lm_head, parameters_lm_head(b->parameters));
    lay_out_forward(b, &carver);
    lay_out_backward(b, &carver);
    return carver.n_bytes;
}

static enum status allocate(struct backward *b)
{
    size_t n_tapes = (size_t)config_of(b)->n_layer + 1;
    b->tapes = calloc(n_tapes, sizeof *b->tapes);
    if (!b->tapes || !b->mixer->open(b))
        return fail_memory("training");
    b->n_bytes = lay_out(b, NULL);
    b->arena = aligned_alloc(CARVER_ALIGNMENT, b->n_bytes);
    if (!b->arena)
        return fail(E_MEMORY,
                    "out of memory for training: %zu MB are needed; fewer or "
                    "shorter windows need less",
                    b->n_bytes >> 20);
    memset(b->arena, 0, b->n_bytes);
    lay_out(b, b->arena);
    return OK;
}

enum status backward_open(struct backward **backward,
                          const struct parameters *parameters,
                          const struct backward_options *options,
                          struct threads *team)
{
    *backward = NULL;
    struct backward *b = calloc(1, sizeof *b);
    if (!b)
        return fail_memory("training");
    b->parameters = parameters;
    b->kernels = options->kernels ? options->kernels : train_kernels_find();
    b->int8 = cpu_kernels_find(NULL);
    b->team = team;
    b->n_windows = options->n_windows;
    b->n_t = options->n_t;
    b->n_rows = options->n_windows * options->n_t;
    b->d_in = parameters_at(parameters, 0, P_IN_PROJ)->shape[0];
    b->imitates = options->imitates_int8;
    b->mixer =
        parameters->config.mixer == MIXER_MAMBA2 ? &mamba2_pass : &mamba1_pass;
    enum status status = allocate(b);
    if (status != OK) {
        backward_close(b);
        return status;
    }
    *backward = b;
    return OK;
}

void backward_close(struct backward *backward)
{
    if (!backward)
        return;
    free(backward->arena);
    free(backward->tapes);
    backward->mixer->close(backward);
    free(backward);
}
