/* mamba2_reference.c -- the loss of a Mamba-2 in training, in float64.
 *
 * SPDX-License-Identifier: MIT
 */
#include "mamba2_reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a layer remembers of a window. */
struct memory {
    double *past;    /* [d_conv][channels], the last input first */
    double *s, *s_q; /* [d_inner][d_state]: S, and as it is read */
    double *x, *b;   /* [CHUNK][d_inner], [CHUNK][n_groups * d_state]: the
                      * chunk so far, integers where imitated */
    double *l, *k;   /* [CHUNK][n_heads] */
    double *e;       /* [n_heads] */
    int t;           /* the place in the chunk */
};

struct reference {
    const struct parameters *p;
    const float *w;
    const struct model_config *c;
    bool imitates;
    struct memory *layers;
    double *h, *x, *projected, *conv, *y, *logits;
};

static double *doubles(size_t n)
{
    double *x = calloc(n, sizeof *x);
    if (!x)
        abort();
    return x;
}

/* Rounds n numbers, stride apart, to integers; returns their scale. */
static double quantise(double *x, size_t n, size_t stride, bool imitates)
{
    double most = 1e-30;
    if (!imitates)
        return 1;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i * stride]));
    for (size_t i = 0; i < n; i++)
        x[i * stride] = rint(x[i * stride] / (most / 127));
    return most / 127;
}

static const float *at(const struct reference *r, int l, enum place place)
{
    return r->w + parameters_at(r->p, l, place)->offset;
}

/* y = W x, both rounded where that is imitated. */
static void multiply(const struct reference *r, double *y,
                     const struct parameter *matrix, const double *x)
{
    size_t rows = (size_t)matrix->shape[0], cols = (size_t)matrix->shape[1];
    const float *w = r->w + matrix->offset;
    double *q = doubles(cols), *row = doubles(cols);
    memcpy(q, x, cols * sizeof *q);
    double scale = quantise(q, cols, 1, r->imitates);
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t k = 0; k < cols; k++)
            row[k] = (double)w[i * cols + k];
        double row_scale = quantise(row, cols, 1, r->imitates);
        for (size_t k = 0; k < cols; k++)
            sum += row[k] * q[k];
        y[i] = sum * row_scale * scale;
    }
    free(q);
    free(row);
}

