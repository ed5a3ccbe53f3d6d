/* outliers.h -- the channels of a projection's input that are too large.
 *
 * One scale, which the largest element sets, serves a whole row of int8: a few
 * large channels leave little of the others.  Such a channel is divided by a
 * power of two, and the column of the projection multiplied by it.  Which
 * channels are, and how much by, is chosen by the noise that rounding inputs
 * and weights makes on a sample.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_OUTLIERS_H
#define MAMBYTE_OUTLIERS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Inputs of a projection that were seen. */
struct projection_inputs {
    float *x; /* [n_rows][n], owned */
    int n_rows, n;
};

/* One projection being looked at; in, w and rows are the caller's to set. */
struct outliers {
    const struct projection_inputs *in;
    float *w; /* [rows][in->n] */
    int rows;
    float *amax;       /* [n]: the largest input of each channel */
    float *sorted;     /* [n] */
    uint8_t *exponent; /* [n]: the channel is divided by 2^exponent */
};

/* For projections of at most `widest` inputs.  To be closed after a failure
 * too. */
enum status outliers_open(struct outliers *outliers, size_t widest);
void outliers_close(struct outliers *outliers);

/* Sets the exponents that make the least noise; returns how many are not 0. */
int outliers_choose(struct outliers *outliers);

/* 2^exponent of a channel. */
float outliers_divisor(const struct outliers *outliers, int channel);

#endif
