/* mamba1.h -- the mixer of Mamba-1 in the backward pass.
 *
 * Between in_proj and out_proj a layer has u | z, the halves of what in_proj
 * makes, and of it
 *     u = silu(conv(u));  dt | B | C = x_proj u;  v = dt_proj dt
 *     y = the selective scan of u by v, B and C, gated by z
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA1_H
#define MAMBYTE_MAMBA1_H

#include "train/backward_pass.h"

struct mamba1; /* the mixers of all layers */

/* The lists, without their arrays; NULL when memory ran out. */
struct mamba1 *mamba1_new(const struct backward *b);
void mamba1_free(struct mamba1 *mamba1); /* NULL is accepted */

/* The arrays. */
void mamba1_lay_out(struct backward *b, struct carver *carver);

/* Makes layer l ready for a step: this thread's rows of the projections;
 * then, by one thread, once all have done so, the rest. */
void mamba1_prepare(struct backward *b, int thread, int l);
void mamba1_prepare_rest(struct backward *b, int l);

/* y from in, of which all rows have to be there, and the states after the
 * step.  All threads meet in here; when this returns, others may still be
 * writing their part of y. */
void mamba1_forward(struct backward *b, int thread, int l);

/* din from dy, of which all rows have to be there, and the gradients of the
 * mixer.  All threads meet in here, the last time at the end. */
void mamba1_backward(struct backward *b, int thread, int l);

/* Brings gradients from the order of the kernels to that of the parameters;
 * by one thread, once the layer's backward pass is done. */
void mamba1_finish(struct backward *b, int l);

#endif