static void norm(double *x, const double *h, const float *weight,
                 const float *bias, int n, double epsilon)
{
    double mean = 0, sum = 0;
    for (int i = 0; bias && i < n; i++)
        mean += h[i] / n;
    for (int i = 0; i < n; i++)
        sum += (h[i] - mean) * (h[i] - mean);
    double scale = 1 / sqrt(sum / n + epsilon);
    for (int i = 0; i < n; i++)
        x[i] = (h[i] - mean) * scale * (double)weight[i] +
               (bias ? (double)bias[i] : 0);
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static void convolve(struct reference *r, int l, const double *in)
{
    int n = conv_channels(r->c), taps = r->c->d_conv;
    const float *w = at(r, l, P_CONV), *bias = at(r, l, P_CONV_BIAS);
    double *past = r->layers[l].past;
    size_t row = (size_t)n * sizeof *past;
    memmove(past + n, past, (size_t)(taps - 1) * row);
    memcpy(past, in, row);
    for (int i = 0; i < n; i++) {
        double sum = (double)bias[i];
        for (int k = 0; k < taps; k++)
            sum += (double)w[i * taps + k] * past[(taps - 1 - k) * n + i];
        r->conv[i] = silu(sum);
    }
}

/* y of a head: m over the chunk so far, the state, and D. */
static void read_head(struct reference *r, int l, int head, const double *c,
                      double c_scale, double x_scale)
{
    struct memory *m = &r->layers[l];
    int p_n = r->c->headdim, n = r->c->d_state, h_n = r->c->n_heads;
    int g_n = r->c->n_groups * n, group = head / (h_n / r->c->n_groups);
    double weights[CHUNK], *y = r->y + head * p_n;
    for (int s = 0; s <= m->t; s++) {
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += c[group * n + i] * m->b[s * g_n + group * n + i];
        weights[s] = sum * m->l[s * h_n + head] * m->k[s * h_n + head];
    }
    double scale = quantise(weights, (size_t)m->t + 1, 1, r->imitates);
    for (int p = 0; p < p_n; p++) {
        size_t row = (size_t)(head * p_n + p);
        double sum = 0, from = 0;
        for (int s = 0; s <= m->t; s++)
            sum += weights[s] * m->x[s * r->c->d_inner + (int)row];
        for (int i = 0; i < n; i++)
            from += m->s_q[row * (size_t)n + (size_t)i] * c[group * n + i];
        y[p] = sum * scale * c_scale + from * c_scale * m->e[head] +
               (double)at(r, l, P_D)[head] *
                   m->x[m->t * r->c->d_inner + (int)row] * x_scale;
    }
}

/* S after a chunk, and as the next one reads it. */
static void end_chunk(struct reference *r, int l)
{
    struct memory *m = &r->layers[l];
    int p_n = r->c->headdim, n = r->c->d_state, h_n = r->c->n_heads;
    int g_n = r->c->n_groups * n;
    for (int row = 0; row < r->c->d_inner; row++) {
        int head = row / p_n, group = head / (h_n / r->c->n_groups);
        double v[CHUNK];
        for (int s = 0; s < CHUNK; s++)
            v[s] = m->x[s * r->c->d_inner + row] * m->l[s * h_n + head] *
                   m->k[s * h_n + head];
        double scale = quantise(v, CHUNK, 1, r->imitates);
        double *state = m->s + (size_t)row * (size_t)n;
        double *read = m->s_q + (size_t)row * (size_t)n;
        for (int i = 0; i < n; i++) {
            double sum = 0;
            for (int s = 0; s < CHUNK; s++)
                sum += v[s] * m->b[s * g_n + group * n + i];
            state[i] = m->e[head] * state[i] + sum * scale;
            read[i] = state[i];
        }
        scale = quantise(read, (size_t)n, 1, r->imitates);
        for (int i = 0; i < n; i++)
            read[i] *= scale;
    }
}

static void mix(struct reference *r, int l, const double *dt)
{
    struct memory *m = &r->layers[l];
    int p_n = r->c->headdim, n = r->c->d_state, h_n = r->c->n_heads;
    int g_n = r->c->n_groups, d_inner = r->c->d_inner;
    double *x = m->x + m->t * d_inner, *b = m->b + m->t * g_n * n;
    double *c = r->conv + d_inner + g_n * n;
    double b_scale[MAMBA2_GROUPS_MAX], c_scale[MAMBA2_GROUPS_MAX];
    memcpy(x, r->conv, (size_t)d_inner * sizeof *x);
    memcpy(b, r->conv + d_inner, (size_t)(g_n * n) * sizeof *b);
    for (int g = 0; g < g_n; g++) {
        b_scale[g] = quantise(b + g * n, (size_t)n, 1, r->imitates);
        c_scale[g] = quantise(c + g * n, (size_t)n, 1, r->imitates);
    }
    for (int h = 0; h < h_n; h++) {
        int g = h / (h_n / g_n);
        double x_scale = quantise(x + h * p_n, (size_t)p_n, 1, r->imitates);
        double pre = dt[h] + (double)at(r, l, P_DT_BIAS)[h];
        double delta = pre > 30 ? pre : log1p(exp(pre));
        double decay = exp(-exp((double)at(r, l, P_A_LOG)[h]) * delta);
        m->e[h] = (m->t == 0 ? 1 : m->e[h]) * decay;
        for (int s = 0; s < m->t; s++)
            m->l[s * h_n + h] *= decay;
        m->l[m->t * h_n + h] = 1;
        m->k[m->t * h_n + h] = delta * x_scale * b_scale[g];
        read_head(r, l, h, c, c_scale[g], x_scale);
    }
    if (++m->t < CHUNK)
        return;
    end_chunk(r, l);
    m->t = 0;
}

static void gate(struct reference *r, int l, const double *z)
{
    int width = r->c->d_inner / r->c->n_groups;
    const float *weight = at(r, l, P_GATE_NORM);
    for (int i = 0; i < r->c->d_inner; i++)
        r->y[i] *= silu(z[i]);
    for (int g = 0; g < r->c->n_groups; g++)
        norm(r->y + g * width, r->y + g * width, weight + g * width, NULL,
             width, (double)r->c->norm_epsilon);
}

static void run_layer(struct reference *r, int l)
{
    const struct model_config *c = r->c;
    const float *bias = c->has_norm_bias ? at(r, l, P_NORM_BIAS) : NULL;
    norm(r->x, r->h, at(r, l, P_NORM), bias, c->d_model,
         (double)c->norm_epsilon);
    multiply(r, r->projected, parameters_at(r->p, l, P_IN_PROJ), r->x);
    convolve(r, l, r->projected + c->d_inner);
    mix(r, l, r->projected + c->d_inner + conv_channels(c));
    gate(r, l, r->projected);
    multiply(r, r->x, parameters_at(r->p, l, P_OUT_PROJ), r->y);
    for (int i = 0; i < c->d_model; i++)
        r->h[i] += r->x[i];
}

/* What the next byte costs. */
static double cost(struct reference *r, uint8_t next)
{
    const struct parameter *bias = parameters_norm_f_bias(r->p);
    double most = -INFINITY, sum = 0;
    norm(r->x, r->h, r->w + parameters_norm_f(r->p)->offset,
         bias->n > 0 ? r->w + bias->offset : NULL, r->c->d_model,
         (double)r->c->norm_epsilon);
    multiply(r, r->logits, parameters_lm_head(r->p), r->x);
    for (int i = 0; i < N_BYTES_VOCAB; i++)
        most = fmax(most, r->logits[i]);
    for (int i = 0; i < N_BYTES_VOCAB; i++)
        sum += exp(r->logits[i] - most);
    return most + log(sum) - r->logits[next];
}

static void forget(struct reference *r)
{
    size_t d_inner = (size_t)r->c->d_inner, n = (size_t)r->c->d_state;
    for (int l = 0; l < r->c->n_layer; l++) {
        struct memory *m = &r->layers[l];
        memset(m->past, 0,
               (size_t)(r->c->d_conv * conv_channels(r->c)) * sizeof(double));
        memset(m->s, 0, d_inner * n * sizeof(double));
        memset(m->s_q, 0, d_inner * n * sizeof(double));
        m->t = 0;
    }
}

static void open_reference(struct reference *r)
{
    const struct model_config *c = r->c;
    size_t d_inner = (size_t)c->d_inner, n = (size_t)c->d_state;
    size_t heads = (size_t)c->n_heads, bc = (size_t)c->n_groups * n;
    r->layers = calloc((size_t)c->n_layer, sizeof *r->layers);
    if (!r->layers)
        abort();
    for (int l = 0; l < c->n_layer; l++)
        r->layers[l] = (struct memory){
            .past = doubles((size_t)(c->d_conv * conv_channels(c))),
            .s = doubles(d_inner * n),
            .s_q = doubles(d_inner * n),
            .x = doubles(CHUNK * d_inner),
            .b = doubles(CHUNK * bc),
            .l = doubles(CHUNK * heads),
            .k = doubles(CHUNK * heads),
            .e = doubles(heads),
        };
    r->h = doubles((size_t)c->d_model);
    r->x = doubles((size_t)c->d_model);
    r->projected = doubles((size_t)in_proj_rows(c));
    r->conv = doubles((size_t)conv_channels(c));
    r->y = doubles(d_inner);
    r->logits = doubles(N_BYTES_VOCAB);
}

static void close_reference(struct reference *r)
{
    for (int l = 0; l < r->c->n_layer; l++) {
        struct memory *m = &r->layers[l];
        double *all[] = {m->past, m->s, m->s_q, m->x, m->b, m->l, m->k, m->e};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            free(all[i]);
    }
    double *all[] = {r->h, r->x, r->projected, r->conv, r->y, r->logits};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    free(r->layers);
}

double mamba2_reference_loss(const struct parameters *parameters,
                             const float *weights,
                             const struct windows *windows, bool imitates)
{
    struct reference r = {.p = parameters,
                          .w = weights,
                          .c = &parameters->config,
                          .imitates = imitates};
    const float *embedding = weights + parameters_embedding(parameters)->offset;
    double sum = 0;
    open_reference(&r);
    for (int i = 0; i < windows->n; i++) {
        const uint8_t *bytes = windows->bytes + i * (windows->n_t + 1);
        forget(&r);
        for (int t = 0; t < windows->n_t; t++) {
            for (int k = 0; k < r.c->d_model; k++)
                r.h[k] = (double)embedding[bytes[t] * r.c->d_model + k];
            for (int l = 0; l < r.c->n_layer; l++)
                run_layer(&r, l);
            sum += cost(&r, bytes[t + 1]);
        }
    }
    close_reference(&r);
    return sum / windows->n / windows->n_t;
}
