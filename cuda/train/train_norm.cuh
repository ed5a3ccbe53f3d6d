/* train_norm.cuh -- RMSNorm and LayerNorm of training.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_NORM_CUH
#define MAMBYTE_TRAIN_NORM_CUH

#include "cuda/train/replica.cuh"

enum { NORM_BLOCKS = 2112 }; /* of the backward norm, at most */

/* h and x of layer l, or of lm_head; again: h is there. */
void launch_norm(const struct replica *r, int l, bool again);

/* From dx: dh for the layer before, and the gradients of the norm. */
void launch_norm_backward(const struct replica *r, int l);

#endif
