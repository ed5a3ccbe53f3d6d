/* exchange.cuh -- vectors that blocks hand to each other without a barrier.
 *
 * A word is a float and its epoch, 64 bits that are stored and loaded as one.
 * The owner of an element stores its word.  A reader loads the word until it
 * has the epoch that it waits for, and then has the float too.  So the wait is
 * the transfer: no counter, no fence, one trip to the L2 cache in place of
 * three.
 *
 * No fence is needed, as nothing but the word is handed over, and a relaxed
 * 64-bit access is never torn.  cuda/README says under "Who waits for whom"
 * when a word may be overwritten.
 *
 * Blocks of a cluster share the waiting: each waits for its share of the words,
 * and forwards it to the shared memory of all.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_EXCHANGE_CUH
#define MAMBYTE_EXCHANGE_CUH

#include "cuda/common/exact_vector.cuh"

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
    store_relaxed(word, word_make(x, epoch));
}

/* Waits for words [n] of this epoch, n even, with all threads of the block.
 * values [n], in shared memory, are complete after the next barrier.  Returns
 * the largest magnitude among those that this thread received.
 *
 * A thread asks again for all of its words that are missing at once: one by
 * one, each would take a trip of its own. */
static __device__ __forceinline__ uint32_t words_gather(float *values,
                                                        const uint64_t *words,
                                                        int n, uint32_t epoch,
                                                        int thread,
                                                        int n_threads)
{
    enum { IN_FLIGHT = 4 };
    const int stride = 2 * n_threads;
    uint32_t amax = 0;
#pragma unroll 1
    for (int first = 0; first < n; first += stride * IN_FLIGHT) {
        const int begin = first + 2 * thread;
        ulonglong2 pair[IN_FLIGHT];
        bool is_mine[IN_FLIGHT], is_complete;
#pragma unroll
        for (int k = 0; k < IN_FLIGHT; k++) {
            /* if n is known to the compiler, so is the first condition */
            is_mine[k] =
                first + stride * k < n &&
                (first + stride * (k + 1) <= n || begin + stride * k < n);
            if (is_mine[k])
                pair[k] = load_relaxed_pair(words + begin + stride * k);
        }
        do {
            is_complete = true;
#pragma unroll
            for (int k = 0; k < IN_FLIGHT; k++) {
                if (is_mine[k] && !(word_is_of(pair[k].x, epoch) &&
                                    word_is_of(pair[k].y, epoch))) {
                    pair[k] = load_relaxed_pair(words + begin + stride * k);
                    is_complete = false;
                }
            }
        } while (!is_complete);
#pragma unroll
        for (int k = 0; k < IN_FLIGHT; k++) {
            if (!is_mine[k])
                continue;
            float2 both = {word_value(pair[k].x), word_value(pair[k].y)};
            *(float2 *)(values + begin + stride * k) = both;
            amax =
                max(amax, max(magnitude_bits(both.x), magnitude_bits(both.y)));
        }
    }
    return amax;
}

/* Waits for one word of this epoch; returns its value. */
static __device__ __forceinline__ float word_wait(const uint64_t *word,
                                                  uint32_t epoch)
{
    uint64_t x;
    do {
        x = load_relaxed(word);
    } while (!word_is_of(x, epoch));
    return word_value(x);
}

/* ---- in a cluster: words in the shared memory of its blocks ------------- */

/* A block's part in receiving a vector with its cluster: it waits for the
 * groups of four words [first, end), and forwards them to all blocks. */
struct cluster_share {
    int first, end;
    int ask_bits; /* 2^ask_bits threads ask for the same group, and divide its
                   * receivers among them: as many as there are threads for,
                   * so that no thread waits for two groups */
};

#ifdef HAS_CLUSTER

/* Hands x to the block of that rank: stores it to the same word there. */
static __device__ __forceinline__ void
cluster_word_publish(uint64_t *word, float x, uint32_t epoch, int rank)
{
    cluster_store_relaxed(cluster_address(word, rank), word_make(x, epoch));
}

/* That of the block of this rank, of `size`, in a vector of n elements.  n is a
 * multiple of 4, and each block has a share. */
