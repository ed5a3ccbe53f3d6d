/* batch_scan.cuh -- dt_proj, the selective scan, and the gate.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_SCAN_CUH
#define MAMBYTE_BATCH_SCAN_CUH

#include "cuda/batch/batch_block.cuh"
#include "cuda/common/exact_vector.cuh"

#ifdef HAS_CLUSTER

/* Quantises dt of all rows, eight threads a row. */
template <class T>
static __device__ __forceinline__ void quantise_dt(const batch_block<T> &k)
{
    const int first = k.thread % 8 * 4;
    for (int r0 = 0; r0 < k.n; r0 += BATCH_THREADS / 8) {
        const int row = min(r0 + k.thread / 8, k.n - 1);
        const float *from =
            k.template place<float>(k.m.at.dtbc) + row * k.m.dtbc_stride;
        uint32_t *to =
            k.template place<uint32_t>(k.m.at.dt_q) + row * k.m.dt_words;
        uint32_t amax = 0;
        for (int i = first; i < k.m.dt_room; i += 32) {
            float4 v = *(const float4 *)(from + i);
            amax = max(amax, magnitude4(v));
        }
        amax = lanes_max<8>(amax);
        struct exact_scale s = exact_scale_of(amax);
        for (int i = first; i < k.m.dt_room; i += 32)
            to[i / 4] = s.scale == 0.0f
                            ? 0
                            : quantise4(*(const float4 *)(from + i), s.inverse);
        if (first == 0)
            k.template place<float>(k.m.at.dt_unit)[row] = s.scale;
    }
}

template <class T>
static __device__ __forceinline__ float *states_of(const batch_block<T> &k,
                                                   int layer, int r)
{
    return past_of(k, layer, r) + k.m.image.s;
}

/* The states of the thread's channel in row r, or in the last row. */
template <class T>
static __device__ __forceinline__ void
load_states(float s[BATCH_STATES], const batch_block<T> &k, int layer, int r)
{
    const float *from = states_of(k, layer, min(r, k.n - 1));
#pragma unroll
    for (int i = 0; i < BATCH_STATES; i++)
        s[i] = load_streamed(from + (size_t)i * k.m.d_inner);
}

/* delta of the thread's channel in row r. */
template <class T>
static __device__ __forceinline__ float delta_of(const batch_block<T> &k, int r)
{
    const int c = own_channel(k);
    const int *w = (const int *)k.resident(k.m.share.dt_proj) + c;
    const int *q = k.template place<int>(k.m.at.dt_q) + r * k.m.dt_words;
    int sum = 0;
#pragma unroll 4
    for (int i = 0; i < k.m.dt_words; i++)
        sum = __dp4a(w[i * T::channels], q[i], sum);
    float unit = k.template place<float>(k.m.at.dt_unit)[r];
    return exact_softplus(
        exact_dequantise(sum, unit, k.resident(k.m.share.dt_scale)[c]) +
        k.resident(k.m.share.dt_bias)[c]);
}

/* s = 2^(delta a) s + delta u B; returns C s.  bc: B, then C of the row. */
static __device__ __forceinline__ float
advance_states(float s[BATCH_STATES], const float a[BATCH_STATES], float delta,
               float u, const float4 *bc)
{
    constexpr int groups = BATCH_STATES / EXACT_GROUP;
    float p[groups], du = delta * u;
#pragma unroll
    for (int j = 0; j < groups; j++) {
        float4 b4 = bc[j], c4 = bc[groups + j];
        const float b[] = {b4.x, b4.y, b4.z, b4.w};
        const float c[] = {c4.x, c4.y, c4.z, c4.w};
#pragma unroll
        for (int i = 0; i < EXACT_GROUP; i++) {
            int n = j * EXACT_GROUP + i;
            s[n] = fmaf(exact_exp2_neg(delta * a[n]), s[n], du * b[i]);
            p[j] = i == 0 ? c[i] * s[n] : fmaf(c[i], s[n], p[j]);
        }
    }
    return (p[0] + p[1]) + (p[2] + p[3]);
}

/* y of row r with its magnitude, and the row's new states. */
template <class T>
static __device__ __forceinline__ void
scan_row(const batch_block<T> &k, int layer, int r, float s[BATCH_STATES],
         const float a[BATCH_STATES])
{
    const int c = own_channel(k);
    float *uz = k.uz(r);
    float u = uz[c], z = uz[T::channels + c];
    float y =
        advance_states(s, a, delta_of(k, r), u,
                       (const float4 *)(k.template place<float>(k.m.at.dtbc) +
                                        r * k.m.dtbc_stride + k.m.dt_room));
    float *to = states_of(k, layer, r);
#pragma unroll
    for (int i = 0; i < BATCH_STATES; i++)
        store_streamed(to + (size_t)i * k.m.d_inner, s[i]);
    silu_all<1>(&z);
    y = fmaf(k.resident(k.m.share.d)[c], u, y) * z;
    uz[c] = y;
    uint32_t amax = warp_max(magnitude_bits(y));
    if (k.lane == 0)
        atomicMax(k.template place<uint32_t>(k.m.at.amax) + r, amax);
}

/* s: the states of the first row, on their way. */
template <class T>
static __device__ __forceinline__ void
batch_scan(const batch_block<T> &k, int layer, float s[BATCH_STATES],
           const float a[BATCH_STATES])
{
#pragma unroll 1
    for (int r = own_row(k); r < k.n; r += T::at_once) {
        float now[BATCH_STATES];
#pragma unroll
        for (int i = 0; i < BATCH_STATES; i++)
            now[i] = s[i];
        load_states(s, k, layer, r + T::at_once);
        scan_row(k, layer, r, now, a);
    }
}

#endif

#endif
