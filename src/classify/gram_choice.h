/* gram_choice.h -- which grams tell labels apart.
 *
 * Those of at least two records whose presence and the label of a record have
 * most to do with one another: by the likelihood ratio (G squared; Dunning
 * 1993).  A gram's rarity is 1 + ln((n + 1) / (n_with_it + 1)), of n records.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_CHOICE_H
#define MAMBYTE_GRAM_CHOICE_H

#include "base/status.h"
#include "classify/examples.h"
#include "classify/grams.h"

/* Opens grams: the best n_most, or fewer when there are no more, by the first
 * n of the examples. */
enum status gram_choice_make(struct grams *grams,
                             const struct examples *examples, size_t n,
                             int n_most);

#endif
