/* batch_conv.cuh -- the convolution of a layer, byte by byte: the past
 * inputs of a channel come from the state.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_CONV_CUH
#define MAMBYTE_BATCH_CONV_CUH

#include "cuda/batch/batch_block.cuh"
#include "cuda/common/exact_vector.cuh"

#ifdef HAS_CLUSTER

/* The past inputs of some rows, on their way. */
enum { PAST_ABREAST = 2 };
struct past_rows {
    float at[PAST_ABREAST][BATCH_TAPS - 1];
};

template <class T>
static __device__ __forceinline__ void
load_past(struct past_rows &p, const batch_block<T> &k, int layer, int r)
{
#pragma unroll
    for (int j = 0; j < PAST_ABREAST; j++) {
        const float *past = past_of(k, layer, min(r + j * T::at_once, k.n - 1));
#pragma unroll
        for (int i = 0; i < BATCH_TAPS - 1; i++)
            p.at[j][i] = past[(size_t)i * k.m.d_inner];
    }
}

/* u = silu(conv(u)) of row r, its magnitude, and the past for the next byte. */
template <class T>
static __device__ __forceinline__ void
convolve_row(const batch_block<T> &k, int layer, int r, const float *past)
{
    const int c = own_channel(k);
    const float *weight = k.resident(k.m.share.conv) + c;
    float *keep = past_of(k, layer, r);
    float input = k.uz(r)[c], a = k.resident(k.m.share.conv_bias)[c];
#pragma unroll
    for (int i = 0; i < BATCH_TAPS; i++) {
        float x = i < BATCH_TAPS - 1 ? past[i] : input;
        a = fmaf(weight[i * T::channels], x, a);
        if (i > 0)
            keep[(size_t)(i - 1) * k.m.d_inner] = x;
    }
    silu_all<1>(&a);
    k.uz(r)[c] = a;
    uint32_t amax = warp_max(magnitude_bits(a));
    if (k.lane == 0)
        atomicMax(k.template place<uint32_t>(k.m.at.amax) + r, amax);
}

template <class T>
static __device__ __forceinline__ void
batch_convolve(struct past_rows &p, const batch_block<T> &k, int layer)
{
    constexpr int stride = PAST_ABREAST * T::at_once;
#pragma unroll 1
    for (int r = own_row(k); r < k.n; r += stride) {
        struct past_rows now = p;
        load_past(p, k, layer, r + stride);
#pragma unroll
        for (int j = 0; j < PAST_ABREAST; j++) {
            if (r + j * T::at_once < k.n)
                convolve_row(k, layer, r + j * T::at_once, now.at[j]);
        }
    }
}

#endif

#endif
