/* muon.h -- momentum, orthogonalised: the optimiser of the large projections.
 *
 * m  = momentum m + g;  g' = g + momentum m              (Nesterov)
 * O  = about the orthogonal matrix nearest to g', by five iterations of
 *      Newton and Schulz
 * w -= rate (weight_decay w + 0.2 sqrt(larger side) O)
 *
 * (Jordan 2024; the scale by the larger side makes updates as large as those
 * of AdamW: Liu et al., arXiv 2502.16982.)
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MUON_H
#define MAMBYTE_MUON_H

#include "base/status.h"
#include "base/threads.h"
#include "train/parameters.h"
#include "train/trainer.h"

#define MUON_MOMENTUM 0.95f

/* X <- a X + (b X X^T + c (X X^T)^2) X brings all singular values near 1. */
enum { MUON_ITERATIONS = 5 };
#define MUON_A 3.4445f
#define MUON_B (-4.7750f)
#define MUON_C 2.0315f

struct muon;

/* For the matrices of parameters that have muon_parts. */
enum status muon_open(struct muon **muon, const struct parameters *parameters,
                      struct threads *team);
void muon_close(struct muon *muon); /* NULL is accepted */

/* Updates the rows of one such matrix that are Muon's, and their momentum,
 * from its gradient. */
void muon_update(struct muon *muon, const struct parameter *parameter,
                 float *weights, float *momentum, const float *gradient,
                 const struct update *update);

#endif
