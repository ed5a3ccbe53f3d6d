/* ptx.cuh -- stands in for cuda/common/ptx.cuh: the same functions, without
 * assembler.
 *
 * A thread that loads a word which another hands it lets others run first.
 * Stores that need no barrier, and bulk copies, arrive late (fibers.h).
 * Approximations are near those of the chip, not equal: kernels must not depend
 * on their last bits.  Fences and hints for caches do nothing: that one is
 * missing does not show here.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PTX_CUH
#define MAMBYTE_PTX_CUH

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tests/emulated/fibers.h"

#if __CUDA_ARCH__ >= 900
#define HAS_CLUSTER 1
#endif

static inline uint32_t shared_address(const void *p)
{
    return emulated::shared_number(p);
}

/* ---- approximations ------------------------------------------------------ */

static inline float emulated_flushed(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

static inline float fast_inverse(float x)
{
    return emulated_flushed(1.0f / emulated_flushed(x));
}

static inline float fast_exp2(float x)
{
    return emulated_flushed(exp2f(emulated_flushed(x)));
}

static inline float flushed_product(float a, float b)
{
    return emulated_flushed(emulated_flushed(a) * emulated_flushed(b));
}

static inline float max_nan(float a, float b)
{
    return a != a || a > b ? a : b;
}

/* ---- barriers and single words ------------------------------------------- */

static inline void barrier_sync(int id, int n_threads)
{
    emulated::block_barrier(id, n_threads);
}

static inline uint32_t shared_load_relaxed(uint32_t *word)
{
    emulated::pause();
    return *word;
}

static inline void shared_store_relaxed(uint32_t *word, uint32_t x)
{
    emulated::do_late(word, [=] { *word = x; });
}

static inline uint64_t load_relaxed(const uint64_t *word)
{
    emulated::check_aligned(word, 8);
    emulated::pause();
    return *word;
}

static inline ulonglong2 load_relaxed_pair(const uint64_t *words)
{
    emulated::check_aligned(words, 16);
    emulated::pause();
    return make_ulonglong2(words[0], words[1]);
}

static inline void store_relaxed(uint64_t *word, uint64_t x)
{
    emulated::check_aligned(word, 8);
    emulated::do_late(word, [=] { *word = x; });
}

/* ---- loads and copies ---------------------------------------------------- */

static inline uint4 load_once(const uint4 *from)
{
    emulated::check_aligned(from, 16);
    return *from;
}

template <class T> static inline T load_streamed(const T *from)
{
    emulated::check_aligned(from, alignof(T));
    return *from;
}

template <class T> static inline void store_streamed(T *to, T x)
{
    emulated::check_aligned(to, alignof(T));
    *to = x;
}

static inline void copy16(void *to, const void *from, bool is_valid)
{
    emulated::check_aligned(to, 16);
    emulated::check_aligned(from, 16);
    emulated::copy_late([=] {
        if (is_valid)
            memcpy(to, from, 16);
        else
            memset(to, 0, 16);
    });
}

template <int n> static inline void copy_bytes(void *to, const void *from)
{
    emulated::check_aligned(to, n);
    emulated::check_aligned(from, n);
    emulated::copy_late([=] { memcpy(to, from, n); });
}

static inline void copy_commit(void)
{
    emulated::end_copy_group();
}

template <int pending> static inline void copy_wait(void)
{
    emulated::wait_for_copies(pending);
}

static inline void copy_wait_all(void)
{
    emulated::wait_for_copies(-1);
}

static inline void prefetch_line(const void *)
{
}

static inline void fence_async_proxy(void)
{
}

/* ---- mbarriers: bit 63 is the phase, bits 47 on say how many arrive in one,
 * bits 32 on how many of them are still to come, the low 32 bits count bytes
 * that are still to come --------------------------------------------------- */

static inline void emulated_count(uint64_t *mbarrier, uint32_t bytes)
{
    *mbarrier = (*mbarrier & 0xffffffff00000000) |
                (uint32_t)((uint32_t)*mbarrier + bytes);
    if ((*mbarrier & 0x7fffffffffff) == 0)
        *mbarrier = (*mbarrier ^ (uint64_t)1 << 63) | (*mbarrier >> 47 & 0x7fff)
                                                          << 32;
}

static inline void mbarrier_init(uint64_t *mbarrier, int n = 1)
{
    emulated::check_aligned(mbarrier, 8);
    *mbarrier = (uint64_t)n << 47 | (uint64_t)n << 32;
}

static inline void mbarrier_publish(void)
{
}

static inline void mbarrier_expect(uint64_t *mbarrier, uint32_t bytes)
{
    if ((*mbarrier >> 32 & 0x7fff) == 0)
        emulated::complain("too many arrivals in a phase of an mbarrier");
    *mbarrier -= (uint64_t)1 << 32;
    emulated_count(mbarrier, bytes);
}

static inline void mbarrier_arrive(uint64_t *mbarrier)
{
    mbarrier_expect(mbarrier, 0);
}

static inline void mbarrier_wait(uint64_t *mbarrier, uint32_t parity)
{
    do
        emulated::pause();
    while (*mbarrier >> 63 == parity);
}

static inline void bulk_copy(void *to, const void *from, uint32_t bytes,
                             uint64_t *mbarrier)
{
    emulated::check_aligned(to, 16);
    emulated::check_aligned(from, 16);
    if (bytes % 16 != 0 || bytes == 0)
        emulated::complain("a bulk copy of a length that is not allowed");
    emulated::do_late(to, [=] {
        memcpy(to, from, bytes);
        emulated_count(mbarrier, 0 - bytes);
    });
}

static inline void bulk_copy_once(void *to, const void *from, uint32_t bytes,
                                  uint64_t *mbarrier)
{
    bulk_copy(to, from, bytes, mbarrier);
}

/* Stores that are under way, of all threads of a file. */
static inline int &emulated_bulk_stores(void)
{
    static int n;
    return n;
}

static inline void bulk_store(void *to, const void *from, uint32_t bytes)
{
    emulated::check_aligned(to, 16);
    emulated::check_aligned(from, 16);
    if (bytes % 16 != 0 || bytes == 0)
        emulated::complain("a bulk store of a length that is not allowed");
    emulated_bulk_stores()++;
    emulated::do_late(to, [=] {
        memcpy(to, from, bytes);
        emulated_bulk_stores()--;
    });
}

static inline void bulk_store_commit(void)
{
}

static inline void bulk_store_wait(void)
{
    while (emulated_bulk_stores() > 0)
        emulated::pause();
}

static inline void bulk_store_wait_read(void)
{
    bulk_store_wait();
}

static inline void bulk_prefetch(const void *from, uint32_t bytes)
{
    emulated::check_aligned(from, 16);
    if (bytes % 16 != 0 || bytes == 0)
        emulated::complain("a prefetch of a length that is not allowed");
}

/* ---- clusters: an address has the block's rank in its upper byte ----------
 */

static inline uint32_t cluster_address(const void *shared, int rank)
{
    uint32_t number = emulated::shared_number(shared);
    emulated::shared_of(rank, number);
    return (uint32_t)rank << 24 | number;
}

static inline uint8_t *emulated_remote(uint32_t address)
{
    return emulated::shared_of((int)(address >> 24), address & 0xffffff);
}

static inline void cluster_barrier(void)
{
    emulated::cluster_barrier();
}

template <class T>
static inline void cluster_store(uint32_t to, uint32_t mbarrier, T x)
{
    uint8_t *place = emulated_remote(to);
    uint64_t *counter = (uint64_t *)emulated_remote(mbarrier);
    emulated::check_aligned(place, sizeof x);
    emulated::do_late(place, [=] {
        memcpy(place, &x, sizeof x);
        emulated_count(counter, 0 - (uint32_t)sizeof x);
    });
}

static inline void cluster_store_relaxed(uint32_t to, uint64_t x)
{
    store_relaxed((uint64_t *)emulated_remote(to), x);
}

static inline uint64_t cluster_load_relaxed(const uint64_t *word)
{
    return load_relaxed(word);
}

static inline ulonglong2 cluster_load_relaxed_pair(const uint64_t *words)
{
    return load_relaxed_pair(words);
}

#endif
