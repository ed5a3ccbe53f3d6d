/* chain_sums.cuh -- the sums of a head over the bytes of the chunk, and over
 * the states, on tensor cores.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHAIN_SUMS_CUH
#define MAMBYTE_CHAIN_SUMS_CUH

#include "cuda/batch/chain_head.cuh"

/* The lane's quarter of C^ of 64 states. */
template <int n_states>
static __device__ __forceinline__ uint4 c_quarter(const struct byte_block &k,
                                                  int group, int part)
{
    return *(const uint4 *)(k.bytes(k.at.c) + group * n_states + part * 64 +
                            k.t * 16);
}

/* g of the lane's bytes: C^ B^.  Past the byte they are anything. */
template <int n_states>
static __device__ __forceinline__ int2 score(const struct byte_block &k,
                                             int group)
{
    const int stride = k.m.n_groups * n_states;
    const int8_t *b =
        k.bytes(k.at.b) + k.g * stride + group * n_states + k.t * 16;
    struct row_sums sums = {};
#pragma unroll
    for (int part = 0; part < n_states / 64; part++) {
        uint4 rows[LOADS];
#pragma unroll
        for (int j = 0; j < LOADS; j++)
            rows[j] = *(const uint4 *)(b + 8 * j * stride + part * 64);
        add_rows(sums, rows, c_quarter<n_states>(k, group, part));
    }
    return sums_from(sums, k.lane);
}

/* The sum of S^ C^ for the lane's channels; the first 64 states are loaded. */
template <int n_states>
static __device__ __forceinline__ int2 read_states(const struct byte_block &k,
                                                   struct head_rows &rows,
                                                   int h, int group)
{
    struct row_sums sums = {};
#pragma unroll
    for (int part = 0; part < n_states / 64; part++) {
        if (part > 0)
            load_states<n_states>(rows, k, h, part);
        add_rows(sums, rows.s, c_quarter<n_states>(k, group, part));
    }
    return sums_from(sums, k.lane);
}

/* What a byte weighs now; w: before it; now: if it is this one. */
static __device__ __forceinline__ float weigh(float w, float alpha, float now,
                                              int at, int place)
{
    w = at == place ? now : exact_or_zero(w * alpha, EXACT_WEIGHT_MIN);
    return at <= place ? w : 0.0f;
}

/* m^, for all lanes, in the order of x^ in struct head_rows; returns its scale.
 * What the bytes weigh goes to the state. */
template <bool is_shared>
static __device__ __forceinline__ float
mix(const struct byte_block &k, const struct head_input &in,
    const struct head_byte &byte, int2 scores, int h, int group)
{
    const int at = 2 * k.lane;
    const float alpha = k.floats(k.at.alpha)[h];
    const float now = exact_weight(k.floats(k.at.delta)[h], byte.x_scale,
                                   k.floats(k.at.b_scale)[group]);
    const float2 w = {weigh(in.w.x, alpha, now, at, k.place),
                      weigh(in.w.y, alpha, now, at + 1, k.place)};
    const float2 m = {(float)scores.x * w.x, (float)scores.y * w.y};
    if (at <= k.place)
        *(float2 *)(k.state.w + h * CHUNK + at) = w;
    struct exact_scale s = scale_of_products(warp_max(magnitude2(m)));
    const int2 q = quantised(m, s);
    if (is_shared) { /* number 4 j + t is at 16 t + j */
        int8_t *to = k.mix() + at % 4 * 16 + at / 4;
        to[0] = (int8_t)q.x;
        to[16] = (int8_t)q.y;
    } else {
        store_pair(k.mix() + at, q);
    }
    __syncwarp(); /* m^ is written */
    return s.scale;
}

/* The sum of m^ x^ for the lane's channels.
 *
 * A sum over bytes wants the bytes of a channel side by side, and x^ has
 * channels side by side.  So a word of x^, four channels of a byte, is
 * multiplied by four columns: column c has m^ at place c, and zeros.  Rows of
 * the product are words: row g is word 2 g, row g + 8 is word 2 g + 1.  Columns
 * 4 to 7 are 0 to 3 again, which gives each lane its channels in half of what
 * it has. */

