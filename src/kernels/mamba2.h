/* mamba2.h -- Mamba-2 in its exact int8 form: what is computed, and the
 * operations that each instruction set provides for it.
 *
 * cpu_scalar_mamba2.c is the definition in C; this comment is the same in
 * words.  Names: H heads of P channels (headdim), N states (d_state), G groups
 * of H / G heads that share B and C.  All floats are binary32; functions named
 * exact_ are those of exact.h; "int8 of a vector" is q = exact_quantise of its
 * elements and one scale, that of exact_scale_of unless exact_scale_of_products
 * is named.  Sums of int8 products are int32: exact in any order.
 *
 * Bytes of a stream are counted from its start, the begin byte included, and
 * every CHUNK = 64 of them are a chunk, wherever a call starts or ends.  For
 * the byte at place t of its chunk, in_proj gives z | x | B | C | dt, and the
 * convolution with silu replaces x | B | C.  Then, for each group,
 *
 *     B^_t, sB_t; C^_t, sC_t = int8 of B and of C, over the N states
 *     g_s = sum over n of C^_t[n] B^_s[n]           for s = 0 .. t
 *
 * and for each head, with the B^, sB, C^, sC and g of its group,
 *
 *     x^_t, sx_t = int8 of x, over the P channels
 *     delta = exact_delta(dt + dt_bias, limits)
 *     alpha = exact_alpha(delta, a_log2e)
 *     E     = alpha at place 0, else exact_or_zero(E alpha, EXACT_DECAY_MIN)
 *     w_s   = exact_or_zero(w_s alpha, EXACT_WEIGHT_MIN)    for s = 0 .. t - 1
 *     w_t   = exact_weight(delta, sx_t, sB_t)
 *     m_s   = g_s w_s                                       for s = 0 .. t
 *     m^, sm = int8 of m, over s, by exact_scale_of_products
 *     y[p]  = (sum over s of m^_s x^_s[p]) (sm sC_t)
 *     y[p]  = fma(sum over n of S^[p][n] C^_t[n], sS[p] (sC_t E), y[p])
 *     y[p]  = fma(D[p], x^_t[p] sx_t, y[p])
 *     v[p]  = y[p] silu(z[p])
 *
 * So w_s is what byte s weighs now: its step size, the scales of its x and B,
 * and the decays of all bytes after it.  After the last byte of a chunk
 *
 *     v^[p], sv[p] = int8, over s, of x^_s[p] w_s, by exact_scale_of_products
 *     S[p][n] = exact_state(E, S[p][n], sum over s of v^[p][s] B^_s[n], sv[p])
 *     S^[p], sS[p] = int8 of S[p], over n, by exact_scale_of_products
 *
 * S, S^ and sS are 0 at the start of a stream.
 *
 * The norm before out_proj is taken over the channels of a group.  With the
 * sums of squares of exact.h, first of the channels of each head, then over
 * the heads of the group,
 *
 *     r      = 1 / sqrtf(sum of v^2 / (H P / G) + norm_epsilon)   for a group
 *     u      = v norm.weight
 *     amax   = the largest, over all groups, of r times the largest |u|
 *     scale  = exact_scale_of(amax); q = exact_quantise(u, r scale.inverse)
 *
 * q with scale.scale is what out_proj multiplies.  r and amax need a sum and a
 * maximum of each head only, and q can be computed wherever v is.
 *
 * A model of floats computes delta and alpha, without the bounds, and then byte
 * by byte S = alpha S + (delta x) B, y = S C + D x; v and the norm in floats.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_H
#define MAMBYTE_MAMBA2_H

#include <stddef.h>
#include <stdint.h>

#include "model/model.h"

struct quantised;

/* One layer of a stream.  Each level has its own layout for x, b and s_q: see
 * mamba2_x_size() and so on, and load and save below. */
struct mamba2_state {
    float *past;    /* [d_conv - 1][conv_channels()], of the convolution */
    float *s;       /* [H][P][N] */
    float *w;       /* [H][CHUNK], 0 from the place on */
    float *e;       /* [H]; 0 at place 0 */
    float *s_scale; /* [H][P] */
    uint8_t *x;     /* x^ of the chunk so far, P padded a head */
    uint8_t *b;     /* B^ of the chunk so far */
    uint8_t *s_q;   /* S^, P padded */
};

/* Room for a head: P is padded to this many channels. */
#define MAMBA2_PAD 16

