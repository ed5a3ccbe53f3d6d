/* decode_mamba2_norm.cuh -- the norm before out_proj, of any shape.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_MAMBA2_NORM_CUH
#define MAMBYTE_DECODE_MAMBA2_NORM_CUH

#include "cuda/decode/decode_mamba2_block.cuh"

static __device__ __forceinline__ float *
memory_floats(const struct decode_block *block, int offset)
{
    return (float *)(block->memory + offset);
}

/* Of each head the sum of v^2 and the largest |u|, a warp a head; norm: where
 * its weights begin. */
template <class S>
static __device__ __forceinline__ void
measure_heads(const struct decode_block *block, weight_place norm)
{
    const struct mamba2_memory *m = &block->plan->memory.mamba2;
    const int headdim = S::headdim(block);
#pragma unroll 2
    for (int h = block->warp; h < S::n_heads(block); h += N_WARPS) {
        float low = 0.0f, high = 0.0f;
        uint32_t amax = 0;
#pragma unroll
        for (int k = 0; k * WARP < headdim; k++) {
            const int p = block->lane + k * WARP;
            if ((k + 1) * WARP > headdim && p >= headdim)
                break;
            const float v = block->v[h * headdim + p];
            const float w = share_float(block, norm, h * headdim + p);
            float &sum = k % 2 == 0 ? low : high;
            sum = fmaf(v, v, sum);
            amax = max(amax, magnitude_bits(v * w));
        }
        low = strided_sum(low, high);
        amax = warp_max(amax);
        if (block->lane == 0) {
            memory_floats(block, m->squares)[h] = low;
            memory_floats(block, m->largest)[h] = exact_float(amax);
        }
    }
}

/* 1 / rms of a group, and that times the largest |u|. */
template <class S>
static __device__ __forceinline__ float2
measure_group(const struct decode_block *block, int group)
{
    const struct decode_plan *p = block->plan;
    const int n = S::n_heads(block) / S::n_groups(block);
    const float *squares =
        memory_floats(block, p->memory.mamba2.squares) + group * n;
    const float *largest =
        memory_floats(block, p->memory.mamba2.largest) + group * n;
    uint32_t amax = 0;
    for (int i = block->lane; i < n; i += WARP)
        amax = max(amax, exact_bits(largest[i]));
    const float sum = sum_row<false>(squares, 0.0f, n, block->lane);
    const float mean = sum / (float)(n * S::headdim(block));
    const float r = 1.0f / sqrtf(mean + p->config.norm_epsilon);
    return make_float2(r, exact_float(warp_max(amax)) * r);
}

/* The same of all groups, a warp a group: into shared memory. */
template <class S>
static __device__ __forceinline__ uint32_t
measure_groups(const struct decode_block *block)
{
    const int n = S::n_groups(block);
    float *r = memory_floats(block, block->plan->memory.mamba2.groups);
    float *largest = r + MAMBA2_GROUPS_MAX;
    if (block->warp < n) {
        const float2 both = measure_group<S>(block, block->warp);
        if (block->lane == 0) {
            r[block->warp] = both.x;
            largest[block->warp] = both.y;
        }
    }
    compute_barrier(); /* r and largest are written */
    uint32_t amax = 0;
    for (int g = 0; g < n; g++)
        amax = max(amax, magnitude_bits(largest[g]));
    return amax;
}

/* Quantises the norm of v into q, and returns the scale.  Clears the sums. */
template <class S>
static __device__ __forceinline__ float
quantise_gated(const struct decode_block *block, weight_place norm, int n_sums)
{
    const int n = S::d_inner(block), channels = n / S::n_groups(block);
    const float *groups =
        memory_floats(block, block->plan->memory.mamba2.groups);
    measure_heads<S>(block, norm);
    compute_barrier(); /* every warp reads what all measured; old sums are read,
                        * the state of the next layer has come */
    float r = 0.0f;
    uint32_t amax;
    if (S::n_groups(block) > 1) {
        amax = measure_groups<S>(block);
    } else {
        const float2 one = measure_group<S>(block, 0);
        r = one.x;
        amax = magnitude_bits(one.y);
    }
    const struct exact_scale scale = scale_of(amax);
    for (int i = block->thread; i < n_sums; i += N_THREADS)
        block->sums[i] = 0;
#pragma unroll 4
    for (int first = 0; first < n; first += 4 * N_THREADS) {
        const int i = first + 4 * block->thread;
        if (first + 4 * N_THREADS > n && i >= n)
            break;
        const float4 v = *(const float4 *)(block->v + i);
        const float4 w = *(const float4 *)weights_at(&block->weights, norm,
                                                     i * sizeof(float));
        if (S::n_groups(block) > 1)
            r = groups[i / channels];
        const uint32_t q = quantise4(
            {v.x * w.x, v.y * w.y, v.z * w.z, v.w * w.w}, r * scale.inverse);
        *(uint32_t *)(block->q + i) = scale.scale == 0.0f ? 0 : q;
    }
    return scale.scale;
}

#endif
