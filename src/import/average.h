/* average.h -- the mean of the weights of models that have one shape.
 *
 * Models that were trained from one another lie in one valley: their mean is
 * often better than each of them (Izmailov and others, 2018, "Averaging weights
 * leads to wider optima and better generalization").
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_AVERAGE_H
#define MAMBYTE_AVERAGE_H

#include "base/status.h"
#include "model/model.h"
#include "train/parameters.h"

/* weights: [parameters->n_floats], those of `first`, become the mean of these
 * and of n other models, which are read from paths as mambyte-import reads its
 * input.  E_MODEL names a model of another shape. */
enum status average_weights(float *weights, const struct parameters *parameters,
                            const struct model *first, const char *const *paths,
                            int n);

#endif
