/* logistic.h -- log-odds of bits and their inverse, in integers.
 *
 * What predictors of a bit are mixed in: log-odds, the logarithm of p / (1 -
 * p), in units of 2^-10 of a doubling.  All is integer, from tables that
 * exact.h computes: the same on every machine.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LOGISTIC_H
#define MAMBYTE_LOGISTIC_H

#include <stdint.h>

#include "range_coder.h"

enum {
    STRETCH_ONE = 1024,                /* the odds are 2 to 1              */
    STRETCH_MAX = 20 * STRETCH_ONE - 1 /* what squash() tells apart        */
};

/* Makes the tables; before anything else here, more than once is fine, but
 * not from two threads at a time. */
void logistic_init(void);

/* Odds of one to zero, each at least 1. */
int stretch(uint32_t one, uint32_t zero);

/* The probability of a one, in (0, PROBABILITY_ONE), for any log-odds. */
uint32_t squash(int log_odds);

/* A prediction of a byte as a tree of odds: weight[256 + b] is that of byte
 * b, and weight[i] = weight[2 i] + weight[2 i + 1], so that a path from 1,
 * a bit a step, most significant first, ends at its byte. */
struct odds_tree {
    uint32_t weight[512];
};

void odds_tree_make(struct odds_tree *tree, const float logits[256]);

/* The log-odds that the bit after those that led to node (1 to 255) is 1. */
static inline int odds_tree_stretch(const struct odds_tree *tree, int node)
{
    return stretch(tree->weight[2 * node + 1], tree->weight[2 * node]);
}

#endif
