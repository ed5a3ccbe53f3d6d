/* train_mamba2.c -- Mamba-2 backward: a chunk of one head, and the norm before
 * out_proj.
 *
 * Compiled once for each level, like train_kernels.c.  What is computed
 * forward is in mamba2.h; here, with x^, B^ and C^ the integers and sx, sB and
 * sC their scales (all 1 without imitation), for places s <= t of the chunk,
 *
 *     L[t][s]  = the decay from s to t;  E[t] = that from the chunk's start
 *     w[s]     = delta[s] sx[s] sB[s]
 *     g[t][s]  = sum over n of C^[t][n] B^[s][n]
 *     m[t][s]  = g[t][s] L[t][s] w[s];           m^ over s, times sC[t]
 *     v[p][s]  = x^[s][p] L[Q][s] w[s];          v^ over s; Q: the last place
 *     y[t][p]  = sum over s of m^[t][s] x^[s][p]
 *                + E[t] sC[t] sum over n of S^[p][n] C^[t][n]
 *                + D sx[t] x^[t][p]
 *     S after  = E[Q] S + sum over s of v^[p][s] B^[s][n]
 *
 * Gradients pass every rounding as if it were not there; scales are constants.
 * With dS the gradient of the state after the chunk:
 *
 *     dm[t][s] = sum over p of dy[t][p] x^[s][p]
 *     dg[t][s] = dm[t][s] L[t][s] w[s]
 *     dC[t][n] = sum over s of dg[t][s] B^[s][n] + E[t] sum over p of
 *                dy[t][p] S^[p][n]
 *     dB[s][n] = (sum over t of dg[t][s] C[t][n] + sum over p of v^[p][s]
 *                dS[p][n]) / sB[s]
 *     dv[p][s] = sum over n of dS[p][n] B^[s][n]
 *     dx[s][p] = (sum over t of m^[t][s] dy[t][p] + dv[p][s] L[Q][s] w[s])
 *                / sx[s] + D dy[s][p]
 *     dS       = E[Q] dS + sum over t of E[t] dy[t][p] C[t][n], at the start
 *
 * A decay gets the products of what it multiplies with its gradient: dm m, dv
 * v, dy y of the state, dS S, over the places that it reaches from and to.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <string.h>

#include "kernels/train_level.h"
#include "model/quantise.h"

/* The arrays of a chunk; [..][t] and [..][s] have CHUNK elements. */
struct chunk_room {
    float *x, *x_by_p;     /* x^: [s][P], [P][s] */
    float *b, *b_by_n;     /* B^: [s][N], [N][s] */
    float *c, *c_real;     /* C^; C^ sC: [t][N] */
    float *s, *s_by_n;     /* S^ times its scales: [P][N], [N][P] */
    float *dy, *dy_e;      /* dy; dy E: [t][P] */
    float *y, *y_state;    /* [t][P]; of it, what the state gives */
    float *dx;             /* [s][P], in the units of x^ */
    float *v, *dv;         /* v^ times its scales; dv: [P][s] */
    float *g, *decay, *dm; /* g L; L; dm: [t][s] */
    float *m, *dg;         /* [t][s] */
    float *delta, *slope;  /* [t]; of softplus */
    float *cum, *e, *tail; /* [t]: log2 E; E; L[Q][t] */
    float *w, *w_scale;    /* [s]: w; w without delta */
    float *x_scale, *c_scale, *b_scale; /* [t] */
    float *to, *from;                   /* [t]: what decays to t, from t, get */
};

static float *deal(float **room, int rows, int cols)
{
    float *given = *room;
    *room += (size_t)rows * (size_t)cols;
    return given;
}

