/* gram_prune.h -- makes a table of grams smaller.
 *
 * First those grams go that say no more than a part of them.  A gram that only
 * one label has, less than 16 times, is such a gram when only the same label
 * has
 *
 *   of a sequence: what is left without its first or its last character;
 *   of a word: a sequence of 3 to 5 characters that ends inside it;
 *   of a pair of words: its second word.
 *
 * Then go the grams that no label has often.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_PRUNE_H
#define MAMBYTE_GRAM_PRUNE_H

#include <stddef.h>

#include "base/status.h"
#include "classify/examples.h"
#include "classify/grams.h"

/* Leaves at most n_most pairs in a table with times, which was counted from the
 * first n examples; raises its least where need be. */
enum status gram_prune(struct grams *grams, const struct examples *examples,
                       size_t n, size_t n_most);

#endif
