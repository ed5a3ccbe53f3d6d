/* cpu_scalar_mamba2.c -- the definition of Mamba-2, in plain C.
 *
 * Nothing here is tuned: bytes are taken one by one, and each function is some
 * lines of mamba2.h.  Here x^ is [H][CHUNK][P], B^ [G][CHUNK][N] and S^
 * [H][P][N].
 *
 * SPDX-License-Identifier: MIT
 */
#include "kernels/cpu_kernels.h"
#include "kernels/scalar.h"
#include "model/quantise.h"

static const int8_t *x_of(const struct mamba2_state *state,
                          const struct model_config *c, int h, int s)
{
    const int8_t *x = (const int8_t *)state->x;
    return x + ((size_t)h * CHUNK + (size_t)s) * (size_t)c->headdim;
}

static const int8_t *b_of(const struct mamba2_state *state,
                          const struct model_config *c, int group, int s)
{
    const int8_t *b = (const int8_t *)state->b;
    return b + ((size_t)group * CHUNK + (size_t)s) * (size_t)c->d_state;
}

static int8_t *s_q_of(const struct mamba2_state *state,
                      const struct model_config *c, int h, int p)
{
    int8_t *s_q = (int8_t *)state->s_q;
    return s_q +
           ((size_t)h * (size_t)c->headdim + (size_t)p) * (size_t)c->d_state;
}

/* ---- int8 ---------------------------------------------------------------- */

/* q <- x, both [n], in units of s.scale, which is returned. */
static float quantise(int8_t *q, const float *x, int n, struct exact_scale s)
{
    for (int i = 0; i < n; i++)
        q[i] = s.scale != 0.0f ? exact_quantise(x[i], s.inverse) : 0;
    return s.scale;
}

/* ---- before the recurrence ----------------------------------------------- */

static void heads_in(const struct mamba2_job *job, int h0, int h1)
{
    const struct model_config *c = job->config;
    const struct mamba2_rows *rows = job->rows;
    for (int t = 0; t < job->n_t; t++) {
        size_t row = (size_t)(job->row + t) * (size_t)c->n_heads;
        for (int h = h0; h < h1; h++) {
            const float *x = mamba2_x(job, t) + h * c->headdim;
            int8_t *q = rows->x + (row + (size_t)h) * (size_t)c->headdim;
            rows->x_scale[row + (size_t)h] = quantise(
                q, x, c->headdim, exact_scale_of(quantise_amax(x, c->headdim)));
            memcpy((void *)x_of(job->state, c, h, job->place + t), q,
                   (size_t)c->headdim);

            float dt = mamba2_dt(job, t)[h] + job->layer->dt_bias[h];
            float delta = exact_delta(dt, c->delta_min, c->delta_max);
            rows->delta[row + (size_t)h] = delta;
            rows->alpha[row + (size_t)h] =
                exact_alpha(delta, job->layer->a_log2e[h]);
        }
    }
}

static void group_in(const struct mamba2_job *job, int group)
{
    const struct model_config *c = job->config;
    const struct mamba2_rows *rows = job->rows;
    int n = c->d_state;
    for (int t = 0; t < job->n_t; t++) {
        size_t at =
            (size_t)(job->row + t) * (size_t)c->n_groups + (size_t)group;
        int place = job->place + t;
        const float *b = mamba2_b(job, t) + group * n;
        const float *cc = mamba2_c(job, t) + group * n;
        int8_t *c_q = rows->c + at * (size_t)n;
        rows->b_scale[at] =
            quantise((int8_t *)b_of(job->state, c, group, place), b, n,
                     exact_scale_of(quantise_amax(b, n)));
        rows->c_scale[at] =
            quantise(c_q, cc, n, exact_scale_of(quantise_amax(cc, n)));
        for (int s = 0; s <= place; s++)
            rows->scores[at * CHUNK + (size_t)s] =
                dot(c_q, b_of(job->state, c, group, s), n);
    }
}

