/* cpu_vector_channels.h -- convolution and scan of Mamba-1 in vectors along
 * channels.
 *
 * Included by cpu_vector.h only.
 *
 * SPDX-License-Identifier: MIT
 */

/* ---- convolution --------------------------------------------------------- */

/* Channels c to c + V_LANES.  d_conv is the job's, a constant where the
 * window is to stay in registers. */
static inline __attribute__((always_inline)) void
conv_silu_vector(const struct conv_job *job, int c, const int d_conv)
{
    size_t d_inner = (size_t)job->d_inner;
    vfloat tap[D_CONV_MAX] = {{0}}, window[D_CONV_MAX] = {{0}};
#pragma GCC unroll 8
    for (int k = 0; k < d_conv; k++)
        tap[k] = v_load(job->conv + (size_t)k * d_inner + c);
#pragma GCC unroll 8
    for (int k = 0; k < d_conv - 1; k++)
        window[k] = v_load(job->history + (size_t)k * d_inner + c);
    for (int k = 0; k < d_conv - 1 && job->next; k++)
        __builtin_prefetch(job->next + (size_t)k * d_inner + c);

    vfloat bias = v_load(job->bias + c);
    for (int t = 0; t < job->n_t; t++) {
        float *u = job->u + (size_t)t * job->ld + c;
        window[d_conv - 1] = v_load(u);
        vfloat a = bias;
#pragma GCC unroll 8
        for (int k = 0; k < d_conv; k++)
            a = v_fma(tap[k], window[k], a);
        v_store(u, v_silu(a));
#pragma GCC unroll 8
        for (int k = 0; k < d_conv - 1; k++)
            window[k] = window[k + 1];
    }
#pragma GCC unroll 8
    for (int k = 0; k < d_conv - 1; k++)
        v_store(job->history + (size_t)k * d_inner + c, window[k]);
}

static void conv_silu(const struct conv_job *job, int c0, int c1)
{
    int c = c0;
    for (; c + V_LANES <= c1; c += V_LANES) {
        if (job->d_conv == 4)
            conv_silu_vector(job, c, 4);
        else
            conv_silu_vector(job, c, job->d_conv);
    }
    cpu_scalar.conv_silu(job, c, c1);
}

/* ---- scan ---------------------------------------------------------------- */

enum { SCAN_TILE = 32, N_GROUPS_MAX = D_STATE_MAX / EXACT_GROUP };

/* Neighbours are added pairwise until one is left. */
static inline __attribute__((always_inline)) vfloat pairwise_sum(vfloat *p,
                                                                 int n)
{
#pragma GCC unroll 4
    for (; n > 1; n /= 2) {
#pragma GCC unroll 8
        for (int j = 0; j < n / 2; j++)
            p[j] = p[2 * j] + p[2 * j + 1];
    }
    return p[0];
}

/* sum over n of c[n] * s[n], in groups of EXACT_GROUP added pairwise */
static inline __attribute__((always_inline)) vfloat
read_out(const float *c, const vfloat *s, const int d_state)
{
    vfloat p[N_GROUPS_MAX] = {{0}};
#pragma GCC unroll 16
    for (int j = 0; j < d_state / EXACT_GROUP; j++) {
        int n = j * EXACT_GROUP;
        p[j] = v_set1(c[n]) * s[n];
#pragma GCC unroll 4
        for (int k = 1; k < EXACT_GROUP; k++)
            p[j] = v_fma(v_set1(c[n + k]), s[n + k], p[j]);
    }
    return pairwise_sum(p, d_state / EXACT_GROUP);
}

/* A tile of the scan: n_v vectors of channels from c on, n_t bytes from t0
 * on.  The chain from one byte to the next is one fma long; what comes before
 * and after it is done for the whole tile at once, so that latencies
 * overlap. */
struct scan_tile {
    int c, n_v;
    int t0, n_t;
    vfloat delta[SCAN_TILE]; /* [n_v][n_t] softplus(dt + dt_bias) */
    vfloat du[SCAN_TILE];    /* [n_v][n_t] delta * u */
    vfloat sum[SCAN_TILE];   /* [n_v][n_t] sum over n of C * s */
};

static void scan_before(struct scan_tile *tile, const struct scan_job *job)
{
    for (int v = 0, i = 0; v < tile->n_v; v++) {
        int c = tile->c + v * V_LANES;
        vfloat dt_bias = v_load(job->dt_bias + c);
        for (int t = tile->t0; t < tile->t0 + tile->n_t; t++, i++) {
            vfloat dt = v_load(job->y + (size_t)t * job->ld_y + c);
            vfloat u = v_load(job->u + (size_t)t * job->ld_uz + c);
            tile->delta[i] = v_softplus(dt + dt_bias);
            tile->du[i] = tile->delta[i] * u;
        }
    }
}

