/* kernels_compare.c -- holds a level of kernels to cpu_scalar by memcmp.
 *
 * SPDX-License-Identifier: MIT
 */
#include "kernels_compare.h"

#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"
#include "base/random.h"

/* ---- random sizes, values and memory ------------------------------------- */

struct source {
    uint64_t seed, index;
    bool is_special; /* give infinities and NaN too */
};

static uint32_t draw(struct source *s, uint32_t below)
{
    return random_below(random_at(s->seed, s->index++), below);
}

/* In [low, high]. */
static int draw_size(struct source *s, int low, int high)
{
    return low + (int)draw(s, (uint32_t)(high - low + 1));
}

/* Of either sign and of many magnitudes; now and then zero or special. */
static float draw_float(struct source *s)
{
    static const float rare[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN};
    uint32_t kind = draw(s, 64);
    if (kind < 2 || (kind < 5 && s->is_special))
        return rare[kind];
    float x = (float)draw(s, 1u << 24) / (float)(1u << 23) - 1.0f;
    return ldexpf(x, draw_size(s, -12, 5));
}

/* A block of memory for each of two levels, alike at first, and one more that
 * is only read.  Each is as long as needed, so that a sanitizer sees who
 * reads or writes beyond. */
struct twin {
    void *a, *b;
    size_t size;
};

static void *checked_alloc(size_t size)
{
    void *p = malloc(size > 0 ? size : 1);
    if (!p)
        abort();
    return p;
}

static float *draw_floats(struct source *s, size_t n)
{
    float *x = checked_alloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = draw_float(s);
    return x;
}

static struct twin twin_of(void *a, size_t size)
{
    struct twin twin = {a, checked_alloc(size), size};
    memcpy(twin.b, a, size);
    return twin;
}

static struct twin draw_twin(struct source *s, size_t n_floats)
{
    return twin_of(draw_floats(s, n_floats), n_floats * sizeof(float));
}

static struct twin junk_twin(size_t size)
{
    void *a = checked_alloc(size);
    memset(a, 0x5a, size);
    return twin_of(a, size);
}

static bool twin_end(struct twin *twin)
{
    bool is_same = memcmp(twin->a, twin->b, twin->size) == 0;
    free(twin->a);
    free(twin->b);
    return is_same;
}

/* The same for floats, with one pattern for every NaN. */
static bool twin_end_any_nan(struct twin *twin)
{
    for (size_t i = 0; i < twin->size / sizeof(float); i++) {
        float *a = (float *)twin->a + i, *b = (float *)twin->b + i;
        if (isnan(*a) && isnan(*b))
            *a = *b = 0.0f;
    }
    return twin_end(twin);
}

/* ---- int8 ---------------------------------------------------------------- */

/* A quantised buffer of each level. */
struct quantised_twin {
    struct twin q, scale, sum;
    struct quantised a, b;
};

static struct quantised_twin quantised_twin(int n_t, int n)
{
    int ld = (n + CPU_PAD - 1) / CPU_PAD * CPU_PAD;
    size_t rows = (size_t)n_t;
    struct quantised_twin twin = {
        .q = junk_twin(rows * (size_t)ld),
        .scale = junk_twin(rows * sizeof(float)),
        .sum = junk_twin(rows * sizeof(int32_t)),
    };
    twin.a = (struct quantised){twin.q.a, ld, twin.scale.a, twin.sum.a};
    twin.b = (struct quantised){twin.q.b, ld, twin.scale.b, twin.sum.b};
    return twin;
}

static bool quantised_twin_end(struct quantised_twin *twin)
{
    bool is_same = twin_end(&twin->q);
    is_same = twin_end(&twin->scale) && is_same;
    return twin_end(&twin->sum) && is_same;
}

/* A row in eight holds an infinity or a NaN, which is defined here. */
static void spoil_rows(struct source *s, float *x, size_t ld, int n, int n_t)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    for (int t = 0; t < n_t; t++) {
        if (draw(s, 8) == 0)
            x[(size_t)t * ld + draw(s, (uint32_t)n)] = bad[draw(s, 3)];
        else if (draw(s, 8) == 0)
            memset(x + (size_t)t * ld, 0, (size_t)n * sizeof *x);
    }
}