/* ---- the recurrence ------------------------------------------------------ */

/* One byte of one head. */
struct head_byte {
    const struct mamba2_job *job;
    int h, group;
    int t, place;
    size_t at;       /* of [row][h] */
    size_t at_group; /* of [row][group] */
    float *w, *e;    /* the head's, of the state */
};

static struct head_byte head_byte(const struct mamba2_job *job, int h, int t)
{
    const struct model_config *c = job->config;
    size_t row = (size_t)(job->row + t);
    int group = h / (c->n_heads / c->n_groups);
    return (struct head_byte){
        .job = job,
        .h = h,
        .group = group,
        .t = t,
        .place = job->place + t,
        .at = row * (size_t)c->n_heads + (size_t)h,
        .at_group = row * (size_t)c->n_groups + (size_t)group,
        .w = job->state->w + (size_t)h * CHUNK,
        .e = job->state->e + h,
    };
}

/* What the bytes so far weigh, and what is left of the states, after the
 * decay of this byte. */
static void decay(const struct head_byte *byte)
{
    const struct mamba2_rows *rows = byte->job->rows;
    float alpha = rows->alpha[byte->at];
    *byte->e = byte->place == 0
                   ? alpha
                   : exact_or_zero(*byte->e * alpha, EXACT_DECAY_MIN);
    for (int s = 0; s < byte->place; s++)
        byte->w[s] = exact_or_zero(byte->w[s] * alpha, EXACT_WEIGHT_MIN);
    byte->w[byte->place] =
        exact_weight(rows->delta[byte->at], rows->x_scale[byte->at],
                     rows->b_scale[byte->at_group]);
}

/* m^ of s <= place; returns sm. */
static float mix(int8_t m_q[CHUNK], const struct head_byte *byte)
{
    const int32_t *scores = byte->job->rows->scores + byte->at_group * CHUNK;
    float m[CHUNK];
    int n = byte->place + 1;
    for (int s = 0; s < n; s++)
        m[s] = (float)scores[s] * byte->w[s];
    return quantise(m_q, m, n, exact_scale_of_products(quantise_amax(m, n)));
}

/* y silu(z), in place of x */
static void read_out(const struct head_byte *byte, const int8_t m_q[CHUNK],
                     float m_scale)
{
    const struct mamba2_job *job = byte->job;
    const struct model_config *c = job->config;
    const struct mamba2_state *state = job->state;
    const int8_t *c_q = job->rows->c + byte->at_group * (size_t)c->d_state;
    const int8_t *x_q = x_of(state, c, byte->h, byte->place);
    float c_scale = job->rows->c_scale[byte->at_group];
    float x_scale = job->rows->x_scale[byte->at];
    for (int p = 0; p < c->headdim; p++) {
        int channel = byte->h * c->headdim + p;
        int32_t sum = 0;
        for (int s = 0; s <= byte->place; s++)
            sum += m_q[s] * x_of(state, c, byte->h, s)[p];
        float y = (float)sum * (m_scale * c_scale);
        sum = dot(s_q_of(state, c, byte->h, p), c_q, c->d_state);
        y = fmaf((float)sum, state->s_scale[channel] * (c_scale * *byte->e), y);
        y = fmaf(job->layer->d[channel], (float)x_q[p] * x_scale, y);
        mamba2_x(job, byte->t)[channel] =
            y * exact_silu(mamba2_z(job, byte->t)[channel]);
    }
}

