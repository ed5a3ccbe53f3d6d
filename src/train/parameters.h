/* parameters.h -- what is trained: every tensor of a model, in float32.
 *
 * One list of tensors, in the order and with the names and shapes of the
 * published checkpoints, laid end to end in one array of n_floats.  Weights,
 * gradients and moments are such arrays.  An optimiser or a checkpoint walks
 * the list; code that computes finds a tensor by its layer and place.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PARAMETERS_H
#define MAMBYTE_PARAMETERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/model.h"
#include "model/safetensors.h"

/* The places of a layer; those of the other mixer are empty. */
enum place {
    P_NORM,
    P_NORM_BIAS, /* empty in a model with RMSNorm */
    P_IN_PROJ,
    P_CONV,
    P_CONV_BIAS,
    P_X_PROJ,
    P_DT_PROJ,
    P_DT_BIAS,
    P_A_LOG,
    P_D,
    P_GATE_NORM,
    P_OUT_PROJ,
    N_PLACES
};

enum { PARAMETER_NAME_CHARS = 64 };

struct parameter {
    char name[PARAMETER_NAME_CHARS];
    int n_dims;
    int shape[3];
    size_t offset, n; /* in an array of n_floats, from a multiple of 4 on;
                       * n 0: the model has none */
    bool is_matrix;   /* a projection: int8 in the finished model */
    bool decays;      /* weight decay applies */

    /* The first rows, muon_parts times muon_rows, are Muon's, which makes each
     * part orthogonal by itself; AdamW has the rest. */
    int muon_parts, muon_rows;
};

/* Floats that Muon updates; those after them are AdamW's. */
static inline size_t parameter_muon_floats(const struct parameter *p)
{
    return (size_t)p->muon_parts * (size_t)p->muon_rows * (size_t)p->shape[1];
}

struct parameters {
    struct model_config config;
    struct parameter *list; /* [n]; embedding, layers, norm_f, its bias,
                             * lm_head */
    size_t n;
    size_t n_floats;
};

/* begin_byte and norm_epsilon of config are kept for the finished model. */
enum status parameters_open(struct parameters *parameters,
                            const struct model_config *config);
void parameters_close(struct parameters *parameters);

/* The places outside the layers. */
const struct parameter *parameters_embedding(const struct parameters *p);
const struct parameter *parameters_norm_f(const struct parameters *p);
const struct parameter *parameters_norm_f_bias(const struct parameters *p);

/* The embedding when they are tied. */
const struct parameter *parameters_lm_head(const struct parameters *p);

static inline const struct parameter *parameters_at(const struct parameters *p,
                                                    int layer, enum place place)
{
    return &p->list[1 + (size_t)layer * N_PLACES + (size_t)place];
}

/* A parameter as a tensor of a file, under its name, with these data.  p must
 * outlive it. */
struct tensor parameter_tensor(const struct parameter *p, enum dtype dtype,
                               const void *data);

/* Weights of a new model, the same for the same seed.  weights: [n_floats] */
void parameters_init(const struct parameters *parameters, float *weights,
                     uint64_t seed);

/* Fills floats from the tensors of a file, whose names are those of the list
 * behind prefix; I8 is multiplied by the scales of its rows.  The file was
 * opened as a model, or is checked here: E_FORMAT names the tensor. */
enum status parameters_load(const struct parameters *parameters, float *floats,
                            const struct safetensors *file, const char *prefix);

#endif
