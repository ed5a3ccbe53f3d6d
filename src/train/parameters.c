/* parameters.c -- what is trained: every tensor of a model, in float32.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/parameters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "engine/sampler.h"

enum { OUTSIDE_LAYERS = 4, FULL_NAME_CHARS = 2 * PARAMETER_NAME_CHARS };

/* ---- the list ----------------------------------------------------------- */

/* A tensor of up to three dimensions; those that are 0 do not count. */
static struct parameter *add(struct parameters *p, const char *prefix,
                             const char *name, int rows, int cols, int depth)
{
    struct parameter *new = &p->list[p->n++];
    snprintf(new->name, sizeof new->name, "%s%s", prefix, name);
    new->n_dims = 1 + (cols > 0) + (depth > 0);
    new->shape[0] = rows;
    new->shape[1] = cols > 0 ? cols : 1;
    new->shape[2] = depth > 0 ? depth : 1;
    new->offset = p->n_floats;
    new->n = (size_t)rows *(size_t) new->shape[1] * (size_t) new->shape[2];
    p->n_floats += new->n;
    return new;
}

static void add_matrix(struct parameters *p, const char *prefix,
                       const char *name, int rows, int cols, int muon_parts)
{
    struct parameter *new = add(p, prefix, name, rows, cols, 0);
    new->is_matrix = true;
    new->decays = true;
    new->muon_parts = muon_parts;
}

/* In the order of enum place. */
static void add_layer(struct parameters *p, int l)
{
    const struct model_config *c = &p->config;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "backbone.layers.%d.", l);
    add(p, prefix, "norm.weight", c->d_model, 0, 0);
    add(p, prefix, "norm.bias", c->has_norm_bias ? c->d_model : 0, 0, 0);
    add_matrix(p, prefix, "mixer.in_proj.weight", 2 * c->d_inner, c->d_model,
               2);
    add(p, prefix, "mixer.conv1d.weight", c->d_inner, 1, c->d_conv);
    add(p, prefix, "mixer.conv1d.bias", c->d_inner, 0, 0);
    add_matrix(p, prefix, "mixer.x_proj.weight", c->dt_rank + 2 * c->d_state,
               c->d_inner, 0);
    add_matrix(p, prefix, "mixer.dt_proj.weight", c->d_inner, c->dt_rank, 0);
    add(p, prefix, "mixer.dt_proj.bias", c->d_inner, 0, 0);
    add(p, prefix, "mixer.A_log", c->d_inner, c->d_state, 0);
    add(p, prefix, "mixer.D", c->d_inner, 0, 0);
    add_matrix(p, prefix, "mixer.out_proj.weight", c->d_model, c->d_inner, 1);
}

enum status parameters_open(struct parameters *parameters,
                            const struct model_config *config)
{
    struct parameters *p = parameters;
    size_t n = (size_t)config->n_layer * N_PLACES + OUTSIDE_LAYERS;
    *p = (struct parameters){.config = *config};
    p->list = calloc(n, sizeof *p->list);
    if (!p->list)
        return fail_memory("the list of parameters");

    add(p, "backbone.", "embedding.weight", N_BYTES_VOCAB, config->d_model, 0)
        ->decays = true;
    for (int l = 0; l < config->n_layer; l++)
        add_layer(p, l);
    add(p, "backbone.", "norm_f.weight", config->d_model, 0, 0);
    add(p, "backbone.", "norm_f.bias",
        config->has_norm_bias ? config->d_model : 0, 0, 0);
    add_matrix(p, "", "lm_head.weight", config->is_tied ? 0 : N_BYTES_VOCAB,
               config->d_model, 0);
    return OK;
}

void parameters_close(struct parameters *parameters)
{
    free(parameters->list);
    *parameters = (struct parameters){.list = NULL};
}

const struct parameter *parameters_embedding(const struct parameters *p)
{
    return &p->list[0];
}

const struct parameter *parameters_norm_f(const struct parameters *p)
{
    return &p->list[p->n - 3];
}

const struct parameter *parameters_norm_f_bias(const struct parameters *p)
{
    return &p->list[p->n - 2];
}

const struct parameter *parameters_lm_head(const struct parameters *p)
{
    return p->config.is_tied ? &p->list[0] : &p->list[p->n - 1];
}

/* ---- a new model -------------------------------------------------------- */

/* A stream of random numbers. */
struct dice {
    uint64_t seed, n;
};

/* In [0, 1). */
static float uniform(struct dice *dice)
{
    return (float)(sampler_random(dice->seed, dice->n++) >> 40) * 0x1p-24f;
}

/* Nearly normal: twelve uniform numbers have a variance of 1. */
static float normal(struct dice *dice)
{
    float sum = -6.0f;
    for (int i = 0; i < 12; i++)
        sum += uniform(dice);
    return sum;
}

static float natural_log(float x)
{
    return exact_log2(x) / EXACT_LOG2E;
}

static void fill(float *x, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        x[i] = value;
}

static void fill_normal(float *x, size_t n, float deviation, struct dice *dice)
{
    for (size_t i = 0; i < n; i++)
        x[i] = normal(dice) * deviation;
}

/* Uniform in [-bound, bound). */
static void fill_uniform(float *x, size_t n, float bound, struct dice *dice)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (2.0f * uniform(dice) - 1.0f) * bound;
}

/* Steps softplus(bias) are spread evenly, in the logarithm, over 0.001 to
 * 0.1: bias = log(e^step - 1). */
static void fill_dt_bias(float *x, size_t n, struct dice *dice)
{
    const float low = -6.9077554f, range = 4.6051702f;
    for (size_t i = 0; i < n; i++) {
        float step = exact_exp(low + range * uniform(dice));
        x[i] = natural_log(exact_exp(step) - 1.0f);
    }
}

