/* parameters.c -- what is trained: every tensor of a model, in float32.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/parameters.h"

#include <stdio.h>
#include <stdlib.h>

enum { OUTSIDE_LAYERS = 4, ALIGN = 4 };

/* A tensor of up to three dimensions; a 0 means that it has fewer. */
static struct parameter *add(struct parameters *p, const char *prefix,
                             const char *name, int rows, int cols, int depth)
{
    struct parameter *added = &p->list[p->n++];
    snprintf(added->name, sizeof added->name, "%s%s", prefix, name);
    added->n_dims = 1 + (cols > 0) + (depth > 0);
    added->shape[0] = rows;
    added->shape[1] = cols > 0 ? cols : 1;
    added->shape[2] = depth > 0 ? depth : 1;
    added->offset = p->n_floats;
    added->n = (size_t)rows * (size_t)added->shape[1] * (size_t)added->shape[2];
    p->n_floats += (added->n + ALIGN - 1) / ALIGN * ALIGN;
    return added;
}

static struct parameter *add_matrix(struct parameters *p, const char *prefix,
                                    const char *name, int rows, int cols)
{
    struct parameter *added = add(p, prefix, name, rows, cols, 0);
    added->is_matrix = true;
    added->decays = true;
    return added;
}

static void give_muon(struct parameter *matrix, int parts, int rows)
{
    matrix->muon_parts = parts;
    matrix->muon_rows = rows;
}

/* In the order of enum place.  What only the other mixer has gets no rows. */
static void add_layer(struct parameters *p, int l)
{
    const struct model_config *c = &p->config;
    const bool is_mamba1 = c->mixer == MIXER_MAMBA1;
    const int steps = is_mamba1 ? c->d_inner : c->n_heads;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "backbone.layers.%d.", l);
    add(p, prefix, "norm.weight", c->d_model, 0, 0);
    add(p, prefix, "norm.bias", c->has_norm_bias ? c->d_model : 0, 0, 0);
    give_muon(add_matrix(p, prefix, "mixer.in_proj.weight", in_proj_rows(c),
                         c->d_model),
              2, c->d_inner);
    add(p, prefix, "mixer.conv1d.weight", conv_channels(c), 1, c->d_conv);
    add(p, prefix, "mixer.conv1d.bias", conv_channels(c), 0, 0);
    add_matrix(p, prefix, "mixer.x_proj.weight",
               is_mamba1 ? c->dt_rank + 2 * c->d_state : 0, c->d_inner);
    add_matrix(p, prefix, "mixer.dt_proj.weight", is_mamba1 ? c->d_inner : 0,
               c->dt_rank);
    add(p, prefix, is_mamba1 ? "mixer.dt_proj.bias" : "mixer.dt_bias", steps, 0,
        0);
    add(p, prefix, "mixer.A_log", steps, is_mamba1 ? c->d_state : 0, 0);
    add(p, prefix, "mixer.D", c->has_channel_d ? c->d_inner : steps, 0, 0);
    add(p, prefix, "mixer.norm.weight", is_mamba1 ? 0 : c->d_inner, 0, 0);
    give_muon(
        add_matrix(p, prefix, "mixer.out_proj.weight", c->d_model, c->d_inner),
        1, c->d_model);
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
               config->d_model);
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

struct tensor parameter_tensor(const struct parameter *p, enum dtype dtype,
                               const void *data)
{
    struct tensor tensor = {
        .name = p->name, .dtype = dtype, .n_dims = p->n_dims, .data = data};
    for (int i = 0; i < p->n_dims; i++)
        tensor.shape[i] = (uint64_t)p->shape[i];
    return tensor;
}