bool compare_quantise(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed};
    int n = draw_size(&s, 1, 300), n_t = draw_size(&s, 1, 5);
    int t0 = draw_size(&s, 0, n_t - 1), t1 = draw_size(&s, t0, n_t);
    size_t ld = (size_t)draw_size(&s, n, n + 9);
    float *x = draw_floats(&s, (size_t)n_t * ld);
    spoil_rows(&s, x, ld, n, n_t);
    struct quantised_twin out = quantised_twin(n_t, n);
    cpu_scalar.quantise(&out.a, x, ld, n, t0, t1);
    level->quantise(&out.b, x, ld, n, t0, t1);
    free(x);
    return quantised_twin_end(&out);
}

bool compare_norm_quantise(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed};
    int d = draw_size(&s, 1, 400), n_t = draw_size(&s, 1, 4);
    float *weight = draw_floats(&s, (size_t)d);
    float *bias = draw_floats(&s, (size_t)d);
    float *h = draw_floats(&s, (size_t)n_t * (size_t)d);
    spoil_rows(&s, h, (size_t)d, d, n_t);
    struct norm norm = {weight, draw(&s, 2) ? bias : NULL, 1e-5f, d};
    struct quantised_twin out = quantised_twin(n_t, d);
    cpu_scalar.norm_quantise(&out.a, h, &norm, 0, n_t);
    level->norm_quantise(&out.b, h, &norm, 0, n_t);
    free(weight);
    free(bias);
    free(h);
    return quantised_twin_end(&out);
}

/* All 256 values, and a scale a row. */
static struct matrix draw_matrix(struct source *s, int rows, int cols)
{
    size_t n = (size_t)rows * (size_t)cols;
    int8_t *q = checked_alloc(n);
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)(draw(s, 256) - 128);
    /* Largest sums: rows of the lowest weight. */
    if (draw(s, 4) == 0)
        memset(q, -128, n);
    return (struct matrix){.rows = rows,
                           .cols = cols,
                           .q = q,
                           .scale = draw_floats(s, (size_t)rows)};
}

static void matrix_end(struct matrix *matrix)
{
    free((void *)(uintptr_t)matrix->q);
    free((void *)(uintptr_t)matrix->scale);
}

/* As a kernel leaves it: n_t rows of n values, each up to 127. */
static struct quantised draw_quantised(struct source *s, int n_t, int n)
{
    int ld = (n + CPU_PAD - 1) / CPU_PAD * CPU_PAD;
    size_t rows = (size_t)n_t;
    struct quantised out = {checked_alloc(rows * (size_t)ld), ld,
                            draw_floats(s, rows),
                            checked_alloc(rows * sizeof(int32_t))};
    for (int t = 0; t < n_t; t++) {
        int8_t *q = out.q + t * ld;
        int32_t sum = 0;
        for (int i = 0; i < ld; i++) {
            q[i] = i < n ? (int8_t)(draw(s, 255) - 127) : 0;
            sum += q[i];
        }
        out.sum[t] = sum;
    }
    return out;
}

static void quantised_end(struct quantised *out)
{
    free(out->q);
    free(out->scale);
    free(out->sum);
}

bool compare_matmul(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed};
    int rows = draw_size(&s, 1, 130), cols = draw_size(&s, 1, 300);
    int n_t = draw_size(&s, 1, 30);
    int t0 = draw_size(&s, 0, n_t - 1), t1 = draw_size(&s, t0, n_t);
    int r0 = draw_size(&s, 0, (rows - 1) / level->rows_unit);
    r0 *= level->rows_unit;
    int r1 = draw_size(&s, r0, rows);
    bool accumulate = draw(&s, 2);
    size_t ld = (size_t)draw_size(&s, rows, rows + 7);

    struct projection w = {draw_matrix(&s, rows, cols), NULL};
    struct quantised x = draw_quantised(&s, n_t, cols);
    struct twin y = draw_twin(&s, (size_t)n_t * ld);
    cpu_scalar.matmul(y.a, ld, &w, &x, accumulate, t0, t1, r0, r1);
    w.panels = checked_alloc(level->panels_size(&w.matrix));
    level->pack(w.panels, &w.matrix);
    level->matmul(y.b, ld, &w, &x, accumulate, t0, t1, r0, r1);

    free(w.panels);
    matrix_end(&w.matrix);
    quantised_end(&x);
    return twin_end(&y);
}

