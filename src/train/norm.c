/* norm.c -- the norm before each layer and before the prediction.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/backward_pass.h"

static struct norm_pass norm_of(struct backward *b, int l)
{
    const struct model_config *c = config_of(b);
    const struct parameters *p = b->parameters;
    bool is_last = l == c->n_layer;
    const struct parameter *weight =
        is_last ? parameters_norm_f(p) : parameters_at(p, l, P_NORM);
    const struct parameter *bias =
        is_last ? parameters_norm_f_bias(p) : parameters_at(p, l, P_NORM_BIAS);
    return (struct norm_pass){
        .h = b->tapes[l].h,
        .x = b->x,
        .weight = b->weights + weight->offset,
        .bias = bias->n > 0 ? b->weights + bias->offset : NULL,
        .epsilon = c->norm_epsilon,
        .d = c->d_model,
        .mean = b->mean,
        .r = b->r,
    };
}

void norm_forward(struct backward *b, int thread, int l)
{
    struct range t = rows_of(b, thread);
    struct norm_pass job = norm_of(b, l);
    b->kernels->norm(&job, t.begin, t.end);
}

void norm_backward(struct backward *b, int thread, int l)
{
    struct range t = rows_of(b, thread);
    struct norm_pass job = norm_of(b, l);
    struct range columns = share_of(b, job.d, thread);
    float *dweight = b->gradient + (job.weight - b->weights);
    float *dbias = job.bias ? b->gradient + (job.bias - b->weights) : NULL;
    b->kernels->norm_backward(&job, b->dh, b->dx, t.begin, t.end);
    b->kernels->norm_backward_weight(&job, dweight, dbias, b->dx, b->n_rows,
                                     columns.begin, columns.end);
}
