/* cuda_fp16.h -- stands in for CUDA's header of that name.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMULATED_CUDA_FP16_H
#define EMULATED_CUDA_FP16_H

#include <math.h>
#include <stdint.h>

struct __half {
    uint16_t bits;
};

static inline float __half2float(__half x)
{
    int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
    float y = exponent == 0 ? ldexpf((float)fraction, -24)
              : exponent == 31
                  ? (fraction ? NAN : INFINITY)
                  : ldexpf((float)(fraction + 1024), exponent - 25);
    return x.bits >> 15 ? -y : y;
}

#endif
