/* ptx.cuh -- instructions that CUDA C has no word for: approximations,
 * barriers, asynchronous copies, and stores to other blocks of a cluster.
 * Those of the tensor cores are in tensor.cuh.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PTX_CUH
#define MAMBYTE_PTX_CUH

#include <stdint.h>
#include <string.h>

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define HAS_CLUSTER 1
#endif

/* An address of shared memory, as the instructions take it. */
static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- approximations ------------------------------------------------------ */

/* 1 / x, to 1 ulp; 0 where the result is not normal. */
static __device__ __forceinline__ float fast_inverse(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 2^x, to 2 ulp; 0 where the result is not normal. */
static __device__ __forceinline__ float fast_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- subnormal numbers and NaN ------------------------------------------- */

/* a b; 0 where a, b or the product is subnormal. */
static __device__ __forceinline__ float flushed_product(float a, float b)
{
    float y;
    asm("mul.ftz.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}

/* The larger, or a NaN where one is. */
static __device__ __forceinline__ float max_nan(float a, float b)
{
#if __CUDA_ARCH__ >= 800
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
#else
    return a != a || a > b ? a : b;
#endif
}

/* ---- barriers and single words ------------------------------------------- */

/* Waits at barrier number `id` of the block for n_threads, whole warps.  Number
 * 0 is __syncthreads. */
static __device__ __forceinline__ void barrier_sync(int id, int n_threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

/* Loads a word that threads of a block hand each other without a barrier. */
static __device__ __forceinline__ uint32_t shared_load_relaxed(uint32_t *word)
{
    uint32_t x;
    asm volatile("ld.relaxed.cta.shared::cta.u32 %0, [%1];"
                 : "=r"(x)
                 : "r"(shared_address(word))
                 : "memory");
    return x;
}

/* Stores one. */
static __device__ __forceinline__ void shared_store_relaxed(uint32_t *word,
                                                            uint32_t x)
{
    asm volatile(
        "st.relaxed.cta.shared::cta.u32 [%0], %1;" ::"r"(shared_address(word)),
        "r"(x)
        : "memory");
}

/* Loads a word that blocks of the grid hand each other without a barrier. */
static __device__ __forceinline__ uint64_t load_relaxed(const uint64_t *word)
{
    uint64_t x;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];"
                 : "=l"(x)
                 : "l"(word)
                 : "memory");
    return x;
}

/* Loads two neighbours, the first at a multiple of 16 bytes; each is loaded as
 * one. */
static __device__ __forceinline__ ulonglong2
load_relaxed_pair(const uint64_t *words)
{
    ulonglong2 pair;
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
                 : "=l"(pair.x), "=l"(pair.y)
                 : "l"(words)
                 : "memory");
    return pair;
}

/* Stores one. */
static __device__ __forceinline__ void store_relaxed(uint64_t *word, uint64_t x)
{
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(word), "l"(x)
                 : "memory");
}

/* ---- loads and copies ---------------------------------------------------- */

/* Loads 16 bytes that no one writes meanwhile, and that are read once: the L1
 * cache does not keep them. */
static __device__ __forceinline__ uint4 load_once(const uint4 *from)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
    return v;
}

/* Loads and stores of what is used once: the caches give it up first.  (The
 * headers of clang, which lints, lack these functions.) */
template <class T>
static __device__ __forceinline__ T load_streamed(const T *from)
{
#ifdef __clang__
    return *from;
#else
    return __ldcs(from);
#endif
}

template <class T>
static __device__ __forceinline__ void store_streamed(T *to, T x)
{
#ifdef __clang__
    *to = x;
#else
    __stcs(to, x);
#endif
}

/* Starts to copy 16 bytes from global to shared memory; zeros where not valid.
 */
static __device__ __forceinline__ void copy16(void *to, const void *from,
                                              bool is_valid)
{
#if __CUDA_ARCH__ >= 800
    int n = is_valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(n));
#else
    *(int4 *)to = is_valid ? *(const int4 *)from : make_int4(0, 0, 0, 0);
#endif
}

/* The same of n bytes: 4, 8 or 16. */
template <int n>
static __device__ __forceinline__ void copy_bytes(void *to, const void *from)
{
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared_address(to)),
        "l"(from), "n"(n)
        : "memory");
#else
    memcpy(__builtin_assume_aligned(to, n), __builtin_assume_aligned(from, n),
           n);
#endif
}

/* Ends a group of copies of this thread. */
static __device__ __forceinline__ void copy_commit(void)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;");
#endif
}

/* Waits until at most the last `pending` groups are under way. */
template <int pending> static __device__ __forceinline__ void copy_wait(void)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

/* Waits for all copies of this thread, in groups or not. */
static __device__ __forceinline__ void copy_wait_all(void)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

/* Asks for the line at `from`, for the L2 cache. */
static __device__ __forceinline__ void prefetch_line(const void *from)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

/* ---- compute capability 9.0 ---------------------------------------------- */

#ifdef HAS_CLUSTER

/* Makes what ordinary stores and copies wrote to shared memory visible to bulk
 * copies and to products of a warpgroup. */
