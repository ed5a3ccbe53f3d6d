/* backward.h -- the gradient of the loss by every weight, on the CPU.
 *
 * The forward pass keeps what the backward pass needs: about 11 d_model floats
 * a byte and layer in Mamba-1, 14 in Mamba-2.  Mamba-1's states are not kept
 * but computed again, a block of channels at a time; of Mamba-2's, those before
 * each chunk are kept.  With imitation, weights and activations are rounded to
 * int8 as the engine does, with its own kernels: the states that come out are
 * those of the engine, bit for bit.  Gradients pass through the rounding as if
 * it were not there (straight-through).
 *
 * Gradients reach back to the start of a window; the state before it counts as
 * given.
 *
 * No result depends on the number of threads or on the level of the CPU.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BACKWARD_H
#define MAMBYTE_BACKWARD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "base/threads.h"
#include "train/parameters.h"
#include "train/trainer.h"

struct backward;

struct backward_options {
    int n_windows, n_t;
    bool imitates_int8;
    const struct train_kernels *kernels; /* NULL: the best */
};

/* team and parameters must outlive it.  States are zero. */
enum status backward_open(struct backward **backward,
                          const struct parameters *parameters,
                          const struct backward_options *options,
                          struct threads *team);
void backward_close(struct backward *backward); /* NULL is accepted */

/* Sets gradient: [n_floats] to the derivative of the mean loss over the bytes
 * of windows by weights: [n_floats], and advances the states.  Returns the
 * mean loss, in nats. */
double backward_run(struct backward *backward, float *gradient,
                    const float *weights, const struct windows *windows);

/* [n_windows][trainer_state_floats()]; the caller may write to them. */
float *backward_states(struct backward *backward);

/* The bytes of memory that it takes. */
size_t backward_bytes(const struct backward *backward);

#endif
