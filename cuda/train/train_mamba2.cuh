/* train_mamba2.cuh -- the mixer of Mamba-2 in training: convolution, decays,
 * the state-space product by chunks, the gated norm.
 *
 * tape->projected is z | x | B | C | dt: [t][projected_ld()].
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_MAMBA2_CUH
#define MAMBYTE_TRAIN_MAMBA2_CUH

#include "cuda/train/mixer.cuh"

/* What a layer keeps beside struct train_tape; places and chunks are those of
 * mamba2_chunk.cuh. */
struct mamba2_tape {
    void *xbc;          /* [t][conv_channels()] numbers: x | B | C, q       */
    float *x_scale;     /* [head][place]                                    */
    float *bc_scale;    /* [2][group][place]                                */
    float *delta, *cum; /* [head][place]                                    */
    void *states;       /* [chunk][head][headdim][d_state] numbers, q: at
                         * the start of each chunk                          */
    float *state_scale; /* [chunk][head][headdim]                           */
    float *m_largest;   /* [head][place]                                    */
    float *v_largest;   /* [chunk][head][headdim]                           */
    void *y;            /* [t][d_inner] numbers, before the gate            */
    float *gate_r;      /* [t][n_groups]                                    */
};

struct mamba2 {
    int n_chunks; /* of a window                              */
    bool by_warpgroups, in_one_pass; /* as in struct chunk_job              */
    struct mamba2_tape *tapes; /* [n_layer]                                */

    /* scratch of a pass */
    void *parts;   /* like states: what chunks add to states; backward,
                    * the gradients of states                               */
    void *dxbc;    /* [t][conv_channels()] numbers                          */
    float *dcum;   /* [tile of d_state][head][place]                        */
    float *ddelta; /* [head][place]                                         */
};

extern const struct mixer_ops mamba2_mixer;

#endif
