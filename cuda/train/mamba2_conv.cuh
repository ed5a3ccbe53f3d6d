/* mamba2_conv.cuh -- the convolution of Mamba-2, forward: x, B and C, each
 * head's x and each group's B and C rounded to int8 with a scale of their own.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_CONV_CUH
#define MAMBYTE_MAMBA2_CONV_CUH

#include "cuda/train/train_conv.cuh"

/* conv.u: [t][channels] numbers, q; its u_q and scale are not used. */
struct conv_heads_job {
    struct train_conv_job conv;
    int n_heads, headdim, n_groups, d_state;
    int n_places;    /* of a window                                        */
    float *x_scale;  /* [head][place]                                      */
    float *bc_scale; /* [2][group][place]                                  */
};

void launch_conv_heads(const struct conv_heads_job *j, int n_windows,
                       bool in_float, cudaStream_t stream);

#endif
