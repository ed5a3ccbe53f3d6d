/* mamba2.h -- the mixer of Mamba-2 in the backward pass.
 *
 * in_proj makes z | x | B | C | dt.  Forward, the engine's own kernels compute
 * (kernels/mamba2.h), by chunks of 64 bytes; backward, train_mamba2.c does.  A
 * window starts a chunk, and the bytes after its last whole chunk are one too:
 * what is carried from window to window is a state without a chunk under way.
 * So the states are those of the engine where windows are whole chunks.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_PASS_H
#define MAMBYTE_MAMBA2_PASS_H

#include "train/backward_pass.h"

extern const struct mixer_pass mamba2_pass;

#endif
