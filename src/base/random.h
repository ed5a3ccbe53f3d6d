/* random.h -- random numbers by place: a hash of a seed and an index.
 *
 * No state, hence the same number at the same place however work is split,
 * on CPU and GPU.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_RANDOM_H
#define MAMBYTE_RANDOM_H

#include <stdint.h>

#include "base/exact.h"

/* 64 bits for place index: splitmix64 (Steele, Lea, Flood 2014). */
EXACT_FN uint64_t random_at(uint64_t seed, uint64_t index)
{
    uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A number in [0, total) from 64 random bits: their upper half scaled. */
EXACT_FN uint32_t random_below(uint64_t bits, uint32_t total)
{
    return (uint32_t)(((bits >> 32) * total) >> 32);
}

#endif
