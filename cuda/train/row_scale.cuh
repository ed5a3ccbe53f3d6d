/* row_scale.cuh -- int8 imitated: a row of numbers is rounded to integers,
 * which are exact in bf16, and its scale is kept beside it.
 *
 * A product multiplies the integers.  Its result is a sum still to be
 * multiplied by a scale for its row and one for its column; the kernel that
 * reads it does so.  Without imitation all scales are 1.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ROW_SCALE_CUH
#define MAMBYTE_ROW_SCALE_CUH

#include "cuda/common/exact_vector.cuh"
#include "cuda/train/number.cuh"

/* What a number of row t is multiplied by, and 1 over that; 0 and 0 for a row
 * of zeros: [t] each. */
struct row_scale {
    float *scale, *inverse;
};

#ifdef __CUDACC__

/* exact_quantise, without a conversion to an integer and back. */
static __device__ __forceinline__ float quantise1(float x, float inverse)
{
    return fmaf(x, inverse, EXACT_ROUND) - EXACT_ROUND;
}

static __device__ __forceinline__ float4 quantise4(float4 x,
                                                   struct exact_scale s)
{
    if (s.scale == 0.0f)
        return zero4();
    return make_float4(quantise1(x.x, s.inverse), quantise1(x.y, s.inverse),
                       quantise1(x.z, s.inverse), quantise1(x.w, s.inverse));
}

static __device__ __forceinline__ void put_scale(struct row_scale to, int row,
                                                 struct exact_scale s)
{
    to.scale[row] = s.scale;
    to.inverse[row] = s.inverse;
}

#endif
#endif
