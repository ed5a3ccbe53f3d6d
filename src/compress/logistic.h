/* logistic.h -- log-odds of bits and their inverse, in integers.
 *
 * Predictions of a bit are mixed as log-odds, the logarithm of p / (1 - p), in
 * units of 2^-10 of a doubling.  All is integer, from tables that exact.h
 * computes: the same on every machine.
 *
 * The functions are here in full: they are called for every bit, and compiled
 * for each level of instructions (predictor_code.c).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LOGISTIC_H
#define MAMBYTE_LOGISTIC_H

#include <stdint.h>

#include "base/range_coder.h"

enum {
    STRETCH_ONE = 1024,                 /* the odds are 2 to 1              */
    STRETCH_MAX = 20 * STRETCH_ONE - 1, /* what squash() tells apart        */
    LOG_BITS = 12,    /* of a mantissa that the logarithm uses              */
    SQUASH_STEP = 16, /* log-odds between two entries of the table          */
    SQUASH_ENTRIES = (STRETCH_MAX + 1) / SQUASH_STEP + 1
};

/* Logarithms of 1 + i / 2^LOG_BITS, in units of STRETCH_ONE; probabilities of
 * the less likely bit, by log-odds. */
extern int32_t logistic_logs[1 << LOG_BITS];
extern uint32_t logistic_rare[SQUASH_ENTRIES];

/* Makes the tables; call it before all else here.  More than once is fine, but
 * not from two threads at a time. */
void logistic_init(void);

static inline int clamp(int x, int limit)
{
    x = x < -limit ? -limit : x;
    return x > limit ? limit : x;
}

static inline int logistic_log2(uint32_t x)
{
    int length = 31 - __builtin_clz(x);
    uint32_t mantissa = x << (31 - length) << 1 >> (32 - LOG_BITS);
    return length * STRETCH_ONE + logistic_logs[mantissa];
}

/* Odds of one to zero, each at least 1. */
static inline int stretch(uint32_t one, uint32_t zero)
{
    return logistic_log2(one) - logistic_log2(zero);
}

/* The probability of a one, in (0, PROBABILITY_ONE), for any log-odds. */
static inline uint32_t squash(int log_odds)
{
    int x = log_odds < 0 ? -log_odds : log_odds;
    if (x > STRETCH_MAX)
        x = STRETCH_MAX;
    uint32_t i = (uint32_t)x / SQUASH_STEP, part = (uint32_t)x % SQUASH_STEP;
    uint32_t rare = (logistic_rare[i] * (SQUASH_STEP - part) +
                     logistic_rare[i + 1] * part) /
                    SQUASH_STEP;
    return log_odds < 0 ? rare : PROBABILITY_ONE - rare;
}

#endif