static __device__ __forceinline__ void fence_async_proxy(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Makes an mbarrier, in shared memory, at which n threads arrive. */
static __device__ __forceinline__ void mbarrier_init(uint64_t *mbarrier,
                                                     int n = 1)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(
                     shared_address(mbarrier)),
                 "r"(n)
                 : "memory");
}

/* Makes the mbarriers that this thread has made visible to the cluster. */
static __device__ __forceinline__ void mbarrier_publish(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* Arrives, and says how many bytes are to come; they may have come before. */
static __device__ __forceinline__ void mbarrier_expect(uint64_t *mbarrier,
                                                       uint32_t bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::
            "r"(shared_address(mbarrier)),
        "r"(bytes)
        : "memory");
}

/* Arrives, when all that this thread knows of is done. */
static __device__ __forceinline__ void mbarrier_arrive(uint64_t *mbarrier)
{
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(
                     shared_address(mbarrier))
                 : "memory");
}

/* Waits for the end of the phase of this parity: all have arrived, and all
 * bytes have come. */
static __device__ __forceinline__ void mbarrier_wait(uint64_t *mbarrier,
                                                     uint32_t parity)
{
    uint32_t is_done;
    do {
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 "
                     "p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}"
                     : "=r"(is_done)
                     : "r"(shared_address(mbarrier)), "r"(parity)
                     : "memory");
    } while (!is_done);
}

/* Starts to copy `bytes`, a multiple of 16, to shared memory, where mbarrier
 * counts them. */
static __device__ __forceinline__ void
bulk_copy(void *to, const void *from, uint32_t bytes, uint64_t *mbarrier)
{
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(mbarrier))
        : "memory");
}

/* bulk_copy() of what is used once: the L2 cache gives it up first. */
static __device__ __forceinline__ void
bulk_copy_once(void *to, const void *from, uint32_t bytes, uint64_t *mbarrier)
{
    asm volatile(
        "{\n"
        ".reg .b64 policy;\n"
        "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1], %2, [%3], policy;\n"
        "}" ::"r"(shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(mbarrier))
        : "memory");
}

/* Starts to copy `bytes`, a multiple of 16, from shared memory.  The caller
 * ends the group. */
static __device__ __forceinline__ void bulk_store(void *to, const void *from,
                                                  uint32_t bytes)
{
    asm volatile(
        "cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
        "r"(shared_address(from)), "r"(bytes)
        : "memory");
}

/* Ends a group of bulk stores of this thread. */
static __device__ __forceinline__ void bulk_store_commit(void)
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/* Waits until all of them have read what they store, or have stored it. */
static __device__ __forceinline__ void bulk_store_wait_read(void)
{
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

static __device__ __forceinline__ void bulk_store_wait(void)
{
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

/* Asks for `bytes`, a multiple of 16, for the L2 cache. */
static __device__ __forceinline__ void bulk_prefetch(const void *from,
                                                     uint32_t bytes)
{
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from),
                 "r"(bytes));
}

/* The address of the same place in the shared memory of the block of that rank.
 */
static __device__ __forceinline__ uint32_t cluster_address(const void *shared,
                                                           int rank)
{
    uint32_t remote;
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(remote)
        : "r"(shared_address(shared)), "r"(rank));
    return remote;
}

/* A barrier of the cluster; stores before it are visible after it. */
static __device__ __forceinline__ void cluster_barrier(void)
{
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}

/* Stores x to an address of the cluster; an mbarrier of the same block counts
 * its bytes. */
static __device__ __forceinline__ void
cluster_store(uint32_t to, uint32_t mbarrier, uint32_t x)
{
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes"
                 ".u32 [%0], %1, [%2];" ::"r"(to),
                 "r"(x), "r"(mbarrier)
                 : "memory");
}

static __device__ __forceinline__ void cluster_store(uint32_t to,
                                                     uint32_t mbarrier, uint4 x)
{
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes"
                 ".v4.u32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
                 "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w), "r"(mbarrier)
                 : "memory");
}

static __device__ __forceinline__ void
cluster_store(uint32_t to, uint32_t mbarrier, float4 x)
{
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes"
                 ".v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
                 "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w), "r"(mbarrier)
                 : "memory");
}

/* Stores a word that blocks of a cluster hand each other without a barrier. */
static __device__ __forceinline__ void cluster_store_relaxed(uint32_t to,
                                                             uint64_t x)
{
    asm volatile("st.relaxed.cluster.shared::cluster.u64 [%0], %1;" ::"r"(to),
                 "l"(x)
                 : "memory");
}

/* Loads one from this block's own shared memory. */
static __device__ __forceinline__ uint64_t
cluster_load_relaxed(const uint64_t *word)
{
    uint64_t x;
    asm volatile("ld.relaxed.cluster.shared::cta.u64 %0, [%1];"
                 : "=l"(x)
                 : "r"(shared_address(word))
                 : "memory");
    return x;
}

/* Loads two neighbours, the first at a multiple of 16 bytes. */
static __device__ __forceinline__ ulonglong2
cluster_load_relaxed_pair(const uint64_t *words)
{
    ulonglong2 pair;
    asm volatile("ld.relaxed.cluster.shared::cta.v2.u64 {%0, %1}, [%2];"
                 : "=l"(pair.x), "=l"(pair.y)
                 : "r"(shared_address(words))
                 : "memory");
    return pair;
}

#endif

#endif
