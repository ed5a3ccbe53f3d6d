/* linear_fit.h -- fits a linear classifier to examples, and chooses how.
 *
 * Some examples are held out.  The strength of the penalty, the ease of the
 * grams' evidence and the temperature are those that predict them best.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LINEAR_FIT_H
#define MAMBYTE_LINEAR_FIT_H

#include <stddef.h>

#include "base/status.h"
#include "base/threads.h"
#include "classify/feature_table.h"
#include "classify/linear_classifier.h"

struct linear_fit {
    struct linear_classifier *classifier; /* with room for its weights */
    const struct feature_table *table;    /* features are standardised */
    size_t n_fit;                         /* of the table, the first ones */
    size_t n_held;                        /* after them, held out */
    struct threads *team;
    const char *path; /* of the examples, for messages */

    double penalty, ease;
    float *logits; /* [n_held][n_labels], by the best fit */

    double *w, *best_w;     /* [n_features + 1][n_labels] */
    double bits, best_bits; /* a held-out record, by w and by best_w */
};

/* Chooses penalty, ease and temperature by fits to the first n_fit examples.
 * Where nothing is held out, they are those that the search starts from, and
 * the temperature is 1. */
enum status linear_fit_choose(struct linear_fit *fit);

/* Fits the classifier to all examples. */
enum status linear_fit_all(struct linear_fit *fit);

void linear_fit_free(struct linear_fit *fit);

#endif
