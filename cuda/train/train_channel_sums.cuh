/* train_channel_sums.cuh -- dB and dC of a byte: sums over the channels of a
 * warp.
 *
 * x: a lane's parts of dB, then of dC, for its states.  dbc: B | C of the byte
 * and the warp, [2 N], in shared memory.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_CHANNEL_SUMS_CUH
#define MAMBYTE_TRAIN_CHANNEL_SUMS_CUH

#include "cuda/train/train_scan.cuh"

/* By shuffles: each lane stores the sums that it ends with. */
template <typename T, int N> struct channel_sums {
    static __device__ void put(float x[2 * dims<N>::STATES], float *dbc,
                               const struct place_of<N> &at)
    {
        constexpr int SLOTS = dims<N>::SLOTS, STATES = dims<N>::STATES;
        constexpr int LEFT = SLOTS < 2 * STATES ? 2 * STATES / SLOTS : 1;
        lanes_reduce_scatter<2 * STATES, 1, SLOTS>(x);
        int mine = lanes_scattered<2 * STATES, 1, SLOTS>();
        if (threadIdx.x % SLOTS >= 2 * STATES)
            return;
#pragma unroll
        for (int i = 0; i < LEFT; i++) {
            int k = mine + i, n = at.lane * STATES + k % STATES;
            dbc[k < STATES ? n : N + n] = x[i];
        }
    }
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800

/* With sixteen states, by products with ones, on tensor cores.  Product i takes
 * four numbers of each lane, x[4 i] to x[4 i + 3], and sums each over the four
 * lanes that differ in the low two bits; its b is 1 in two columns, so that
 * the sums end in lane i of the four.  tf32 keeps 11 bits of a number; where
 * numbers are float32, the rest is summed too. */
template <typename T> struct channel_sums<T, 16> {
    static __device__ void put(float x[16], float *dbc,
                               const struct place_of<16> &at)
    {
        int column = threadIdx.x % WARP / 4;
        float c[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float b0 = column == 2 * i ? 1.0f : 0.0f;
            float b1 = column == 2 * i + 1 ? 1.0f : 0.0f;
            product_16x8x8(c, x + 4 * i, b0, b1);
            if constexpr (sizeof(T) == sizeof(float)) {
                float cut[4];
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    float *y = x + 4 * i + k;
                    cut[k] = *y - exact_float(exact_bits(*y) & 0xffffe000u);
                }
                product_16x8x8(c, cut, b0, b1);
            }
        }
        /* states 0, 1, 2, 3 of four; the other channels are 4 lanes away */
        float sum[4] = {c[0], c[2], c[1], c[3]};
        lanes_reduce_scatter<4, 4, 16>(sum);
        int four = threadIdx.x % 4, k = lanes_scattered<4, 4, 16>();
        dbc[four / 2 * 16 + at.lane * 8 + four % 2 * 4 + k] = sum[0];
    }
};

#endif

#endif
