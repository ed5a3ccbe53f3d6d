/* train_kernels.c -- the array operations of training on a CPU: products,
 * norms and the convolution.
 *
 * Compiled once for each level, TRAIN_LEVEL being the name of the table.
 * There is nothing of a level in the text: loops over LANES and over columns
 * have no sum across their index, so that the compiler makes vectors of them
 * without changing a bit.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <string.h>

#include "kernels/scalar.h"
#include "kernels/train_level.h"

/* ---- products ----------------------------------------------------------- */

/* A tile of c stays in registers, a panel of b in the first cache, a block
 * of a in the second. */
enum {
    TILE_ROWS = 8,
    TILE_COLUMNS = 32,
    PANEL_DEPTH = 256,
    BLOCK_TILES = 16,
    BLOCK_ROWS = BLOCK_TILES * TILE_ROWS
};

struct panel {
    float b[PANEL_DEPTH][TILE_COLUMNS];
};

struct stack {
    float a[BLOCK_TILES][PANEL_DEPTH][TILE_ROWS];
};

/* Where a panel meets a stack. */
struct corner {
    int i, n_i; /* rows of c */
    int j, n_j; /* columns of c */
    int k, n_k; /* the sum */
};

/* Zeros beyond the last column. */
static void copy_panel(struct panel *panel, const struct product *job,
                       const struct corner *at)
{
    for (int k = 0; k < at->n_k; k++) {
        const float *from = job->b + (size_t)(at->k + k) * job->ld_b + at->j;
        memset(panel->b[k], 0, sizeof panel->b[k]);
        memcpy(panel->b[k], from, sizeof(float) * (size_t)at->n_j);
    }
}

/* Beyond the last row, that row again. */
static void copy_stack(struct stack *stack, const struct product *job,
                       const struct corner *at)
{
    for (int i = 0; i < at->n_i; i += TILE_ROWS) {
        const float *from[TILE_ROWS];
        for (int r = 0; r < TILE_ROWS; r++)
            from[r] = job->a +
                      (size_t)(at->i + least(i + r, at->n_i - 1)) * job->a_i +
                      (size_t)at->k * job->a_k;
        for (int k = 0; k < at->n_k; k++) {
            for (int r = 0; r < TILE_ROWS; r++)
                stack->a[i / TILE_ROWS][k][r] = from[r][(size_t)k * job->a_k];
        }
    }
}

/* tile[i][j] = sum over k of a[k][i] b[k][j].  The loops over the tile have
 * constant bounds and are unrolled: sum lives in registers. */
static void multiply_tile(float tile[restrict TILE_ROWS][TILE_COLUMNS],
                          const float a[restrict PANEL_DEPTH][TILE_ROWS],
                          const float b[restrict PANEL_DEPTH][TILE_COLUMNS],
                          int n_k)
{
    float sum[TILE_ROWS][TILE_COLUMNS];
    for (int i = 0; i < TILE_ROWS; i++) {
        for (int j = 0; j < TILE_COLUMNS; j++)
            sum[i][j] = 0.0f;
    }
    for (int k = 0; k < n_k; k++) {
        for (int i = 0; i < TILE_ROWS; i++) {
            for (int j = 0; j < TILE_COLUMNS; j++)
                sum[i][j] = fmaf(a[k][i], b[k][j], sum[i][j]);
        }
    }
    for (int i = 0; i < TILE_ROWS; i++) {
        for (int j = 0; j < TILE_COLUMNS; j++)
            tile[i][j] = sum[i][j];
    }
}

static void multiply_corner(const struct product *job,
                            const struct stack *stack,
                            const struct panel *panel, const struct corner *at)
{
    float tile[TILE_ROWS][TILE_COLUMNS];
    bool accumulate = job->accumulate || at->k > 0;
    for (int i = 0; i < at->n_i; i += TILE_ROWS) {
        multiply_tile(tile, stack->a[i / TILE_ROWS], panel->b, at->n_k);
        for (int r = 0; r < least(TILE_ROWS, at->n_i - i); r++) {
            float *c = job->c + (size_t)(at->i + i + r) * job->ld_c + at->j;
            for (int x = 0; x < at->n_j; x++)
                c[x] = accumulate ? c[x] + tile[r][x] : tile[r][x];
        }
    }
}