/* Adds a chunk to row p of the states of a head. */
static void end_chunk_row(const struct mamba2_job *job, int h, int p)
{
    const struct model_config *c = job->config;
    const struct mamba2_state *state = job->state;
    int group = h / (c->n_heads / c->n_groups);
    float v[CHUNK];
    int8_t v_q[CHUNK];
    for (int s = 0; s < CHUNK; s++)
        v[s] = (float)x_of(state, c, h, s)[p] *
               state->w[(size_t)h * CHUNK + (size_t)s];
    float v_scale = quantise(v_q, v, CHUNK,
                             exact_scale_of_products(quantise_amax(v, CHUNK)));

    int channel = h * c->headdim + p;
    float *row = state->s + (size_t)channel * (size_t)c->d_state;
    for (int n = 0; n < c->d_state; n++) {
        int32_t sum = 0;
        for (int s = 0; s < CHUNK; s++)
            sum += v_q[s] * b_of(state, c, group, s)[n];
        row[n] = exact_state(state->e[h], row[n], sum, v_scale);
    }
    state->s_scale[channel] =
        quantise(s_q_of(state, c, h, p), row, c->d_state,
                 exact_scale_of_products(quantise_amax(row, c->d_state)));
}

static void end_chunk(const struct mamba2_job *job, int h)
{
    for (int p = 0; p < job->config->headdim; p++)
        end_chunk_row(job, h, p);
    memset(job->state->w + (size_t)h * CHUNK, 0, CHUNK * sizeof(float));
    job->state->e[h] = 0.0f;
}

/* What the norm has to know of a head. */
static void measure(const struct head_byte *byte)
{
    const struct mamba2_job *job = byte->job;
    int headdim = job->config->headdim, first = byte->h * headdim;
    const float *v = mamba2_x(job, byte->t) + first;
    float u[HEADDIM_MAX];
    for (int p = 0; p < headdim; p++)
        u[p] = v[p] * job->layer->gate_norm[first + p];
    job->rows->squares[byte->at] = sum_of_squares(v, 0.0f, headdim);
    job->rows->largest[byte->at] = exact_float(quantise_amax(u, headdim));
}

static void heads(const struct mamba2_job *job, int h0, int h1)
{
    for (int h = h0; h < h1; h++) {
        for (int t = 0; t < job->n_t; t++) {
            struct head_byte byte = head_byte(job, h, t);
            int8_t m_q[CHUNK];
            decay(&byte);
            float m_scale = mix(m_q, &byte);
            read_out(&byte, m_q, m_scale);
            measure(&byte);
        }
        if (job->place + job->n_t == CHUNK)
            end_chunk(job, h);
    }
}

/* ---- the norm before out_proj -------------------------------------------- */

/* r of a group of row t. */
static float inverse_rms(const struct mamba2_rows *rows,
                         const struct model_config *c, int t, int group)
{
    int n = c->n_heads / c->n_groups;
    size_t at = (size_t)t * (size_t)c->n_heads + (size_t)(group * n);
    float mean = sum_of(rows->squares + at, n) / (float)(n * c->headdim);
    return 1.0f / sqrtf(mean + c->norm_epsilon);
}

/* The bits of the largest |u| of a group of row t. */
static uint32_t largest_of(const struct mamba2_rows *rows,
                           const struct model_config *c, int t, int group)
{
    int n = c->n_heads / c->n_groups;
    size_t at = (size_t)t * (size_t)c->n_heads + (size_t)(group * n);
    return quantise_amax(rows->largest + at, n);
}

static void norm_quantise_row(const struct quantised *out,
                              const struct mamba2_rows *rows,
                              const struct layer *layer,
                              const struct model_config *c, int t)
{
    float r[MAMBA2_GROUPS_MAX], largest[MAMBA2_GROUPS_MAX];
    for (int g = 0; g < c->n_groups; g++) {
        r[g] = inverse_rms(rows, c, t, g);
        largest[g] = exact_float(largest_of(rows, c, t, g)) * r[g];
    }
    struct exact_scale s = exact_scale_of(quantise_amax(largest, c->n_groups));

    const float *v = rows->zx + (size_t)t * rows->ld + c->d_inner;
    int8_t *q = out->q + (size_t)t * (size_t)out->ld;
    int channels = c->d_inner / c->n_groups; /* of a group */
    memset(q, 0, (size_t)out->ld);
    int32_t sum = 0;
    for (int i = 0; i < c->d_inner && s.scale != 0.0f; i++) {
        float u = v[i] * layer->gate_norm[i];
        q[i] = exact_quantise(u, r[i / channels] * s.inverse);
        sum += q[i];
    }
    out->scale[t] = s.scale;
    out->sum[t] = sum;
}