static struct chunk_room deal_room(const struct chunk_pass *job)
{
    const int P = job->headdim, N = job->d_state, Q = CHUNK;
    float *room = job->room;
    struct chunk_room r;
    float **const by_p[] = {&r.x,  &r.x_by_p,  &r.dy, &r.dy_e, &r.y,
                            &r.dx, &r.y_state, &r.v,  &r.dv};
    float **const by_n[] = {&r.b, &r.b_by_n, &r.c, &r.c_real};
    float **const by_s[] = {&r.g, &r.decay, &r.dm, &r.m, &r.dg};
    float **const places[] = {&r.delta,   &r.slope,   &r.cum,     &r.e,
                              &r.tail,    &r.w,       &r.w_scale, &r.x_scale,
                              &r.c_scale, &r.b_scale, &r.to,      &r.from};
    for (size_t i = 0; i < sizeof by_p / sizeof by_p[0]; i++)
        *by_p[i] = deal(&room, P, Q);
    for (size_t i = 0; i < sizeof by_n / sizeof by_n[0]; i++)
        *by_n[i] = deal(&room, N, Q);
    for (size_t i = 0; i < sizeof by_s / sizeof by_s[0]; i++)
        *by_s[i] = deal(&room, Q, Q);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        *places[i] = deal(&room, 1, Q);
    r.s = deal(&room, P, N);
    r.s_by_n = deal(&room, P, N);
    return r;
}

/* ---- small things -------------------------------------------------------- */

/* The sum of a[i] b[i]: lane i % LANES, then total(). */
static float dot(const float *a, const float *b, int n)
{
    float lane[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int j = 0; j < LANES; j++)
            lane[j] = fmaf(a[i + j], b[i + j], lane[j]);
    }
    for (int j = 0; i + j < n; j++)
        lane[j] = fmaf(a[i + j], b[i + j], lane[j]);
    return total(lane);
}

/* x rounded to integers; 0 where the scale is. */
static void round_to(float *q, const float *x, float inverse, int n)
{
    for (int i = 0; i < n; i++)
        q[i] = fmaf(x[i], inverse, EXACT_ROUND) - EXACT_ROUND;
}

/* The integers of x, or x itself; returns their scale. */
static float take_row(float *q, const float *x, int n, bool imitates)
{
    if (!imitates) {
        memcpy(q, x, sizeof(float) * (size_t)n);
        return 1.0f;
    }
    struct exact_scale s = exact_scale_of(quantise_amax(x, n));
    round_to(q, x, s.inverse, n);
    return s.scale;
}

/* Rounds products of weights, or states, and multiplies them out. */
static void round_products(float *x, int n, bool imitates)
{
    if (!imitates)
        return;
    struct exact_scale s = exact_scale_of_products(quantise_amax(x, n));
    round_to(x, x, s.inverse, n);
    for (int i = 0; i < n; i++)
        x[i] *= s.scale;
}

/* [rows][cols] to [cols][ld] */
static void transpose(float *to, const float *from, int rows, int cols, int ld)
{
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < cols; j++)
            to[(size_t)j * (size_t)ld + (size_t)i] = *from++;
    }
}

static float inverse_of(float x)
{
    return x > 0.0f ? 1.0f / x : 0.0f;
}

/* A matrix of [rows][ld], or the transpose of one. */
struct operand {
    const float *x;
    int ld;
    bool is_transposed;
};

/* c = a b, with n_k terms; added to c when accumulate. */
static void multiply(float *c, size_t ld_c, int n_i, int n_j, struct operand a,
                     const float *b, int ld_b, int n_k, bool accumulate)
{
    struct product job = {
        .c = c,
        .ld_c = ld_c,
        .a = a.x,
        .a_i = a.is_transposed ? 1 : (size_t)a.ld,
        .a_k = a.is_transposed ? (size_t)a.ld : 1,
        .b = b,
        .ld_b = (size_t)ld_b,
        .n_j = n_j,
        .n_k = n_k,
        .accumulate = accumulate,
    };
    TRAIN_LEVEL.product(&job, 0, n_i);
}

/* ---- forward again ------------------------------------------------------- */

