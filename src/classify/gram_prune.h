/* gram_prune.h -- makes a table of grams smaller.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_PRUNE_H
#define MAMBYTE_GRAM_PRUNE_H

#include <stddef.h>

#include "classify/grams.h"

/* Leaves at most n_most pairs in a table with times: raises its least, and
 * leaves out the grams that no label has so often, until they fit. */
void gram_prune(struct grams *grams, size_t n_most);

#endif
