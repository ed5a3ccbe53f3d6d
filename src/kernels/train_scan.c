/* train_scan.c -- the selective scan of Mamba-1, forward and backward: a block
 * of channels of one window.
 *
 * Compiled once for each level, like train_kernels.c.
 *
 *     delta = softplus(v + dt_bias)
 *     s     = exp(delta A) s + delta u B
 *     y     = (sum over n of C s + D u) silu(z)
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <string.h>

#include "kernels/train_level.h"

/* ---- forward ------------------------------------------------------------ */

/* What all bytes of a block need. */
struct scan_block {
    struct block block;
    float a[D_STATE_MAX][LANES]; /* A log2 e */
    float d[LANES], dt_bias[LANES];
};

/* One byte: v is v + dt_bias.  Of the backward pass, g is the derivative by
 * the sum over n. */
struct scan_byte {
    float v[LANES], delta[LANES], u[LANES], z[LANES];
    float g[LANES], ddelta[LANES], du[LANES];
};

static void load_scan_block(struct scan_block *k, const struct scan_pass *job,
                            int index)
{
    k->block = block_of(index, job->d_inner);
    for (int n = 0; n < job->d_state; n++)
        load(k->a[n], job->a_log2e + (size_t)n * (size_t)job->d_inner,
             k->block);
    load(k->d, job->d, k->block);
    load(k->dt_bias, job->dt_bias, k->block);
}

static inline void load_byte(struct scan_byte *byte, const struct scan_block *k,
                             const struct scan_pass *job, int t)
{
    size_t row = (size_t)t * (size_t)job->d_inner;
    load(byte->v, job->v + row, k->block);
    load(byte->u, job->u + row, k->block);
    load(byte->z, job->z + (size_t)t * job->ld_z, k->block);
    for (int j = 0; j < LANES; j++)
        byte->v[j] += k->dt_bias[j];
    for (int j = 0; j < LANES; j++)
        byte->delta[j] = exact_softplus(byte->v[j]);
}

/* sum over n of c[n] s[n], in groups of EXACT_GROUP added pairwise.
 * s: [d_state][LANES] */
static inline void read_out(float y[LANES], const float *c, const float *s,
                            int d_state)
{
    float p[D_STATE_MAX / EXACT_GROUP][LANES];
    int groups = d_state / EXACT_GROUP;
    for (int i = 0; i < groups; i++) {
        const float *c_i = c + i * EXACT_GROUP;
        const float *s_i = s + i * EXACT_GROUP * LANES;
        for (int j = 0; j < LANES; j++)
            p[i][j] = c_i[0] * s_i[j];
        for (int k = 1; k < EXACT_GROUP; k++) {
            for (int j = 0; j < LANES; j++)
                p[i][j] = fmaf(c_i[k], s_i[k * LANES + j], p[i][j]);
        }
    }
    for (; groups > 1; groups /= 2) {
        for (int i = 0; i < groups / 2; i++) {
            for (int j = 0; j < LANES; j++)
                p[i][j] = p[2 * i][j] + p[2 * i + 1][j];
        }
    }
    memcpy(y, p[0], sizeof p[0]);
}

void SCAN(const struct scan_pass *job, int index)
{
    struct scan_block k;
    struct scan_byte byte;
    float s[D_STATE_MAX][LANES], y[LANES], w[LANES];
    size_t d_inner = (size_t)job->d_inner;
    load_scan_block(&k, job, index);
    for (int n = 0; n < job->d_state; n++)
        load(s[n], job->s + (size_t)n * d_inner, k.block);

    for (int t = 0; t < job->n_t; t++) {
        const float *b = job->b + (size_t)t * job->ld_bc;
        load_byte(&byte, &k, job, t);
        for (int j = 0; j < LANES; j++)
            w[j] = byte.delta[j] * byte.u[j];
        for (int n = 0; n < job->d_state; n++) {
            for (int j = 0; j < LANES; j++)
                s[n][j] = fmaf(exact_exp2_neg(byte.delta[j] * k.a[n][j]),
                               s[n][j], w[j] * b[n]);
        }
        read_out(y, job->c + (size_t)t * job->ld_bc, s[0], job->d_state);
        for (int j = 0; j < LANES; j++)
            y[j] = fmaf(k.d[j], byte.u[j], y[j]) * exact_silu(byte.z[j]);
        store(job->y + (size_t)t * d_inner, y, k.block);
    }
    for (int n = 0; n < job->d_state; n++)
        store(job->s_after + (size_t)n * d_inner, s[n], k.block);
}

/* ---- backward ----------------------------------------------------------- */

/* The states before each byte and after the last, and the decays of each
 * byte: kept for one block, made again for every backward pass. */
static void scan_again(const struct scan_pass *job, const struct scan_block *k)
{
    struct scan_byte byte;
    float w[LANES];
    size_t row = (size_t)job->d_state * LANES;
    for (int n = 0; n < job->d_state; n++)
        load(job->states + (size_t)n * LANES,
             job->s + (size_t)n * (size_t)job->d_inner, k->block);

    for (int t = 0; t < job->n_t; t++) {
        const float *b = job->b + (size_t)t * job->ld_bc;
        const float *s = job->states + (size_t)t * row;
        float *after = job->states + (size_t)(t + 1) * row;
        float *decay = job->decays + (size_t)t * row;
        load_byte(&byte, k, job, t);
        for (int j = 0; j < LANES; j++)
            w[j] = byte.delta[j] * byte.u[j];
        for (int n = 0; n < job->d_state; n++) {
            int at = n * LANES;
            for (int j = 0; j < LANES; j++)
                decay[at + j] = exact_exp2_neg(byte.delta[j] * k->a[n][j]);
            for (int j = 0; j < LANES; j++)
                after[at + j] = fmaf(decay[at + j], s[at + j], w[j] * b[n]);
        }
    }
}

