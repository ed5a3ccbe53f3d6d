/* odds_tree.h -- a prediction of a byte as a tree of odds.
 *
 * A byte is a path from node 1, a bit at a time, the most significant first.
 * A logit becomes a weight, an integer that is the same on every machine.
 * Compiled for each level of instructions from one text (predictor_code.c).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ODDS_TREE_H
#define MAMBYTE_ODDS_TREE_H

#include <stdint.h>

#include "base/exact.h"
#include "compress/logistic.h"

enum {
    ODDS_POWER_BITS = 10,  /* of a fraction of a doubling, of the weights   */
    ODDS_WEIGHT_BITS = 23, /* 256 weights sum to less than 2^32             */
    ODDS_WEIGHT_SPAN = 24, /* doublings below which a weight is 1           */
    ODDS_LANES = 16        /* in which the largest logit is found           */
};

/* A logit times this is in units of 2^-ODDS_POWER_BITS doublings of the odds.
 */
#define ODDS_POWER_SCALE (EXACT_LOG2E * (1 << ODDS_POWER_BITS))

/* weight[256 + b] is that of byte b, and weight[i] = weight[2 i] + weight[2 i
 * + 1], each at least 1. */
struct odds_tree {
    uint32_t weight[512];
};

/* difference >= 0, or not a number. */
static inline uint32_t odds_weight(float difference)
{
    float x = exact_min(difference * ODDS_POWER_SCALE,
                        (float)(ODDS_WEIGHT_SPAN << ODDS_POWER_BITS));
    int32_t fixed = (int32_t)x;
    int32_t part = fixed & ((1 << ODDS_POWER_BITS) - 1);
    float y = (float)part * (-1.0f / (1 << ODDS_POWER_BITS));
    float t = y + EXACT_ROUND; /* as in exact_exp2_neg(): y > -1 */
    float e = exact_exp2_reduced(t, y - (t - EXACT_ROUND));
    int32_t weight = (int32_t)(e * (1 << ODDS_WEIGHT_BITS) + 0.5f) >>
                     (fixed >> ODDS_POWER_BITS);
    return weight > 0 ? (uint32_t)weight : 1;
}

static inline float odds_largest(const float x[256])
{
    float most[ODDS_LANES];
    for (int k = 0; k < ODDS_LANES; k++)
        most[k] = x[k];
    for (int i = ODDS_LANES; i < 256; i += ODDS_LANES) {
        for (int k = 0; k < ODDS_LANES; k++)
            most[k] = exact_max(x[i + k], most[k]);
    }
    for (int k = 1; k < ODDS_LANES; k++)
        most[0] = exact_max(most[k], most[0]);
    return most[0];
}

static inline void odds_tree_make(struct odds_tree *tree,
                                  const float logits[256])
{
    uint32_t *weight = tree->weight;
    float x[256];
    for (int i = 0; i < 256; i++)
        x[i] = exact_logit(logits[i]);
    float largest = odds_largest(x);
    for (int i = 0; i < 256; i++)
        weight[256 + i] = odds_weight(largest - x[i]);
    for (int i = 0; i < 128; i++)
        weight[128 + i] = weight[256 + 2 * i] + weight[257 + 2 * i];
    for (int i = 0; i < 64; i++)
        weight[64 + i] = weight[128 + 2 * i] + weight[129 + 2 * i];
    for (int i = 0; i < 32; i++)
        weight[32 + i] = weight[64 + 2 * i] + weight[65 + 2 * i];
    for (int i = 31; i >= 1; i--)
        weight[i] = weight[2 * i] + weight[2 * i + 1];
}

/* The log-odds that the bit after node (1 to 255) is 1. */
static inline int odds_tree_stretch(const struct odds_tree *tree, int node)
{
    return stretch(tree->weight[2 * node + 1], tree->weight[2 * node]);
}

/* The more likely node after node. */
static inline int odds_tree_guess(const struct odds_tree *tree, int node)
{
    const uint32_t *next = tree->weight + 2 * node;
    return 2 * node + (next[1] > next[0]);
}

#endif