/* ---- floats -------------------------------------------------------------- */

bool compare_norm(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed};
    int d = draw_size(&s, 1, 400), n_t = draw_size(&s, 1, 4);
    int t0 = draw_size(&s, 0, n_t - 1);
    float *weight = draw_floats(&s, (size_t)d);
    float *bias = draw_floats(&s, (size_t)d);
    float *h = draw_floats(&s, (size_t)n_t * (size_t)d);
    struct norm norm = {weight, draw(&s, 2) ? bias : NULL, 1e-5f, d};
    struct twin x = draw_twin(&s, (size_t)n_t * (size_t)d);
    cpu_scalar.norm(x.a, h, &norm, t0, n_t);
    level->norm(x.b, h, &norm, t0, n_t);
    free(weight);
    free(bias);
    free(h);
    return twin_end(&x);
}

/* Weights at any address, as a file has them; no F16 is infinite. */
static uint8_t *draw_weights(struct source *s, enum dtype dtype, size_t n)
{
    size_t size = dtype_size(dtype);
    uint8_t *bytes = checked_alloc(n * size + 1), *at = bytes + 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = exact_bits(draw_float(s));
        if (dtype == DTYPE_BF16)
            bits >>= 16;
        else if (dtype == DTYPE_F16)
            bits = draw(s, 1 << 16) & 0xbfff;
        store_le(at + i * size, bits, (int)size);
    }
    return bytes;
}

bool compare_float_matmul(const struct cpu_kernels *level, uint64_t seed)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    struct source s = {.seed = seed};
    int rows = draw_size(&s, 1, 80), cols = draw_size(&s, 1, 150);
    int n_t = draw_size(&s, 1, 20);
    int t0 = draw_size(&s, 0, n_t - 1), t1 = draw_size(&s, t0, n_t);
    int r0 = draw_size(&s, 0, rows - 1), r1 = draw_size(&s, r0, rows);
    bool accumulate = draw(&s, 2);
    size_t ld = (size_t)draw_size(&s, rows, rows + 7);
    size_t ld_x = (size_t)draw_size(&s, cols, cols + 7);
    struct matrix w = {.rows = rows, .cols = cols, .dtype = types[draw(&s, 3)]};
    uint8_t *weights = draw_weights(&s, w.dtype, (size_t)rows * (size_t)cols);
    w.floats = weights + 1;
    float *inputs = draw_floats(&s, (size_t)n_t * ld_x);
    struct float_rows x = {inputs, ld_x};
    struct twin y = draw_twin(&s, (size_t)n_t * ld);
    cpu_scalar.float_matmul(y.a, ld, &w, &x, accumulate, t0, t1, r0, r1);
    level->float_matmul(y.b, ld, &w, &x, accumulate, t0, t1, r0, r1);
    free(weights);
    free(inputs);
    return twin_end(&y);
}

/* ---- channels ------------------------------------------------------------ */

/* A range of channels as threads get it. */
static void draw_channels(struct source *s, const struct cpu_kernels *level,
                          int d_inner, int *c0, int *c1)
{
    *c0 = draw_size(s, 0, (d_inner - 1) / level->channels_unit);
    *c0 *= level->channels_unit;
    *c1 = draw_size(s, *c0, d_inner);
}