/* What flows backward in time, and the sums over time. */
struct scan_gradients {
    float ds[D_STATE_MAX][LANES];
    float da[D_STATE_MAX][LANES];
    float dd[LANES], ddt_bias[LANES];
};

/* The recurrence of one byte backward.  With e = ds + g C:
 *     dC     = sum over channels of g s
 *     dB     = sum over channels of e delta u
 *     du    += e delta B
 *     ddelta = e (s_before decay A + u B)
 *     dA    += e s_before decay delta
 *     ds     = e decay, of the byte before */
static void scan_backward_states(struct scan_gradients *grad,
                                 struct scan_byte *byte,
                                 const struct scan_pass *job,
                                 const struct scan_block *k, int t, float *dbc)
{
    size_t row = (size_t)job->d_state * LANES;
    const float *b = job->b + (size_t)t * job->ld_bc;
    const float *c = job->c + (size_t)t * job->ld_bc;
    const float *before = job->states + (size_t)t * row;
    const float *after = before + row;
    const float *decay = job->decays + (size_t)t * row;
    float dxb[LANES] = {0}, ddelta[LANES] = {0}, db[LANES], dc[LANES];
    for (int n = 0; n < job->d_state; n++) {
        int at = n * LANES;
        for (int j = 0; j < LANES; j++) {
            float e = fmaf(byte->g[j], c[n], grad->ds[n][j]);
            float q = e * before[at + j] * decay[at + j] * LN2;
            dc[j] = byte->g[j] * after[at + j];
            db[j] = e * (byte->delta[j] * byte->u[j]);
            dxb[j] = fmaf(e, b[n], dxb[j]);
            ddelta[j] = fmaf(q, k->a[n][j], ddelta[j]);
            grad->da[n][j] = fmaf(q, byte->delta[j], grad->da[n][j]);
            grad->ds[n][j] = e * decay[at + j];
        }
        dbc[n] = total(db);
        dbc[job->d_state + n] = total(dc);
    }
    for (int j = 0; j < LANES; j++)
        byte->ddelta[j] = fmaf(dxb[j], byte->u[j], ddelta[j]);
    for (int j = 0; j < LANES; j++)
        byte->du[j] = fmaf(dxb[j], byte->delta[j], byte->du[j]);
}

/* y = (sum + D u) silu(z), then the recurrence, then delta. */
static void scan_backward_byte(struct scan_gradients *grad,
                               const struct scan_pass *job,
                               const struct scan_block *k, int t, float *dbc)
{
    struct scan_byte byte;
    float dy[LANES], y[LANES], dz[LANES];
    size_t row = (size_t)t * (size_t)job->d_inner;
    const float *after =
        job->states + (size_t)(t + 1) * (size_t)job->d_state * LANES;
    load_byte(&byte, k, job, t);
    load(dy, job->dy + row, k->block);
    read_out(y, job->c + (size_t)t * job->ld_bc, after, job->d_state);
    for (int j = 0; j < LANES; j++) {
        byte.g[j] = dy[j] * exact_silu(byte.z[j]);
        y[j] = fmaf(k->d[j], byte.u[j], y[j]);
        dz[j] = dy[j] * y[j] * silu_slope(byte.z[j]);
        byte.du[j] = byte.g[j] * k->d[j];
        grad->dd[j] = fmaf(byte.g[j], byte.u[j], grad->dd[j]);
    }
    scan_backward_states(grad, &byte, job, k, t, dbc);
    for (int j = 0; j < LANES; j++)
        byte.ddelta[j] *= sigmoid(byte.v[j]);
    for (int j = 0; j < LANES; j++)
        grad->ddt_bias[j] += byte.ddelta[j];
    store(job->dz + (size_t)t * job->ld_z, dz, k->block);
    store(job->du + row, byte.du, k->block);
    store(job->dv + row, byte.ddelta, k->block);
}

void SCAN_BACKWARD(const struct scan_pass *job, int index)
{
    struct scan_block k;
    struct scan_gradients grad = {.dd = {0}};
    size_t d_inner = (size_t)job->d_inner;
    size_t n_blocks = (size_t)blocks_of(job->d_inner);
    load_scan_block(&k, job, index);
    scan_again(job, &k);
    for (int t = job->n_t - 1; t >= 0; t--) {
        size_t at = (size_t)t * n_blocks + (size_t)index;
        scan_backward_byte(&grad, job, &k, t,
                           job->dbc + at * 2 * (size_t)job->d_state);
    }
    for (int n = 0; n < job->d_state; n++)
        add_to(job->da_log2e + (size_t)n * d_inner, grad.da[n], k.block);
    add_to(job->dd, grad.dd, k.block);
    add_to(job->ddt_bias, grad.ddt_bias, k.block);
}
