/* chain_conv.cuh -- the convolution of a byte, and B^ and C^.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHAIN_CONV_CUH
#define MAMBYTE_CHAIN_CONV_CUH

#include "cuda/batch/chain_block.cuh"

/* What the convolution of some channels needs besides their new inputs. */
template <int each> struct conv_input {
    float past[each][TAPS - 1], weight[each][TAPS], bias[each];
};

/* Of channels c, c + apart, .. of x | B | C. */
template <int each>
static __device__ __forceinline__ void load_conv(struct conv_input<each> &in,
                                                 const struct byte_block &k,
                                                 int c, int apart)
{
    const int n = k.m.conv_channels;
#pragma unroll
    for (int i = 0; i < each; i++, c += apart) {
#pragma unroll
        for (int j = 0; j < TAPS; j++) {
            if (j < TAPS - 1)
                in.past[i][j] = k.state.past[j * n + c];
            in.weight[i][j] = k.layer.conv[j * n + c];
        }
        in.bias[i] = k.layer.conv_bias[c];
    }
}

/* conv of inputs a, in their place; the past moves on. */
template <int each>
static __device__ __forceinline__ void
convolve(float a[each], const struct conv_input<each> &in,
         const struct byte_block &k, int c, int apart)
{
    const int n = k.m.conv_channels;
#pragma unroll
    for (int i = 0; i < each; i++, c += apart) {
        float sum = in.bias[i];
#pragma unroll
        for (int j = 0; j < TAPS; j++) {
            float x = j < TAPS - 1 ? in.past[i][j] : a[i];
            sum = fmaf(in.weight[i][j], x, sum);
            if (j > 0)
                k.state.past[(j - 1) * n + c] = x;
        }
        a[i] = sum;
    }
}

/* B or C of a group, by a warp: lane + 32 i of its states. */
template <int n_states> using vector_input = conv_input<n_states / WARP>;

/* Its int8: to q, and to kept where that is wanted.  Returns the scale. */
template <int n_states>
static __device__ __forceinline__ float
convolve_vector(const struct byte_block &k, const vector_input<n_states> &in,
                int c, int8_t *q, int8_t *kept)
{
    constexpr int each = n_states / WARP;
    float a[each];
    uint32_t amax = 0;
#pragma unroll
    for (int i = 0; i < each; i++)
        a[i] = k.zx[k.b.d_inner + c + k.lane + i * WARP];
    convolve<each>(a, in, k, c + k.lane, WARP);
    silu_all<each>(a);
#pragma unroll
    for (int i = 0; i < each; i++)
        amax = max(amax, magnitude_bits(a[i]));
    struct exact_scale s = scale_of(warp_max(amax));
#pragma unroll
    for (int i = 0; i < each; i++) {
        int8_t x = (int8_t)quantised(a[i], s);
        q[k.lane + i * WARP] = x;
        if (kept)
            kept[k.lane + i * WARP] = x;
    }
    return s.scale;
}

/* The first channel of vector i: B of each group, then C of each. */
static __device__ __forceinline__ int vector_at(const struct byte_block &k,
                                                int i)
{
    return k.b.d_inner + i * k.b.d_state;
}

/* B^ or C^ of vectors `warp`, warp + n_warps, ..; in: of the first. */
template <int n_states>
static __device__ __forceinline__ void
convolve_vectors(const struct byte_block &k, vector_input<n_states> &in)
{
    const int n = k.m.n_groups;
#pragma unroll 1
    for (int i = k.warp; i < 2 * n; i += k.n_warps) {
        int group = i < n ? i : i - n, at = group * n_states;
        int here = k.place * n * n_states + at;
        int8_t *q = k.bytes(i < n ? k.at.b + here : k.at.c + at);
        if (i != k.warp)
            load_conv(in, k, vector_at(k, i) + k.lane, WARP);
        float scale = convolve_vector<n_states>(
            k, in, vector_at(k, i), q, i < n ? k.state.b + here : NULL);
        if (k.lane == 0)
            k.floats(i < n ? k.at.b_scale : k.at.c_scale)[group] = scale;
    }
}

/* Step sizes and decays of all heads, and what is left of the states: by one
 * warp. */
static __device__ __forceinline__ void find_decays(const struct byte_block &k)
{
    const float *dt = k.zx + k.b.d_inner + k.m.conv_channels;
#pragma unroll 1
    for (int h = k.lane; h < k.m.n_heads; h += WARP) {
        float e = k.state.e[h];
        float delta = exact_delta(dt[h] + k.layer.dt_bias[h], k.m.delta_min,
                                  k.m.delta_max);
        float alpha = exact_alpha(delta, k.layer.a_log2e[h]);
        e = k.place == 0 ? alpha : exact_or_zero(e * alpha, EXACT_DECAY_MIN);
        k.floats(k.at.delta)[h] = delta;
        k.floats(k.at.alpha)[h] = alpha;
        k.floats(k.at.e)[h] = e;
        k.state.e[h] = e;
    }
}

#endif