/* A tile of one byte: the states are walked in their order in memory. */
static void scan_states_wide(struct scan_tile *tile, const struct scan_job *job)
{
    vfloat sum[N_GROUPS_MAX][SCAN_TILE];
    size_t d_inner = (size_t)job->d_inner;
    size_t row = (size_t)tile->t0 * job->ld_bc;
    for (int n = 0; n < job->d_state; n++) {
        float *s = job->s + (size_t)n * d_inner + tile->c;
        const float *a = job->a_log2e + (size_t)n * d_inner + tile->c;
        vfloat b = v_set1(job->b[row + (size_t)n]);
        vfloat c = v_set1(job->c[row + (size_t)n]);
        vfloat *group = sum[n / EXACT_GROUP];
        bool is_first = n % EXACT_GROUP == 0;
        for (int v = 0; v < tile->n_v; v++, s += V_LANES, a += V_LANES) {
            vfloat decay = v_exp2_neg(tile->delta[v] * v_load(a));
            vfloat state = v_fma(decay, v_load(s), tile->du[v] * b);
            v_store(s, state);
            group[v] = is_first ? c * state : v_fma(c, state, group[v]);
        }
    }
    for (int v = 0; v < tile->n_v; v++) {
        vfloat p[N_GROUPS_MAX];
        int n_groups = job->d_state / EXACT_GROUP;
        for (int j = 0; j < n_groups; j++)
            p[j] = sum[j][v];
        tile->sum[v] = pairwise_sum(p, n_groups);
    }
}

/* d_state is the job's, a constant where the states of a vector are to stay
 * in registers. */
static inline __attribute__((always_inline)) void
scan_states(struct scan_tile *tile, const struct scan_job *job,
            const int d_state)
{
    size_t d_inner = (size_t)job->d_inner;
    for (int v = 0, i = 0; v < tile->n_v; v++) {
        int c = tile->c + v * V_LANES;
        vfloat a[D_STATE_MAX], s[D_STATE_MAX];
#pragma GCC unroll 16
        for (int n = 0; n < d_state; n++) {
            a[n] = v_load(job->a_log2e + (size_t)n * d_inner + c);
            s[n] = v_load(job->s + (size_t)n * d_inner + c);
        }
        for (int t = tile->t0; t < tile->t0 + tile->n_t; t++, i++) {
            const float *b = job->b + (size_t)t * job->ld_bc;
            vfloat delta = tile->delta[i], du = tile->du[i];
#pragma GCC unroll 16
            for (int n = 0; n < d_state; n++)
                s[n] = v_fma(v_exp2_neg(delta * a[n]), s[n], du * v_set1(b[n]));
            tile->sum[i] =
                read_out(job->c + (size_t)t * job->ld_bc, s, d_state);
        }
#pragma GCC unroll 16
        for (int n = 0; n < d_state; n++)
            v_store(job->s + (size_t)n * d_inner + c, s[n]);
    }
}

static void scan_after(const struct scan_tile *tile, const struct scan_job *job)
{
    for (int v = 0, i = 0; v < tile->n_v; v++) {
        int c = tile->c + v * V_LANES;
        vfloat d = v_load(job->d + c);
        for (int t = tile->t0; t < tile->t0 + tile->n_t; t++, i++) {
            vfloat u = v_load(job->u + (size_t)t * job->ld_uz + c);
            vfloat z = v_load(job->z + (size_t)t * job->ld_uz + c);
            v_store(job->y + (size_t)t * job->ld_y + c,
                    v_fma(d, u, tile->sum[i]) * v_silu(z));
        }
    }
}

static void scan_tile(struct scan_tile *tile, const struct scan_job *job)
{
    scan_before(tile, job);
    if (tile->n_t == 1)
        scan_states_wide(tile, job);
    else if (job->d_state == 16)
        scan_states(tile, job, 16);
    else
        scan_states(tile, job, job->d_state);
    scan_after(tile, job);
}

/* A tile is as long in time as can be, then as wide in channels. */
static void scan(const struct scan_job *job, int c0, int c1)
{
    int n_t = job->n_t < SCAN_TILE ? job->n_t : SCAN_TILE;
    int n_vectors = (c1 - c0) / V_LANES;
    struct scan_tile tile = {.c = c0};
    for (int v = 0; v < n_vectors; v += tile.n_v) {
        tile.c = c0 + v * V_LANES;
        tile.n_v =
            n_vectors - v < SCAN_TILE / n_t ? n_vectors - v : SCAN_TILE / n_t;
        for (int t = 0; t < job->n_t; t += n_t) {
            tile.t0 = t;
            tile.n_t = job->n_t - t < n_t ? job->n_t - t : n_t;
            scan_tile(&tile, job);
        }
    }
    cpu_scalar.scan(job, c0 + n_vectors * V_LANES, c1);
}
