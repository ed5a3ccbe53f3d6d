/* float4.cuh -- arithmetic on four floats at once.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FLOAT4_CUH
#define MAMBYTE_FLOAT4_CUH

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
