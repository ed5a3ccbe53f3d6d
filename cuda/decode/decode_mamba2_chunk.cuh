/* decode_mamba2_chunk.cuh -- the end of a chunk: what its bytes add to the
 * states of a block's channels.
 *
 * A warp has the channels that it has in run_heads(); a lane has bytes and
 * states as there.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_MAMBA2_CHUNK_CUH
#define MAMBYTE_DECODE_MAMBA2_CHUNK_CUH

#include "cuda/decode/decode_mamba2_heads.cuh"

/* v^ of a channel, to v [CHUNK]; returns its scale. */
static __device__ __forceinline__ float
quantise_chunk(int8_t *v, const int8_t *x, const float *w, int lane)
{
    const float low = (float)x[2 * lane] * w[lane];
    const float high = (float)x[2 * lane + 1] * w[lane + WARP];
    const struct exact_scale scale = scale_of_products(
        warp_max(max(magnitude_bits(low), magnitude_bits(high))));
    const uint32_t q = pair_of(low, high, scale);
    __syncwarp(); /* the last channel's are read */
    v[lane] = (int8_t)(uint8_t)q;
    v[lane + WARP] = (int8_t)(uint8_t)(q >> 8);
    __syncwarp(); /* every lane reads all of them */
    return scale.scale;
}

/* Of v^ B^, states n and n + 1.  b: those of byte 0. */
static __device__ __forceinline__ int2 chunk_sums(const int8_t *v,
                                                  const int8_t *b, int stride)
{
    int2 sum = {0, 0};
#pragma unroll 8
    for (int s = 0; s < CHUNK; s++) {
        const char2 two = *(const char2 *)(b + s * stride);
        sum.x += v[s] * two.x;
        sum.y += v[s] * two.y;
    }
    return sum;
}

/* S and S^ of channel c. */
template <class S>
static __device__ __forceinline__ void
end_channel(const struct decode_block *block, const int8_t *b, const int8_t *v,
            float v_scale, float decay, int c, float *image, int layer)
{
    const struct mamba2_layer_state there = image_at(block, image, layer);
    const struct mamba2_parts kept = state_kept(block, layer);
    const int n_states = S::d_state(block);
    const size_t at = (size_t)(block->c0 + c) * n_states;
    float2 x[S::pairs];
    uint32_t amax = 0;
#pragma unroll
    for (int k = 0; k < S::pairs; k++) {
        const int n = 2 * block->lane + 2 * WARP * k;
        x[k] = make_float2(0.0f, 0.0f);
        if (n >= n_states)
            continue;
        float *s = there.s + at + n;
        const int2 sum = chunk_sums(v, b + n, block->plan->deal.b_stride);
        x[k].x = exact_state(decay, s[0], sum.x, v_scale);
        x[k].y = exact_state(decay, s[1], sum.y, v_scale);
        s[0] = x[k].x;
        s[1] = x[k].y;
        amax = max(amax, max(magnitude_bits(x[k].x), magnitude_bits(x[k].y)));
    }
    const struct exact_scale scale = scale_of_products(warp_max(amax));
#pragma unroll
    for (int k = 0; k < S::pairs; k++) {
        const int n = 2 * block->lane + 2 * WARP * k;
        if (n >= n_states)
            continue;
        const uint16_t q = (uint16_t)pair_of(x[k].x, x[k].y, scale);
        *(uint16_t *)(kept.s_q + c * n_states + n) = q;
        *(uint16_t *)(there.s_q + at + n) = q;
    }
    if (block->lane == 0)
        kept.s_scale[c] = there.s_scale[block->c0 + c] = scale.scale;
}

/* All warps of the block have stored B^ and w of the last byte. */
template <class S>
static __device__ __forceinline__ void
end_chunk(const struct decode_block *block, float *image, int layer)
{
    const struct decode_plan *p = block->plan;
    int8_t *v = (int8_t *)block->memory + p->memory.mamba2.c_q +
                block->warp * p->memory.mamba2.c_stride;
#pragma unroll 1
    for (int i = block->warp; i < n_units(block); i += N_WARPS) {
        const struct unit unit = unit_at<S>(block, i);
        const struct mamba2_share *s = &block->mamba2.share;
        const struct mamba2_parts state = state_at(block, layer);
        const struct mamba2_parts kept = state_kept(block, layer);
        const int h =
            parity_left(block) * p->deal.n_heads + unit.head - s->first_head;
        const int group = S::group_of(block, unit.head) - s->first_group;
        const int8_t *b = state.b + group * CHUNK * p->deal.b_stride;
#pragma unroll 1
        for (int c = unit.first; c < unit.end; c += unit.stride) {
            const float v_scale = quantise_chunk(
                v, state.x + c * CHUNK, kept.w + h * CHUNK, block->lane);
            end_channel<S>(block, b, v, v_scale, kept.e[h], c, image, layer);
        }
    }
}

#endif
