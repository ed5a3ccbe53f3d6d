/* cpu_avx2.c -- the kernels in AVX2 with FMA.
 *
 * vpmaddubsw multiplies unsigned with signed bytes and adds neighbours with
 * saturation: it gets the magnitude of the weights, and the activations with
 * the sign of the weights.  2 * 128 * 127 fits an int16.
 *
 * SPDX-License-Identifier: MIT
 */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu_reduce_x86.h"

enum { V_LANES = 8, V_TILE = 8, V_FLOAT_ROWS = 2, V_FLOAT_TILE = 3 };
#define V_WEIGHT_FLIP 0u

typedef float vfloat __attribute__((vector_size(32)));
typedef int32_t vint __attribute__((vector_size(32)));

static inline vfloat v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void v_store(float *p, vfloat x)
{
    _mm256_storeu_ps(p, x);
}

static inline vfloat v_set1(float x)
{
    return _mm256_set1_ps(x);
}

static inline vfloat v_fma(vfloat a, vfloat b, vfloat c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vfloat v_max(vfloat a, vfloat b)
{
    return _mm256_max_ps(a, b);
}

static inline vfloat v_min(vfloat a, vfloat b)
{
    return _mm256_min_ps(a, b);
}

static inline vint v_int_max(vint a, vint b)
{
    return (vint)_mm256_max_epi32((__m256i)a, (__m256i)b);
}

static inline void v_store_bytes(int8_t *p, vint x)
{
    const __m256i low_bytes = _mm256_set1_epi32(0x0c080400);
    __m256i fours = _mm256_shuffle_epi8((__m256i)x, low_bytes);
    int32_t low = _mm256_extract_epi32(fours, 0);
    int32_t high = _mm256_extract_epi32(fours, 4);
    memcpy(p, &low, sizeof low);
    memcpy(p + sizeof low, &high, sizeof high);
}

static inline vint v_load_halves(const uint8_t *p)
{
    return (vint)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}

static inline vint v_load_bytes(const int8_t *p)
{
    return (vint)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

static inline vfloat v_repeat_four(const float *p)
{
    return _mm256_broadcast_ps((const __m128 *)p);
}

static inline vfloat v_keep(vfloat x, vfloat a, vfloat b)
{
    return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ), x);
}

static inline uint32_t v_max_of(vint x)
{
    return max_of_eight((__m256i)x);
}

static inline int32_t v_sum_of(vint x)
{
    return sum_of_eight((__m256i)x);
}

static inline float v_tree_of(vfloat x)
{
    return tree_of_eight(x);
}

#include "kernels/cpu_vector.h"

/* Half a panel is eight rows. */
enum { HALF = PANEL_ROWS / 2, HALF_SIZE = PANEL_GROUP_SIZE / 2 };

static inline __m256i load_half(const uint8_t *panel, int g, int half)
{
    panel += (size_t)g * PANEL_GROUP_SIZE + half * HALF_SIZE;
    return _mm256_loadu_si256((const __m256i *)panel);
}

static inline __m256i broadcast_group(const int8_t *x, int g)
{
    int32_t four;
    memcpy(&four, x + (size_t)g * PANEL_GROUP, sizeof four);
    return _mm256_set1_epi32(four);
}

/* sum + the products of four neighbours */
static inline __m256i add_products(__m256i sum, __m256i w, __m256i magnitude,
                                   __m256i x)
{
    __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x, w));
    __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    return _mm256_add_epi32(sum, fours);
}

static inline void product_row(vint sums[PANEL_VECTORS], const uint8_t *panel,
                               const int8_t *x, int32_t x_sum, int n_groups,
                               const size_t ahead)
{
    (void)x_sum;
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int g = 0; g < n_groups; g++) {
        __m256i four = broadcast_group(x, g);
        fetch_row(panel, g, 1, ahead);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            __m256i w = load_half(panel, g, half);
            sum[half] = add_products(sum[half], w, _mm256_abs_epi8(w), four);
        }
    }
    sums[0] = (vint)sum[0];
    sums[1] = (vint)sum[1];
}

/* Half of panel p, n_t rows of activations from t on; n_t is a constant. */
static inline __attribute__((always_inline)) void
product_half(vint sums[V_TILE][2][PANEL_VECTORS], const struct tile *tile,
             int p, int half, int t, const int n_t)
{
    const int8_t *x = tile->x + (size_t)t * tile->ld;
    __m256i sum[V_TILE];
#pragma GCC unroll 8
    for (int i = 0; i < n_t; i++)
        sum[i] = _mm256_setzero_si256();

    for (int g = 0; g < tile->n_groups; g++) {
        __m256i w = load_half(tile->panel[p], g, half);
        __m256i magnitude = _mm256_abs_epi8(w);
        fetch_ahead(tile, p, g);
#pragma GCC unroll 8
        for (int i = 0; i < n_t; i++)
            sum[i] = add_products(sum[i], w, magnitude,
                                  broadcast_group(x + (size_t)i * tile->ld, g));
    }
#pragma GCC unroll 8
    for (int i = 0; i < n_t; i++)
        memcpy(&sums[t + i][p][half], &sum[i], sizeof sum[i]);
}

static void product_halves(vint sums[V_TILE][2][PANEL_VECTORS],
                           const struct tile *tile, int p, int half)
{
    int t = 0;
    if (tile->n_t == 8) {
        product_half(sums, tile, p, half, t, 8);
        return;
    }
    for (; t + 4 <= tile->n_t; t += 4)
        product_half(sums, tile, p, half, t, 4);
    for (; t < tile->n_t; t++)
        product_half(sums, tile, p, half, t, 1);
}

static void product(vint sums[V_TILE][2][PANEL_VECTORS],
                    const struct tile *tile)
{
    for (int p = 0; p < 2; p++) {
        product_halves(sums, tile, p, 0);
        product_halves(sums, tile, p, 1);
    }
}

#include "kernels/cpu_vector_mamba2.h"

const struct cpu_kernels cpu_avx2 = {.name = "avx2", V_KERNELS};
