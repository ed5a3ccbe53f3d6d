/* cpu_vector.h -- the kernels in vectors, one text for every level.
 *
 * Included once by each of cpu_avx2.c, cpu_avx512.c and cpu_neon.c, after
 * they have defined
 *
 *     vfloat, vint             V_LANES floats, V_LANES int32; vectors for
 *                              which the compiler knows + - * / & | << >>
 *     v_load, v_store          unaligned
 *     v_set1, v_fma
 *     v_max, v_min             a > b ? a : b; a < b ? a : b; b for a NaN
 *     v_int_max
 *     v_store_bytes            the low byte of each lane
 *     v_load_bytes             V_LANES int8 as int32
 *     v_repeat_four            four floats, again and again
 *     v_keep                   x where a >= b, else 0
 *     v_max_of, v_sum_of       the largest lane of no negative ones, the sum
 *     v_tree_of                lane i plus lane i + s, for s = V_LANES / 2 to 1
 *     v_load_halves            V_LANES uint16, little-endian, as int32
 *     V_WEIGHT_FLIP            what a packed weight is xor-ed with
 *     V_TILE                   rows of activations of a product at a time
 *     V_FLOAT_ROWS, V_FLOAT_TILE
 *                              rows of weights and of activations of a
 *                              product of floats at a time
 *
 * and before they define product_row and product, as declared below, and
 * include cpu_vector_mamba2.h.
 *
 * Vectors lie along channels, rows or elements, never along a sum whose order
 * matters; hence each lane does what cpu_scalar.c does.  What remains beyond
 * the last whole vector goes through exact.h or through cpu_scalar itself.
 *
 * SPDX-License-Identifier: MIT
 */
#include <float.h>

#include "kernels/cpu_kernels.h"

/* ---- exact.h in vectors -------------------------------------------------- */

/* p, or 0 where it is below min. */
static inline vfloat v_or_zero(vfloat p, float min)
{
    return v_keep(p, p, v_set1(min));
}

static inline vfloat v_exp2_reduced(vfloat t, vfloat f)
{
    vfloat p = v_set1(EXACT_EXP2_C5);
    p = v_fma(p, f, v_set1(EXACT_EXP2_C4));
    p = v_fma(p, f, v_set1(EXACT_EXP2_C3));
    p = v_fma(p, f, v_set1(EXACT_EXP2_C2));
    p = v_fma(p, f, v_set1(EXACT_EXP2_C1));
    p = v_fma(p, f, v_set1(1.0f));
    return (vfloat)((vint)p + ((vint)t << 23));
}

static inline vfloat v_exp2_neg(vfloat x)
{
    x = v_max(x, v_set1(EXACT_EXP2_MIN));
    vfloat t = x + v_set1(EXACT_ROUND);
    vfloat f = x - (t - v_set1(EXACT_ROUND));
    return v_exp2_reduced(t, f);
}

/* EXACT_ROUND - t stands for -(t - EXACT_ROUND): a zero of the other sign
 * makes no difference further on. */
static inline vfloat v_exp(vfloat x)
{
    x = v_min(v_max(x, v_set1(EXACT_EXP_MIN)), v_set1(EXACT_EXP_MAX));
    vfloat t = v_fma(x, v_set1(EXACT_LOG2E), v_set1(EXACT_ROUND));
    vfloat f = v_fma(x, v_set1(EXACT_LOG2E), v_set1(EXACT_ROUND) - t);
    f = v_fma(x, v_set1(EXACT_LOG2E_LOW), f);
    return v_exp2_reduced(t, f);
}

static inline vfloat v_silu(vfloat x)
{
    return x / (v_set1(1.0f) + v_exp(-x));
}

static inline vfloat v_softplus(vfloat x)
{
    vfloat w = v_exp((vfloat)((vint)x | (vint)v_set1(-0.0f)));
    vfloat p = v_set1(EXACT_LOG1P_C8);
    p = v_fma(p, w, v_set1(EXACT_LOG1P_C7));
    p = v_fma(p, w, v_set1(EXACT_LOG1P_C6));
    p = v_fma(p, w, v_set1(EXACT_LOG1P_C5));
    p = v_fma(p, w, v_set1(EXACT_LOG1P_C4));
    p = v_fma(p, w, v_set1(EXACT_LOG1P_C3));
    p = v_fma(p, w, v_set1(EXACT_LOG1P_C2));
    p = v_fma(p, w, v_set1(EXACT_LOG1P_C1));
    p = v_fma(p, w, v_set1(1.0f));
    return v_fma(p, w, v_max(x, v_set1(0.0f)));
}

