/* cost.cuh -- what a byte cost under a prediction.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_COST_CUH
#define MAMBYTE_COST_CUH

#include "cuda/common/reduce.cuh"
extern "C" {
#include "model/model.h"
}

/* odds_cost() of a byte, by a warp: the sum is of integers, in any order. */
static __device__ float cost_of(const float *logits, int byte, int lane)
{
    constexpr int each = N_BYTES_VOCAB / WARP;
    float x[each], m = exact_logit(logits[0]);
#pragma unroll
    for (int i = 0; i < each; i++) {
        x[i] = exact_logit(logits[i * WARP + lane]);
        m = exact_max(x[i], m);
    }
    for (int s = WARP / 2; s > 0; s /= 2)
        m = exact_max(__shfl_xor_sync(WHOLE_WARP, m, s), m);
    uint64_t sum = 0;
#pragma unroll
    for (int i = 0; i < each; i++)
        sum += exact_odds_weight(x[i] - m, 1.0f);
    return exact_cost(exact_logit(logits[byte]) - m, warp_sum(sum));
}

#endif
