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

extern const struct mixer_pass mamba1_pass;

#endif