/* ---- int8 ---------------------------------------------------------------- */

static inline vint v_magnitude(vfloat x)
{
    return (vint)x & ~(vint)v_set1(-0.0f);
}

/* The bits of the largest magnitude of x: [n]. */
static uint32_t amax_of(const float *x, int n)
{
    vint largest = {0};
    int i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        largest = v_int_max(largest, v_magnitude(v_load(x + i)));
    uint32_t amax = v_max_of(largest);
    for (; i < n; i++) {
        uint32_t magnitude = exact_bits(x[i]) & EXACT_ABS_MASK;
        amax = magnitude > amax ? magnitude : amax;
    }
    return amax;
}

/* q <- x, both [n]; returns the sum of q.  EXACT_ROUND + q has the bits of
 * EXACT_ROUND, plus q. */
static inline __attribute__((always_inline)) int32_t
round_to_bytes(int8_t *q, const float *x, float inverse, int n)
{
    vint sums = {0};
    int i = 0;
    for (; i + V_LANES <= n; i += V_LANES) {
        vint rounded =
            (vint)v_fma(v_load(x + i), v_set1(inverse), v_set1(EXACT_ROUND));
        v_store_bytes(q + i, rounded);
        sums += rounded - (vint)v_set1(EXACT_ROUND);
    }
    int32_t sum = v_sum_of(sums);
    for (; i < n; i++) {
        q[i] = exact_quantise(x[i], inverse);
        sum += q[i];
    }
    return sum;
}

/* q <- x, both [n]; returns the scale, *sum is that of q. */
static inline float to_bytes(int8_t *q, int32_t *sum, const float *x, int n,
                             struct exact_scale s)
{
    *sum = 0;
    if (s.scale != 0.0f)
        *sum = round_to_bytes(q, x, s.inverse, n);
    else
        memset(q, 0, (size_t)n);
    return s.scale;
}

static void quantise_row(const struct quantised *out, const float *x, int n,
                         int t)
{
    struct exact_scale s = exact_scale_of(amax_of(x, n));
    int8_t *q = out->q + (size_t)t * (size_t)out->ld;
    int n_used = s.scale != 0.0f ? n : 0;
    out->scale[t] = s.scale;
    out->sum[t] = round_to_bytes(q, x, s.inverse, n_used);
    memset(q + n_used, 0, (size_t)(out->ld - n_used));
}

static void quantise(const struct quantised *out, const float *x, size_t ld,
                     int n, int t0, int t1)
{
    for (int t = t0; t < t1; t++)
        quantise_row(out, x + (size_t)t * ld, n, t);
}

/* ---- norm ---------------------------------------------------------------- */

enum { LANE_VECTORS = EXACT_LANES / V_LANES };

/* lane[i] += lane[i + s] for s = 32, 16, .. 1; the sum is lane[0]. */
static inline float lanes_total(vfloat lane[LANE_VECTORS])
{
#pragma GCC unroll 4
    for (int s = LANE_VECTORS / 2; s > 0; s /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < s; i++)
            lane[i] += lane[i + s];
    }
    return v_tree_of(lane[0]);
}

/* Adds term i of some that are fewer than EXACT_LANES to lane i. */
static inline void add_some(vfloat lane[LANE_VECTORS], const float *x,
                            float centre, int n, bool is_squared)
{
    float some[EXACT_LANES];
    memcpy(some, lane, sizeof some);
    for (int i = 0; i < n; i++) {
        float c = x[i] - centre;
        some[i] = is_squared ? fmaf(c, c, some[i]) : some[i] + x[i];
    }
    memcpy(lane, some, sizeof some);
}

static float sum_of(const float *x, int n)
{
    vfloat sums[LANE_VECTORS] = {{0}};
    int i = 0;
    for (; i + EXACT_LANES <= n; i += EXACT_LANES) {
#pragma GCC unroll 16
        for (int j = 0; j < LANE_VECTORS; j++)
            sums[j] += v_load(x + i + j * V_LANES);
    }
    if (i < n)
        add_some(sums, x + i, 0.0f, n - i, false);
    return lanes_total(sums);
}

