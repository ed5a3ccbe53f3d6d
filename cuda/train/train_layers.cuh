/* train_layers.cuh -- a step of one GPU: everything is enqueued.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_LAYERS_CUH
#define MAMBYTE_TRAIN_LAYERS_CUH

#include "cuda/train/replica.cuh"

/* The gradient of the windows in r->bytes, and the states after them. */
void replica_gradient(struct replica *r);
void replica_update(struct replica *r, const struct update *update);

#endif
