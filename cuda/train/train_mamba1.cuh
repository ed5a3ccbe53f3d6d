/* train_mamba1.cuh -- the mixer of Mamba-1 in training: convolution, x_proj,
 * dt_proj, selective scan, gate.
 *
 * tape->projected is u | z: [t][2 d_inner].
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_MAMBA1_CUH
#define MAMBYTE_TRAIN_MAMBA1_CUH

#include "cuda/train/mixer.cuh"

enum {
    TILE = 8,          /* bytes that a scan takes at a time               */
    KEPT = 4,          /* bytes between the states that are kept          */
    SCAN_THREADS = 128 /* each has scan_states() states of a channel       */
};

/* The states that a thread of a scan has, of d_state of a channel. */
static constexpr int scan_states(int d_state)
{
    return d_state < 16 ? 4 : 8;
}

/* Its projections, after those of every layer. */
enum { W_X = W_MIXER, W_DT, N_MAMBA1_WEIGHTS };

/* What a layer keeps beside struct train_tape. */
struct mamba1_tape {
    float *a_log2e; /* [d_inner][d_state]: -exp(A_log) log2(e)            */
    void *u, *u_q;  /* [t][d_inner] numbers, after the convolution        */
    float *bc;      /* [t][2 d_state]: B | C                              */
    void *dt;       /* [t][ld_dt] numbers, q                              */
    void *v;        /* [t][d_inner] numbers, sums: dt_proj dt             */
    void *states;   /* [windows][tiles][TILE / KEPT][d_inner][d_state]
                     * numbers: before every KEPT-th byte                 */
    struct row_scale u_scale, dt_scale;
};

struct mamba1 {
    int n_tiles, ld_dtbc, ld_dt, ld_ddtbc, scan_blocks;
    struct mamba1_tape *tapes; /* [n_layer] */

    /* scratch of a pass */
    float *dtbc;   /* [t][ld_dtbc]: dt | B | C, sums                  */
    void *dv, *du; /* [t][d_inner] numbers                            */
    void *du_x;    /* [t][d_inner] numbers: by way of x_proj          */
    float *ddt;    /* [t][ld_dt]                                      */
    void *ddtbc;   /* [t][ld_ddtbc] numbers                           */
    float *dbc;    /* [t][scan_blocks][2 d_state]                     */
};

extern const struct mixer_ops mamba1_mixer;

/* ---- kernels: each is enqueued ------------------------------------------- */

/* train_dtbc.cu */
void launch_prepare_a(const struct replica *r, int l);
void launch_split_dtbc(const struct replica *r, int l);
void launch_join_dtbc(const struct replica *r, int l);

/* train_conv.cu, train_conv_back.cu */
void launch_conv(const struct replica *r, int l);
void launch_conv_backward(const struct replica *r, int l);

/* train_scan.cu, train_scan_back.cu */
enum status scan_prepare_device(void);
void launch_train_scan(const struct replica *r, int l);
void launch_train_scan_backward(const struct replica *r, int l);

#endif
