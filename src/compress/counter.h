/* counter.h -- how often a bit was one, learnt bit by bit.
 *
 * The upper 22 bits are the probability of a one.  The lower 10 say how much
 * the counter has seen: the more, up to a limit, the less it moves.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_COUNTER_H
#define MAMBYTE_COUNTER_H

#include <stdint.h>

enum {
    SEEN_BITS = 10,
    SEEN_MASK = (1 << SEEN_BITS) - 1,
    COUNTER_BITS = 32 - SEEN_BITS,
    COUNTER_ONE = 1 << COUNTER_BITS
};

#define COUNTER_FRESH (1u << 31) /* even odds, nothing seen */

static inline uint32_t counter_make(uint32_t probability, uint32_t seen)
{
    return probability << SEEN_BITS | seen;
}

#endif