static float sum_of_squares(const float *x, float centre, int n)
{
    vfloat sums[LANE_VECTORS] = {{0}};
    int i = 0;
    for (; i + EXACT_LANES <= n; i += EXACT_LANES) {
#pragma GCC unroll 16
        for (int j = 0; j < LANE_VECTORS; j++) {
            vfloat c = v_load(x + i + j * V_LANES) - v_set1(centre);
            sums[j] = v_fma(c, c, sums[j]);
        }
    }
    if (i < n)
        add_some(sums, x + i, centre, n - i, true);
    return lanes_total(sums);
}

/* x <- (h - mean) * r * weight + bias, without the last for an RMSNorm. */
static void norm_apply(float *x, const float *h, const struct norm *norm,
                       float mean, float r)
{
    int i = 0;
    for (; i + V_LANES <= norm->d; i += V_LANES) {
        vfloat c = (v_load(h + i) - v_set1(mean)) * v_set1(r);
        vfloat weight = v_load(norm->weight + i);
        v_store(x + i, norm->bias ? v_fma(c, weight, v_load(norm->bias + i))
                                  : c * weight);
    }
    for (; i < norm->d; i++) {
        float c = (h[i] - mean) * r;
        x[i] = norm->bias ? fmaf(c, norm->weight[i], norm->bias[i])
                          : c * norm->weight[i];
    }
}

static void norm_row(float *x, const float *h, const struct norm *norm)
{
    float d = (float)norm->d;
    float mean = norm->bias ? sum_of(h, norm->d) / d : 0.0f;
    float variance = sum_of_squares(h, mean, norm->d) / d;
    float r = 1.0f / sqrtf(variance + norm->epsilon);
    norm_apply(x, h, norm, mean, r);
}

static void norm_quantise(const struct quantised *out, const float *h,
                          const struct norm *norm, int t0, int t1)
{
    float x[D_MODEL_MAX];
    for (int t = t0; t < t1; t++) {
        norm_row(x, h + (size_t)t * (size_t)norm->d, norm);
        quantise_row(out, x, norm->d, t);
    }
}

static void norm(float *x, const float *h, const struct norm *norm, int t0,
                 int t1)
{
    for (int t = t0; t < t1; t++) {
        size_t at = (size_t)t * (size_t)norm->d;
        norm_row(x + at, h + at, norm);
    }
}

/* ---- products ------------------------------------------------------------
 *
 * A panel is PANEL_ROWS rows of a matrix: their scales, then for each group
 * of four columns [PANEL_ROWS][4] weights.  So a vector of int32 sums lies
 * along the rows, and four neighbouring activations, broadcast, meet it.
 * Rows and columns beyond the matrix are zero.
 */
enum {
    PANEL_ROWS = 16,
    PANEL_GROUP = 4,
    PANEL_GROUP_SIZE = PANEL_ROWS * PANEL_GROUP,
    PANEL_SCALES_SIZE = PANEL_ROWS * (int)sizeof(float),
    PANEL_COLS_UNIT = 16 /* columns are filled up to a multiple */
};

/* The operands of a tile: two panels, n_t rows of activations. */
struct tile {
    const uint8_t *panel[2]; /* [n_groups][PANEL_ROWS][4] */
    const int8_t *x;         /* [n_t][ld] */
    size_t ld;
    const int32_t *x_sum; /* [n_t] */
    int n_groups;         /* a multiple of 4 */
    int n_t;              /* 1 to V_TILE */
    size_t ahead;         /* from a panel to the one that is read next in its
                           * place; 0: there is none */
};

/* Fetches group g of the panel that is read next in place of panel p.  Its
 * lines are asked for one by one: the cores' own prefetching stops at every
 * panel, and weights of few rows are mostly waited for. */
static inline void fetch_ahead(const struct tile *tile, int p, int g)
{
    const uint8_t *next = tile->panel[p] + tile->ahead;
    __builtin_prefetch(next + (size_t)g * PANEL_GROUP_SIZE, 0, 2);
}

/* The sums of the rows of a panel. */
enum { PANEL_VECTORS = PANEL_ROWS / V_LANES };