static __device__ __forceinline__ struct cluster_share
cluster_share_of(int n, int rank, int size, int n_threads)
{
    struct cluster_share share = {n / 4 * rank / size,
                                  n / 4 * (rank + 1) / size, 0};
    const int most = (n / 4 - 1) / size + 1;
    while (1 << share.ask_bits < size &&
           most << (share.ask_bits + 1) <= n_threads)
        share.ask_bits++;
    return share;
}

/* Gathers words [n] of this epoch with the cluster of `size` blocks.  A block
 * waits for its own share only, and forwards that to all; so only one block of
 * a cluster asks the L2 cache for a word.  values [n] are complete when
 * mbarrier says so. */
static __device__ __forceinline__ void
cluster_gather(float *values, uint64_t *mbarrier, const uint64_t *words, int n,
               uint32_t epoch, const struct cluster_share *share, int size,
               int thread, int n_threads)
{
    const int bits = share->ask_bits;
    if (thread == 0)
        mbarrier_expect(mbarrier, n * sizeof(float));
#pragma unroll 1
    for (int i = thread; i < (share->end - share->first) << bits;
         i += n_threads) {
        const int at = 4 * (share->first + (i >> bits));
        ulonglong2 low, high;
        do {
            low = load_relaxed_pair(words + at);
            high = load_relaxed_pair(words + at + 2);
        } while (!word_is_of(low.x, epoch) || !word_is_of(low.y, epoch) ||
                 !word_is_of(high.x, epoch) || !word_is_of(high.y, epoch));
        const float4 x = {word_value(low.x), word_value(low.y),
                          word_value(high.x), word_value(high.y)};
#pragma unroll 1
        for (int rank = i & ((1 << bits) - 1); rank < size; rank += 1 << bits)
            cluster_store(cluster_address(values + at, rank),
                          cluster_address(mbarrier, rank), x);
    }
}

/* Waits for one word that comes to this block; returns its value. */
static __device__ __forceinline__ float cluster_word_wait(const uint64_t *word,
                                                          uint32_t epoch)
{
    uint64_t x;
    do {
        x = cluster_load_relaxed(word);
    } while (!word_is_of(x, epoch));
    return word_value(x);
}

/* Waits for two neighbours, from an even one on. */
static __device__ __forceinline__ float2
cluster_pair_wait(const uint64_t *words, uint32_t epoch)
{
    ulonglong2 pair;
    do {
        pair = cluster_load_relaxed_pair(words);
    } while (!word_is_of(pair.x, epoch) || !word_is_of(pair.y, epoch));
    return make_float2(word_value(pair.x), word_value(pair.y));
}

/* Waits for n pairs at once; for all lanes of a warp. */
template <int n>
static __device__ __forceinline__ void
cluster_pairs_wait(float2 values[n], const uint64_t *const words[n],
                   uint32_t epoch)
{
    ulonglong2 pair[n];
    bool are_there;
    do {
        are_there = true;
#pragma unroll
        for (int i = 0; i < n; i++)
            pair[i] = cluster_load_relaxed_pair(words[i]);
#pragma unroll
        for (int i = 0; i < n; i++)
            are_there &=
                word_is_of(pair[i].x, epoch) && word_is_of(pair[i].y, epoch);
    } while (!__all_sync(WHOLE_WARP, are_there));
#pragma unroll
    for (int i = 0; i < n; i++)
        values[i] = make_float2(word_value(pair[i].x), word_value(pair[i].y));
}

#else

/* These let kernels compile that no such device runs. */
static __device__ __forceinline__ void
cluster_word_publish(uint64_t *word, float x, uint32_t epoch, int rank)
{
}

static __device__ __forceinline__ float cluster_word_wait(const uint64_t *word,
                                                          uint32_t epoch)
{
    return 0.0f;
}

static __device__ __forceinline__ float2
cluster_pair_wait(const uint64_t *words, uint32_t epoch)
{
    return make_float2(0.0f, 0.0f);
}

template <int n>
static __device__ __forceinline__ void
cluster_pairs_wait(float2 values[n], const uint64_t *const words[n],
                   uint32_t epoch)
{
    for (int i = 0; i < n; i++)
        values[i] = make_float2(0.0f, 0.0f);
}

#endif

#endif
