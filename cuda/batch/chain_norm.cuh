/* chain_norm.cuh -- the norm of v, quantised for out_proj.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHAIN_NORM_CUH
#define MAMBYTE_CHAIN_NORM_CUH

#include "cuda/batch/chain_block.cuh"

/* The sum of n squares, and the largest of n magnitudes, by a warp. */
static __device__ __forceinline__ float sum_heads(const float *squares, int n,
                                                  int lane)
{
    float low = 0.0f, high = 0.0f;
#pragma unroll 1
    for (int i = lane; i < n; i += EXACT_LANES) {
        low += squares[i];
        if (i + WARP < n)
            high += squares[i + WARP];
    }
    return strided_sum(low, high);
}

static __device__ __forceinline__ float largest_head(const uint32_t *largest,
                                                     int n, int lane)
{
    uint32_t most = 0;
#pragma unroll 1
    for (int i = lane; i < n; i += WARP)
        most = max(most, largest[i]);
    return exact_float(warp_max(most));
}

/* r of the group whose number is the lane's; and the scale of the row. */
static __device__ __forceinline__ float norm_groups(const struct byte_block &k,
                                                    struct exact_scale *scale)
{
    const int n = k.heads_each;
    const float *squares = k.floats(k.at.squares);
    const uint32_t *largest = (const uint32_t *)k.floats(k.at.largest);
    uint32_t amax = 0;
    float mine = 0.0f;
#pragma unroll 1
    for (int group = 0; group < k.m.n_groups; group++) {
        float mean =
            sum_heads(squares + group * n, n, k.lane) / (float)(n * HEADDIM);
        float r = 1.0f / sqrtf(mean + k.b.epsilon);
        float most = largest_head(largest + group * n, n, k.lane);
        amax = max(amax, magnitude_bits(most * r));
        mine = k.lane == group ? r : mine;
    }
    *scale = scale_of(amax);
    return mine;
}

/* u_q of the row, four channels a thread. */
static __device__ __forceinline__ void norm_quantise(const struct byte_block &k)
{
    struct exact_scale scale;
    float r = norm_groups(k, &scale);
    const int n = k.b.d_inner / 4;
    const float4 *v = (const float4 *)k.floats(k.at.v);
    const float4 *weight = (const float4 *)k.layer.gate_norm;
    uint32_t *q = (uint32_t *)(k.b.u_q + k.out_row * k.b.u_stride);
#pragma unroll 1
    for (int i0 = k.warp * WARP; i0 < n; i0 += k.n_warps * WARP) {
        int i = min(i0 + k.lane, n - 1);
        float inverse =
            __shfl_sync(WHOLE_WARP, r, k.group_of(i / (HEADDIM / 4))) *
            scale.inverse;
        float4 a = v[i], w = weight[i];
        uint32_t word = quantise4(
            make_float4(a.x * w.x, a.y * w.y, a.z * w.z, a.w * w.w), inverse);
        if (i0 + k.lane < n)
            q[i] = scale.scale == 0.0f ? 0 : word;
    }
    if (k.warp == 0 && k.lane == 0)
        k.b.u_scale[k.out_row] = scale.scale;
}

#endif
