/* cpu_vector_mamba2.h -- the kernels of Mamba-2 in vectors, one text for every
 * level.
 *
 * Included by each of cpu_avx2.c, cpu_avx512.c and cpu_neon.c after
 * cpu_vector.h, product_row and product.
 *
 * SPDX-License-Identifier: MIT
 */
#include "kernels/cpu_vector_panels.h"

#include "kernels/cpu_vector_heads.h"

/* ---- before the recurrence ----------------------------------------------- */

/* delta and alpha of V_LANES heads. */
static inline void take_deltas(float *delta, float *alpha, const float *dt,
                               const float *bias, const float *a,
                               const struct model_config *c)
{
    vfloat d = v_softplus(v_load(dt) + v_load(bias));
    d = v_min(v_max(d, v_set1(c->delta_min)), v_set1(c->delta_max));
    v_store(delta, d);
    v_store(alpha, v_or_zero(v_exp2_neg(d * v_load(a)), EXACT_DECAY_MIN));
}

/* The same of n heads, fewer. */
static void take_some_deltas(float *delta, float *alpha, const float *dt,
                             const float *bias, const float *a,
                             const struct model_config *c, int n)
{
    float some[5][V_LANES] = {{0}};
    size_t size = (size_t)n * sizeof(float);
    memcpy(some[2], dt, size);
    memcpy(some[3], bias, size);
    memcpy(some[4], a, size);
    take_deltas(some[0], some[1], some[2], some[3], some[4], c);
    memcpy(delta, some[0], size);
    memcpy(alpha, some[1], size);
}

/* Heads [h0, h1) of byte t. */
static void take_all_deltas(const struct mamba2_job *job, int t, int h0, int h1)
{
    const struct model_config *c = job->config;
    size_t row = (size_t)(job->row + t) * (size_t)c->n_heads;
    for (int h = h0; h < h1; h += V_LANES) {
        float *delta = job->rows->delta + row + h;
        float *alpha = job->rows->alpha + row + h;
        const float *dt = mamba2_dt(job, t) + h;
        const float *bias = job->layer->dt_bias + h;
        const float *a = job->layer->a_log2e + h;
        if (h1 - h >= V_LANES)
            take_deltas(delta, alpha, dt, bias, a, c);
        else
            take_some_deltas(delta, alpha, dt, bias, a, c, h1 - h);
    }
}

/* Asks for the lines of x^ that a byte will be written to: they are spread over
 * all panels, and of many streams they are not in the cache. */
static void fetch_columns(const struct mamba2_job *job, int h0, int h1)
{
    const struct model_config *c = job->config;
    size_t at = (size_t)(job->place / PANEL_GROUP) * PANEL_GROUP_SIZE;
    const uint8_t *panel = x_panels(job->state, c, h0) + at;
    const uint8_t *end = x_panels(job->state, c, h1);
    for (; panel < end; panel += CHUNK_PANEL_SIZE)
        __builtin_prefetch(panel, 1);
}

static void heads_in(const struct mamba2_job *job, int h0, int h1)
{
    const struct model_config *c = job->config;
    size_t n_heads = (size_t)c->n_heads, headdim = (size_t)c->headdim;
    size_t first = (size_t)job->row * n_heads;
    if (job->n_t == 1)
        fetch_columns(job, h0, h1);
    for (int t = 0; t < job->n_t; t++) {
        for (int h = h0; h < h1; h++) {
            size_t at = first + (size_t)t * n_heads + (size_t)h;
            const float *x = mamba2_x(job, t) + h * c->headdim;
            int32_t sum;
            job->rows->x_scale[at] =
                to_bytes(job->rows->x + at * headdim, &sum, x, c->headdim,
                         exact_scale_of(amax_of(x, c->headdim)));
        }
        take_all_deltas(job, t, h0, h1);
    }
    for (int h = h0; h < h1; h++)
        put_columns(x_panels(job->state, c, h),
                    job->rows->x + (first + (size_t)h) * headdim,
                    n_heads * headdim, c->headdim, job->place, job->n_t);
}

