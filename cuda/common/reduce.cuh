/* reduce.cuh -- sums and maxima over the threads of a warp or a block.
 *
 * All threads whose values a function takes call it together.  Integers and
 * maxima need no order; a sum of floats has the order that is stated here.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_REDUCE_CUH
#define MAMBYTE_REDUCE_CUH

#include <stdint.h>

#include "base/exact.h"

enum { WARP = 32 };

static constexpr uint32_t WHOLE_WARP = 0xffffffffu; /* a bit a lane */

/* ---- over a warp: every thread gets the result --------------------------- */

/* A tree: x += x of lane ^ s for s = 16, 8, 4, 2, 1. */
static __device__ __forceinline__ float warp_sum(float x)
{
    for (int s = WARP / 2; s > 0; s /= 2)
        x += __shfl_xor_sync(WHOLE_WARP, x, s);
    return x;
}

static __device__ __forceinline__ uint64_t warp_sum(uint64_t x)
{
    for (int s = WARP / 2; s > 0; s /= 2)
        x += __shfl_xor_sync(WHOLE_WARP, x, s);
    return x;
}

static __device__ __forceinline__ uint32_t warp_sum(uint32_t x)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_add_sync(WHOLE_WARP, x);
#else
    for (int s = WARP / 2; s > 0; s /= 2)
        x += __shfl_xor_sync(WHOLE_WARP, x, s);
    return x;
#endif
}

static __device__ __forceinline__ uint32_t warp_max(uint32_t x)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_max_sync(WHOLE_WARP, x);
#else
    for (int s = WARP / 2; s > 0; s /= 2) {
        uint32_t other = __shfl_xor_sync(WHOLE_WARP, x, s);
        x = other > x ? other : x;
    }
    return x;
#endif
}

/* A NaN is left out. */
static __device__ __forceinline__ float warp_max(float x)
{
    for (int s = WARP / 2; s > 0; s /= 2)
        x = fmaxf(x, __shfl_xor_sync(WHOLE_WARP, x, s));
    return x;
}

/* The sum of each of n numbers, a power of two; lane k < n gets that of x[k].
 */
template <int n>
static __device__ __forceinline__ int32_t warp_sum_each(int32_t x[n], int lane)
{
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = (int32_t)warp_sum((uint32_t)x[i]);
#pragma unroll
    for (int half = n / 2; half > 0; half /= 2) {
#pragma unroll
        for (int i = 0; i < half; i++)
            x[i] = lane & half ? x[i + half] : x[i];
    }
    return x[0];
}

/* ---- over `width` neighbouring lanes, a power of two --------------------- */

/* Floats in a tree: x += x of lane ^ s for s = 1, 2, 4, ... */
template <typename T>
static __device__ __forceinline__ T lanes_sum(T x, int width)
{
    for (int s = 1; s < width; s *= 2)
        x += __shfl_xor_sync(WHOLE_WARP, x, s);
    return x;
}

template <int width>
static __device__ __forceinline__ uint32_t lanes_max(uint32_t x)
{
#pragma unroll
    for (int s = 1; s < width; s *= 2)
        x = max(x, __shfl_xor_sync(WHOLE_WARP, x, s));
    return x;
}

/* A NaN is left out. */
static __device__ __forceinline__ float lanes_max(float x, int width)
{
    for (int s = 1; s < width; s *= 2)
        x = fmaxf(x, __shfl_xor_sync(WHOLE_WARP, x, s));
    return x;
}

/* ---- over the lanes whose numbers differ in some bits -------------------- */

/* Sums n values over the lanes whose numbers differ only in the bits from `low`
 * to below `high`, and deals the sums out to them.  A lane gets those of its
 * share, from number lanes_scattered() on, in the first places of x. */
template <int n, int low, int high, typename T>
static __device__ __forceinline__ void lanes_reduce_scatter(T *x)
{
    if constexpr (low < high) {
        if constexpr (n > 1) {
            bool is_upper = threadIdx.x & low;
#pragma unroll
            for (int i = 0; i < n / 2; i++) {
                T keep = is_upper ? x[i + n / 2] : x[i];
                T send = is_upper ? x[i] : x[i + n / 2];
                x[i] = keep + __shfl_xor_sync(WHOLE_WARP, send, low);
            }
            lanes_reduce_scatter<n / 2, 2 * low, high>(x);
        } else {
            x[0] += __shfl_xor_sync(WHOLE_WARP, x[0], low);
            lanes_reduce_scatter<1, 2 * low, high>(x);
        }
    }
}

/* The first value whose sum this lane gets. */
template <int n, int low, int high>
static __device__ __forceinline__ int lanes_scattered(void)
{
    if constexpr (low < high && n > 1)
        return (threadIdx.x & low ? n / 2 : 0) +
               lanes_scattered<n / 2, 2 * low, high>();
    else
        return 0;
}

/* ---- over a block of whole warps ----------------------------------------- */

/* The sum of the warps' sums, for every thread.  room: [WARP], shared. */
static __device__ __forceinline__ float block_sum(float x, float *room)
{
    x = warp_sum(x);
    if (blockDim.x == WARP)
        return x;
    int n_warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    __syncthreads();
    if (lane == 0)
        room[threadIdx.x / WARP] = x;
    __syncthreads();
    return warp_sum(lane < n_warps ? room[lane] : 0.0f);
}

/* The same, but the warps' sums are added one by one. */
template <int THREADS> static __device__ float block_sum_in_turn(float x)
{
    __shared__ float part[THREADS / WARP];
    x = warp_sum(x);
    __syncthreads(); /* all have read the last sum */
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = x;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < THREADS / WARP; i++)
        sum += part[i];
    return sum;
}

/* The sum in float64, for thread 0, in a tree over the threads: x += x of
 * thread i + s for s = THREADS / 2, .., 2, 1.  room: [THREADS], shared. */
template <int THREADS>
static __device__ __forceinline__ double block_sum(double x, double *room)
{
    room[threadIdx.x] = x;
    for (int s = THREADS / 2; s > 0; s /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < s)
            room[threadIdx.x] += room[threadIdx.x + s];
    }
    return room[0];
}

/* The largest, for every thread.  room: [WARP], shared. */
static __device__ __forceinline__ uint32_t block_max(uint32_t x, float *room)
{
    x = warp_max(x);
    if (blockDim.x == WARP)
        return x;
    int n_warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    __syncthreads();
    if (lane == 0)
        room[threadIdx.x / WARP] = exact_float(x);
    __syncthreads();
    return warp_max(lane < n_warps ? exact_bits(room[lane]) : 0);
}

#endif
