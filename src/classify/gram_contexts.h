/* gram_contexts.h -- what bits of a table of grams depend on.
 *
 * The contexts of gram_coder.h, those of one kind after another.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_CONTEXTS_H
#define MAMBYTE_GRAM_CONTEXTS_H

#include <stddef.h>

#include "classify/gram_coder.h"
#include "classify/grams.h"

/* How many values of each are told apart. */
enum {
    /* of the bits that say which sequences there are (gram_tree.c) */
    CONTEXT_LENGTHS = GRAM_CHARACTERS - 1,
    CONTEXT_TOTALS = 48,
    CONTEXT_TRIES = 16,
    CONTEXT_LABELS = 4,
    CONTEXT_COVERS = 4,
    CONTEXT_MOST = 4,
    /* of pairs that follow from others (gram_pairs.c) */
    CONTEXT_EXPECTED = 22,
    CONTEXT_LOWER = 8,
    CONTEXT_SHARES = 10,
    CONTEXT_SEEN = 3,
    /* of those that stand alone */
    CONTEXT_COUNTS = 8,
    CONTEXT_LEFT = 4
};

/* Where the contexts of a kind begin. */
enum {
    CONTEXTS_GROWTH = 0,
    CONTEXTS_MEETING =
        CONTEXTS_GROWTH + CONTEXT_LENGTHS * CONTEXT_TOTALS * CONTEXT_TRIES,
    CONTEXTS_SHARED_LABEL =
        CONTEXTS_MEETING + CONTEXT_LENGTHS * CONTEXT_TOTALS * CONTEXT_LABELS *
                               CONTEXT_COVERS * CONTEXT_MOST,
    CONTEXTS_SHARED_LEVEL =
        CONTEXTS_SHARED_LABEL +
        CONTEXT_EXPECTED * CONTEXT_LOWER * CONTEXT_SHARES * CONTEXT_SEEN * 2,
    CONTEXTS_LEVEL = CONTEXTS_SHARED_LEVEL + CONTEXT_EXPECTED * GRAM_LEVELS *
                                                 (CONTEXT_SHARES + 1) *
                                                 GRAM_LEVELS,
    CONTEXTS_COUNT =
        CONTEXTS_LEVEL + CONTEXT_COUNTS * (GRAM_LEVELS + 1) * GRAM_LEVELS,
    CONTEXTS_UNCORRECTED = CONTEXTS_COUNT + 2 * CONTEXT_COUNTS,
    CONTEXTS_CORRECTION = CONTEXTS_UNCORRECTED + CONTEXT_COUNTS + 1,
    CONTEXTS_SIZE = CONTEXTS_CORRECTION + 2 * GRAM_LEVELS,
    CONTEXTS_MORE = CONTEXTS_SIZE + GRAM_NUMBER_CONTEXTS,
    CONTEXTS_CHARACTER = CONTEXTS_MORE + 2 * GRAM_NUMBER_CONTEXTS,
    CONTEXTS_WORD = CONTEXTS_CHARACTER + GRAM_NUMBER_CONTEXTS,
    CONTEXTS_ALONE = CONTEXTS_WORD + GRAM_NUMBER_CONTEXTS
};

/* The bits of a label below n_labels. */
static inline int context_label_bits(int n_labels)
{
    int n_bits = 1;
    while (1 << n_bits < n_labels)
        n_bits++;
    return n_bits;
}

/* How many contexts there are: after the others come those of labels, of the
 * label before, or n_labels, and how many are left. */
static inline size_t contexts_count(int n_labels)
{
    return CONTEXTS_ALONE + ((size_t)(n_labels + 1) * CONTEXT_LEFT
                             << context_label_bits(n_labels));
}

#endif
