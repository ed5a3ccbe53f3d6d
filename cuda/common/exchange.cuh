/* exchange.cuh -- vectors that blocks hand to each other without a barrier.
 *
 * A word is a float with the epoch it belongs to, in 64 bits that are
 * written and read as one.  The owner of an element stores its word; a
 * reader loads the word until the epoch is the one it waits for, and then
 * has the float too.  So the wait is the transfer: no counter, no fence, and
 * one trip to the L2 cache in place of three.
 *
 * Why no fence is needed: nothing but the word itself is handed over, and a
 * relaxed 64-bit access is never torn.  Why a word may be overwritten: see
 * "Who waits for whom" in cuda/README; every writer of an epoch has received
 * values that were computed from what the slowest reader read before.
 *
 * Blocks of a cluster share the waiting: each waits for a part of the words
 * and forwards it into the shared memory of all.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_EXCHANGE_CUH
#define MAMBYTE_EXCHANGE_CUH

#include "cuda/common/device.cuh"

static __device__ __forceinline__ uint64_t word_make(float x, uint32_t epoch)
{
    return (uint64_t)epoch << 32 | exact_bits(x);
}

static __device__ __forceinline__ bool word_is_of(uint64_t word, uint32_t epoch)
{
    return (uint32_t)(word >> 32) == epoch;
}

static __device__ __forceinline__ float word_value(uint64_t word)
{
    return exact_float((uint32_t)word);
}

/* Hands x to all blocks of the grid. */
static __device__ __forceinline__ void word_publish(uint64_t *word, float x,
                                                    uint32_t epoch)
{
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(word),
                 "l"(word_make(x, epoch))
                 : "memory");
}

/* Two neighbouring words, the first at a multiple of 16 bytes. */
static __device__ __forceinline__ ulonglong2
word_load_pair(const uint64_t *words)
{
    ulonglong2 pair;
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
                 : "=l"(pair.x), "=l"(pair.y)
                 : "l"(words)
                 : "memory");
    return pair;
}

/* Waits for words [n] of epoch with all threads of the block; values [n], in
 * shared memory, are complete after the next barrier.  Returns the largest
 * magnitude among those that this thread received.  n is even.
 *
 * All words of a thread that are missing are asked for again at once: one by
 * one, each would cost a trip of its own. */
static __device__ __forceinline__ uint32_t words_gather(float *values,
                                                        const uint64_t *words,
                                                        int n, uint32_t epoch,
                                                        int thread,
                                                        int n_threads)
{
    enum { IN_FLIGHT = 4 };
    const int step = 2 * n_threads;
    uint32_t amax = 0;
#pragma unroll 1
    for (int first = 0; first < n; first += step * IN_FLIGHT) {
        const int begin = first + 2 * thread;
        ulonglong2 pair[IN_FLIGHT];
        bool is_mine[IN_FLIGHT], is_complete;
#pragma unroll
        for (int k = 0; k < IN_FLIGHT; k++) {
            /* the first condition is known when n is */
            is_mine[k] = first + step * k < n &&
                         (first + step * (k + 1) <= n || begin + step * k < n);
            if (is_mine[k])
                pair[k] = word_load_pair(words + begin + step * k);
        }
        do {
            is_complete = true;
#pragma unroll
            for (int k = 0; k < IN_FLIGHT; k++) {
                if (is_mine[k] && !(word_is_of(pair[k].x, epoch) &&
                                    word_is_of(pair[k].y, epoch))) {
                    pair[k] = word_load_pair(words + begin + step * k);
                    is_complete = false;
                }
            }
        } while (!is_complete);
#pragma unroll
        for (int k = 0; k < IN_FLIGHT; k++) {
            if (!is_mine[k])
                continue;
            float2 both = {word_value(pair[k].x), word_value(pair[k].y)};
            *(float2 *)(values + begin + step * k) = both;
            amax =
                max(amax, max(magnitude_bits(both.x), magnitude_bits(both.y)));
        }
    }
    return amax;
}

/* The value of one word of epoch. */
static __device__ __forceinline__ float word_wait(const uint64_t *word,
                                                  uint32_t epoch)
{
    uint64_t x;
    do {
        asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];"
                     : "=l"(x)
                     : "l"(word)
                     : "memory");
    } while (!word_is_of(x, epoch));
    return word_value(x);
}

/* ---- in a cluster: words in the shared memory of its blocks ------------- */

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define HAS_CLUSTER 1

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
                     : "r"((uint32_t)__cvta_generic_to_shared(mbarrier)),
                       "r"(parity)
                     : "memory");
    } while (!is_done);
}

