/* parameters_init.c -- the weights of a new model.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>

#include "base/exact.h"
#include "base/random.h"
#include "train/parameters.h"

/* A stream of random numbers. */
struct dice {
    uint64_t seed, n;
};

/* In [0, 1). */
static float uniform(struct dice *dice)
{
    return (float)(random_at(dice->seed, dice->n++) >> 40) * 0x1p-24f;
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

/* delta = softplus(bias) is spread evenly, in the logarithm, over 0.001 to 0.1:
 * bias = log(e^delta - 1). */
static void fill_dt_bias(float *x, size_t n, struct dice *dice)
{
    const float low = -6.9077554f, range = 4.6051702f;
    for (size_t i = 0; i < n; i++) {
        float delta = exact_exp(low + range * uniform(dice));
        x[i] = natural_log(exact_exp(delta) - 1.0f);
    }
}

/* A = -1, -2, .. -d_state in each channel of Mamba-1. */
static void fill_a_log(float *x, int d_inner, int d_state)
{
    for (int c = 0; c < d_inner; c++) {
        for (int s = 0; s < d_state; s++)
            *x++ = natural_log((float)(1 + s));
    }
}

/* A is spread evenly over -1 to -16 in the heads of Mamba-2. */
static void fill_head_a_log(float *x, size_t n, struct dice *dice)
{
    for (size_t i = 0; i < n; i++)
        x[i] = natural_log(1.0f + 15.0f * uniform(dice));
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
        case P_GATE_NORM:
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
            if (c->mixer == MIXER_MAMBA1)
                fill_a_log(x, c->d_inner, c->d_state);
            else
                fill_head_a_log(x, at->n, dice);
            break;
        case P_OUT_PROJ:
            /* so that the sum over all layers stays near 1 */
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