/* Sums run over PANEL_DEPTH terms from 0, and are added in turn. */
static void product(const struct product *job, int i0, int i1)
{
    struct panel panel;
    struct stack stack;
    struct corner at;
    for (at.k = 0; at.k < job->n_k; at.k += PANEL_DEPTH) {
        at.n_k = least(PANEL_DEPTH, job->n_k - at.k);
        for (at.i = i0; at.i < i1; at.i += BLOCK_ROWS) {
            at.n_i = least(BLOCK_ROWS, i1 - at.i);
            copy_stack(&stack, job, &at);
            for (at.j = 0; at.j < job->n_j; at.j += TILE_COLUMNS) {
                at.n_j = least(TILE_COLUMNS, job->n_j - at.j);
                copy_panel(&panel, job, &at);
                multiply_corner(job, &stack, &panel, &at);
            }
        }
    }
}

/* ---- norms -------------------------------------------------------------- */

/* x = h / rms(h) * weight, or (h - mean) / deviation * weight + bias */
static void norm_row(const struct norm_pass *job, int t)
{
    const float *h = job->h + (size_t)t * (size_t)job->d;
    float *x = job->x + (size_t)t * (size_t)job->d;
    float d = (float)job->d;
    float mean = job->bias ? sum_of(h, job->d) / d : 0.0f;
    float variance = sum_of_squares(h, mean, job->d) / d;
    float r = 1.0f / sqrtf(variance + job->epsilon);
    job->mean[t] = mean;
    job->r[t] = r;
    if (job->bias) {
        for (int i = 0; i < job->d; i++)
            x[i] = fmaf((h[i] - mean) * r, job->weight[i], job->bias[i]);
    } else {
        for (int i = 0; i < job->d; i++)
            x[i] = h[i] * r * job->weight[i];
    }
}

static void norm(const struct norm_pass *job, int t0, int t1)
{
    for (int t = t0; t < t1; t++)
        norm_row(job, t);
}

/* With c = (h - mean) r and e = dx weight:
 * dh += r (e - mean of e - c * mean of e c); without mean in RMSNorm */
static void norm_backward_row(const struct norm_pass *job, float *dh,
                              const float *dx, int t)
{
    const float *h = job->h + (size_t)t * (size_t)job->d;
    float mean = job->mean[t], r = job->r[t], d = (float)job->d;
    float along_1[EXACT_LANES] = {0}, along_c[EXACT_LANES] = {0};
    for (int i = 0; i < job->d; i += EXACT_LANES) {
        for (int j = 0; j < lanes_used(job->d, i); j++) {
            float e = dx[i + j] * job->weight[i + j];
            along_1[j] += e;
            along_c[j] = fmaf(e, (h[i + j] - mean) * r, along_c[j]);
        }
    }
    float e_mean = job->bias ? lanes_total(along_1, EXACT_LANES) / d : 0.0f;
    float ec_mean = lanes_total(along_c, EXACT_LANES) / d;
    for (int i = 0; i < job->d; i++) {
        float c = (h[i] - mean) * r;
        float e = dx[i] * job->weight[i] - e_mean;
        dh[i] = fmaf(r, fmaf(-c, ec_mean, e), dh[i]);
    }
}

static void norm_backward(const struct norm_pass *job, float *dh,
                          const float *dx, int t0, int t1)
{
    for (int t = t0; t < t1; t++) {
        size_t row = (size_t)t * (size_t)job->d;
        norm_backward_row(job, dh + row, dx + row, t);
    }
}

/* dweight += sum over t of dx c, dbias += sum over t of dx */
static void norm_backward_weight(const struct norm_pass *job, float *dweight,
                                 float *dbias, const float *dx, int n_t, int i0,
                                 int i1)
{
    for (int t = 0; t < n_t; t++) {
        const float *h = job->h + (size_t)t * (size_t)job->d;
        const float *dx_t = dx + (size_t)t * (size_t)job->d;
        float mean = job->mean[t], r = job->r[t];
        for (int i = i0; i < i1; i++)
            dweight[i] = fmaf(dx_t[i], (h[i] - mean) * r, dweight[i]);
        for (int i = i0; i < i1 && dbias; i++)
            dbias[i] += dx_t[i];
    }
}

/* ---- convolution -------------------------------------------------------- */

/* Row t of the inputs; those before the window are in the history. */
static const float *conv_input(const struct conv_pass *job, int t)
{
    if (t >= 0)
        return job->in + (size_t)t * job->ld_in;
    return job->history + (size_t)(t + job->d_conv - 1) * (size_t)job->d_inner;
}

