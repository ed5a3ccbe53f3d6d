/* equalise.h -- makes weights fit for int8, by what they multiply.
 *
 * A vector has one scale, which its largest element sets: where a few
 * channels are much larger than the others (outliers), little is left of
 * those.  Here such a channel is divided by a power of two before the
 * projection, and the projection's column multiplied by it:
 *
 *     in_proj, lm_head   the weight of the norm before them is divided
 *     dt_proj            the row of x_proj that makes the channel
 *     out_proj           D, and the steps: dt_proj.bias falls by log(g), A
 *                        rises by g, so that the decays stay as they are and
 *                        the state is divided
 *
 * The first three give the same model.  The last does so as far as softplus
 * is an exponential, which it is for small steps; the new bias is fitted to
 * the steps of the sample, and a channel that does not fit is left alone.
 *
 * Which channels, and by how much, is chosen for each projection by the noise
 * that rounding its weights and its inputs makes on the sample.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_EQUALISE_H
#define MAMBYTE_EQUALISE_H

#include "base/status.h"
#include "engine/measure.h"
#include "train/parameters.h"

/* How much was done. */
struct equalised {
    int n_projections; /* that were changed                                 */
    int n_channels;
};

/* model: of floats, and weights: [n_floats] are its parameters, changed here.
 * The first bytes of the sample are read, on one thread.  E_INTERRUPTED when
 * a signal came. */
enum status equalise(struct equalised *equalised, const struct model *model,
                     const struct sample *sample,
                     const struct parameters *parameters, float *weights);

#endif
