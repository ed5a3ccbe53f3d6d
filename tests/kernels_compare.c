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
 * is only read.  Each is as long as needed, so that a sanitizer sees any access
 * beyond it. */
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

    struct conv_job job = {u.a,  ld,      n_t,    history.a, conv,
                           bias, d_inner, d_conv, history.b};
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

/* ---- Mamba-2 ------------------------------------------------------------- */

/* A part of a chunk: all that both levels read alike. */
struct mamba2_case {
    struct model_config config;
    struct layer layer;
    int n_t, place;
    size_t ld;
    float *past, *s, *w, *e; /* the state that both start from */
    int8_t *x, *b;           /* its image */
    float *zx;
};

/* What a level makes of it, laid end to end to be compared as a whole. */
struct mamba2_result {
    struct mamba2_state state;
    struct mamba2_rows rows;
    struct quantised out;
    int8_t *x, *b;
};

static void draw_mamba2_config(struct source *s, struct model_config *c)
{
    static const int d_states[] = {16, 32, 48, 64, 64, 80, 128, 256};
    *c = (struct model_config){
        .mixer = MIXER_MAMBA2,
        .d_conv = 4,
        .d_state = d_states[draw(s, 8)],
        .headdim = draw(s, 2) ? 64 : 8 * draw_size(s, 1, 16),
        .n_groups = draw(s, 2) ? 1 : draw_size(s, 1, MAMBA2_GROUPS_MAX),
        .delta_min = draw(s, 2) ? 0.0f : 0.01f,
        .delta_max = draw(s, 2) ? INFINITY : 2.0f,
        .norm_epsilon = 1e-5f,
    };
    c->n_heads = c->n_groups * draw_size(s, 1, 3);
    c->d_inner = c->n_heads * c->headdim;
}

static int8_t *draw_bytes(struct source *s, size_t n_rows, size_t row,
                          size_t n_used)
{
    int8_t *q = checked_alloc(n_rows * row);
    memset(q, 0, n_rows * row);
    for (size_t i = 0; i < n_used * row; i++)
        q[i] = (int8_t)(draw(s, 255) - 127);
    return q;
}

/* Weights of places before the next byte's, each 0 or not below the bound. */
static float *draw_weights_of(struct source *s, int n_heads, int place)
{
    size_t n = (size_t)n_heads * CHUNK;
    float *w = checked_alloc(n * sizeof *w);
    memset(w, 0, n * sizeof *w);
    for (size_t i = 0; i < n; i++) {
        if (i % CHUNK < (size_t)place && draw(s, 8) > 0)
            w[i] = ldexpf(1.0f + (float)draw(s, 1000) / 1000.0f,
                          draw_size(s, -80, 5));
    }
    return w;
}

static struct mamba2_case draw_mamba2(struct source *s)
{
    struct mamba2_case k;
    struct model_config *c = &k.config;
    draw_mamba2_config(s, c);
    k.place = draw(s, 4) == 0 ? 0 : draw_size(s, 0, CHUNK - 1);
    k.n_t = draw(s, 2) ? CHUNK - k.place : draw_size(s, 1, CHUNK - k.place);
    k.ld = (size_t)in_proj_rows(c) + draw(s, 9);
    size_t heads = (size_t)c->n_heads, channels = (size_t)c->d_inner;
    k.layer = (struct layer){
        .dt_bias = draw_floats(s, heads),
        .a_log2e = draw_floats(s, heads),
        .d = draw_floats(s, channels),
        .gate_norm = draw_floats(s, channels),
    };
    for (size_t i = 0; i < heads; i++)
        ((float *)(uintptr_t)k.layer.a_log2e)[i] =
            -fabsf(k.layer.a_log2e[i]) - 0x1p-12f;
    k.s = draw_floats(s, channels * (size_t)c->d_state);
    k.w = draw_weights_of(s, c->n_heads, k.place);
    k.e = checked_alloc(heads * sizeof *k.e);
    for (size_t i = 0; i < heads; i++)
        k.e[i] = k.place > 0 ? ldexpf(1.0f, -(int)draw(s, 45)) : 0.0f;
    k.x = draw_bytes(s, CHUNK, channels, (size_t)k.place);
    k.b = draw_bytes(s, CHUNK, (size_t)(c->n_groups * c->d_state),
                     (size_t)k.place);
    k.zx = draw_floats(s, (size_t)k.n_t * k.ld);
    return k;
}

