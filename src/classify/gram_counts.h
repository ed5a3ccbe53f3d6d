/* gram_counts.h -- counts the grams of examples.
 *
 * The table keeps the grams that the examples of some label have at least twice
 * together.  Where that makes more than n_most pairs of a gram and a label,
 * gram_prune.h leaves some out.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_COUNTS_H
#define MAMBYTE_GRAM_COUNTS_H

#include "base/status.h"
#include "classify/examples.h"
#include "classify/grams.h"

/* Opens grams, with times, for the first n examples. */
enum status gram_counts_make(struct grams *grams,
                             const struct examples *examples, size_t n,
                             size_t n_most);

#endif