static inline size_t mamba2_padded_headdim(const struct model_config *c)
{
    return (size_t)(c->headdim + MAMBA2_PAD - 1) / MAMBA2_PAD * MAMBA2_PAD;
}

/* Bytes of x, b and s_q. */
static inline size_t mamba2_x_size(const struct model_config *c)
{
    return (size_t)c->n_heads * CHUNK * mamba2_padded_headdim(c);
}

static inline size_t mamba2_b_size(const struct model_config *c)
{
    return (size_t)c->n_groups * CHUNK * (size_t)c->d_state;
}

static inline size_t mamba2_s_size(const struct model_config *c)
{
    return (size_t)c->n_heads * mamba2_padded_headdim(c) * (size_t)c->d_state;
}

/* The arrays that the phases of a layer pass on, with a row for each byte. */
struct mamba2_rows {
    float *zx; /* [t][ld]: in_proj's product, z | x | B | C | dt; then x and
                * B and C after the convolution; then v in place of x */
    size_t ld;
    int8_t *x;       /* [t][H][P] */
    float *x_scale;  /* [t][H] */
    int8_t *c;       /* [t][G][N] */
    float *c_scale;  /* [t][G] */
    int32_t *c_sum;  /* [t][G]: of the row's c, for unsigned products */
    float *b_scale;  /* [t][G] */
    int32_t *scores; /* [t][G][CHUNK]: g */
    float *delta;    /* [t][H] */
    float *alpha;    /* [t][H] */
    float *squares;  /* [t][H]: the sum of v^2 */
    float *largest;  /* [t][H]: the largest |u|; not finite: neither is u */
};

/* Bytes of one stream, all of one chunk: place + n_t <= CHUNK. */
struct mamba2_job {
    const struct model_config *config;
    const struct layer *layer;
    const struct mamba2_state *state;
    const struct mamba2_rows *rows;
    int row;   /* of the first byte */
    int n_t;   /* bytes */
    int place; /* of the first byte in its chunk */
};

struct mamba2_kernels {
    /* x^: [CHUNK][H P] and B^: [CHUNK][G N] of an image, 0 from the place on,
     * to and from a state.  load also derives S^ from S. */
    void (*load)(const struct mamba2_state *state, const int8_t *x,
                 const int8_t *b, const struct model_config *config);
    void (*save)(int8_t *x, int8_t *b, const struct mamba2_state *state,
                 const struct model_config *config, int place);

    /* After the convolution, for heads [h0, h1): x^, delta, alpha. */
    void (*heads_in)(const struct mamba2_job *job, int h0, int h1);

    /* After the convolution, for a group: B^, C^, g. */
    void (*group_in)(const struct mamba2_job *job, int group);

    /* After both, for heads [h0, h1): v, squares, largest; and the states,
     * when the chunk ends. */
    void (*heads)(const struct mamba2_job *job, int h0, int h1);

    /* Rows [t0, t1) of v, normed, as the input of out_proj. */
    void (*norm_quantise)(const struct quantised *out,
                          const struct mamba2_rows *rows,
                          const struct layer *layer,
                          const struct model_config *config, int t0, int t1);

    /* Models of floats: heads [h0, h1), after the convolution; v. */
    void (*float_heads)(const struct mamba2_job *job, int h0, int h1);

    /* Rows [t0, t1) of v, normed, in place. */
    void (*float_norm)(const struct mamba2_rows *rows,
                       const struct layer *layer,
                       const struct model_config *config, int t0, int t1);
};

/* Where the parts of a row of in_proj's product start. */
static inline const float *mamba2_z(const struct mamba2_job *job, int t)
{
    return job->rows->zx + (size_t)(job->row + t) * job->rows->ld;
}

static inline float *mamba2_x(const struct mamba2_job *job, int t)
{
    return job->rows->zx + (size_t)(job->row + t) * job->rows->ld +
           job->config->d_inner;
}

static inline float *mamba2_b(const struct mamba2_job *job, int t)
{
    return mamba2_x(job, t) + job->config->d_inner;
}

static inline float *mamba2_c(const struct mamba2_job *job, int t)
{
    return mamba2_b(job, t) + job->config->n_groups * job->config->d_state;
}

static inline float *mamba2_dt(const struct mamba2_job *job, int t)
{
    return mamba2_x(job, t) + conv_channels(job->config);
}

#endif
