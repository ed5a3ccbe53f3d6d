/* validate.h -- how well a finished model predicts bytes it did not learn from.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_VALIDATE_H
#define MAMBYTE_VALIDATE_H

#include "base/status.h"
#include "engine/scorer.h"
#include "train/dataset.h"
#include "train/parameters.h"
#include "train/trainer.h"

/* What to validate on: of each source the bytes from begins[i] on. */
struct validation {
    const struct dataset *dataset;
    const uint64_t *begins; /* [sources] */
    uint64_t most;          /* bytes of each, at most */
    int n_threads;
    const struct trainer *trainer; /* whose device reads them */
};

/* Makes the int8 model of weights, and lets the engine read each source as a
 * stream of its own: tallies[i] is what mambyte --perplexity finds for these
 * bytes.  E_INTERRUPTED when a signal came. */
enum status validate(struct tally *tallies, const struct validation *validation,
                     const struct parameters *parameters, const float *weights);

#endif
