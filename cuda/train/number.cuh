/* number.cuh -- the numbers that products of training take: bf16, or float32
 * with products_in_float.  Kernels are templates on that type alone.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_NUMBER_CUH
#define MAMBYTE_NUMBER_CUH

#include <cuda_bf16.h>

#include "cuda/common/device.cuh"

#ifdef __CUDACC__

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

static __device__ __forceinline__ float4 zero4(void)
{
    return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

static __device__ __forceinline__ float4 splat(float x)
{
    return make_float4(x, x, x, x);
}

static __device__ __forceinline__ float4 scaled(float4 x, float s)
{
    return make_float4(x.x * s, x.y * s, x.z * s, x.w * s);
}

/* x (row col) */
static __device__ __forceinline__ float4 times(float4 x, float row, float4 col)
{
    return make_float4(x.x * (row * col.x), x.y * (row * col.y),
                       x.z * (row * col.z), x.w * (row * col.w));
}

static __device__ __forceinline__ float4 plus(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

static __device__ __forceinline__ float4 product(float4 a, float4 b)
{
    return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}

/* a b + c */
static __device__ __forceinline__ float4 fused(float4 a, float4 b, float4 c)
{
    return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y),
                       fmaf(a.z, b.z, c.z), fmaf(a.w, b.w, c.w));
}

static __device__ __forceinline__ float dot4(float4 a, float4 b)
{
    return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, a.w * b.w)));
}

#endif
#endif
