/* sampler.h -- chooses the next byte from a prediction, in integers.
 *
 * Logits become frequencies by exact.h; from there on everything is integer,
 * so that CPU and GPU choose the same byte.  Order: temperature, then top-k,
 * top-p and min-p, each on the frequencies that temperature gave; a byte must
 * pass all three.  The random numbers are a hash of seed and position: no
 * state, hence the same byte at the same place however the work is split.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SAMPLER_H
#define MAMBYTE_SAMPLER_H

#include <stdint.h>

#include "base/exact.h"

struct sampler {
    float inverse_temperature; /* 0: always the most likely byte            */
    uint32_t top_k;            /* 256: no limit                             */
    uint32_t top_p;            /* out of EXACT_TOTAL; EXACT_TOTAL: no limit */
    uint32_t min_p;            /* out of EXACT_TOTAL, of the largest        */
    uint64_t seed;
};

/* temperature >= 0, 1 <= top_k <= 256, 0 < top_p <= 1, 0 <= min_p <= 1. */
struct sampler sampler_make(float temperature, int top_k, float top_p,
                            float min_p, uint64_t seed);

/* The byte for position index.
 *
 * Bytes are ranked by falling frequency, equal ones by rising value.  Kept
 * are those with rank < top_k; of which the frequencies before it in rank sum
 * to less than top_p; and with frequency * 2^24 >= min_p * largest.  The
 * first always is.  Of the kept, in rising order of value, the one in which
 * random_below(random_at(seed, index), their sum) falls.  With
 * inverse_temperature 0, the byte with the largest logit, the first of equals.
 */
uint8_t sampler_choose(const struct sampler *sampler, const float logits[256],
                       uint64_t index);

#endif
