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

enum { V_LANES = 16, V_TILE = 12 };
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

#include "cpu_vector.h"

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

/* n_t rows of activations, a constant. */
static inline __attribute__((always_inline)) void
product_rows(int32_t sums[][2][PANEL_ROWS], const struct tile *tile,
             const int8_t *x, const int32_t *x_sum, const int n_t)
{
    __m512i sum[V_TILE][2];
#pragma GCC unroll 12
    for (int t = 0; t < n_t; t++)
        sum[t][0] = sum[t][1] = _mm512_set1_epi32(-128 * x_sum[t]);

    for (int g = 0; g < tile->n_groups; g++) {
        __m512i w0 = load_group(tile->panel[0], g);
        __m512i w1 = load_group(tile->panel[1], g);
#pragma GCC unroll 12
        for (int t = 0; t < n_t; t++) {
            __m512i v = broadcast_group(x + (size_t)t * tile->ld, g);
            sum[t][0] = _mm512_dpbusd_epi32(sum[t][0], w0, v);
            sum[t][1] = _mm512_dpbusd_epi32(sum[t][1], w1, v);
        }
    }
#pragma GCC unroll 12
    for (int t = 0; t < n_t; t++) {
        _mm512_storeu_si512(sums[t][0], sum[t][0]);
        _mm512_storeu_si512(sums[t][1], sum[t][1]);
    }
}

/* One row of activations and one panel after the other, which reads the
 * weights in their order; four chains hide the latency. */
static void product_panel(int32_t sums[PANEL_ROWS], const struct tile *tile,
                          const uint8_t *panel)
{
    __m512i sum[4] = {_mm512_set1_epi32(-128 * tile->x_sum[0])};
    for (int g = 0; g < tile->n_groups; g += 4) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            sum[k] = _mm512_dpbusd_epi32(sum[k], load_group(panel, g + k),
                                         broadcast_group(tile->x, g + k));
    }
    __m512i low = _mm512_add_epi32(sum[0], sum[1]);
    __m512i high = _mm512_add_epi32(sum[2], sum[3]);
    _mm512_storeu_si512(sums, _mm512_add_epi32(low, high));
}

static void product(int32_t sums[V_TILE][2][PANEL_ROWS],
                    const struct tile *tile)
{
    if (tile->n_t == 1) {
        product_panel(sums[0][0], tile, tile->panel[0]);
        product_panel(sums[0][1], tile, tile->panel[1]);
        return;
    }
    static const int sizes[] = {12, 8, 4, 2, 1};
    const int *size = sizes;
    for (int t = 0; t < tile->n_t; t += *size) {
        const int8_t *x = tile->x + (size_t)t * tile->ld;
        while (*size > tile->n_t - t)
            size++;
        switch (*size) {
        case 12:
            product_rows(sums + t, tile, x, tile->x_sum + t, 12);
            break;
        case 8:
            product_rows(sums + t, tile, x, tile->x_sum + t, 8);
            break;
        case 4:
            product_rows(sums + t, tile, x, tile->x_sum + t, 4);
            break;
        case 2:
            product_rows(sums + t, tile, x, tile->x_sum + t, 2);
            break;
        default:
            product_rows(sums + t, tile, x, tile->x_sum + t, 1);
        }
    }
}

const struct cpu_kernels cpu_avx512 = {.name = "avx512vnni", V_KERNELS};