static void group_in(const struct mamba2_job *job, int group)
{
    const struct model_config *c = job->config;
    const struct mamba2_rows *rows = job->rows;
    size_t n_groups = (size_t)c->n_groups, n = (size_t)c->d_state;
    size_t first = (size_t)job->row * n_groups + (size_t)group;
    uint8_t *b = b_panels(job->state, c, group);
    int32_t c_sum[CHUNK];
    for (int t = 0; t < job->n_t; t++) {
        size_t at = first + (size_t)t * n_groups;
        const float *x = mamba2_b(job, t) + (size_t)group * n;
        int8_t q[MAMBA2_D_STATE_MAX];
        int32_t sum;
        rows->b_scale[at] = to_bytes(q, &sum, x, c->d_state,
                                     exact_scale_of(amax_of(x, c->d_state)));
        put_row(b, q, c->d_state, job->place + t);

        x = mamba2_c(job, t) + (size_t)group * n;
        rows->c_scale[at] = to_bytes(rows->c + at * n, &c_sum[t], x, c->d_state,
                                     exact_scale_of(amax_of(x, c->d_state)));
        rows->c_sum[at] = c_sum[t];
    }
    pair_sums sums[CHUNK / PAIR_ROWS * CHUNK];
    struct panel_job scores = {
        .out = sums,
        .ld = CHUNK,
        .panels = b,
        .panel_size = states_panel_size(c),
        .n_panels = (job->place + job->n_t + PANEL_ROWS - 1) / PANEL_ROWS,
        .x = rows->c + first * n,
        .ld_x = n_groups * n,
        .x_sum = c_sum,
        .n_groups = c->d_state / PANEL_GROUP,
        .n_t = job->n_t,
        .place = -1,
    };
    multiply_panels(&scores);
    for (int t = 0; t < job->n_t; t++) {
        int32_t *out = rows->scores + (first + (size_t)t * n_groups) * CHUNK;
        for (int s = 0; s < scores.n_panels * PANEL_ROWS; s += PAIR_ROWS)
            memcpy(out + s, sums_at(sums, CHUNK, t, s),
                   PAIR_ROWS * sizeof *out);
    }
}

/* ---- the norm before out_proj -------------------------------------------- */

/* q <- x weight inverse, all [n]; returns the sum of q. */
static int32_t round_products(int8_t *q, const float *x, const float *weight,
                              float inverse, int n)
{
    vint sums = {0};
    int i = 0;
    for (; i + V_LANES <= n; i += V_LANES) {
        vfloat u = v_load(x + i) * v_load(weight + i);
        vint rounded = (vint)v_fma(u, v_set1(inverse), v_set1(EXACT_ROUND));
        v_store_bytes(q + i, rounded);
        sums += rounded - (vint)v_set1(EXACT_ROUND);
    }
    int32_t sum = v_sum_of(sums);
    for (; i < n; i++) {
        q[i] = exact_quantise(x[i] * weight[i], inverse);
        sum += q[i];
    }
    return sum;
}

static void gate_norm_row(const struct quantised *out,
                          const struct mamba2_rows *rows,
                          const struct layer *layer,
                          const struct model_config *c, int t)
{
    float r[MAMBA2_GROUPS_MAX], largest[MAMBA2_GROUPS_MAX];
    int each = c->n_heads / c->n_groups, n = each * c->headdim;
    for (int g = 0; g < c->n_groups; g++) {
        size_t at = (size_t)t * (size_t)c->n_heads + (size_t)(g * each);
        float mean = sum_of(rows->squares + at, each) / (float)n;
        r[g] = 1.0f / sqrtf(mean + c->norm_epsilon);
        largest[g] = exact_float(amax_of(rows->largest + at, each)) * r[g];
    }
    struct exact_scale s = exact_scale_of(amax_of(largest, c->n_groups));
    const float *v = rows->zx + (size_t)t * rows->ld + c->d_inner;
    int8_t *q = out->q + (size_t)t * (size_t)out->ld;
    int n_used = s.scale != 0.0f ? c->d_inner : 0;
    int32_t sum = 0;
    for (int g = 0; g < c->n_groups && n_used > 0; g++)
        sum += round_products(q + g * n, v + g * n, layer->gate_norm + g * n,
                              r[g] * s.inverse, n);
    memset(q + n_used, 0, (size_t)(out->ld - n_used));
    out->scale[t] = s.scale;
    out->sum[t] = sum;
}

