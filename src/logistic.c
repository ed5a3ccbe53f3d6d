/* logistic.c -- log-odds of bits and their inverse, in integers.
 *
 * SPDX-License-Identifier: MIT
 */
#include "logistic.h"

#include <stdbool.h>

#include "exact.h"

enum {
    LOG_BITS = 12,    /* of a mantissa that the logarithm looks at         */
    SQUASH_STEP = 16, /* log-odds between two entries of the table         */
    SQUASH_ENTRIES = (STRETCH_MAX + 1) / SQUASH_STEP + 1,
    POWER_BITS = 10,  /* of a fraction of a doubling, of the weights       */
    WEIGHT_BITS = 23, /* 256 weights sum to less than 2^32                 */
    WEIGHT_SPAN = 24  /* doublings below which a weight is 1               */
};

/* What a logit is multiplied with to be in doublings of the odds. */
#define POWER_SCALE (EXACT_LOG2E * (1 << POWER_BITS))

static bool is_made;
static uint16_t log_table[1 << LOG_BITS];
static uint32_t squash_table[SQUASH_ENTRIES];
static uint32_t power_table[1 << POWER_BITS];

static uint32_t rounded(float x)
{
    return (uint32_t)(x + 0.5f);
}

/* 2^-x */
static float power(float x)
{
    return exact_exp2_neg(-x);
}

void logistic_init(void)
{
    if (is_made)
        return;
    for (int i = 0; i < 1 << LOG_BITS; i++) {
        float x = 1.0f + (float)i / (1 << LOG_BITS);
        log_table[i] = (uint16_t)rounded(exact_log2(x) * STRETCH_ONE);
    }
    for (int i = 0; i < SQUASH_ENTRIES; i++) {
        float odds = power((float)(i * SQUASH_STEP) / STRETCH_ONE);
        squash_table[i] = rounded(odds / (1.0f + odds) * PROBABILITY_ONE);
    }
    for (int i = 0; i < 1 << POWER_BITS; i++) {
        float x = power((float)i / (1 << POWER_BITS));
        power_table[i] = rounded(x * (1 << WEIGHT_BITS));
    }
    is_made = true;
}

static int log2_of(uint32_t x)
{
    int length = 31 - __builtin_clz(x);
    uint32_t mantissa = x << (31 - length) << 1 >> (32 - LOG_BITS);
    return length * STRETCH_ONE + log_table[mantissa];
}

int stretch(uint32_t one, uint32_t zero)
{
    return log2_of(one) - log2_of(zero);
}

uint32_t squash(int log_odds)
{
    int x = log_odds < 0 ? -log_odds : log_odds;
    if (x > STRETCH_MAX)
        x = STRETCH_MAX;
    uint32_t i = (uint32_t)x / SQUASH_STEP, part = (uint32_t)x % SQUASH_STEP;
    uint32_t rare =
        (squash_table[i] * (SQUASH_STEP - part) + squash_table[i + 1] * part) /
        SQUASH_STEP;
    return log_odds < 0 ? rare : PROBABILITY_ONE - rare;
}

/* difference >= 0, or not a number. */
static uint32_t weight_of(float difference)
{
    float x =
        exact_min(difference * POWER_SCALE, (float)(WEIGHT_SPAN << POWER_BITS));
    uint32_t fixed = (uint32_t)x;
    uint32_t weight =
        power_table[fixed & ((1 << POWER_BITS) - 1)] >> (fixed >> POWER_BITS);
    return weight > 0 ? weight : 1;
}

void odds_tree_make(struct odds_tree *tree, const float logits[256])
{
    float largest = exact_logit(logits[0]);
    for (int i = 1; i < 256; i++)
        largest = exact_max(exact_logit(logits[i]), largest);
    for (int i = 0; i < 256; i++)
        tree->weight[256 + i] = weight_of(largest - exact_logit(logits[i]));
    for (int i = 255; i >= 1; i--)
        tree->weight[i] = tree->weight[2 * i] + tree->weight[2 * i + 1];
}
