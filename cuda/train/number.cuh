/* number.cuh -- the numbers that products of training take: bf16, or float32
 * with products_in_float.  Kernels are templates on that type alone.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_NUMBER_CUH
#define MAMBYTE_NUMBER_CUH

#include <cuda_bf16.h>
#include <stddef.h>

#include "base/exact.h"
#include "cuda/common/float4.cuh"

static __device__ __forceinline__ float get(float x)
{
    return x;
}

static __device__ __forceinline__ float get(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

static __device__ __forceinline__ void put(float *to, float x)
{
    *to = x;
}

static __device__ __forceinline__ void put(__nv_bfloat16 *to, float x)
{
    *to = __float2bfloat16(x);
}

/* Four neighbours, at a multiple of four. */
static __device__ __forceinline__ float4 get4(const float *from)
{
    return *(const float4 *)from;
}

static __device__ __forceinline__ float4 get4(const __nv_bfloat16 *from)
{
    uint2 x = *(const uint2 *)from;
    return make_float4(exact_float(x.x << 16), exact_float(x.x & 0xffff0000u),
                       exact_float(x.y << 16), exact_float(x.y & 0xffff0000u));
}

static __device__ __forceinline__ void put4(float *to, float4 x)
{
    *(float4 *)to = x;
}

static __device__ __forceinline__ uint32_t pack2(float low, float high)
{
    __nv_bfloat162 x = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static __device__ __forceinline__ void put4(__nv_bfloat16 *to, float4 x)
{
    *(uint2 *)to = make_uint2(pack2(x.x, x.y), pack2(x.z, x.w));
}

/* Four numbers as they lie in memory. */
template <typename T> struct four;
template <> struct four<float> {
    float4 x;
};
template <> struct four<__nv_bfloat16> {
    uint2 x;
};

template <typename T>
static __device__ __forceinline__ four<T> load_four(const void *from, size_t at)
{
    return *(const four<T> *)((const T *)from + at);
}

template <typename T>
static __device__ __forceinline__ void store_four(void *to, size_t at,
                                                  four<T> x)
{
    *(four<T> *)((T *)to + at) = x;
}

template <typename T>
static __device__ __forceinline__ float4 get4(const four<T> &from)
{
    return get4((const T *)&from);
}

/* Eight neighbours, at a multiple of eight: one load of bf16. */
template <typename T> struct __align__(16) eight
{
    four<T> half[2];
};

template <typename T>
static __device__ __forceinline__ eight<T> load_eight(const void *from,
                                                      size_t at)
{
    return *(const eight<T> *)((const T *)from + at);
}

static __device__ __forceinline__ void put8(float *to, const float4 x[2])
{
    put4(to, x[0]);
    put4(to + 4, x[1]);
}

static __device__ __forceinline__ void put8(__nv_bfloat16 *to,
                                            const float4 x[2])
{
    *(uint4 *)to = make_uint4(pack2(x[0].x, x[0].y), pack2(x[0].z, x[0].w),
                              pack2(x[1].x, x[1].y), pack2(x[1].z, x[1].w));
}

/* x (row col) */
static __device__ __forceinline__ float4 times(float4 x, float row, float4 col)
{
    return make_float4(x.x * (row * col.x), x.y * (row * col.y),
                       x.z * (row * col.z), x.w * (row * col.w));
}

#endif
