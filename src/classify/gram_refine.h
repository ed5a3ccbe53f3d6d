/* gram_refine.h -- learns the corrections of grams.
 *
 * Naive Bayes counts each gram as if it stood alone.  Passes over the examples
 * correct the weights: of a softmax of ease times the evidence plus a bias, by
 * stochastic gradient descent with AdaGrad's rates.  Each example is left out
 * of the counts while it is looked at: otherwise there would be nothing to
 * learn from it.
 *
 * The order of the examples is drawn, the same in each run; one thread works,
 * and the bits are the same everywhere.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_REFINE_H
#define MAMBYTE_GRAM_REFINE_H

#include "base/status.h"
#include "classify/examples.h"
#include "classify/grams.h"

/* grams: with times, counted from the first n examples. */
enum status gram_refine(struct grams *grams, const struct examples *examples,
                        size_t n);

#endif
