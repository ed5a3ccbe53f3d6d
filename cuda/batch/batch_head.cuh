/* batch_head.cuh -- lm_head, and what becomes of the logits.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_HEAD_CUH
#define MAMBYTE_BATCH_HEAD_CUH

#include "cuda/batch/batch_deliver.cuh"
#include "cuda/batch/batch_weights.cuh"
#include "cuda/common/overflow.cuh"

#ifdef HAS_CLUSTER

/* The logits of the tile: a warp has tiles of eight rows of lm_head, whose
 * units follow each other. */
template <class T>
static __device__ __forceinline__ void
batch_head_product(const batch_block<T> &k, const struct batch_job &job)
{
    const int first = head_tile(k.rank, k.m.size);
    const int n = k.m.d_model / UNIT_DEPTH;
    const float *scale = k.template place<float>(k.m.at.scale);
    for (int tile = k.warp; tile < head_tile(k.rank + 1, k.m.size) - first;
         tile += BATCH_WARPS) {
        const uint4 *unit = (const uint4 *)(k.head_share() + k.m.head.units) +
                            (size_t)tile * n * WARP + k.lane;
        int pair = tile * 8 + k.lane % 4 * 2;
        float2 w = *(const float2 *)(k.resident(k.m.head.scale) + pair);
        int32_t sum[T::deep][1][4] = {};
#pragma unroll 4
        for (int i = 0; i < n; i++) {
            uint4 v = load_once(unit + i * WARP);
            unit_stream<T, 1, 1>::multiply_rows(k, sum, &v,
                                                operand(k) + i * UNIT_DEPTH);
        }
#pragma unroll
        for (int i = 0; i < 2 * T::deep; i++) {
            const int32_t *c = sum[i / 2][0] + i % 2 * 2;
            int row = i * 8 + k.lane / 4;
            if (row >= k.n)
                continue;
            float2 v = make_float2(exact_dequantise(c[0], scale[row], w.x),
                                   exact_dequantise(c[1], scale[row], w.y));
            check_finite(job.overflow, v);
            *(float2 *)(job.logits + (size_t)(k.row + row) * N_BYTES_VOCAB +
                        first * 8 + pair) =
                make_float2(exact_logit(v.x), exact_logit(v.y));
        }
    }
}

/* The cost of each byte under the prediction in its state, which the new one
 * then replaces.  A warp a row. */
template <class T>
static __device__ __forceinline__ void
batch_deliver(const batch_block<T> &k, const struct batch_job &job)
{
    const int n = k.n_own();
    for (int r = k.warp; r < n; r += BATCH_WARPS) {
        const int t = k.rank * k.own + r, row = k.row + t;
        float *state =
            k.template place<float *>(k.m.at.image)[t] + k.m.image.logits;
        float *wanted = job.host_logits[row];
        deliver_row(state, job.logits + (size_t)row * N_BYTES_VOCAB, k.byte(t),
                    wanted, job.host_bits + row, k.lane);
    }
}

#endif

#endif