/* A = -1, -2, .. -d_state in each channel. */
static void fill_a_log(float *x, int d_inner, int d_state)
{
    for (int c = 0; c < d_inner; c++) {
        for (int s = 0; s < d_state; s++)
            *x++ = natural_log((float)(1 + s));
    }
}

static void init_layer(const struct parameters *p, float *weights, int l,
                       struct dice *dice)
{
    const struct model_config *c = &p->config;
    float d_inner = (float)c->d_inner;
    for (int place = 0; place < N_PLACES; place++) {
        const struct parameter *at = parameters_at(p, l, (enum place)place);
        float *x = weights + at->offset;
        switch ((enum place)place) {
        case P_NORM:
        case P_D:
            fill(x, at->n, 1.0f);
            break;
        case P_IN_PROJ:
            fill_normal(x, at->n, 1.0f / sqrtf((float)c->d_model), dice);
            break;
        case P_CONV:
            fill_uniform(x, at->n, 1.0f / sqrtf((float)c->d_conv), dice);
            break;
        case P_X_PROJ:
            fill_normal(x, at->n, 1.0f / sqrtf(d_inner), dice);
            break;
        case P_DT_PROJ:
            fill_uniform(x, at->n, 1.0f / sqrtf((float)c->dt_rank), dice);
            break;
        case P_DT_BIAS:
            fill_dt_bias(x, at->n, dice);
            break;
        case P_A_LOG:
            fill_a_log(x, c->d_inner, c->d_state);
            break;
        case P_OUT_PROJ:
            /* the sum of all layers stays near 1 */
            fill_normal(x, at->n,
                        1.0f / sqrtf(2.0f * d_inner * (float)c->n_layer), dice);
            break;
        default: /* the biases */
            fill(x, at->n, 0.0f);
            break;
        }
    }
}

void parameters_init(const struct parameters *parameters, float *weights,
                     uint64_t seed)
{
    const struct parameters *p = parameters;
    const struct parameter *embedding = parameters_embedding(p);
    const struct parameter *norm_f = parameters_norm_f(p);
    const struct parameter *bias = parameters_norm_f_bias(p);
    struct dice dice = {.seed = seed};
    fill_normal(weights + embedding->offset, embedding->n,
                p->config.is_tied ? 0.05f : 0.5f, &dice);
    for (int l = 0; l < p->config.n_layer; l++)
        init_layer(p, weights, l, &dice);
    fill(weights + norm_f->offset, norm_f->n, 1.0f);
    fill(weights + bias->offset, bias->n, 0.0f);
    if (!p->config.is_tied) {
        const struct parameter *head = parameters_lm_head(p);
        fill_normal(weights + head->offset, head->n, 0.05f, &dice);
    }
}

/* ---- from a file -------------------------------------------------------- */

/* Published checkpoints have two names for the embedding. */
static const struct tensor *find(const struct safetensors *file,
                                 const char *prefix, const char *name)
{
    char full[FULL_NAME_CHARS];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct tensor *tensor = safetensors_find(file, full);
    if (!tensor && strcmp(name, "backbone.embedding.weight") == 0)
        tensor = safetensors_find(file, "backbone.embeddings.weight");
    return tensor;
}

static enum status check_shape(const struct parameter *p,
                               const struct tensor *tensor)
{
    bool is_alike =
        tensor->n_dims == p->n_dims &&
        (dtype_is_float(tensor->dtype) || tensor->dtype == DTYPE_I8);
    for (int i = 0; is_alike && i < p->n_dims; i++)
        is_alike = tensor->shape[i] == (uint64_t)p->shape[i];
    char text[160];
    if (!is_alike)
        return fail(E_FORMAT, "%s is %s, which is not the shape in training",
                    tensor->name, tensor_describe(tensor, text));
    return OK;
}

static enum status load_matrix(const struct parameter *p, float *x,
                               const struct tensor *tensor,
                               const struct safetensors *file)
{
    char name[FULL_NAME_CHARS];
    snprintf(name, sizeof name, "%s_scale", tensor->name);
    const struct tensor *scale = safetensors_find(file, name);
    if (!scale || scale->dtype != DTYPE_F32 ||
        scale->n_elements != (uint64_t)p->shape[0])
        return fail(E_FORMAT, "%s has no scale a row", tensor->name);
    const int8_t *q = tensor->data;
    float row_scale = 0.0f;
    size_t cols = (size_t)p->shape[1];
    for (size_t i = 0; i < p->n; i++) {
        if (i % cols == 0)
            tensor_read_floats(&row_scale, scale, i / cols, 1);
        x[i] = (float)q[i] * row_scale;
    }
    return OK;
}

static enum status load_parameter(const struct parameter *p, float *x,
                                  const struct safetensors *file,
                                  const char *prefix)
{
    const struct tensor *tensor = find(file, prefix, p->name);
    if (!tensor)
        return fail(E_FORMAT, "tensor %s%s is missing", prefix, p->name);
    TRY(check_shape(p, tensor));
    if (tensor->dtype == DTYPE_I8)
        return load_matrix(p, x, tensor, file);
    tensor_read_floats(x, tensor, 0, p->n);
    return OK;
}

enum status parameters_load(const struct parameters *parameters, float *floats,
                            const struct safetensors *file, const char *prefix)
{
    for (size_t i = 0; i < parameters->n; i++) {
        const struct parameter *p = &parameters->list[i];
        if (p->n == 0)
            continue;
        enum status status =
            load_parameter(p, floats + p->offset, file, prefix);
        if (status != OK)
            return status_prefix(status, safetensors_path(file));
    }
    return OK;
}
