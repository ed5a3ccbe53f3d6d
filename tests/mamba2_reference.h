/* mamba2_reference.h -- the loss of a Mamba-2 in training, in float64 and byte
 * by byte, written for plainness.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_REFERENCE_H
#define MAMBYTE_MAMBA2_REFERENCE_H

#include "train/trainer.h"

/* The mean cross entropy in nats; every window starts from a zero state. */
double mamba2_reference_loss(const struct parameters *parameters,
                             const float *weights,
                             const struct windows *windows, bool imitates);

#endif
