/* sampler.h -- chooses the next byte from a prediction, in integers.
 *
 * Logits become frequencies by exact.h; from there on everything is integer,
 * so that CPU and GPU choose the same byte.  The temperature comes first; a
 * byte must then pass top-k, top-p and min-p, each applied to the frequencies
 * that the temperature gave.  A random number is a hash of seed and position:
 * there is no state, so the byte at a position is the same however the work is
 * split.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SAMPLER_H
#define MAMBYTE_SAMPLER_H

#include <stdint.h>

#include "base/exact.h"

struct sampler {
    float inverse_temperature; /* 0: always the most likely byte */
    uint32_t top_k;            /* 256: no limit */
    uint32_t top_p;            /* out of EXACT_TOTAL; EXACT_TOTAL: no limit */
    uint32_t min_p;            /* out of EXACT_TOTAL, of the largest */
    uint64_t seed;
};

/* temperature >= 0, 1 <= top_k <= 256, 0 < top_p <= 1, 0 <= min_p <= 1. */
struct sampler sampler_make(float temperature, int top_k, float top_p,
                            float min_p, uint64_t seed);

/* The byte for position index.
 *
 * Bytes are ranked by falling frequency, equal ones by rising value.  The
 * first is kept; so is a byte whose rank is below top_k, if the frequencies of
 * the bytes before it sum to less than top_p, and its frequency * 2^24 is at
 * least min_p * the largest.  The frequencies of the kept bytes, in rising
 * order of value, make intervals; the byte is the one whose interval has
 * random_below(random_at(seed, index), their sum).  With inverse_temperature 0
 * it is the byte with the largest logit, the first of equals.
 */
uint8_t sampler_choose(const struct sampler *sampler, const float logits[256],
                       uint64_t index);

#endif