static void mamba2_case_end(struct mamba2_case *k)
{
    free((void *)(uintptr_t)k->layer.dt_bias);
    free((void *)(uintptr_t)k->layer.a_log2e);
    free((void *)(uintptr_t)k->layer.d);
    free((void *)(uintptr_t)k->layer.gate_norm);
    free(k->s);
    free(k->w);
    free(k->e);
    free(k->x);
    free(k->b);
    free(k->zx);
}

static void *copy_of(const void *from, size_t size)
{
    void *to = checked_alloc(size);
    memcpy(to, from, size);
    return to;
}

static void *zeros(size_t size)
{
    void *p = checked_alloc(size);
    memset(p, 0, size);
    return p;
}

static struct mamba2_result run_mamba2(const struct mamba2_kernels *kernels,
                                       const struct mamba2_case *k)
{
    const struct model_config *c = &k->config;
    size_t rows = (size_t)k->n_t, heads = (size_t)c->n_heads;
    size_t channels = (size_t)c->d_inner, groups = (size_t)c->n_groups;
    size_t states = (size_t)c->d_state;
    int ld = (c->d_inner + CPU_PAD - 1) / CPU_PAD * CPU_PAD;
    struct mamba2_result r = {
        .state =
            {
                .s = copy_of(k->s, channels * states * sizeof(float)),
                .w = copy_of(k->w, heads * CHUNK * sizeof(float)),
                .e = copy_of(k->e, heads * sizeof(float)),
                .s_scale = zeros(channels * sizeof(float)),
                .x = zeros(mamba2_x_size(c)),
                .b = zeros(mamba2_b_size(c)),
                .s_q = zeros(mamba2_s_size(c)),
            },
        .rows =
            {
                .zx = copy_of(k->zx, rows * k->ld * sizeof(float)),
                .ld = k->ld,
                .x = zeros(rows * channels),
                .x_scale = zeros(rows * heads * sizeof(float)),
                .c = zeros(rows * groups * states),
                .c_scale = zeros(rows * groups * sizeof(float)),
                .c_sum = zeros(rows * groups * sizeof(int32_t)),
                .b_scale = zeros(rows * groups * sizeof(float)),
                .scores = zeros(rows * groups * CHUNK * sizeof(int32_t)),
                .delta = zeros(rows * heads * sizeof(float)),
                .alpha = zeros(rows * heads * sizeof(float)),
                .squares = zeros(rows * heads * sizeof(float)),
                .largest = zeros(rows * heads * sizeof(float)),
            },
        .out = {zeros(rows * (size_t)ld), ld, zeros(rows * sizeof(float)),
                zeros(rows * sizeof(int32_t))},
        .x = checked_alloc(CHUNK * channels),
        .b = checked_alloc(CHUNK * groups * states),
    };
    struct mamba2_job job = {c, &k->layer, &r.state, &r.rows,
                             0, k->n_t,    k->place};
    kernels->load(&r.state, k->x, k->b, c);
    kernels->heads_in(&job, 0, c->n_heads);
    for (int g = 0; g < c->n_groups; g++)
        kernels->group_in(&job, g);
    kernels->heads(&job, 0, c->n_heads / 2);
    kernels->heads(&job, c->n_heads / 2, c->n_heads);
    kernels->norm_quantise(&r.out, &r.rows, &k->layer, c, 0, k->n_t);
    kernels->save(r.x, r.b, &r.state, c, (k->place + k->n_t) % CHUNK);
    return r;
}

/* Frees both; any NaN counts as another. */
static bool same_floats(float *a, float *b, size_t n)
{
    struct twin twin = {a, b, n * sizeof *a};
    return twin_end_any_nan(&twin);
}

static bool same_bytes(void *a, void *b, size_t size)
{
    struct twin twin = {a, b, size};
    return twin_end(&twin);
}

static bool same_states(struct mamba2_state *a, struct mamba2_state *b,
                        const struct model_config *c)
{
    size_t heads = (size_t)c->n_heads, channels = (size_t)c->d_inner;
    bool is_same = same_floats(a->s, b->s, channels * (size_t)c->d_state);
    is_same &= same_floats(a->w, b->w, heads * CHUNK);
    is_same &= same_floats(a->e, b->e, heads);
    is_same &= same_floats(a->s_scale, b->s_scale, channels);
    free(a->x);
    free(a->b);
    free(a->s_q);
    free(b->x);
    free(b->b);
    free(b->s_q);
    return is_same;
}

