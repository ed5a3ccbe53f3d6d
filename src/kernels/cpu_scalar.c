/* cpu_scalar.c -- the definition of every result, in plain C.
 *
 * Nothing here is tuned: each function states, in order, the operations that
 * all other levels and the GPU repeat bit for bit.  Sums of floats follow
 * "sums" in exact.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "kernels/cpu_kernels.h"
#include "kernels/scalar.h"
#include "model/odds.h"
#include "model/quantise.h"

static size_t panels_size(const struct matrix *matrix)
{
    (void)matrix;
    return 0;
}

static void pack(void *panels, const struct matrix *matrix)
{
    (void)panels;
    (void)matrix;
}

/* Row t of out from n floats. */
static void put_row(const struct quantised *out, const float *x, int n, int t)
{
    int8_t *q = out->q + (size_t)t * (size_t)out->ld;
    int32_t sum = 0;
    memset(q, 0, (size_t)out->ld);
    quantise_row(q, &out->scale[t], x, n);
    for (int i = 0; i < n; i++)
        sum += q[i];
    out->sum[t] = sum;
}

static void quantise(const struct quantised *out, const float *x, size_t ld,
                     int n, int t0, int t1)
{
    for (int t = t0; t < t1; t++)
        put_row(out, x + (size_t)t * ld, n, t);
}

/* x = h / rms(h) * weight, or (h - mean) / deviation * weight + bias */
static void norm_row(float *x, const float *h, const struct norm *norm)
{
    float d = (float)norm->d;
    float mean = norm->bias ? sum_of(h, norm->d) / d : 0.0f;
    float variance = sum_of_squares(h, mean, norm->d) / d;
    float r = 1.0f / sqrtf(variance + norm->epsilon);
    for (int i = 0; i < norm->d; i++) {
        float c = (h[i] - mean) * r;
        x[i] = norm->bias ? fmaf(c, norm->weight[i], norm->bias[i])
                          : c * norm->weight[i];
    }
}

