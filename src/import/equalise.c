/* equalise.c -- makes weights fit for int8, by what they multiply.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/equalise.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "base/message.h"
#include "engine/engine.h"
#include "engine/probe.h"
#include "import/outliers.h"

enum {
    SAMPLE_BYTES = 4096, /* read for the inputs */
    ROWS_MAX = 64,       /* inputs that are kept of each projection */
    N_PLACES_SEEN = LM_HEAD + 1
};

/* The largest deviation of log(delta), from what is wanted, in a channel that
 * fits. */
#define MISFIT_MAX 1.0f

struct equaliser {
    const struct model_config *config;
    const struct parameters *parameters;
    float *weights;
    struct projection_inputs *inputs; /* [n_layer + 1][N_PLACES_SEEN] */
    bool lacks_memory;                /* for an input */
    struct outliers outliers;
    struct equalised *done;
};

/* ---- inputs ------------------------------------------------------------- */

static struct projection_inputs *inputs_at(const struct equaliser *e, int layer,
                                           enum projection_place place)
{
    return &e->inputs[layer * N_PLACES_SEEN + (int)place];
}

static void see(void *arg, int layer, enum projection_place place,
                const float *x, int n)
{
    struct equaliser *e = arg;
    struct projection_inputs *in = inputs_at(e, layer, place);
    size_t row = (size_t)n;
    if (!in->x)
        in->x = malloc(ROWS_MAX * row * sizeof *in->x);
    in->n = n;
    e->lacks_memory = e->lacks_memory || !in->x;
    if (in->x && in->n_rows < ROWS_MAX)
        memcpy(in->x + row * (size_t)in->n_rows++, x, row * sizeof *x);
}

static enum status collect(struct equaliser *e, const struct model *model,
                           const struct sample *sample)
{
    struct probe probe = {see, e};
    struct engine_options options = {
        .device = DEVICE_CPU, .n_threads = 1, .probe = &probe};
    struct sample start = *sample;
    struct tally tally;
    if (start.n > SAMPLE_BYTES)
        start.n = SAMPLE_BYTES;
    TRY(measure_with(&tally, model, &start, &options, "inputs"));
    return e->lacks_memory ? fail_memory("the inputs of projections") : OK;
}

/* ---- folding ------------------------------------------------------------ */

static float *tensor(const struct equaliser *e, int l, enum place place)
{
    return e->weights + parameters_at(e->parameters, l, place)->offset;
}

/* Column i of the projection times 2^exponent. */
static void scale_columns(struct outliers *o)
{
    for (int r = 0; r < o->rows; r++) {
        for (int i = 0; i < o->in->n; i++)
            o->w[(size_t)r * (size_t)o->in->n + (size_t)i] *=
                outliers_divisor(o, i);
    }
}

/* x: [in->n][n_each], a row for each channel. */
static void divide(const struct outliers *o, float *x, size_t n_each)
{
    for (int i = 0; i < o->in->n; i++) {
        for (size_t k = 0; k < n_each; k++)
            x[(size_t)i * n_each + k] /= outliers_divisor(o, i);
    }
}

/* Finds the change of the bias of channel i that divides delta by g, on the
 * mean over the sample; returns by how much single values miss that. */
static float fit_delta(const struct equaliser *e, int l, int i, float g,
                       float *change)
{
    const struct projection_inputs *in = inputs_at(e, l, DT_PROJ);
    const float *w = tensor(e, l, P_DT_PROJ) + (size_t)i * (size_t)in->n;
    float bias = tensor(e, l, P_DT_BIAS)[i], log_g = exact_log2(g);
    double sum = 0, squares = 0;
    for (int t = 0; t < in->n_rows; t++) {
        const float *dt = in->x + (size_t)t * (size_t)in->n;
        float v = bias;
        for (int k = 0; k < in->n; k++)
            v = fmaf(w[k], dt[k], v);
        /* softplus(v') is delta = softplus(v) / g at v' = log(e^delta - 1). */
        float delta = exact_softplus(v) / g;
        float root = delta < 1e-3f ? delta : exact_exp(delta) - 1.0f;
        double d = delta > 1e-30f ? (double)(exact_log2(root) / EXACT_LOG2E - v)
                                  : (double)(-log_g / EXACT_LOG2E);
        sum += d;
        squares += d * d;
    }
    double mean = sum / in->n_rows;
    *change = (float)mean;
    return sqrtf((float)fmax(squares / in->n_rows - mean * mean, 0.0));
}

