/* mixer.cuh -- what a layer computes between in_proj and out_proj, for the
 * trainer: one table of functions for each architecture.
 *
 * The layer around it (norm, in_proj, out_proj, the sum into h) is the
 * trainer's: see train_layers.cu.  A mixer reads tape->projected and writes
 * tape->y with its scale; backward it reads r->dy and writes r->dprojected.
 * Its own tensors, activations and scratch are behind a pointer of its own
 * in struct replica.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MIXER_CUH
#define MAMBYTE_MIXER_CUH

#include "base/carver.h"
#include "cuda/train/replica.cuh"

struct mixer_ops {
    /* The projections: in_proj, out_proj, and its own. */
    int n_weights;
    const enum place *places; /* [n_weights] */

    /* Allocates what its pointer in r points to, on the host, and frees it.
     * close accepts what open left, or nothing. */
    enum status (*open)(struct replica *r);
    void (*close)(struct replica *r);

    /* Sets what kernels need on the current device, before the first launch. */
    enum status (*prepare_device)(const struct replica *r);

    /* Its part of the arena: what layer l keeps, and the scratch of a pass.
     * Where r->recomputes, all layers share the activations of layer 0. */
    void (*carve_layer)(struct replica *r, struct carver *carver, int l);
    void (*carve_scratch)(struct replica *r, struct carver *carver);

    /* Floats of r->partial, and of r->ones, that it needs. */
    size_t (*partial_floats)(const struct replica *r);
    int (*longest_scale)(const struct replica *r);

    /* Each enqueues work for layer l: what a step needs first, the forward
     * pass (twice where r->recomputes), the backward pass. */
    void (*prepare)(struct replica *r, int l);
    void (*forward)(struct replica *r, int l);
    void (*backward)(struct replica *r, int l);
};

/* The mixer of a model. */
const struct mixer_ops *mixer_of(const struct model_config *config);

#endif
