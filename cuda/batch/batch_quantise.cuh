/* batch_quantise.cuh -- quantises u and y, once the maxima of all blocks are
 * known.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_QUANTISE_CUH
#define MAMBYTE_BATCH_QUANTISE_CUH

#include "cuda/batch/batch_block.cuh"
#include "cuda/common/exact_vector.cuh"

#ifdef HAS_CLUSTER

/* Sends this block's maxima of the rows, which are complete, to all. */
template <class T>
static __device__ __forceinline__ void tell_maxima(const batch_block<T> &k,
                                                   enum exchange e)
{
    const uint32_t *amax = k.template place<uint32_t>(k.m.at.amax);
    for (int i = k.thread; i < k.m.size * k.n; i += BATCH_THREADS) {
        int row = i % k.n;
        batch_send(k, e, k.m.at.maxima + (k.rank * k.m.rows + row) * 4, i / k.n,
                   amax[row]);
    }
}

/* Quantises sixteen floats.  Each lane reads its four words in an order of its
 * own (turn), so that the lanes of a row do not meet in a bank. */
static __device__ __forceinline__ uint4 quantise16(const float *v,
                                                   float inverse, int turn)
{
    uint32_t w[4], x[4], y[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        w[i] = quantise4(*(const float4 *)(v + ((i + turn) & 3) * 4), inverse);
#pragma unroll
    for (int i = 0; i < 4; i++)
        x[i] = turn & 1 ? w[(i + 3) & 3] : w[i];
#pragma unroll
    for (int i = 0; i < 4; i++)
        y[i] = turn & 2 ? x[(i + 2) & 3] : x[i];
    return make_uint4(y[0], y[1], y[2], y[3]);
}

/* Sends q = u or y, quantised, to all blocks; the maxima have come. */
template <class T>
static __device__ __forceinline__ void batch_quantise(const batch_block<T> &k,
                                                      enum exchange e)
{
    float *scales = k.template place<float>(k.m.at.scale);
    float *inverses = k.template place<float>(k.m.at.inverse);
    if (k.thread < k.n) {
        const uint32_t *maxima =
            k.template place<uint32_t>(k.m.at.maxima) + k.thread;
        uint32_t amax = 0;
#pragma unroll 4
        for (int i = 0; i < k.m.size; i++)
            amax = max(amax, maxima[i * k.m.rows]);
        struct exact_scale s = exact_scale_of(amax);
        scales[k.thread] = s.scale;
        inverses[k.thread] = s.inverse;
    }
    __syncthreads(); /* scales are written, all warps have told their maxima */
    if (k.thread < k.n)
        k.template place<uint32_t>(k.m.at.amax)[k.thread] = 0;
    for (int i = k.thread; i < k.n * T::cells; i += BATCH_THREADS) {
        int row = i / T::cells, cell = i % T::cells;
        uint4 words = make_uint4(0, 0, 0, 0);
        if (scales[row] != 0.0f)
            words = quantise16(k.uz(row) + cell * 16, inverses[row], cell / 2);
        batch_send_all(k, e,
                       k.m.at.q + row * k.m.at.q_pitch + k.rank * T::channels +
                           cell * 16,
                       words);
    }
}

#endif

#endif