/* Leaves out the channels whose delta does not fit. */
static int fold_into_scan(const struct equaliser *e, struct outliers *o, int l)
{
    int d_state = e->config->d_state, n = 0;
    float *a_log = tensor(e, l, P_A_LOG), *bias = tensor(e, l, P_DT_BIAS);
    for (int i = 0; i < o->in->n; i++) {
        float g = outliers_divisor(o, i), change = 0;
        if (g == 1 || fit_delta(e, l, i, g, &change) > MISFIT_MAX) {
            o->exponent[i] = 0;
            continue;
        }
        bias[i] += change;
        for (int s = 0; s < d_state; s++)
            a_log[i * d_state + s] += exact_log2(g) / EXACT_LOG2E;
        n++;
    }
    divide(o, tensor(e, l, P_D), 1);
    return n;
}

/* Divides what makes the channels, and multiplies the projection's columns.
 * Returns the number of channels that were changed. */
static int fold(const struct equaliser *e, struct outliers *o, int l,
                enum projection_place place)
{
    const struct model_config *config = e->config;
    int n = 0;
    for (int i = 0; i < o->in->n; i++)
        n += o->exponent[i] > 0;
    if (place == IN_PROJ) {
        divide(o, tensor(e, l, P_NORM), 1);
        if (config->has_norm_bias)
            divide(o, tensor(e, l, P_NORM_BIAS), 1);
    } else if (place == DT_PROJ) {
        divide(o, tensor(e, l, P_X_PROJ), (size_t)config->d_inner);
    } else if (place == OUT_PROJ && config->mixer == MIXER_MAMBA2) {
        divide(o, tensor(e, l, P_GATE_NORM), 1);
    } else if (place == OUT_PROJ) {
        n = fold_into_scan(e, o, l);
    } else {
        divide(o, e->weights + parameters_norm_f(e->parameters)->offset, 1);
        if (config->has_norm_bias)
            divide(o,
                   e->weights + parameters_norm_f_bias(e->parameters)->offset,
                   1);
    }
    scale_columns(o);
    return n;
}

static void equalise_projection(struct equaliser *e, int l,
                                enum projection_place place)
{
    static const enum place places[] = {
        [IN_PROJ] = P_IN_PROJ, [DT_PROJ] = P_DT_PROJ, [OUT_PROJ] = P_OUT_PROJ};
    const struct parameter *p =
        place == LM_HEAD ? parameters_lm_head(e->parameters)
                         : parameters_at(e->parameters, l, places[place]);
    struct outliers *o = &e->outliers;
    o->in = inputs_at(e, l, place);
    o->w = e->weights + p->offset;
    o->rows = p->shape[0];
    int n = outliers_choose(o) > 0 ? fold(e, o, l, place) : 0;
    e->done->n_projections += n > 0;
    e->done->n_channels += n;
}

/* dt_proj comes last: out_proj looks at its inputs as they were seen. */
static void equalise_all(struct equaliser *e)
{
    int n_layer = e->config->n_layer;
    for (int l = 0; l < n_layer; l++) {
        message_status("equalising layer %d of %d", l + 1, n_layer);
        equalise_projection(e, l, IN_PROJ);
        equalise_projection(e, l, OUT_PROJ);
        if (e->config->mixer == MIXER_MAMBA1)
            equalise_projection(e, l, DT_PROJ);
    }
    if (!e->config->is_tied)
        equalise_projection(e, n_layer, LM_HEAD);
    message_progress_end();
}

/* ---- the whole ---------------------------------------------------------- */

static size_t n_inputs(const struct equaliser *e)
{
    return (size_t)(e->config->n_layer + 1) * N_PLACES_SEEN;
}

static enum status open_equaliser(struct equaliser *e)
{
    size_t widest = (size_t)e->config->d_inner + (size_t)e->config->d_model +
                    (size_t)e->config->dt_rank;
    e->inputs = calloc(n_inputs(e), sizeof *e->inputs);
    if (!e->inputs)
        return fail_memory("the inputs of projections");
    return outliers_open(&e->outliers, widest);
}

static void close_equaliser(struct equaliser *e)
{
    for (size_t i = 0; e->inputs && i < n_inputs(e); i++)
        free(e->inputs[i].x);
    free(e->inputs);
    outliers_close(&e->outliers);
}

enum status equalise(struct equalised *equalised, const struct model *model,
                     const struct sample *sample,
                     const struct parameters *parameters, float *weights)
{
    struct equaliser e = {.config = &model->config,
                          .parameters = parameters,
                          .weights = weights,
                          .done = equalised};
    *equalised = (struct equalised){0};
    enum status status = open_equaliser(&e);
    if (status == OK)
        status = collect(&e, model, sample);
    if (status == OK)
        equalise_all(&e);
    close_equaliser(&e);
    return status;
}