/* x^, B^, C^, their scales, and dy. */
static void take_inputs(const struct chunk_room *r,
                        const struct chunk_pass *job)
{
    const int P = job->headdim, N = job->d_state;
    for (int t = 0; t < job->n_t; t++) {
        size_t row = (size_t)t * job->ld_xbc;
        float *c = r->c + t * N, *c_real = r->c_real + t * N;
        r->x_scale[t] = take_row(r->x + t * P, job->x + row, P, job->imitates);
        r->b_scale[t] = take_row(r->b + t * N, job->b + row, N, job->imitates);
        r->c_scale[t] = take_row(c, job->c + row, N, job->imitates);
        for (int n = 0; n < N; n++)
            c_real[n] = c[n] * r->c_scale[t];
        const float *dv = job->dv + (size_t)t * job->ld_dv;
        const float *z = job->z + (size_t)t * job->ld_in;
        for (int p = 0; p < P; p++)
            r->dy[t * P + p] = dv[p] * exact_silu(z[p]);
    }
    transpose(r->x_by_p, r->x, job->n_t, P, CHUNK);
    transpose(r->b_by_n, r->b, job->n_t, N, CHUNK);
}

static void take_decays(const struct chunk_room *r,
                        const struct chunk_pass *job)
{
    float cum = 0.0f;
    for (int t = 0; t < job->n_t; t++) {
        float dt = job->dt[(size_t)t * job->ld_in] + job->dt_bias;
        float delta = exact_delta(dt, job->delta_min, job->delta_max);
        bool is_held = exact_softplus(dt) != delta;
        cum = fmaf(delta, job->a_log2e, cum);
        r->delta[t] = delta;
        r->slope[t] = is_held ? 0.0f : sigmoid(dt);
        r->cum[t] = cum;
        r->e[t] = exact_exp2_neg(cum);
        r->w_scale[t] = r->x_scale[t] * r->b_scale[t];
        r->w[t] = delta * r->w_scale[t];
    }
    for (int t = 0; t < job->n_t; t++)
        r->tail[t] = exact_exp2_neg(cum - r->cum[t]);
    for (int t = 0; t < job->n_t; t++) {
        for (int p = 0; p < job->headdim; p++)
            r->dy_e[t * job->headdim + p] =
                r->dy[t * job->headdim + p] * r->e[t];
    }
}

static void take_state(const struct chunk_room *r, const struct chunk_pass *job)
{
    const int P = job->headdim, N = job->d_state;
    memcpy(r->s, job->s, sizeof(float) * (size_t)P * (size_t)N);
    for (int p = 0; p < P; p++)
        round_products(r->s + p * N, N, job->imitates);
    transpose(r->s_by_n, r->s, P, N, P);
}

/* L, g L, m^ sC; and dg, with what passes the decays within the chunk. */
static void weigh(const struct chunk_room *r, const struct chunk_pass *job)
{
    const int T = job->n_t, P = job->headdim, N = job->d_state;
    const struct operand c = {r->c, N, false}, dy = {r->dy, P, false};
    multiply(r->g, CHUNK, T, T, c, r->b_by_n, CHUNK, N, false);
    multiply(r->dm, CHUNK, T, T, dy, r->x_by_p, CHUNK, P, false);
    memset(r->from, 0, sizeof(float) * CHUNK);
    for (int t = 0; t < T; t++) {
        float *g = r->g + t * CHUNK, *m = r->m + t * CHUNK;
        float *dm = r->dm + t * CHUNK, *dg = r->dg + t * CHUNK;
        for (int s = 0; s < T; s++) {
            float log = exact_min(r->cum[t] - r->cum[s], 0.0f);
            float decay = s <= t ? exact_exp2_neg(log) : 0.0f;
            g[s] *= decay;
            m[s] = g[s] * r->w[s];
            dg[s] = dm[s] * decay * r->w[s];
        }
        float scale = r->c_scale[t];
        r->to[t] = dot(dm, m, T) * scale;
        for (int s = 0; s < T; s++)
            r->from[s] = fmaf(dm[s] * g[s], scale, r->from[s]);
        round_products(m, T, job->imitates);
        for (int s = 0; s < T; s++)
            m[s] *= scale;
    }
}

/* ---- y, and what it gives back ------------------------------------------- */