static __device__ __forceinline__ void mbarrier_init(uint64_t *mbarrier)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(mbarrier))
                 : "memory");
}

/* One arrival, and bytes that are to come; they may have come before. */
static __device__ __forceinline__ void mbarrier_expect(uint64_t *mbarrier,
                                                       uint32_t bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::
            "r"((uint32_t)__cvta_generic_to_shared(mbarrier)),
        "r"(bytes)
        : "memory");
}

/* The same place of the shared memory of the block of that rank. */
static __device__ __forceinline__ uint32_t cluster_address(const void *shared,
                                                           int rank)
{
    uint32_t remote;
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(remote)
        : "r"((uint32_t)__cvta_generic_to_shared(shared)), "r"(rank));
    return remote;
}

/* Stores x to the word at the same place in the block of that rank. */
static __device__ __forceinline__ void
cluster_word_publish(uint64_t *word, float x, uint32_t epoch, int rank)
{
    asm volatile("st.relaxed.cluster.shared::cluster.u64 [%0], %1;" ::"r"(
                     cluster_address(word, rank)),
                 "l"(word_make(x, epoch))
                 : "memory");
}

/* Stores x to values in the block of that rank, and counts 16 bytes there. */
static __device__ __forceinline__ void
cluster_forward(float *values, float4 x, uint64_t *mbarrier, int rank)
{
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 "
        "[%0], {%1, %2, %3, %4}, [%5];" ::"r"(cluster_address(values, rank)),
        "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w),
        "r"(cluster_address(mbarrier, rank))
        : "memory");
}

/* A block's part in receiving vectors with its cluster. */
struct cluster_member {
    int rank, bits; /* of 2^bits blocks */
    int thread, n_threads;
};

/* How many threads, as a power of two, ask for the same words of a share of n
 * groups, and divide its receivers: as many as there are, so that nobody asks
 * twice, one after the other. */
static __device__ __forceinline__ int
cluster_askers(int n, const struct cluster_member *m)
{
    int bits = m->bits;
    while (bits > 0 && n << bits > m->n_threads)
        bits--;
    return bits;
}

/* A block's part in gathering words [n] of epoch with its cluster: it waits
 * for its share of them alone and forwards it to all; mbarrier tells when
 * values [n] are complete.  So the L2 cache is asked for a word by one block
 * in a cluster, not by all.  n is a multiple of 4, and each block has a
 * share. */
static __device__ __forceinline__ void
cluster_gather(float *values, uint64_t *mbarrier, const uint64_t *words, int n,
               uint32_t epoch, const struct cluster_member *m)
{
    const int first = (n / 4 * m->rank) >> m->bits;
    const int end = (n / 4 * (m->rank + 1)) >> m->bits;
    const int bits = cluster_askers(((n / 4 - 1) >> m->bits) + 1, m);
    if (m->thread == 0)
        mbarrier_expect(mbarrier, n * sizeof(float));
#pragma unroll 1
    for (int i = m->thread; i < (end - first) << bits; i += m->n_threads) {
        const int at = 4 * (first + (i >> bits));
        ulonglong2 low, high;
        do {
            low = word_load_pair(words + at);
            high = word_load_pair(words + at + 2);
        } while (!word_is_of(low.x, epoch) || !word_is_of(low.y, epoch) ||
                 !word_is_of(high.x, epoch) || !word_is_of(high.y, epoch));
        const float4 x = {word_value(low.x), word_value(low.y),
                          word_value(high.x), word_value(high.y)};
#pragma unroll 1
        for (int rank = i & ((1 << bits) - 1); rank < 1 << m->bits;
             rank += 1 << bits)
            cluster_forward(values + at, x, mbarrier, rank);
    }
}

static __device__ __forceinline__ float cluster_word_wait(const uint64_t *word,
                                                          uint32_t epoch)
{
    uint64_t x;
    do {
        asm volatile("ld.relaxed.cluster.shared::cta.u64 %0, [%1];"
                     : "=l"(x)
                     : "r"((uint32_t)__cvta_generic_to_shared(word))
                     : "memory");
    } while (!word_is_of(x, epoch));
    return word_value(x);
}

/* Two neighbouring words, the first at a multiple of 16 bytes. */
static __device__ __forceinline__ ulonglong2
cluster_word_load_pair(const uint64_t *words)
{
    ulonglong2 pair;
    asm volatile("ld.relaxed.cluster.shared::cta.v2.u64 {%0, %1}, [%2];"
                 : "=l"(pair.x), "=l"(pair.y)
                 : "r"((uint32_t)__cvta_generic_to_shared(words))
                 : "memory");
    return pair;
}

static __device__ __forceinline__ void cluster_barrier(void)
{
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}
#endif

#endif
