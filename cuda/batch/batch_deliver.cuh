/* batch_deliver.cuh -- what becomes of the logits of a row.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_DELIVER_CUH
#define MAMBYTE_BATCH_DELIVER_CUH

#include "cuda/common/cost.cuh"

/* The cost of the byte under the prediction in its state, which the logits
 * then replace; wanted: where the host wants them, or NULL.  A warp a row. */
static __device__ __forceinline__ void deliver_row(float *state,
                                                   const float *logits,
                                                   int byte, float *wanted,
                                                   float *host_bits, int lane)
{
    float bits = cost_of(state, byte, lane);
    if (lane == 0)
        *host_bits = bits;
    __syncwarp();
#pragma unroll
    for (int i = lane; i < N_BYTES_VOCAB; i += WARP) {
        float x = logits[i];
        state[i] = x;
        if (wanted)
            wanted[i] = x;
    }
}

#endif
