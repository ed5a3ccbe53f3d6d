/* train_loss.cuh -- the two ends of the model: the loss, and bytes as rows.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_LOSS_CUH
#define MAMBYTE_TRAIN_LOSS_CUH

#include "cuda/train/replica.cuh"

enum { HEAD_ROWS = 1 << 14 }; /* whose logits there are at a time */

/* The loss and dlogits of n rows, up to HEAD_ROWS, from first on. */
void launch_cross_entropy(const struct replica *r, int first, int n);

/* The mean of the loss, stored after the gradient. */
void launch_loss(const struct replica *r);

/* Of n rows, up to HEAD_ROWS, from first on: dlogits becomes 1 at the byte that
 * the model read, 0 elsewhere. */
void launch_one_hot(const struct replica *r, int first, int n);

#endif
