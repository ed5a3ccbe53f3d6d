/* chain_head.cuh -- a head in the registers of a warp: what is known before the
 * byte is, and what in_proj makes of the byte.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHAIN_HEAD_CUH
#define MAMBYTE_CHAIN_HEAD_CUH

#include "cuda/batch/chain_conv.cuh"

/* What is large of a head's state. */
struct head_rows {
    uint4 s[LOADS]; /* S^: states 16 t on of channel 8 j + g; the first 64 */
    uint2 x[2 * LOADS]; /* x^: channels 8 g on of byte 16 t + j, or, from
                         * shared memory, 4 j + t                          */
};

/* Numbers of the lane's two channels or bytes. */
struct head_output {
    float2 s_scale, d, norm;
};
struct head_input {
    struct conv_input conv;
    float2 w; /* 0 from the place on */
    struct head_output out;
};

/* Of the state. */
static __device__ __forceinline__ void
load_head_state(struct head_input &in, const struct byte_block &k, int h)
{
    const int c = h * HEADDIM + 2 * k.lane;
    load_past(in.conv, k, c);
    in.w = make_float2(0.0f, 0.0f);
    if (2 * k.lane < k.place)
        in.w = *(const float2 *)(k.state.w + c);
    in.out.s_scale = *(const float2 *)(k.state.s_scale + c);
}

static __device__ __forceinline__ void
load_head(struct head_input &in, const struct byte_block &k, int h)
{
    const int c = h * HEADDIM + 2 * k.lane;
    load_head_state(in, k, h);
    load_taps(in.conv, k.layer.conv + c, k.m.conv_channels,
              k.layer.conv_bias + c);
    in.out.d = *(const float2 *)(k.layer.d + c);
    in.out.norm = *(const float2 *)(k.layer.gate_norm + c);
}

/* Where the lane's part of S^ lies. */
template <int n_states>
static __device__ __forceinline__ int states_at(const struct byte_block &k,
                                                int h)
{
    return (h * HEADDIM + k.g) * n_states + k.t * 16;
}

template <int n_states>
static __device__ __forceinline__ void
load_states(struct head_rows &rows, const struct byte_block &k, int h, int part)
{
    const int8_t *s = k.state.s_q + states_at<n_states>(k, h) + part * 64;
#pragma unroll
    for (int j = 0; j < LOADS; j++)
        rows.s[j] = load_streamed((const uint4 *)(s + 8 * j * n_states));
}

/* 0 from the place on. */
static __device__ __forceinline__ void
load_bytes(struct head_rows &rows, const struct byte_block &k, int h)
{
    const int8_t *x =
        k.state.x + (size_t)(16 * k.t) * k.b.d_inner + h * HEADDIM + 8 * k.g;
#pragma unroll
    for (int j = 0; j < 2 * LOADS; j++, x += k.b.d_inner) {
        rows.x[j] = make_uint2(0, 0);
        if (16 * k.t + j < k.place)
            rows.x[j] = load_streamed((const uint2 *)x);
    }
}

/* Asks the L2 cache for x^ of the chunk so far. */
static __device__ __forceinline__ void
prefetch_bytes(const struct byte_block &k, int h)
{
    const int8_t *x = k.state.x + (size_t)k.lane * k.b.d_inner + h * HEADDIM;
    if (k.lane < k.place)
        prefetch_line(x);
    if (k.lane + WARP < k.place)
        prefetch_line(x + (size_t)WARP * k.b.d_inner);
}

/* The same for load_head, S^ and x^. */
static __device__ __forceinline__ void prefetch_head(const struct byte_block &k,
                                                     int h)
{
    enum { LINE = 128, FLOATS = LINE / 4 }; /* a head's are two lines */
    const int bytes = HEADDIM * k.b.d_state, i = k.lane / 2;
    const int8_t *s = k.state.s_q + (size_t)h * bytes;
    const float *from = i < TAPS - 1 ? k.state.past + i * k.m.conv_channels
                        : i < TAPS   ? k.state.w
                                     : k.state.s_scale;
#pragma unroll 1
    for (int at = k.lane * LINE; at < bytes; at += WARP * LINE)
        prefetch_line(s + at);
    if (i <= TAPS)
        prefetch_line(from + h * HEADDIM + k.lane % 2 * FLOATS);
    prefetch_bytes(k, h);
}

/* What in_proj has made for the head, of the lane's channels. */
struct head_byte {
    float2 gate; /* silu(z) */
    int2 x;      /* x^ */
    float x_scale;
};

/* x and z of in_proj. */
struct head_zx {
    float2 x, z;
};

static __device__ __forceinline__ struct head_zx
load_zx(const struct byte_block &k, int h)
{
    const int c = h * HEADDIM + 2 * k.lane;
    return {*(const float2 *)(k.zx + k.b.d_inner + c),
            *(const float2 *)(k.zx + c)};
}

static __device__ __forceinline__ struct head_byte
convolve_head(const struct head_input &in, const struct head_zx &zx)
{
    struct head_byte byte;
    float2 a[2] = {convolve_inputs(in.conv, zx.x), zx.z};
    silu_all<4>(&a[0].x);
    struct exact_scale s = scale_of(warp_max(magnitude2(a[0])));
    byte.gate = a[1];
    byte.x = quantised(a[0], s);
    byte.x_scale = s.scale;
    return byte;
}

static __device__ __forceinline__ void
keep_head_past(const struct byte_block &k, const struct head_input &in,
               const struct head_zx &zx, int h)
{
    keep_past(k, in.conv, zx.x, h * HEADDIM + 2 * k.lane);
}

#endif
