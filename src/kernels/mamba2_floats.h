/* mamba2_floats.h -- the recurrence of Mamba-2 in a model of floats.
 *
 * Included by cpu_scalar_mamba2.c, and by cpu_vector_mamba2.h for each level,
 * after float_row, which is all that they do in different ways:
 *
 *     s <- alpha s + dx b; returns the sum of s c, a product of floats.  All
 *     [n].
 *
 *     static float float_row(float *s, float alpha, float dx, const float *b,
 *                            const float *c, int n);
 *
 * SPDX-License-Identifier: MIT
 */

/* Byte t of head h. */
static void float_head(const struct mamba2_job *job, int h, int t)
{
    const struct model_config *c = job->config;
    int group = h / (c->n_heads / c->n_groups), n = c->d_state;
    const float *b = mamba2_b(job, t) + group * n;
    const float *cc = mamba2_c(job, t) + group * n;
    float dt = mamba2_dt(job, t)[h] + job->layer->dt_bias[h];
    float delta = exact_delta(dt, c->delta_min, c->delta_max);
    float alpha = exact_exp2_neg(delta * job->layer->a_log2e[h]);
    for (int p = 0; p < c->headdim; p++) {
        int channel = h * c->headdim + p;
        float *s = job->state->s + (size_t)channel * (size_t)n;
        float *x = mamba2_x(job, t) + channel;
        float y = float_row(s, alpha, delta * *x, b, cc, n);
        y = fmaf(job->layer->d[channel], *x, y);
        if (!c->has_norm_before_gate)
            y *= exact_silu(mamba2_z(job, t)[channel]);
        *x = y;
    }
}

static void float_heads(const struct mamba2_job *job, int h0, int h1)
{
    for (int h = h0; h < h1; h++) {
        for (int t = 0; t < job->n_t; t++)
            float_head(job, h, t);
    }
}