/* Adds two bytes of the lane's words x and y: bytes j and j + 1 of m.  shift:
 * 4 times the lane's column. */
static __device__ __forceinline__ void
mix_words(int32_t sum[4], uint32_t m, int j, int shift, uint2 x, uint2 y)
{
    /* Byte j of m to place g % 4, zeros elsewhere. */
    const uint32_t b[2] = {__byte_perm(m, 0, 0x4444 ^ (4 ^ j) << shift),
                           __byte_perm(m, 0, 0x4444 ^ (4 ^ (j + 1)) << shift)};
    const uint32_t a[4] = {x.x, x.y, y.x, y.y};
    product_16x8x32(sum, a, b);
}

/* Of what two products added to, the lane's. */
static __device__ __forceinline__ int2 mixed_sums(const int32_t sum[2][4],
                                                  int t)
{
    const bool is_low = t < 2;
    return make_int2(is_low ? sum[0][0] + sum[1][0] : sum[0][2] + sum[1][2],
                     is_low ? sum[0][1] + sum[1][1] : sum[0][3] + sum[1][3]);
}

static __device__ __forceinline__ int2 mix_bytes(const struct byte_block &k,
                                                 const struct head_rows &rows,
                                                 const struct head_byte &byte)
{
    const uint4 m = *(const uint4 *)(k.mix() + 16 * k.t);
    const uint32_t words[4] = {m.x, m.y, m.z, m.w};
    const int now = k.mix()[k.place], shift = k.g % 4 * 4;
    int32_t sum[2][4] = {};
#pragma unroll
    for (int j = 0; j < 2 * LOADS; j += 2)
        mix_words(sum[j / 2 % 2], words[j / 4], j % 4, shift, rows.x[j],
                  rows.x[j + 1]);
    const int2 own = mixed_sums(sum, k.t);
    return make_int2(own.x + now * byte.x.x, own.y + now * byte.x.y);
}

/* ---- v ------------------------------------------------------------------- */

/* v of a channel. */
static __device__ __forceinline__ float value_of(int mixed, float m_scale,
                                                 int read, float s_scale,
                                                 float d, float x, float gate)
{
    float y = (float)mixed * m_scale;
    y = fmaf((float)read, s_scale, y);
    y = fmaf(d, x, y);
    return y * gate;
}

/* v of the head, and what the norm has to know of it.  The squares are added in
 * the order of exact.h: channels 32 apart first, .., neighbours last. */
static __device__ __forceinline__ void read_out(const struct byte_block &k,
                                                const struct head_output &out,
                                                const struct head_byte &byte,
                                                float m_scale, int2 mixed,
                                                int2 read, int h, int group)
{
    const float c_scale = k.floats(k.at.c_scale)[group];
    const float e = c_scale * k.floats(k.at.e)[h];
    float2 v;
    m_scale *= c_scale;
    v.x = value_of(mixed.x, m_scale, read.x, out.s_scale.x * e, out.d.x,
                   (float)byte.x.x * byte.x_scale, byte.gate.x);
    v.y = value_of(mixed.y, m_scale, read.y, out.s_scale.y * e, out.d.y,
                   (float)byte.x.y * byte.x_scale, byte.gate.y);
    ((float2 *)k.floats(k.at.v))[h * HEADDIM / 2 + k.lane] = v;
    float squares = warp_sum(v.x * v.x) + warp_sum(v.y * v.y);
    uint32_t largest =
        warp_max(magnitude2(make_float2(v.x * out.norm.x, v.y * out.norm.y)));
    if (k.lane == 0) {
        k.floats(k.at.squares)[h] = squares;
        ((uint32_t *)k.floats(k.at.largest))[h] = largest;
    }
}

#endif