static void gate_norm_quantise(const struct quantised *out,
                               const struct mamba2_rows *rows,
                               const struct layer *layer,
                               const struct model_config *config, int t0,
                               int t1)
{
    for (int t = t0; t < t1; t++)
        gate_norm_row(out, rows, layer, config, t);
}

/* ---- images -------------------------------------------------------------- */

static void load(const struct mamba2_state *state, const int8_t *x,
                 const int8_t *b, const struct model_config *c)
{
    size_t n_b = (size_t)(c->n_groups * c->d_state);
    for (int h = 0; h < c->n_heads; h++)
        put_columns(x_panels(state, c, h), x + h * c->headdim,
                    (size_t)c->d_inner, c->headdim, 0, CHUNK);
    for (int s = 0; s < CHUNK; s++) {
        for (int g = 0; g < c->n_groups; g++)
            put_row(b_panels(state, c, g),
                    b + (size_t)s * n_b + (size_t)(g * c->d_state), c->d_state,
                    s);
    }
    for (int i = 0; i < c->d_inner; i++) {
        const float *s = state->s + (size_t)i * (size_t)c->d_state;
        int8_t q[MAMBA2_D_STATE_MAX];
        int32_t sum;
        uint32_t amax = amax_of(s, c->d_state);
        state->s_scale[i] =
            to_bytes(q, &sum, s, c->d_state, exact_scale_of_products(amax));
        put_row(s_panels(state, c, i / c->headdim), q, c->d_state,
                i % c->headdim);
    }
}

static void save(int8_t *x, int8_t *b, const struct mamba2_state *state,
                 const struct model_config *c, int place)
{
    size_t n_b = (size_t)(c->n_groups * c->d_state);
    memset(x, 0, (size_t)CHUNK * (size_t)c->d_inner);
    memset(b, 0, (size_t)CHUNK * n_b);
    for (int i = 0; i < c->d_inner; i++) {
        uint8_t row[CHUNK];
        get_row(row, x_panels(state, c, i / c->headdim), CHUNK, i % c->headdim);
        for (int s = 0; s < place; s++)
            x[(size_t)s * (size_t)c->d_inner + (size_t)i] =
                (int8_t)(row[s] ^ V_WEIGHT_FLIP);
    }
    for (int s = 0; s < place; s++) {
        for (int g = 0; g < c->n_groups; g++) {
            uint8_t *row =
                (uint8_t *)b + (size_t)s * n_b + (size_t)(g * c->d_state);
            get_row(row, b_panels(state, c, g), c->d_state, s);
            for (int n = 0; n < c->d_state; n++)
                row[n] ^= V_WEIGHT_FLIP;
        }
    }
}

/* ---- models of floats ---------------------------------------------------- */

static float float_row(float *s, float alpha, float dx, const float *b,
                       const float *c, int n)
{
    vfloat sums[FLOAT_VECTORS] = {{0}};
    for (int i = 0; i < n; i += EXACT_FLOAT_LANES) {
#pragma GCC unroll 4
        for (int j = 0; j < FLOAT_VECTORS; j++) {
            int at = i + j * V_LANES;
            vfloat x = v_fma(v_set1(alpha), v_load(s + at),
                             v_set1(dx) * v_load(b + at));
            v_store(s + at, x);
            sums[j] = v_fma(x, v_load(c + at), sums[j]);
        }
    }
    float lane[EXACT_FLOAT_LANES];
    memcpy(lane, sums, sizeof lane);
    for (int s0 = EXACT_FLOAT_LANES / 2; s0 > 0; s0 /= 2) {
        for (int i = 0; i < s0; i++)
            lane[i] += lane[i + s0];
    }
    return lane[0];
}

#include "kernels/mamba2_floats.h"

static void float_norm(const struct mamba2_rows *rows,
                       const struct layer *layer,
                       const struct model_config *config, int t0, int t1)
{
    cpu_scalar_mamba2.float_norm(rows, layer, config, t0, t1);
}

static const struct mamba2_kernels vector_mamba2 = {
    .load = load,
    .save = save,
    .heads_in = heads_in,
    .group_in = group_in,
    .heads = heads,
    .norm_quantise = gate_norm_quantise,
    .float_heads = float_heads,
    .float_norm = float_norm,
};
