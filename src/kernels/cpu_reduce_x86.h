/* cpu_reduce_x86.h -- the largest and the sum of 8 lanes.
 *
 * For cpu_avx2.c and cpu_avx512.c.  Lane i is joined by lane i + s, for s = 4,
 * 2 and 1: the order of v_tree_of in cpu_vector.h.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CPU_REDUCE_X86_H
#define MAMBYTE_CPU_REDUCE_X86_H

#include <immintrin.h>
#include <stdint.h>

static inline uint32_t max_of_eight(__m256i x)
{
    __m128i y = _mm_max_epi32(_mm256_castsi256_si128(x),
                              _mm256_extracti128_si256(x, 1));
    y = _mm_max_epi32(y, _mm_shuffle_epi32(y, 0x4e));
    y = _mm_max_epi32(y, _mm_shuffle_epi32(y, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(y);
}

static inline int32_t sum_of_eight(__m256i x)
{
    __m128i y = _mm_add_epi32(_mm256_castsi256_si128(x),
                              _mm256_extracti128_si256(x, 1));
    y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4e));
    y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0xb1));
    return _mm_cvtsi128_si32(y);
}

static inline float tree_of_eight(__m256 x)
{
    __m128 y =
        _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}

#endif