static bool same_rows(struct mamba2_rows *a, struct mamba2_rows *b,
                      const struct mamba2_case *k)
{
    const struct model_config *c = &k->config;
    size_t n_t = (size_t)k->n_t, heads = n_t * (size_t)c->n_heads;
    size_t groups = n_t * (size_t)c->n_groups;
    bool is_same = same_floats(a->zx, b->zx, n_t * k->ld);
    is_same &= same_bytes(a->x, b->x, n_t * (size_t)c->d_inner);
    is_same &= same_bytes(a->c, b->c, groups * (size_t)c->d_state);
    is_same &= same_floats(a->x_scale, b->x_scale, heads);
    is_same &= same_floats(a->c_scale, b->c_scale, groups);
    is_same &= same_floats(a->b_scale, b->b_scale, groups);
    is_same &= same_floats(a->delta, b->delta, heads);
    is_same &= same_floats(a->alpha, b->alpha, heads);
    is_same &= same_floats(a->squares, b->squares, heads);
    is_same &= same_floats(a->largest, b->largest, heads);
    free(a->scores);
    free(a->c_sum);
    free(b->scores);
    free(b->c_sum);
    return is_same;
}

static bool compare_mixer(const struct cpu_kernels *level, struct source *s)
{
    struct mamba2_case k = draw_mamba2(s);
    const struct model_config *c = &k.config;
    struct mamba2_result a = run_mamba2(cpu_scalar.mamba2, &k);
    struct mamba2_result b = run_mamba2(level->mamba2, &k);
    size_t n_t = (size_t)k.n_t;
    bool is_same = same_states(&a.state, &b.state, c);
    is_same &= same_rows(&a.rows, &b.rows, &k);
    is_same &= same_bytes(a.out.q, b.out.q, n_t * (size_t)a.out.ld);
    is_same &= same_floats(a.out.scale, b.out.scale, n_t);
    is_same &= same_bytes(a.out.sum, b.out.sum, n_t * sizeof(int32_t));
    is_same &= same_bytes(a.x, b.x, CHUNK * (size_t)c->d_inner);
    is_same &= same_bytes(a.b, b.b, CHUNK * (size_t)(c->n_groups * c->d_state));
    mamba2_case_end(&k);
    return is_same;
}

bool compare_mamba2(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed};
    return compare_mixer(level, &s);
}

bool compare_mamba2_special(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed, .is_special = true};
    return compare_mixer(level, &s);
}

/* As a model of floats: rows and states after some bytes. */
bool compare_mamba2_floats(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed};
    struct mamba2_case k = draw_mamba2(&s);
    k.config.has_norm_before_gate = draw(&s, 2);
    const struct model_config *c = &k.config;
    struct twin states =
        twin_of(k.s, (size_t)c->d_inner * (size_t)c->d_state * sizeof(float));
    struct twin zx = twin_of(k.zx, (size_t)k.n_t * k.ld * sizeof(float));
    for (int i = 0; i < 2; i++) {
        const struct mamba2_kernels *kernels =
            i == 0 ? cpu_scalar.mamba2 : level->mamba2;
        struct mamba2_state state = {.s = i == 0 ? states.a : states.b};
        struct mamba2_rows rows = {.zx = i == 0 ? zx.a : zx.b, .ld = k.ld};
        struct mamba2_job job = {c, &k.layer, &state, &rows, 0, k.n_t, k.place};
        kernels->float_heads(&job, 0, c->n_heads);
        kernels->float_norm(&rows, &k.layer, c, 0, k.n_t);
    }
    k.s = k.zx = NULL;
    mamba2_case_end(&k);
    bool is_same = twin_end_any_nan(&states);
    return twin_end_any_nan(&zx) && is_same;
}

/* ---- costs --------------------------------------------------------------- */

/* Now and then all finite logits are alike. */
bool compare_cost(const struct cpu_kernels *level, uint64_t seed)
{
    struct source s = {.seed = seed, .is_special = true};
    float *logits = draw_floats(&s, N_BYTES_VOCAB);
    float scale = (float)draw(&s, 3);
    for (int i = 0; i < N_BYTES_VOCAB; i++)
        logits[i] *= scale;
    uint8_t byte = (uint8_t)draw(&s, N_BYTES_VOCAB);
    float a = cpu_scalar.cost(logits, byte), b = level->cost(logits, byte);
    free(logits);
    return exact_bits(a) == exact_bits(b);
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
    {"mamba2", compare_mamba2},
    {"mamba2, special values", compare_mamba2_special},
    {"mamba2, floats", compare_mamba2_floats},
    {"cost", compare_cost},
    {NULL, NULL},
};
