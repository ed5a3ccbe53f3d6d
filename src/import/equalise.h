/* equalise.h -- makes weights fit for int8, by what they multiply.
 *
 * Channels that are much larger than the others (outliers.h) are divided by a
 * power of two, g, before the projection, whose column is multiplied by it.
 * What is divided is
 *
 *     in_proj, lm_head   the weight of the norm before it
 *     dt_proj            the row of x_proj that makes the channel
 *     out_proj           of Mamba-2: the weight of the norm before it
 *                        of Mamba-1: D and delta: dt_proj.bias falls by log(g)
 * and A rises by the factor g, so that decays stay as they are and the state is
 * divided
 *
 * The first ones leave the model as it was.  The last does so as far as
 * softplus is an exponential, which it is where delta is small: the new bias is
 * fitted to delta on the sample, and a channel that does not fit is left alone.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_EQUALISE_H
#define MAMBYTE_EQUALISE_H

#include "base/status.h"
#include "engine/measure.h"
#include "train/parameters.h"

/* What was changed. */
struct equalised {
    int n_projections;
    int n_channels;
};

/* model is of floats; weights: [n_floats], its parameters, are changed.  The
 * first bytes of the sample are read, on one thread.  E_INTERRUPTED when a
 * signal came. */
enum status equalise(struct equalised *equalised, const struct model *model,
                     const struct sample *sample,
                     const struct parameters *parameters, float *weights);

#endif