static void norm_quantise(const struct quantised *out,
                          const struct mamba2_rows *rows,
                          const struct layer *layer,
                          const struct model_config *config, int t0, int t1)
{
    for (int t = t0; t < t1; t++)
        norm_quantise_row(out, rows, layer, config, t);
}

/* ---- images -------------------------------------------------------------- */

static void load(const struct mamba2_state *state, const int8_t *x,
                 const int8_t *b, const struct model_config *c)
{
    size_t d_inner = (size_t)c->d_inner, headdim = (size_t)c->headdim;
    size_t d_state = (size_t)c->d_state;
    for (int s = 0; s < CHUNK; s++) {
        for (int h = 0; h < c->n_heads; h++, x += headdim)
            memcpy((void *)x_of(state, c, h, s), x, headdim);
        for (int g = 0; g < c->n_groups; g++, b += d_state)
            memcpy((void *)b_of(state, c, g, s), b, d_state);
    }
    for (size_t i = 0; i < d_inner; i++) {
        const float *row = state->s + i * d_state;
        int h = (int)(i / headdim), p = (int)(i % headdim);
        state->s_scale[i] =
            quantise(s_q_of(state, c, h, p), row, c->d_state,
                     exact_scale_of_products(quantise_amax(row, c->d_state)));
    }
}

static void save(int8_t *x, int8_t *b, const struct mamba2_state *state,
                 const struct model_config *c, int place)
{
    size_t headdim = (size_t)c->headdim, d_state = (size_t)c->d_state;
    memset(x, 0, (size_t)CHUNK * (size_t)c->d_inner);
    memset(b, 0, (size_t)CHUNK * (size_t)c->n_groups * d_state);
    for (int s = 0; s < place; s++) {
        for (int h = 0; h < c->n_heads; h++, x += headdim)
            memcpy(x, x_of(state, c, h, s), headdim);
        for (int g = 0; g < c->n_groups; g++, b += d_state)
            memcpy(b, b_of(state, c, g, s), d_state);
    }
}

/* ---- models of floats ---------------------------------------------------- */

static float float_row(float *s, float alpha, float dx, const float *b,
                       const float *c, int n)
{
    float lane[EXACT_FLOAT_LANES] = {0};
    for (int i = 0; i < n; i++) {
        float *sum = &lane[i % EXACT_FLOAT_LANES];
        s[i] = fmaf(alpha, s[i], dx * b[i]);
        *sum = fmaf(s[i], c[i], *sum);
    }
    return lanes_total(lane, EXACT_FLOAT_LANES);
}

#include "kernels/mamba2_floats.h"

static void float_norm(const struct mamba2_rows *rows,
                       const struct layer *layer, const struct model_config *c,
                       int t0, int t1)
{
    int n = c->d_inner / c->n_groups;
    for (int t = t0; t < t1; t++) {
        const float *z = rows->zx + (size_t)t * rows->ld;
        float *v = rows->zx + (size_t)t * rows->ld + c->d_inner;
        for (int i0 = 0; i0 < c->d_inner; i0 += n) {
            float mean = sum_of_squares(v + i0, 0.0f, n) / (float)n;
            float r = 1.0f / sqrtf(mean + c->norm_epsilon);
            for (int i = i0; i < i0 + n; i++) {
                v[i] = v[i] * r * layer->gate_norm[i];
                if (c->has_norm_before_gate)
                    v[i] *= exact_silu(z[i]);
            }
        }
    }
}

const struct mamba2_kernels cpu_scalar_mamba2 = {
    .load = load,
    .save = save,
    .heads_in = heads_in,
    .group_in = group_in,
    .heads = heads,
    .norm_quantise = norm_quantise,
    .float_heads = float_heads,
    .float_norm = float_norm,
};