static bool compare_conv(const struct cpu_kernels *level, struct source *s)
{
    int d_inner = draw_size(s, 1, 90), d_conv = draw_size(s, 2, D_CONV_MAX);
    int n_t = draw_size(s, 1, 12), c0, c1;
    draw_channels(s, level, d_inner, &c0, &c1);
    size_t channels = (size_t)d_inner;
    size_t ld = channels + draw(s, 9);
    struct twin u = draw_twin(s, (size_t)n_t * ld);
    struct twin history = draw_twin(s, (size_t)(d_conv - 1) * channels);
    float *conv = draw_floats(s, (size_t)d_conv * channels);
    float *bias = draw_floats(s, channels);

    struct conv_job job = {u.a,  ld,   n_t,     history.a,
                           conv, bias, d_inner, d_conv};
    cpu_scalar.conv_silu(&job, c0, c1);
    job.u = u.b;
    job.history = history.b;
    level->conv_silu(&job, c0, c1);
    free(conv);
    free(bias);
    bool is_same = s->is_special ? twin_end_any_nan(&u) : twin_end(&u);
    return twin_end_any_nan(&history) && is_same;
}

bool compare_conv_silu(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed};
    return compare_conv(level, &s);
}

bool compare_conv_silu_special(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed, .is_special = true};
    return compare_conv(level, &s);
}

static bool compare_recurrence(const struct cpu_kernels *level,
                               struct source *s)
{
    static const int sizes[] = {16, 16, 4, 8, 32, 64};
    int d_inner = draw_size(s, 1, 90), d_state = sizes[draw(s, 6)];
    int n_t = draw_size(s, 1, 9), c0, c1;
    draw_channels(s, level, d_inner, &c0, &c1);
    size_t channels = (size_t)d_inner, rows = (size_t)n_t;
    size_t ld_y = channels + draw(s, 5), ld_uz = 2 * channels + draw(s, 5);
    size_t ld_bc = 2 * (size_t)d_state + draw(s, 5);
    struct twin y = draw_twin(s, rows * ld_y);
    struct twin state = draw_twin(s, (size_t)d_state * channels);
    float *uz = draw_floats(s, rows * ld_uz);
    float *bc = draw_floats(s, rows * ld_bc);
    float *a_log2e = draw_floats(s, (size_t)d_state * channels);
    float *d = draw_floats(s, channels);
    float *dt_bias = draw_floats(s, channels);
    for (size_t i = 0; i < (size_t)d_state * channels; i++)
        a_log2e[i] = -fabsf(a_log2e[i]);

    struct scan_job job = {
        .y = y.a,
        .ld_y = ld_y,
        .u = uz,
        .z = uz + channels,
        .ld_uz = ld_uz,
        .b = bc,
        .c = bc + d_state,
        .ld_bc = ld_bc,
        .n_t = n_t,
        .s = state.a,
        .a_log2e = a_log2e,
        .d = d,
        .dt_bias = dt_bias,
        .d_inner = d_inner,
        .d_state = d_state,
    };
    cpu_scalar.scan(&job, c0, c1);
    job.y = y.b;
    job.s = state.b;
    level->scan(&job, c0, c1);
    free(uz);
    free(bc);
    free(a_log2e);
    free(d);
    free(dt_bias);
    bool is_same = s->is_special ? twin_end_any_nan(&y) : twin_end(&y);
    if (s->is_special)
        return twin_end_any_nan(&state) && is_same;
    return twin_end(&state) && is_same;
}

bool compare_scan(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed};
    return compare_recurrence(level, &s);
}

bool compare_scan_special(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed, .is_special = true};
    return compare_recurrence(level, &s);
}

const struct kernels_test kernels_tests[] = {
    {"quantise", compare_quantise},
    {"norm_quantise", compare_norm_quantise},
    {"matmul", compare_matmul},
    {"norm", compare_norm},
    {"float_matmul", compare_float_matmul},
    {"conv_silu", compare_conv_silu},
    {"scan", compare_scan},
    {"conv_silu, special values", compare_conv_silu_special},
    {"scan, special values", compare_scan_special},
    {NULL, NULL},
};
