/* adamw.h -- the optimiser of everything that Muon does not take.
 *
 * m  = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
 * w -= rate (weight_decay w + (m / (1 - beta1^n))
 *                             / (sqrt(v / (1 - beta2^n)) + epsilon))
 *
 * (Loshchilov and Hutter, arXiv 1711.05101.)
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ADAMW_H
#define MAMBYTE_ADAMW_H

#include "train/parameters.h"
#include "train/trainer.h"

/* The numbers of an update that are the same for all weights. */
struct adamw_factors {
    float rate, weight_decay, scale;      /* scale: of the gradient */
    float beta_1, beta_2, rest_1, rest_2; /* rest: 1 - beta */
    float rate_1, unbias_2, epsilon;      /* rate / (1 - beta1^n);
                                           * 1 / (1 - beta2^n) */
};

struct adamw_factors adamw_factors_of(const struct update *update);

/* Updates the floats of one tensor that AdamW takes, and their moments, from
 * its gradient; update->n is n above, counted from 1.  Arrays: [n_floats] */
void adamw_update(const struct parameter *parameter, float *weights, float *m,
                  float *v, const float *gradient, const struct update *update);

#endif
