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
            rows[j] = *(const uint4 *)(b + j * 8 * stride + part * 64);
        add_rows(sums, rows, c_quarter<n_states>(k, group, part));
    }
    return own_sums(sums, k.t);
}

/* The sum of S^ C^ for the lane's channels. */
template <int n_states>
static __device__ __forceinline__ int2 read_states(const struct byte_block &k,
                                                   const struct head_input &in,
                                                   int h, int group)
{
    const int8_t *from =
        k.state.s_q + (size_t)(h * HEADDIM + k.g) * n_states + k.t * 16;
    struct row_sums sums = {};
    add_rows(sums, in.s, c_quarter<n_states>(k, group, 0));
#pragma unroll
    for (int part = 1; part < n_states / 64; part++) {
        uint4 s[LOADS];
#pragma unroll
        for (int j = 0; j < LOADS; j++)
            s[j] = load_streamed(
                (const uint4 *)(from + j * 8 * n_states + part * 64));
        add_rows(sums, s, c_quarter<n_states>(k, group, part));
    }
    return own_sums(sums, k.t);
}

/* m^ of the lane's bytes, to the warp's room; returns its scale.  What the
 * bytes weigh goes to the state. */
static __device__ __forceinline__ float mix(const struct byte_block &k,
                                            const struct head_input &in,
                                            const struct head_byte &byte,
                                            int2 scores, int h, int group)
{
    const float alpha = k.floats(k.at.alpha)[h];
    const float now = exact_weight(k.floats(k.at.delta)[h], byte.x_scale,
                                   k.floats(k.at.b_scale)[group]);
    float m[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int at = k.first + 8 * i;
        float w = exact_or_zero(in.w[i] * alpha, EXACT_WEIGHT_MIN);
        w = at == k.place ? now : w;
        m[i] = at <= k.place ? (float)(i ? scores.y : scores.x) * w : 0.0f;
        if (at <= k.place)
            k.state.w[h * CHUNK + at] = w;
    }
    struct exact_scale s = scale_of_products(
        warp_max(max(magnitude_bits(m[0]), magnitude_bits(m[1]))));
    int8_t *to = k.room()->mix + k.first;
    to[0] = (int8_t)quantised(m[0], s);
    to[8] = (int8_t)quantised(m[1], s);
    __syncwarp(); /* m^ is written */
    return s.scale;
}

/* The sum of m^ x^ for the lane's channels.
 *
 * A sum over bytes wants the bytes of a channel side by side, and x^ has
 * channels side by side.  So a word of x^, four channels of a byte, is
 * multiplied by four columns: column c has m^ at place c, and zeros.  Rows of
 * the product are words.  Lanes of even and of odd g have other bytes, so their
 * columns are others: 0 to 3, and 4 to 7; the rest of the product is not used.
 */
static __device__ __forceinline__ int2 mix_bytes(const struct byte_block &k,
                                                 const struct head_input &in,
                                                 const struct head_byte &byte)
{
    struct warp_room *room = k.room();
    const uint2 m = *(const uint2 *)(room->mix + 16 * k.t + k.g / 4 * 8);
    const int now = room->mix[k.place];
    const int shift = k.g % 4 * 4;
    int32_t sum[2][4] = {};
#pragma unroll
    for (int j = 0; j < LOADS; j += 2) {
        const uint32_t word = j < 4 ? m.x : m.y;
        /* Byte j % 4 of the word to place g % 4, zeros elsewhere. */
        const uint32_t b[2] = {
            __byte_perm(word, 0, 0x4444 ^ (4 ^ j % 4) << shift),
            __byte_perm(word, 0, 0x4444 ^ (4 ^ (j + 1) % 4) << shift)};
        const uint4 p = in.x[j], q = in.x[j + 1];
        const uint32_t low[4] = {p.x, p.y, q.x, q.y};
        const uint32_t high[4] = {p.z, p.w, q.z, q.w};
        product_16x8x32(sum[0], low, b);
        product_16x8x32(sum[1], high, b);
    }
    if (k.t / 2 == k.g % 2) {
        int *to = room->sums[k.g % 2] + k.g / 2 * 16 + k.t % 2 * 2;
#pragma unroll
        for (int i = 0; i < 4; i++)
            *(int2 *)(to + 4 * i) =
                make_int2(sum[i / 2][i % 2 * 2], sum[i / 2][i % 2 * 2 + 1]);
    }
    __syncwarp(); /* the sums are written */
    int2 all =
        make_int2(room->sums[0][k.first] + room->sums[1][k.first],
                  room->sums[0][k.first + 8] + room->sums[1][k.first + 8]);
    __syncwarp(); /* the warp's room is read */
    return make_int2(all.x + now * byte.x[0], all.y + now * byte.x[1]);
}

#endif
