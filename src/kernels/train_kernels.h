/* train_kernels.h -- the array operations of training on a CPU.
 *
 * One text, train_kernels.c, train_scan.c and train_mamba2.c, compiled once for
 * each level of instructions.  Every sum has a stated order and every product a
 * stated rounding, as in exact.h, so that all levels give the same bits; the
 * forward pass gives the same bits as the engine (cpu_scalar.c).
 *
 * A gradient is named d and what it is of: dy is the derivative of the loss by
 * y.  Channels are handled in blocks of LANES; block b has the channels from
 * LANES b up.
 *
 * Kernels neither allocate nor print nor fail.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_KERNELS_H
#define MAMBYTE_TRAIN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "model/model.h"

enum { LANES = 16 };

/* c[i][j] = sum over k of a[i][k] b[k][j], added to c when accumulate. */
struct product {
    float *c; /* [n_i][ld_c] */
    size_t ld_c;
    const float *a; /* a[i][k] is at i * a_i + k * a_k */
    size_t a_i, a_k;
    const float *b; /* [n_k][ld_b] */
    size_t ld_b;
    int n_j, n_k;
    bool accumulate;
};

/* RMSNorm, or LayerNorm where there is a bias: see cpu_kernels.h. */
struct norm_pass {
    const float *h;      /* [t][d] */
    float *x;            /* [t][d] */
    const float *weight; /* [d] */
    const float *bias;   /* [d] or NULL */
    float epsilon;
    int d;
    float *mean, *r; /* [t]: subtracted from h, multiplied with it */
};

/* The convolution over one window of one stream. */
struct conv_pass {
    const float *in; /* [t][ld_in] */
    size_t ld_in;
    float *u;             /* [t][d_inner], silu of the convolution */
    const float *history; /* [d_conv - 1][d_inner]: inputs before */
    float *history_after; /* the same at the end of the window */
    const float *conv;    /* [d_conv][d_inner] */
    const float *bias;    /* [d_inner] */
    int n_t, d_inner, d_conv;

    const float *du;      /* [t][d_inner] */
    float *din;           /* [t][ld_in], set */
    float *dconv, *dbias; /* as conv and bias, added to */
    float *da;            /* [t][LANES], room for one block */
};

/* The selective scan over one window of one stream: train_scan.c. */
struct scan_pass {
    const float *v; /* [t][d_inner]: dt_proj's product */
    const float *u; /* [t][d_inner] */
    const float *z; /* [t][ld_z] */
    size_t ld_z;
    const float *b, *c; /* [t][ld_bc], d_state each */
    size_t ld_bc;
    float *y;                 /* [t][d_inner], gated */
    const float *s;           /* [d_state][d_inner]: state before */
    float *s_after;           /* the same at the end of the window */
    const float *a_log2e;     /* [d_state][d_inner] */
    const float *d, *dt_bias; /* [d_inner] */
    int n_t, d_inner, d_state;

    const float *dy;      /* [t][d_inner] */
    float *du, *dv;       /* [t][d_inner], set */
    float *dz;            /* [t][ld_z], set */
    float *dbc;           /* [t][blocks][2 d_state]: dB, dC of a block */
    float *da_log2e;      /* as a_log2e, added to */
    float *dd, *ddt_bias; /* as d and dt_bias, added to */
    float *states;        /* [t + 1][d_state][LANES], room for a block */
    float *decays;        /* [t][d_state][LANES], likewise */
};

/* Mamba-2: one head over one chunk of a window, backward: train_mamba2.c. */
struct chunk_pass {
    int n_t; /* CHUNK, or fewer at the end of a window */
    int headdim, d_state;
    bool imitates;
    const float *x, *b, *c; /* [t][ld_xbc], after the convolution: of the
                             * head, and of its group */
    size_t ld_xbc;
    const float *z, *dt; /* [t][ld_in], of the head */
    size_t ld_in;
    const float *s; /* [headdim][d_state]: state before */
    float a_log2e, dt_bias, d;
    float delta_min, delta_max;

    const float *dv; /* [t][ld_dv]: of y silu(z) */
    size_t ld_dv;
    float *ds;       /* [headdim][d_state]: of the state after, then
                      * of that before */
    float *dx;       /* [t][ld_xbc], set */
    float *dz, *ddt; /* [t][ld_in], set */
    float *db, *dc;  /* [t][ld_dbc], set: the head's share */
    size_t ld_dbc;
    float *da_log, *dd, *ddt_bias; /* of the head, added to */
    float *room;                   /* [chunk_room_floats()] */
};

static inline size_t chunk_room_floats(int headdim, int d_state)
{
    return (size_t)(9 * headdim + 4 * d_state + 5 * CHUNK + 12) * CHUNK +
           2 * (size_t)headdim * (size_t)d_state;
}

/* The norm before out_proj, over each group of channels, backward. */
struct gate_pass {
    const float *v;      /* [t][d], what is normed */
    const float *weight; /* [d] */
    float epsilon;
    int d, n_groups;
    float *r; /* [t][n_groups]: multiplied with it */

    const float *dy; /* [t][d], of the norm's result */
    float *dv;       /* [t][d], set */
    float *dweight;  /* [d], added to */
};

struct train_kernels {
    const char *name;

    /* Rows i in [i0, i1). */
    void (*product)(const struct product *job, int i0, int i1);

    /* Rows t in [t0, t1). */
    void (*norm)(const struct norm_pass *job, int t0, int t1);

    /* dh[t][d] is added to from dx[t][d]; needs mean and r. */
    void (*norm_backward)(const struct norm_pass *job, float *dh,
                          const float *dx, int t0, int t1);

    /* dweight[d], dbias[d] (or NULL) are added to, columns i in [i0, i1),
     * from all rows t in [0, n_t). */
    void (*norm_backward_weight)(const struct norm_pass *job, float *dweight,
                                 float *dbias, const float *dx, int n_t, int i0,
                                 int i1);

    /* One block of channels. */
    void (*conv)(const struct conv_pass *job, int block);
    void (*conv_backward)(const struct conv_pass *job, int block);
    void (*scan)(const struct scan_pass *job, int block);
    void (*scan_backward)(const struct scan_pass *job, int block);

    void (*chunk_backward)(const struct chunk_pass *job);

    /* Rows t in [t0, t1): dv and r. */
    void (*gate_backward)(const struct gate_pass *job, int t0, int t1);

    /* Columns i in [i0, i1), from all rows t in [0, n_t); needs r. */
    void (*gate_backward_weight)(const struct gate_pass *job, int n_t, int i0,
                                 int i1);
};

/* Blocks of n channels. */
static inline int blocks_of(int n)
{
    return (n + LANES - 1) / LANES;
}

/* The best level of this CPU. */
const struct train_kernels *train_kernels_find(void);

/* Every level of this CPU, best first, ended by NULL. */
const struct train_kernels *const *train_kernels_all(void);

extern const struct train_kernels train_plain;
extern const struct train_kernels train_avx2;
extern const struct train_kernels train_avx512;

#endif
