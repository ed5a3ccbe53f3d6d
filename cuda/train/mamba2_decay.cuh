/* mamba2_decay.cuh -- delta and the decays of Mamba-2's heads, from dt.
 *
 *     delta = softplus(dt + dt_bias), kept within limits
 *     cum   = sum over the chunk so far of -exp(A_log) delta log2(e)
 *
 * Places are those of mamba2_chunk.cuh.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_DECAY_CUH
#define MAMBYTE_MAMBA2_DECAY_CUH

#include "cuda/common/device.cuh"
#include "cuda/train/row_scale.cuh"

struct decay_job {
    int n_t, n_windows, n_chunks, n_heads;
    const void *dt; /* [t][ld] numbers, sums; dt is the first of a row      */
    int ld;
    const float *row_scale, *col_scale;
    const float *bias, *a_log;  /* [head]                                   */
    float delta_min, delta_max; /* max 0: no limits                         */
    float *delta, *cum;         /* [head][place]                            */

    const float *dcum;   /* [part][head][place]                             */
    const float *ddelta; /* [head][place]                                   */
    int n_parts;
    void *ddt;      /* [t][ld] numbers, times row_scale                     */
    float *partial; /* [chunk][3 n_heads]: of dt_bias, A_log; D is not ours */
};

void launch_decay(const struct decay_job *j, bool in_float,
                  cudaStream_t stream);
void launch_decay_back(const struct decay_job *j, bool in_float,
                       cudaStream_t stream);

#endif