/* y; dz, dD, and what the decays from the chunk's start get. */
static void read_out(const struct chunk_room *r, const struct chunk_pass *job)
{
    const int T = job->n_t, P = job->headdim, N = job->d_state;
    const struct operand m = {r->m, CHUNK, false};
    const struct operand c = {r->c_real, N, false};
    multiply(r->y, (size_t)P, T, P, m, r->x, P, T, false);
    multiply(r->y_state, (size_t)P, T, P, c, r->s_by_n, P, N, false);
    for (int t = 0; t < T; t++) {
        const float *x = r->x + t * P, *dy = r->dy + t * P;
        const float *from_state = r->y_state + t * P;
        const float *z = job->z + (size_t)t * job->ld_in;
        const float *dv = job->dv + (size_t)t * job->ld_dv;
        float *dz = job->dz + (size_t)t * job->ld_in, *y = r->y + t * P;
        for (int p = 0; p < P; p++) {
            y[p] = fmaf(from_state[p], r->e[t], y[p]);
            y[p] = fmaf(job->d * r->x_scale[t], x[p], y[p]);
            dz[p] = dv[p] * y[p] * silu_slope(z[p]);
        }
        r->to[t] += dot(r->dy_e + t * P, from_state, P);
        *job->dd = fmaf(dot(dy, x, P), r->x_scale[t], *job->dd);
    }
}

/* v^ and dv; dB and dC. */
static void go_back_to_bc(const struct chunk_room *r,
                          const struct chunk_pass *job)
{
    const int T = job->n_t, P = job->headdim, N = job->d_state;
    const struct operand dg = {r->dg, CHUNK, false};
    const struct operand dg_by_s = {r->dg, CHUNK, true};
    const struct operand dy_e = {r->dy_e, P, false};
    const struct operand v_by_s = {r->v, CHUNK, true};
    const struct operand ds = {job->ds, N, false};
    for (int p = 0; p < P; p++) {
        float *v = r->v + p * CHUNK;
        for (int s = 0; s < T; s++)
            v[s] = r->x_by_p[p * CHUNK + s] * (r->tail[s] * r->w[s]);
        round_products(v, T, job->imitates);
    }
    multiply(r->dv, CHUNK, P, T, ds, r->b_by_n, CHUNK, N, false);
    multiply(job->dc, job->ld_dbc, T, N, dg, r->b, N, T, false);
    multiply(job->dc, job->ld_dbc, T, N, dy_e, r->s, N, P, true);
    multiply(job->db, job->ld_dbc, T, N, dg_by_s, r->c_real, N, T, false);
    multiply(job->db, job->ld_dbc, T, N, v_by_s, job->ds, N, P, true);
    for (int s = 0; s < T; s++) {
        float inverse = inverse_of(r->b_scale[s]);
        for (int n = 0; n < N; n++)
            job->db[(size_t)s * job->ld_dbc + (size_t)n] *= inverse;
    }
}

/* dx, and what the decays to the chunk's end get, in from. */
static void go_back_to_x(const struct chunk_room *r,
                         const struct chunk_pass *job)
{
    const int T = job->n_t, P = job->headdim;
    const struct operand m_by_s = {r->m, CHUNK, true};
    float tails[CHUNK] = {0};
    multiply(r->dx, (size_t)P, T, P, m_by_s, r->dy, P, T, false);
    for (int p = 0; p < P; p++) {
        const float *dv = r->dv + p * CHUNK, *x = r->x_by_p + p * CHUNK;
        for (int s = 0; s < T; s++)
            tails[s] = fmaf(dv[s], x[s], tails[s]);
    }
    for (int s = 0; s < T; s++) {
        float inverse = inverse_of(r->x_scale[s]);
        float factor = r->tail[s] * r->w[s];
        float *dx = job->dx + (size_t)s * job->ld_xbc;
        for (int p = 0; p < P; p++) {
            float own = fmaf(r->dv[p * CHUNK + s], factor, r->dx[s * P + p]);
            dx[p] = fmaf(own, inverse, job->d * r->dy[s * P + p]);
        }
        tails[s] *= r->tail[s];
        r->from[s] += tails[s];
        r->to[T - 1] = fmaf(tails[s], r->w[s], r->to[T - 1]);
    }
}