/* Fetches what lies ahead bytes after groups [g, g + n) of a panel; nothing
 * when ahead is 0. */
static inline void fetch_row(const uint8_t *panel, int g, int n, size_t ahead)
{
    for (int k = g; k < g + n && ahead > 0; k++)
        __builtin_prefetch(panel + (size_t)k * PANEL_GROUP_SIZE + ahead);
}

/* sums <- x . rows of the panel, x_sum the sum of x; given by the level, which
 * may fetch what lies ahead bytes further; 0: nothing does. */
static inline void product_row(vint sums[PANEL_VECTORS], const uint8_t *panel,
                               const int8_t *x, int32_t x_sum, int n_groups,
                               const size_t ahead);

/* sums[t][p] <- x[t] . rows of panel p; given by the level. */
static void product(vint sums[V_TILE][2][PANEL_VECTORS],
                    const struct tile *tile);

static int n_groups_of(const struct matrix *matrix)
{
    int units = (matrix->cols + PANEL_COLS_UNIT - 1) / PANEL_COLS_UNIT;
    return units * (PANEL_COLS_UNIT / PANEL_GROUP);
}

static size_t panel_size(const struct matrix *matrix)
{
    return PANEL_SCALES_SIZE + (size_t)n_groups_of(matrix) * PANEL_GROUP_SIZE;
}

static size_t panels_size(const struct matrix *matrix)
{
    int n = (matrix->rows + PANEL_ROWS - 1) / PANEL_ROWS;
    return (size_t)n * panel_size(matrix);
}

/* Row r of the matrix into its place of its panel. */
static void pack_row(uint8_t *panel, const struct matrix *matrix, int r)
{
    const int8_t *q = matrix->q + (size_t)r * (size_t)matrix->cols;
    int i = r % PANEL_ROWS;
    memcpy(panel + (size_t)i * sizeof(float), &matrix->scale[r], sizeof(float));
    uint8_t *out = panel + PANEL_SCALES_SIZE + i * PANEL_GROUP;
    int col = 0;
    for (; col + PANEL_GROUP <= matrix->cols; col += PANEL_GROUP) {
        uint32_t four;
        memcpy(&four, q + col, sizeof four);
        four ^= V_WEIGHT_FLIP * 0x01010101u;
        memcpy(out, &four, sizeof four);
        out += PANEL_GROUP_SIZE;
    }
    for (int k = 0; col + k < matrix->cols; k++)
        out[k] = (uint8_t)q[col + k] ^ V_WEIGHT_FLIP;
}

static void pack(void *panels, const struct matrix *matrix)
{
    memset(panels, 0, panels_size(matrix));
    for (int r = 0; r < matrix->rows; r++) {
        size_t panel = (size_t)(r / PANEL_ROWS) * panel_size(matrix);
        pack_row((uint8_t *)panels + panel, matrix, r);
    }
}

/* The first n < PANEL_ROWS of put_outputs. */
static void put_some(float *y, const vint sums[PANEL_VECTORS], float scale,
                     const uint8_t *panel, bool accumulate, int n)
{
    int32_t sum[PANEL_ROWS];
    float row_scale[PANEL_ROWS];
    memcpy(sum, sums, sizeof sum);
    memcpy(row_scale, panel, sizeof row_scale);
    for (int r = 0; r < n; r++) {
        float v = exact_dequantise(sum[r], scale, row_scale[r]);
        y[r] = accumulate ? y[r] + v : v;
    }
}

/* y[r] <- sums[r] in units of scale * row_scale[r], r in [0, n) of a panel. */
static inline void put_outputs(float *y, const vint sums[PANEL_VECTORS],
                               float scale, const uint8_t *panel,
                               bool accumulate, int n)
{
    if (n < PANEL_ROWS) {
        put_some(y, sums, scale, panel, accumulate, n);
        return;
    }
#pragma GCC unroll 4
    for (int i = 0; i < PANEL_VECTORS; i++) {
        vfloat row_scale;
        memcpy(&row_scale, panel + (size_t)i * sizeof row_scale,
               sizeof row_scale);
        vfloat v = __builtin_convertvector(sums[i], vfloat) *
                   (v_set1(scale) * row_scale);
        float *out = y + i * V_LANES;
        v_store(out, accumulate ? v_load(out) + v : v);
    }
}

