/* warp.h -- shuffles, votes and sums of a warp.
 *
 * All lanes that have not ended must meet in the same operation, or the program
 * ends; masks must name all lanes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMULATED_WARP_H
#define EMULATED_WARP_H

#include <stdint.h>
#include <string.h>

#include "tests/emulated/fibers.h"

namespace emulated
{
template <class T> static inline T taken(const slot *slots, int from)
{
    T x;
    memcpy(&x, slots[from].bytes, sizeof x);
    return x;
}

template <class T>
static inline const slot *exchange(const char *what, uint32_t mask, T x)
{
    static_assert(sizeof(T) <= SLOT_BYTES);
    if (mask != ~0u)
        complain("a mask that leaves out lanes");
    return warp_exchange(what, &x, sizeof x);
}
} // namespace emulated

template <class T> static inline T __shfl_xor_sync(uint32_t mask, T x, int bits)
{
    int from = emulated::lane() ^ bits;
    return emulated::taken<T>(emulated::exchange("shfl_xor", mask, x), from);
}

template <class T> static inline T __shfl_sync(uint32_t mask, T x, int from)
{
    return emulated::taken<T>(emulated::exchange("shfl", mask, x), from & 31);
}

template <class T> static inline T __shfl_up_sync(uint32_t mask, T x, int by)
{
    int me = emulated::lane(), from = me >= by ? me - by : me;
    return emulated::taken<T>(emulated::exchange("shfl_up", mask, x), from);
}

template <class T> static inline T __shfl_down_sync(uint32_t mask, T x, int by)
{
    int me = emulated::lane(), from = me + by < 32 ? me + by : me;
    return emulated::taken<T>(emulated::exchange("shfl_down", mask, x), from);
}

static inline uint32_t __reduce_max_sync(uint32_t mask, uint32_t x)
{
    const emulated::slot *all = emulated::exchange("reduce_max", mask, x);
    uint32_t most = 0;
    for (int i = 0; i < 32; i++)
        most = max(most, emulated::taken<uint32_t>(all, i));
    return most;
}

static inline uint32_t __reduce_add_sync(uint32_t mask, uint32_t x)
{
    const emulated::slot *all = emulated::exchange("reduce_add", mask, x);
    uint32_t sum = 0;
    for (int i = 0; i < 32; i++)
        sum += emulated::taken<uint32_t>(all, i);
    return sum;
}

static inline uint32_t __ballot_sync(uint32_t mask, bool x)
{
    const emulated::slot *all = emulated::exchange("vote", mask, x);
    uint32_t votes = 0;
    for (int i = 0; i < 32; i++)
        votes |= (uint32_t)emulated::taken<bool>(all, i) << i;
    return votes;
}

static inline bool __any_sync(uint32_t mask, bool x)
{
    return __ballot_sync(mask, x) != 0;
}

static inline bool __all_sync(uint32_t mask, bool x)
{
    return __ballot_sync(mask, x) == ~0u;
}

static inline void __syncwarp()
{
    emulated::exchange("syncwarp", ~0u, '\0');
}

#endif
