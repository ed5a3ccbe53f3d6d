/* intrinsics.h -- functions of CUDA C on numbers and addresses.
 *
 * Addresses must be aligned as the hardware wants them, or the program ends.
 * Atomic operations are plain: nothing comes between, as one fiber runs.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMULATED_INTRINSICS_H
#define EMULATED_INTRINSICS_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

#include "tests/emulated/fibers.h"

template <class A, class B> static inline std::common_type_t<A, B> min(A a, B b)
{
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>)
        return (C)fmin((double)a, (double)b);
    else
        return (C)a < (C)b ? (C)a : (C)b;
}

template <class A, class B> static inline std::common_type_t<A, B> max(A a, B b)
{
    using C = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<C>)
        return (C)fmax((double)a, (double)b);
    else
        return (C)a > (C)b ? (C)a : (C)b;
}

/* The sum of four products of bytes, and c. */
static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++)
        c += (int8_t)(a >> 8 * i) * (int8_t)(b >> 8 * i);
    return c;
}

/* Four of the eight bytes of y and x, or their signs. */
static inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t choice)
{
    uint64_t both = (uint64_t)y << 32 | x;
    uint32_t result = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t k = choice >> 4 * i & 15;
        uint32_t byte = (uint32_t)(both >> 8 * (k & 7)) & 255;
        if (k & 8)
            byte = byte & 128 ? 255 : 0;
        result |= byte << 8 * i;
    }
    return result;
}

static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}

static inline int __popc(uint32_t x)
{
    return __builtin_popcount(x);
}

static inline int __ffs(uint32_t x)
{
    return __builtin_ffs((int)x);
}

/* ---- memory -------------------------------------------------------------- */

template <class T> static inline T __ldg(const T *p)
{
    emulated::check_aligned(p, alignof(T));
    return *p;
}

template <class T> static inline T __ldcs(const T *p)
{
    return __ldg(p);
}

template <class T> static inline void __stcs(T *p, T x)
{
    emulated::check_aligned(p, alignof(T));
    *p = x;
}

template <class T, class U> static inline T atomicAdd(T *p, U x)
{
    T before = *p;
    *p = (T)(before + x);
    return before;
}

template <class T, class U> static inline T atomicMax(T *p, U x)
{
    T before = *p;
    if ((T)x > before)
        *p = (T)x;
    return before;
}

/* Kernels do not overlap. */
static inline void cudaTriggerProgrammaticLaunchCompletion()
{
}

static inline void cudaGridDependencySynchronize()
{
}

static inline void __syncthreads()
{
    emulated::block_barrier(0, 0);
}

#endif
