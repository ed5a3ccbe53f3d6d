/* gram_choice.h -- which grams tell labels apart.
 *
 * Of the grams of at least two records, the best are those whose presence says
 * most about the label of a record, by the likelihood ratio (G squared; Dunning
 * 1993).  A gram's rarity is 1 + ln((n + 1) / (n_with_it + 1)), for n records.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_CHOICE_H
#define MAMBYTE_GRAM_CHOICE_H

#include "base/status.h"
#include "classify/examples.h"
#include "classify/grams.h"

/* Opens grams: the best n_most for the first n examples, or fewer when there
 * are no more. */
enum status gram_choice_make(struct grams *grams,
                             const struct examples *examples, size_t n,
                             int n_most);

#endif
