/* cpu_avx512.c -- the kernels in AVX-512 with VNNI.
 *
 * vpdpbusd multiplies unsigned with signed bytes: weights are stored plus
 * 128, and 128 times the sum of the activations is taken off beforehand.
 * The sums wrap modulo 2^32 on the way and are right at the end.
 *
 * SPDX-License-Identifier: MIT
 */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu_reduce_x86.h"

enum { V_LANES = 16, V_TILE = 12, V_FLOAT_ROWS = 4, V_FLOAT_TILE = 6 };
#define V_WEIGHT_FLIP 0x80u

typedef float vfloat __attribute__((vector_size(64)));
typedef int32_t vint __attribute__((vector_size(64)));

static inline vfloat v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void v_store(float *p, vfloat x)
{
    _mm512_storeu_ps(p, x);
}

static inline vfloat v_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline vfloat v_fma(vfloat a, vfloat b, vfloat c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vfloat v_max(vfloat a, vfloat b)
{
    return _mm512_max_ps(a, b);
}

static inline vfloat v_min(vfloat a, vfloat b)
{
    return _mm512_min_ps(a, b);
}

static inline vint v_int_max(vint a, vint b)
{
    return (vint)_mm512_max_epi32((__m512i)a, (__m512i)b);
}

static inline void v_store_bytes(int8_t *p, vint x)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)x));
}

static inline vint v_load_halves(const uint8_t *p)
{
    return (vint)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}

static inline vint v_load_bytes(const int8_t *p)
{
    return (vint)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}

static inline vfloat v_repeat_four(const float *p)
{
    return _mm512_broadcast_f32x4(_mm_loadu_ps(p));
}

static inline vfloat v_keep(vfloat x, vfloat a, vfloat b)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), x);
}

static inline uint32_t v_max_of(vint x)
{
    __m512i y = (__m512i)x;
    return max_of_eight(_mm256_max_epi32(_mm512_castsi512_si256(y),
                                         _mm512_extracti64x4_epi64(y, 1)));
}

static inline int32_t v_sum_of(vint x)
{
    __m512i y = (__m512i)x;
    return sum_of_eight(_mm256_add_epi32(_mm512_castsi512_si256(y),
                                         _mm512_extracti64x4_epi64(y, 1)));
}

static inline float v_tree_of(vfloat x)
{
    return tree_of_eight(
        _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)));
}

#include "kernels/cpu_vector.h"

static inline __m512i load_group(const uint8_t *panel, int g)
{
    return _mm512_loadu_si512(panel + (size_t)g * PANEL_GROUP_SIZE);
}

static inline __m512i broadcast_group(const int8_t *x, int g)
{
    int32_t four;
    memcpy(&four, x + (size_t)g * PANEL_GROUP, sizeof four);
    return _mm512_set1_epi32(four);
}

/* Four chains hide the latency. */
static inline void product_row(vint sums[PANEL_VECTORS], const uint8_t *panel,
                               const int8_t *x, int32_t x_sum, int n_groups,
                               const size_t ahead)
{
    __m512i sum[4] = {_mm512_set1_epi32(-128 * x_sum)};
    for (int g = 0; g < n_groups; g += 4) {
        fetch_row(panel, g, 4, ahead);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            sum[k] = _mm512_dpbusd_epi32(sum[k], load_group(panel, g + k),
                                         broadcast_group(x, g + k));
    }
    sums[0] = ((vint)sum[0] + (vint)sum[1]) + ((vint)sum[2] + (vint)sum[3]);
}

/* n_t rows of activations from t on; n_t is a constant. */
static inline __attribute__((always_inline)) void
product_rows(vint sums[V_TILE][2][PANEL_VECTORS], const struct tile *tile,
             int t, const int n_t)
{
    const int8_t *x = tile->x + (size_t)t * tile->ld;
    __m512i sum[V_TILE][2];
#pragma GCC unroll 12
    for (int i = 0; i < n_t; i++)
        sum[i][0] = sum[i][1] = _mm512_set1_epi32(-128 * tile->x_sum[t + i]);

    for (int g = 0; g < tile->n_groups; g++) {
        __m512i w0 = load_group(tile->panel[0], g);
        __m512i w1 = load_group(tile->panel[1], g);
        fetch_ahead(tile, 0, g);
        fetch_ahead(tile, 1, g);
#pragma GCC unroll 12
        for (int i = 0; i < n_t; i++) {
            __m512i four = broadcast_group(x + (size_t)i * tile->ld, g);
            sum[i][0] = _mm512_dpbusd_epi32(sum[i][0], w0, four);
            sum[i][1] = _mm512_dpbusd_epi32(sum[i][1], w1, four);
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < n_t; i++) {
        _mm512_storeu_si512(&sums[t + i][0][0], sum[i][0]);
        _mm512_storeu_si512(&sums[t + i][1][0], sum[i][1]);
    }
}

static void product(vint sums[V_TILE][2][PANEL_VECTORS],
                    const struct tile *tile)
{
    int t = 0;
    if (tile->n_t == 12) {
        product_rows(sums, tile, t, 12);
        return;
    }
    if (tile->n_t & 8) {
        product_rows(sums, tile, t, 8);
        t += 8;
    }
    if (tile->n_t & 4) {
        product_rows(sums, tile, t, 4);
        t += 4;
    }
    if (tile->n_t & 2) {
        product_rows(sums, tile, t, 2);
        t += 2;
    }
    if (tile->n_t & 1)
        product_rows(sums, tile, t, 1);
}

#include "kernels/cpu_vector_mamba2.h"

const struct cpu_kernels cpu_avx512 = {.name = "avx512vnni", V_KERNELS};