static void norm_quantise(const struct quantised *out, const float *h,
                          const struct norm *norm, int t0, int t1)
{
    float x[D_MODEL_MAX];
    for (int t = t0; t < t1; t++) {
        norm_row(x, h + (size_t)t * (size_t)norm->d, norm);
        put_row(out, x, norm->d, t);
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

static void matmul(float *y, size_t ld, const struct projection *w,
                   const struct quantised *x, bool accumulate, int t0, int t1,
                   int r0, int r1)
{
    const struct matrix *m = &w->matrix;
    for (int t = t0; t < t1; t++) {
        const int8_t *q = x->q + (size_t)t * (size_t)x->ld;
        for (int r = r0; r < r1; r++) {
            int32_t sum = dot(q, m->q + (size_t)r * (size_t)m->cols, m->cols);
            float v = exact_dequantise(sum, x->scale[t], m->scale[r]);
            float *out = y + (size_t)t * ld + r;
            *out = accumulate ? *out + v : v;
        }
    }
}

/* As "sums" in exact.h says. */
static float float_dot(const struct tensor *w, const float *x, int r, int n)
{
    float lane[EXACT_FLOAT_LANES] = {0};
    for (int k = 0; k < n; k++) {
        float weight;
        tensor_read_floats(&weight, w, (size_t)r * (size_t)n + (size_t)k, 1);
        float *sum = &lane[k % EXACT_FLOAT_LANES];
        *sum = fmaf(weight, x[k], *sum);
    }
    return lanes_total(lane, EXACT_FLOAT_LANES);
}

static void float_matmul(float *y, size_t ld, const struct matrix *w,
                         const struct float_rows *x, bool accumulate, int t0,
                         int t1, int r0, int r1)
{
    struct tensor weights = {.dtype = w->dtype, .data = w->floats};
    for (int t = t0; t < t1; t++) {
        for (int r = r0; r < r1; r++) {
            float v = float_dot(&weights, x->x + (size_t)t * x->ld, r, w->cols);
            float *out = y + (size_t)t * ld + r;
            *out = accumulate ? *out + v : v;
        }
    }
}

/* u = silu(bias + sum over taps k of conv[k] * input[t - (d_conv - 1) + k]) */
static void conv_silu_channel(const struct conv_job *job, int c)
{
    int past = job->d_conv - 1;
    size_t d_inner = (size_t)job->d_inner;
    float window[D_CONV_MAX];
    for (int k = 0; k < past; k++)
        window[k] = job->history[(size_t)k * d_inner + (size_t)c];

    for (int t = 0; t < job->n_t; t++) {
        float *u = job->u + (size_t)t * job->ld + c;
        window[past] = *u;
        float a = job->bias[c];
        for (int k = 0; k <= past; k++)
            a = fmaf(job->conv[(size_t)k * d_inner + (size_t)c], window[k], a);
        *u = exact_silu(a);
        memmove(window, window + 1, sizeof(float) * (size_t)past);
    }
    for (int k = 0; k < past; k++)
        job->history[(size_t)k * d_inner + (size_t)c] = window[k];
}

static void conv_silu(const struct conv_job *job, int c0, int c1)
{
    for (int c = c0; c < c1; c++)
        conv_silu_channel(job, c);
}

/* sum over n of c[n] * s[n], in groups of EXACT_GROUP added pairwise */
static float read_out(const float *c, const float *s, int d_state)
{
    float p[D_STATE_MAX / EXACT_GROUP];
    int groups = d_state / EXACT_GROUP;
    for (int j = 0; j < groups; j++) {
        int n = j * EXACT_GROUP;
        p[j] = c[n] * s[n];
        for (int k = 1; k < EXACT_GROUP; k++)
            p[j] = fmaf(c[n + k], s[n + k], p[j]);
    }
    for (; groups > 1; groups /= 2) {
        for (int j = 0; j < groups / 2; j++)
            p[j] = p[2 * j] + p[2 * j + 1];
    }
    return p[0];
}

/* delta = softplus(dt + dt_bias)
 * s     = exp(delta * A) * s + delta * B * u
 * y     = (sum over n of C * s + D * u) * silu(z)          (Mamba, eq. 2) */
static void scan_channel(const struct scan_job *job, int c)
{
    size_t d_inner = (size_t)job->d_inner;
    float s[D_STATE_MAX];
    for (int n = 0; n < job->d_state; n++)
        s[n] = job->s[(size_t)n * d_inner + (size_t)c];

    for (int t = 0; t < job->n_t; t++) {
        float *y = job->y + (size_t)t * job->ld_y + c;
        float u = job->u[(size_t)t * job->ld_uz + (size_t)c];
        float z = job->z[(size_t)t * job->ld_uz + (size_t)c];
        const float *b = job->b + (size_t)t * job->ld_bc;
        float delta = exact_softplus(*y + job->dt_bias[c]);
        float du = delta * u;
        for (int n = 0; n < job->d_state; n++) {
            float a = job->a_log2e[(size_t)n * d_inner + (size_t)c];
            s[n] = fmaf(exact_exp2_neg(delta * a), s[n], du * b[n]);
        }
        float sum = read_out(job->c + (size_t)t * job->ld_bc, s, job->d_state);
        *y = fmaf(job->d[c], u, sum) * exact_silu(z);
    }
    for (int n = 0; n < job->d_state; n++)
        job->s[(size_t)n * d_inner + (size_t)c] = s[n];
}

static void scan(const struct scan_job *job, int c0, int c1)
{
    for (int c = c0; c < c1; c++)
        scan_channel(job, c);
}

const struct cpu_kernels cpu_scalar = {
    .name = "scalar",
    .rows_unit = 1,
    .channels_unit = 1,
    .panels_size = panels_size,
    .pack = pack,
    .quantise = quantise,
    .norm_quantise = norm_quantise,
    .matmul = matmul,
    .norm = norm,
    .float_matmul = float_matmul,
    .conv_silu = conv_silu,
    .scan = scan,
    .cost = odds_cost,
    .mamba2 = &cpu_scalar_mamba2,
};
