/* mamba2_gate.cuh -- the gated norm of Mamba-2, before out_proj:
 *
 *     v = y silu(z);   out = v r weight,   r = 1 / sqrt(mean of v^2 + epsilon)
 *
 * over each group of channels; rounded to int8, one scale a row.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_GATE_CUH
#define MAMBYTE_MAMBA2_GATE_CUH

#include "cuda/common/device.cuh"
#include "cuda/train/row_scale.cuh"

enum {
    GATE_D_MAX = 8192, /* channels                                        */
    GATE_GROUPS_MAX = 8,
    GATE_BLOCKS = 528 /* of the way back: each leaves sums of its rows   */
};

struct gate_job {
    int d, n_groups, n_rows;
    bool imitates;
    const void *y; /* [t][d] numbers                                        */
    const void *z; /* [t][ld] numbers, sums; z is the first d of a row      */
    int ld;
    const float *z_row, *z_col; /* their scales                             */
    const float *weight;        /* [d]                                      */
    float epsilon;
    void *out;              /* [t][d] numbers, q                            */
    struct row_scale scale; /* of out                                       */
    float *r;               /* [t][n_groups]                                */

    const void *dout; /* [t][d] numbers, times the scale of out             */
    void *dy;         /* [t][d] numbers                                     */
    void *dz;         /* [t][ld] numbers, times z_row                       */
    float *partial;   /* [blocks][d]: dweight                               */
};

void launch_gate(const struct gate_job *j, bool in_float, cudaStream_t stream);

/* Returns the blocks that left sums in partial. */
int launch_gate_back(const struct gate_job *j, bool in_float,
                     cudaStream_t stream);

#endif