static const uint8_t *panel_of(const struct projection *w, int r)
{
    return (const uint8_t *)w->panels +
           (size_t)(r / PANEL_ROWS) * panel_size(&w->matrix);
}

/* How far ahead the weights of one byte are fetched, so that more reads are
 * under way than a core begins by itself.  Behind a matrix lies the next one;
 * behind the last it does not matter. */
enum { ROW_AHEAD = 8192 };

/* Rows [r0, r1) of one byte: the weights are read in their order in memory,
 * and nothing comes between them. */
static void matmul_one(float *y, const struct projection *w,
                       const struct quantised *x, bool accumulate, int t,
                       int r0, int r1)
{
    const int8_t *q = x->q + (size_t)t * (size_t)x->ld;
    const uint8_t *panel = panel_of(w, r0);
    size_t size = panel_size(&w->matrix);
    int n_groups = n_groups_of(&w->matrix);
    for (int r = r0; r < r1; r += PANEL_ROWS, panel += size) {
        vint sums[PANEL_VECTORS];
        product_row(sums, panel + PANEL_SCALES_SIZE, q, x->sum[t], n_groups,
                    ROW_AHEAD);
        put_outputs(y + r, sums, x->scale[t], panel, accumulate, r1 - r);
    }
}

/* Rows [r0, r1), at most two panels, r0 at the start of one; ahead is that of
 * a tile. */
static void matmul_panels(float *y, size_t ld, const struct projection *w,
                          const struct quantised *x, bool accumulate, int t0,
                          int t1, int r0, int r1, size_t ahead)
{
    bool is_pair = r1 - r0 > PANEL_ROWS;
    const uint8_t *panel[2] = {panel_of(w, r0),
                               panel_of(w, is_pair ? r0 + PANEL_ROWS : r0)};
    int n = is_pair ? PANEL_ROWS : r1 - r0;
    struct tile tile = {
        .panel = {panel[0] + PANEL_SCALES_SIZE, panel[1] + PANEL_SCALES_SIZE},
        .ld = (size_t)x->ld,
        .n_groups = n_groups_of(&w->matrix),
    };
    for (int t = t0; t < t1; t += tile.n_t) {
        vint sums[V_TILE][2][PANEL_VECTORS];
        tile.x = x->q + (size_t)t * tile.ld;
        tile.x_sum = x->sum + t;
        tile.n_t = t1 - t < V_TILE ? t1 - t : V_TILE;
        tile.ahead = t == t0 ? ahead : 0;
        product(sums, &tile);
        for (int i = 0; i < tile.n_t; i++) {
            float *out = y + (size_t)(t + i) * ld + r0;
            float scale = x->scale[t + i];
            put_outputs(out, sums[i][0], scale, panel[0], accumulate, n);
            put_outputs(out + n, sums[i][1], scale, panel[1], accumulate,
                        r1 - r0 - n);
        }
    }
}

static void matmul(float *y, size_t ld, const struct projection *w,
                   const struct quantised *x, bool accumulate, int t0, int t1,
                   int r0, int r1)
{
    if (t1 - t0 == 1) {
        matmul_one(y + (size_t)t0 * ld, w, x, accumulate, t0, r0, r1);
        return;
    }
    for (int r = r0; r < r1; r += 2 * PANEL_ROWS) {
        int end = r1 - r < 2 * PANEL_ROWS ? r1 : r + 2 * PANEL_ROWS;
        bool has_next = r1 - r > 3 * PANEL_ROWS;
        size_t ahead = has_next ? 2 * panel_size(&w->matrix) : 0;
        matmul_panels(y, ld, w, x, accumulate, t0, t1, r, end, ahead);
    }
}

#include "kernels/cpu_vector_channels.h"
#include "kernels/cpu_vector_cost.h"
#include "kernels/cpu_vector_floats.h"

/* The table, apart from the name. */
#define V_KERNELS                                                              \
    .rows_unit = PANEL_ROWS, .channels_unit = V_LANES,                         \
    .panels_size = panels_size, .pack = pack, .quantise = quantise,            \
    .norm_quantise = norm_quantise, .matmul = matmul, .norm = norm,            \
    .float_matmul = float_matmul, .conv_silu = conv_silu, .scan = scan,        \
    .cost = cost, .mamba2 = &vector_mamba2
