/* layer.c -- takes the tensors of a layer, by the kind of its mixer.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/exact.h"
#include "model/binder.h"

/* [channels][1][d_conv] in the file. */
static enum status take_conv(struct binder *b, struct layer *layer)
{
    const struct model_config *c = &b->model->config;
    int channels = conv_channels(c);
    float *taps;
    TRY(binder_take_copy(b, &taps, "mixer.conv1d.weight",
                         expected_conv(channels, c->d_conv), c->d_conv));
    layer->conv = taps;
    return binder_take_vector(b, &layer->conv_bias, "mixer.conv1d.bias",
                              channels);
}

/* A_log, [rows][columns] in the file. */
static enum status take_decay(struct binder *b, const float **a_log2e,
                              struct tensor expected, int columns)
{
    float *a;
    TRY(binder_take_copy(b, &a, "mixer.A_log", expected, columns));
    size_t n = (size_t)expected.shape[0] * (size_t)columns;
    for (size_t i = 0; i < n; i++)
        a[i] = -exact_exp(a[i]) * EXACT_LOG2E;
    *a_log2e = a;
    return OK;
}

static enum status bind_mamba1(struct binder *b, struct layer *layer)
{
    const struct model_config *c = &b->model->config;
    int d_inner = c->d_inner, d_state = c->d_state, dt_rank = c->dt_rank;
    TRY(binder_take_matrix(b, &layer->x_proj, "mixer.x_proj.weight",
                           dt_rank + 2 * d_state, d_inner));
    TRY(binder_take_matrix(b, &layer->dt_proj, "mixer.dt_proj.weight", d_inner,
                           dt_rank));
    TRY(binder_take_vector(b, &layer->dt_bias, "mixer.dt_proj.bias", d_inner));
    TRY(take_decay(b, &layer->a_log2e,
                   expected_matrix(DTYPE_F32, d_inner, d_state), d_state));
    TRY(binder_take_vector(b, &layer->d, "mixer.D", d_inner));
    return binder_take_matrix(b, &layer->out_proj, "mixer.out_proj.weight",
                              c->d_model, d_inner);
}

/* One number for each channel; or for each head, to be repeated. */
static enum status take_d(struct binder *b, const float **d)
{
    const struct model_config *c = &b->model->config;
    const float *heads;
    if (c->has_channel_d)
        return binder_take_vector(b, d, "mixer.D", c->d_inner);
    TRY(binder_take_vector(b, &heads, "mixer.D", c->n_heads));
    float *channels = binder_carve(b, (size_t)c->d_inner * sizeof *channels);
    for (int i = 0; i < c->d_inner; i++)
        channels[i] = heads[i / c->headdim];
    *d = channels;
    return OK;
}

static enum status bind_mamba2(struct binder *b, struct layer *layer)
{
    const struct model_config *c = &b->model->config;
    TRY(binder_take_matrix(b, &layer->out_proj, "mixer.out_proj.weight",
                           c->d_model, c->d_inner));
    TRY(binder_take_vector(b, &layer->dt_bias, "mixer.dt_bias", c->n_heads));
    TRY(take_decay(b, &layer->a_log2e, expected_vector(c->n_heads), 1));
    TRY(take_d(b, &layer->d));
    return binder_take_vector(b, &layer->gate_norm, "mixer.norm.weight",
                              c->d_inner);
}

enum status binder_take_layer(struct binder *b, struct layer *layer)
{
    const struct model_config *c = &b->model->config;
    TRY(binder_take_norm(b, &layer->norm, &layer->norm_bias, "norm"));
    TRY(binder_take_matrix(b, &layer->in_proj, "mixer.in_proj.weight",
                           in_proj_rows(c), c->d_model));
    TRY(take_conv(b, layer));
    return c->mixer == MIXER_MAMBA2 ? bind_mamba2(b, layer)
                                    : bind_mamba1(b, layer);
}