/* dS of the chunk's start. */
static void go_back_to_state(const struct chunk_room *r,
                             const struct chunk_pass *job)
{
    const int T = job->n_t, P = job->headdim, N = job->d_state;
    const struct operand dy_e_by_p = {r->dy_e, P, true};
    float left = r->e[T - 1];
    r->to[T - 1] = fmaf(left, dot(job->ds, job->s, P * N), r->to[T - 1]);
    for (int i = 0; i < P * N; i++)
        job->ds[i] *= left;
    multiply(job->ds, (size_t)N, P, N, dy_e_by_p, r->c_real, N, T, true);
}

/* The decay of a place gets what all decays over it get. */
static void go_back_to_dt(const struct chunk_room *r,
                          const struct chunk_pass *job)
{
    const float a = job->a_log2e * LN2;
    float over = 0.0f;
    for (int t = job->n_t - 1; t >= 0; t--) {
        over += fmaf(-r->from[t], r->w[t], r->to[t]);
        float ddelta = fmaf(a, over, r->from[t] * r->w_scale[t]);
        float ddt = ddelta * r->slope[t];
        job->ddt[(size_t)t * job->ld_in] = ddt;
        *job->ddt_bias += ddt;
        *job->da_log = fmaf(a * over, r->delta[t], *job->da_log);
    }
}

void CHUNK_BACKWARD(const struct chunk_pass *job)
{
    struct chunk_room r = deal_room(job);
    take_inputs(&r, job);
    take_decays(&r, job);
    take_state(&r, job);
    weigh(&r, job);
    read_out(&r, job);
    go_back_to_bc(&r, job);
    go_back_to_x(&r, job);
    go_back_to_state(&r, job);
    go_back_to_dt(&r, job);
}

/* ---- the norm before out_proj -------------------------------------------- */

/* With c = v r and e = dy weight:  dv = r (e - c * mean of e c) */
static void gate_group(const struct gate_pass *job, size_t at, int i0)
{
    const int n = job->d / job->n_groups;
    const float *v = job->v + at, *dy = job->dy + at;
    const float *weight = job->weight + i0;
    float e[EXACT_LANES], *dv = job->dv + at;
    float r = 1.0f / sqrtf(dot(v, v, n) / (float)n + job->epsilon);
    float along = 0.0f;
    for (int i = 0; i < n; i += EXACT_LANES) {
        int m = least(EXACT_LANES, n - i);
        for (int j = 0; j < m; j++)
            e[j] = dy[i + j] * weight[i + j];
        along += dot(e, v + i, m);
    }
    float mean = along * r / (float)n;
    for (int i = 0; i < n; i++)
        dv[i] = r * fmaf(-v[i] * r, mean, dy[i] * weight[i]);
    job->r[at / (size_t)n] = r;
}

void GATE_BACKWARD(const struct gate_pass *job, int t0, int t1)
{
    const int n = job->d / job->n_groups;
    for (int t = t0; t < t1; t++) {
        for (int i = 0; i < job->d; i += n)
            gate_group(job, (size_t)t * (size_t)job->d + (size_t)i, i);
    }
}

/* dweight += sum over t of dy v r */
void GATE_BACKWARD_WEIGHT(const struct gate_pass *job, int n_t, int i0, int i1)
{
    const int n = job->d / job->n_groups;
    for (int t = 0; t < n_t; t++) {
        size_t row = (size_t)t * (size_t)job->d;
        const float *v = job->v + row, *dy = job->dy + row;
        const float *r = job->r + (size_t)t * (size_t)job->n_groups;
        for (int i = i0; i < i1;) {
            int group = i / n, end = least(i1, (group + 1) * n);
            for (; i < end; i++)
                job->dweight[i] = fmaf(dy[i], v[i] * r[group], job->dweight[i]);
        }
    }
}