/* a = bias + sum over taps k of conv[k] * input[t - (d_conv - 1) + k] */
static void convolve(float a[LANES], const struct conv_pass *job, int t,
                     float conv[D_CONV_MAX][LANES], struct block block)
{
    float x[LANES];
    load(a, job->bias, block);
    for (int k = 0; k < job->d_conv; k++) {
        load(x, conv_input(job, t - (job->d_conv - 1) + k), block);
        for (int j = 0; j < LANES; j++)
            a[j] = fmaf(conv[k][j], x[j], a[j]);
    }
}

static void load_taps(float conv[D_CONV_MAX][LANES],
                      const struct conv_pass *job, struct block block)
{
    for (int k = 0; k < job->d_conv; k++)
        load(conv[k], job->conv + (size_t)k * (size_t)job->d_inner, block);
}

/* u = silu(a) */
static void conv(const struct conv_pass *job, int index)
{
    struct block block = block_of(index, job->d_inner);
    size_t d_inner = (size_t)job->d_inner;
    float taps[D_CONV_MAX][LANES], a[LANES];
    load_taps(taps, job, block);
    for (int t = 0; t < job->n_t; t++) {
        convolve(a, job, t, taps, block);
        for (int j = 0; j < LANES; j++)
            a[j] = exact_silu(a[j]);
        store(job->u + (size_t)t * d_inner, a, block);
    }
    for (int k = 0; k < job->d_conv - 1; k++) {
        load(a, conv_input(job, job->n_t - (job->d_conv - 1) + k), block);
        store(job->history_after + (size_t)k * d_inner, a, block);
    }
}

/* da = du silu'(a); dbias += da; dconv[k] += da input[t - (d_conv - 1) + k] */
static void conv_backward_taps(const struct conv_pass *job,
                               float taps[D_CONV_MAX][LANES],
                               struct block block)
{
    float dtaps[D_CONV_MAX][LANES] = {{0}}, dbias[LANES] = {0};
    float a[LANES], x[LANES];
    for (int t = 0; t < job->n_t; t++) {
        float *da = job->da + (size_t)t * LANES;
        convolve(a, job, t, taps, block);
        load(x, job->du + (size_t)t * (size_t)job->d_inner, block);
        for (int j = 0; j < LANES; j++)
            da[j] = x[j] * silu_slope(a[j]);
        for (int j = 0; j < LANES; j++)
            dbias[j] += da[j];
        for (int k = 0; k < job->d_conv; k++) {
            load(x, conv_input(job, t - (job->d_conv - 1) + k), block);
            for (int j = 0; j < LANES; j++)
                dtaps[k][j] = fmaf(da[j], x[j], dtaps[k][j]);
        }
    }
    add_to(job->dbias, dbias, block);
    for (int k = 0; k < job->d_conv; k++)
        add_to(job->dconv + (size_t)k * (size_t)job->d_inner, dtaps[k], block);
}

/* din[t] = sum over taps k of conv[k] * da[t + (d_conv - 1) - k] */
static void conv_backward(const struct conv_pass *job, int index)
{
    struct block block = block_of(index, job->d_inner);
    float taps[D_CONV_MAX][LANES];
    load_taps(taps, job, block);
    conv_backward_taps(job, taps, block);
    for (int t = 0; t < job->n_t; t++) {
        float din[LANES] = {0};
        for (int k = job->d_conv - 1; k >= 0; k--) {
            int at = t + job->d_conv - 1 - k;
            const float *da = job->da + (size_t)at * LANES;
            if (at >= job->n_t)
                break;
            for (int j = 0; j < LANES; j++)
                din[j] = fmaf(taps[k][j], da[j], din[j]);
        }
        store(job->din + (size_t)t * job->ld_in, din, block);
    }
}

const struct train_kernels TRAIN_LEVEL = {
    .name = TRAIN_LEVEL_NAME,
    .product = product,
    .norm = norm,
    .norm_backward = norm_backward,
    .norm_backward_weight = norm_backward_weight,
    .conv = conv,
    .conv_backward = conv_backward,
    .scan = SCAN,
    .scan_backward = SCAN_BACKWARD,
    .chunk_backward = CHUNK_BACKWARD,
    .gate_backward = GATE_BACKWARD,
    .gate_backward_weight = GATE_BACKWARD_WEIGHT,
};
