/* chain_head.cuh -- a head in the registers of a warp: what is known before the
 * byte is, and what in_proj makes of the byte.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHAIN_HEAD_CUH
#define MAMBYTE_CHAIN_HEAD_CUH

#include "cuda/batch/chain_conv.cuh"

/* Of channels and of bytes, those of the lane's rows. */
struct head_input {
    uint4 s[LOADS]; /* S^: states 16 t on of channel 8 j + g               */
    uint4 x[LOADS]; /* x^: channels 16 (g / 2) on of byte 16 t + 8 (g % 2) + j;
                     * 0 from the place on */
    struct conv_input<2> conv;
    float s_scale[2], d[2], norm[2], w[2];
};

/* n_states: of the model.  s has those of the first 64. */
template <int n_states>
static __device__ __forceinline__ void
load_head(struct head_input &in, const struct byte_block &k, int h)
{
    const int8_t *s =
        k.state.s_q + (size_t)(h * HEADDIM + k.g) * n_states + k.t * 16;
    const int at0 = 16 * k.t + k.g % 2 * 8;
    const int8_t *x =
        k.state.x + (size_t)at0 * k.b.d_inner + h * HEADDIM + k.g / 2 * 16;
#pragma unroll
    for (int j = 0; j < LOADS; j++)
        in.s[j] = load_streamed((const uint4 *)(s + j * 8 * n_states));
#pragma unroll
    for (int j = 0; j < LOADS; j++, x += k.b.d_inner) {
        in.x[j] = make_uint4(0, 0, 0, 0);
        if (at0 + j < k.place)
            in.x[j] = load_streamed((const uint4 *)x);
    }
    load_conv(in.conv, k, h * HEADDIM + k.first, 8);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int at = k.first + 8 * i, c = h * HEADDIM + at;
        in.w[i] = at < k.place ? k.state.w[h * CHUNK + at] : 0.0f;
        in.s_scale[i] = k.state.s_scale[c];
        in.d[i] = k.layer.d[c];
        in.norm[i] = k.layer.gate_norm[c];
    }
}

/* Asks the L2 cache for most of what load_head will want. */
static __device__ __forceinline__ void prefetch_head(const struct byte_block &k,
                                                     int h)
{
    enum { LINE = 128 };
    const int bytes = HEADDIM * k.b.d_state;
    const int8_t *s = k.state.s_q + (size_t)h * bytes;
#pragma unroll 1
    for (int i = k.lane * LINE; i < bytes; i += WARP * LINE)
        prefetch_line(s + i);
#pragma unroll 1
    for (int i = k.lane; i < k.place; i += WARP)
        prefetch_line(k.state.x + (size_t)i * k.b.d_inner + h * HEADDIM);
}

/* What in_proj has made for the head, of the lane's channels. */
struct head_byte {
    float gate[2]; /* silu(z) */
    int x[2];      /* x^ */
    float x_scale;
};

static __device__ __forceinline__ struct head_byte
convolve_head(const struct byte_block &k, const struct head_input &in, int h)
{
    struct head_byte byte;
    const int c = h * HEADDIM + k.first;
    int8_t *to = k.state.x + (size_t)k.place * k.b.d_inner + c;
    float a[4]; /* x, then z */
#pragma unroll
    for (int i = 0; i < 2; i++) {
        a[i] = k.zx[k.b.d_inner + c + 8 * i];
        a[2 + i] = k.zx[c + 8 * i];
    }
    convolve<2>(a, in.conv, k, c, 8);
    silu_all<4>(a);
    struct exact_scale s =
        scale_of(warp_max(max(magnitude_bits(a[0]), magnitude_bits(a[1]))));
#pragma unroll
    for (int i = 0; i < 2; i++) {
        byte.gate[i] = a[2 + i];
        byte.x[i] = quantised(a[i], s);
        to[8 * i] = (int8_t)byte.x[i];
    }
    byte.x_scale = s.scale;
    return byte;
}

#endif
