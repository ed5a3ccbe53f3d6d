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

/* 64 bits for position index: splitmix64 (Steele, Lea, Flood 2014). */
EXACT_FN uint64_t sampler_random(uint64_t seed, uint64_t index)
{
    uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A number in [0, total) from 64 random bits: their upper half scaled. */
EXACT_FN uint32_t sampler_below(uint64_t random, uint32_t total)
{
    return (uint32_t)(((random >> 32) * total) >> 32);
}

/* logits: [256].  frequency: [256], each at least 1, sum EXACT_TOTAL. */
void odds_from_logits(uint32_t frequency[256], const float logits[256],
                      float inverse_temperature);

/* What byte costs under logits, in bits: -log2 of its softmax. */
float odds_cost(const float logits[256], uint8_t byte);

/* The byte for position index.
 *
 * Bytes are ranked by falling frequency, equal ones by rising value.  Kept
 * are those with rank < top_k; of which the frequencies before it in rank sum
 * to less than top_p; and with frequency * 2^24 >= min_p * largest.  The
 * first always is.  Of the kept, in rising order of value, the one in which
 * sampler_below(random, their sum) falls.  With inverse_temperature 0, the
 * byte with the largest logit, the first of equals. */
uint8_t sampler_choose(const struct sampler *sampler, const float logits[256],
                       uint64_t index);

#endif
