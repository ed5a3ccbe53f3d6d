/* train_loss.cuh -- the two ends of the model: the loss, and the gradient of
 * the embedding.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_LOSS_CUH
#define MAMBYTE_TRAIN_LOSS_CUH

#include "cuda/train/replica.cuh"

enum {
    HEAD_ROWS = 1 << 14, /* whose logits there are at a time                */
    EMBED_SPAN = 2048    /* rows of a block of the embedding's gradient     */
};

/* The loss and dlogits of n rows, up to HEAD_ROWS, from first on. */
void launch_cross_entropy(const struct replica *r, int first, int n);

/* The mean of the loss, stored after the gradient. */
void launch_loss(const struct replica *r);
void launch_embed_backward(const struct replica *r);

#endif
