/* chain_conv.cuh -- the convolution of a byte, and B^ and C^.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHAIN_CONV_CUH
#define MAMBYTE_CHAIN_CONV_CUH

#include "cuda/batch/chain_block.cuh"

/* What the convolution of two channels needs besides their new inputs. */
struct conv_input {
    float2 past[TAPS - 1], weight[TAPS], bias;
};

/* Of channels c and c + 1 of x | B | C: past inputs. */
static __device__ __forceinline__ void
load_past(struct conv_input &in, const struct byte_block &k, int c)
{
#pragma unroll
    for (int j = 0; j < TAPS - 1; j++)
        in.past[j] =
            *(const float2 *)(k.state.past + j * k.m.conv_channels + c);
}

/* Weights, rows of `stride` floats, and bias. */
static __device__ __forceinline__ void load_taps(struct conv_input &in,
                                                 const float *weight,
                                                 int stride, const float *bias)
{
#pragma unroll
    for (int j = 0; j < TAPS; j++)
        in.weight[j] = *(const float2 *)(weight + j * stride);
    in.bias = *(const float2 *)bias;
}

static __device__ __forceinline__ void
load_conv(struct conv_input &in, const struct byte_block &k, int c)
{
    load_past(in, k, c);
    load_taps(in, k.layer.conv + c, k.m.conv_channels, k.layer.conv_bias + c);
}

/* conv */
static __device__ __forceinline__ float2
convolve_inputs(const struct conv_input &in, float2 now)
{
    float2 sum = in.bias;
#pragma unroll
    for (int j = 0; j < TAPS; j++) {
        float2 x = j < TAPS - 1 ? in.past[j] : now;
        sum.x = fmaf(in.weight[j].x, x.x, sum.x);
        sum.y = fmaf(in.weight[j].y, x.y, sum.y);
    }
    return sum;
}

/* The past moves on. */
static __device__ __forceinline__ void keep_past(const struct byte_block &k,
                                                 const struct conv_input &in,
                                                 float2 now, int c)
{
#pragma unroll
    for (int j = 1; j < TAPS; j++)
        *(float2 *)(k.state.past + (j - 1) * k.m.conv_channels + c) =
            j < TAPS - 1 ? in.past[j] : now;
}

/* B or C of a group, by a warp: 2 lane and the next of each 64 of its states.
 */
template <int n_states> struct vector_input {
    struct conv_input pair[n_states / 64];
};

template <int n_states>
static __device__ __forceinline__ void
load_vector(vector_input<n_states> &in, const struct byte_block &k, int c)
{
#pragma unroll
    for (int i = 0; i < n_states / 64; i++)
        load_conv(in.pair[i], k, c + i * 64 + 2 * k.lane);
}

/* Its int8: to q, and to kept where that is wanted.  Returns the scale. */
template <int n_states>
static __device__ __forceinline__ float
convolve_vector(const struct byte_block &k, const vector_input<n_states> &in,
                int c, int8_t *q, int8_t *kept)
{
    constexpr int pairs = n_states / 64;
    const float *zx = k.zx + k.b.d_inner;
    float2 a[pairs];
    uint32_t amax = 0;
    c += 2 * k.lane;
#pragma unroll
    for (int i = 0; i < pairs; i++)
        a[i] = *(const float2 *)(zx + c + i * 64);
#pragma unroll
    for (int i = 0; i < pairs; i++) {
        keep_past(k, in.pair[i], a[i], c + i * 64);
        a[i] = convolve_inputs(in.pair[i], a[i]);
    }
    silu_all<2 * pairs>(&a[0].x);
#pragma unroll
    for (int i = 0; i < pairs; i++)
        amax = max(amax, magnitude2(a[i]));
    struct exact_scale s = scale_of(warp_max(amax));
#pragma unroll
    for (int i = 0; i < pairs; i++) {
        int2 x = quantised(a[i], s);
        store_pair(q + i * 64 + 2 * k.lane, x);
        if (kept)
            store_pair(kept + i * 64 + 2 * k.lane, x);
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
            load_vector(in, k, vector_at(k, i));
        float scale = convolve_vector<n_states>(
            k, in, vector_at(k, i), q, i < n ? k.state.b + here : NULL);
        if (k.lane == 0)
            k.floats(i < n ? k.at.b_scale : k.at.c_scale)[group] = scale;
    }
}

/* Starts to copy B^ of the chunk so far to shared memory. */
static __device__ __forceinline__ void fetch_b(const struct byte_block &k,
                                               int d_state)
{
    int n = k.place * k.m.n_groups * d_state;
#pragma unroll 1
    for (int i = (k.warp * WARP + k.lane) * 16; i < n;
         i += k.n_warps * WARP * 16)
        copy16(k.bytes(k.at.b) + i, k.state.b + i, true);
    copy_commit();
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
