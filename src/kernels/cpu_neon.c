/* cpu_neon.c -- the kernels in NEON with the int8 dot product of Armv8.2.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

enum { V_LANES = 4, V_TILE = 4, V_FLOAT_ROWS = 2, V_FLOAT_TILE = 3 };
#define V_WEIGHT_FLIP 0u

typedef float32x4_t vfloat;
typedef int32x4_t vint;

static inline vfloat v_load(const float *p)
{
    return vld1q_f32(p);
}

static inline void v_store(float *p, vfloat x)
{
    vst1q_f32(p, x);
}

static inline vfloat v_set1(float x)
{
    return vdupq_n_f32(x);
}

static inline vfloat v_fma(vfloat a, vfloat b, vfloat c)
{
    return vfmaq_f32(c, a, b);
}

static inline vfloat v_max(vfloat a, vfloat b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

static inline vfloat v_min(vfloat a, vfloat b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}

static inline vint v_int_max(vint a, vint b)
{
    return vmaxq_s32(a, b);
}

static inline void v_store_bytes(int8_t *p, vint x)
{
    int16x4_t halves = vmovn_s32(x);
    int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
    memcpy(p, &bytes, V_LANES);
}

static inline vint v_load_halves(const uint8_t *p)
{
    return vreinterpretq_s32_u32(vmovl_u16(vreinterpret_u16_u8(vld1_u8(p))));
}

static inline vint v_load_bytes(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(four));
    return vmovl_s16(vget_low_s16(vmovl_s8(bytes)));
}

static inline vfloat v_repeat_four(const float *p)
{
    return v_load(p);
}

static inline vfloat v_keep(vfloat x, vfloat a, vfloat b)
{
    return vreinterpretq_f32_u32(
        vandq_u32(vcgeq_f32(a, b), vreinterpretq_u32_f32(x)));
}

static inline uint32_t v_max_of(vint x)
{
    return (uint32_t)vmaxvq_s32(x);
}

static inline int32_t v_sum_of(vint x)
{
    return vaddvq_s32(x);
}

static inline float v_tree_of(vfloat x)
{
    float32x2_t two = vadd_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

#include "kernels/cpu_vector.h"

/* Sixteen columns, four groups from g on, of n_t rows of activations, a
 * constant. */
static inline __attribute__((always_inline)) void
add_groups(vint sum[][PANEL_VECTORS], const uint8_t *panel, const int8_t *x,
           size_t ld, int g, const int n_t)
{
    int8x16_t four[V_TILE];
    for (int t = 0; t < n_t; t++)
        four[t] = vld1q_s8(x + (size_t)t * ld + (size_t)g * PANEL_GROUP);
    const int8_t *w = (const int8_t *)panel + (size_t)g * PANEL_GROUP_SIZE;
#pragma GCC unroll 4
    for (int i = 0; i < PANEL_VECTORS; i++, w += 16) {
        int8x16_t w0 = vld1q_s8(w);
        int8x16_t w1 = vld1q_s8(w + PANEL_GROUP_SIZE);
        int8x16_t w2 = vld1q_s8(w + 2 * PANEL_GROUP_SIZE);
        int8x16_t w3 = vld1q_s8(w + 3 * PANEL_GROUP_SIZE);
#pragma GCC unroll 4
        for (int t = 0; t < n_t; t++) {
            sum[t][i] = vdotq_laneq_s32(sum[t][i], w0, four[t], 0);
            sum[t][i] = vdotq_laneq_s32(sum[t][i], w1, four[t], 1);
            sum[t][i] = vdotq_laneq_s32(sum[t][i], w2, four[t], 2);
            sum[t][i] = vdotq_laneq_s32(sum[t][i], w3, four[t], 3);
        }
    }
}

static inline void product_row(vint sums[PANEL_VECTORS], const uint8_t *panel,
                               const int8_t *x, int32_t x_sum, int n_groups,
                               const size_t ahead)
{
    (void)x_sum;
    (void)ahead;
    vint sum[1][PANEL_VECTORS] = {{{0}}};
    for (int g = 0; g < n_groups; g += 4)
        add_groups(sum, panel, x, 0, g, 1);
    memcpy(sums, sum, sizeof sum);
}

/* Panel p, n_t rows of activations, a constant. */
static inline __attribute__((always_inline)) void
product_rows(vint sums[V_TILE][2][PANEL_VECTORS], const struct tile *tile,
             int p, const int n_t)
{
    vint sum[V_TILE][PANEL_VECTORS] = {{{0}}};
    for (int g = 0; g < tile->n_groups; g += 4)
        add_groups(sum, tile->panel[p], tile->x, tile->ld, g, n_t);
#pragma GCC unroll 4
    for (int t = 0; t < n_t; t++)
        memcpy(sums[t][p], sum[t], sizeof sum[t]);
}

static void product(vint sums[V_TILE][2][PANEL_VECTORS],
                    const struct tile *tile)
{
    for (int p = 0; p < 2; p++) {
        switch (tile->n_t) {
        case 4:
            product_rows(sums, tile, p, 4);
            break;
        case 3:
            product_rows(sums, tile, p, 3);
            break;
        case 2:
            product_rows(sums, tile, p, 2);
            break;
        default:
            product_rows(sums, tile, p, 1);
        }
    }
}

#include "kernels/cpu_vector_mamba2.h"

const struct cpu_kernels cpu_neon = {.name = "neon", V_KERNELS};
