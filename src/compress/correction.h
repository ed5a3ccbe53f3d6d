/* correction.h -- how often predictions came true.
 *
 * A correction has counters for log-odds that are CORRECTION_STEP apart;
 * between two of them it is interpolated.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CORRECTION_H
#define MAMBYTE_CORRECTION_H

#include <stdint.h>

#include "compress/counter.h"
#include "compress/logistic.h"

enum {
    CORRECTION_BITS = 10,
    CORRECTION_STEP = 1 << CORRECTION_BITS,
    CORRECTION_MAX = 12 * CORRECTION_STEP, /* log-odds beyond count as these */
    CORRECTION_POINTS = 2 * CORRECTION_MAX / CORRECTION_STEP + 1
};

typedef uint32_t correction[CORRECTION_POINTS];

/* Two neighbours in a correction, and how far from the first a prediction is.
 */
struct corrected {
    uint32_t *points;
    int part;
};

static inline struct corrected correct(correction points, int log_odds)
{
    int x = clamp(log_odds, CORRECTION_MAX - 1) + CORRECTION_MAX;
    return (struct corrected){.points = points + x / CORRECTION_STEP,
                              .part = x % CORRECTION_STEP};
}

/* The probability of a one, of PROBABILITY_BITS. */
static inline uint32_t corrected_one(struct corrected c)
{
    enum { SHIFT = CORRECTION_BITS + COUNTER_BITS - PROBABILITY_BITS };
    uint32_t low = c.points[0] >> SEEN_BITS, high = c.points[1] >> SEEN_BITS;
    return (low * (uint32_t)(CORRECTION_STEP - c.part) +
            high * (uint32_t)c.part) >>
           SHIFT;
}

/* The nearer neighbour learns. */
static inline void corrected_learn(struct corrected c, int bit)
{
    enum { LIMIT = 60 };
    uint32_t *counter = &c.points[c.part >= CORRECTION_STEP / 2];
    int one = (int)(*counter >> SEEN_BITS), seen = (int)(*counter & SEEN_MASK);
    one += ((bit ? COUNTER_ONE - 1 : 0) - one) / (seen + 2);
    seen += seen < LIMIT;
    *counter = (uint32_t)one << SEEN_BITS | (uint32_t)seen;
}

#endif
