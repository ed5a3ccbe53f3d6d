/* block_reduce.cuh -- sums and maxima of a warp or a block, in training.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BLOCK_REDUCE_CUH
#define MAMBYTE_BLOCK_REDUCE_CUH

#include "cuda/common/device.cuh"

static __device__ __forceinline__ float warp_total(float x)
{
    for (int s = WARP / 2; s > 0; s /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, s);
    return x;
}

/* The sum over a block of whole warps, for every thread of it.
 * room: [WARP] shared floats. */
static __device__ __forceinline__ float block_total(float x, float *room)
{
    x = warp_total(x);
    if (blockDim.x == WARP)
        return x;
    int n_warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    __syncthreads();
    if (lane == 0)
        room[threadIdx.x / WARP] = x;
    __syncthreads();
    return warp_total(lane < n_warps ? room[lane] : 0.0f);
}

/* The same in float64, for thread 0.  lanes: [THREADS] shared. */
template <int THREADS>
static __device__ __forceinline__ double block_sum(double x, double *lanes)
{
    lanes[threadIdx.x] = x;
    for (int s = THREADS / 2; s > 0; s /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < s)
            lanes[threadIdx.x] += lanes[threadIdx.x + s];
    }
    return lanes[0];
}

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
