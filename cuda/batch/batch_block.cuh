/* batch_block.cuh -- a block of a team: where its arrays are, what it sends to
 * the other blocks, and what it asks of memory ahead of use.
 *
 * A phase that needs what other blocks made begins by waiting for it.  The
 * stores of the others count their bytes at an mbarrier of this block: a
 * barrier of the cluster would wait for stores to memory as well.
 *
 * Where channels matter, a thread has one channel, and every at_once-th row.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BATCH_BLOCK_CUH
#define MAMBYTE_BATCH_BLOCK_CUH

#include "cuda/batch/batch_job.cuh"
#include "cuda/common/ptx.cuh"

#ifdef HAS_CLUSTER

/* A block: its place in the team, its tile, and how far it is. */
template <class T> struct batch_block {
    const struct batch_model &m;
    int rank; /* in the team                                               */
    int thread, warp, lane;
    int row, n, own; /* the tile; own: rows of h that each block keeps     */
    uint32_t parity; /* of the next wait in each exchange, a bit each      */
    int used, slot;  /* stages that have been used; where the next is      */
    uint32_t lap;    /* parity of the next                                 */
    int n_stages;    /* of all tiles                                       */

    template <typename V> __device__ __forceinline__ V *place(int offset) const
    {
        extern __shared__ __align__(16) char batch_shared[];
        return (V *)(batch_shared + offset);
    }
    /* What the stream of row r reads. */
    __device__ __forceinline__ int byte(int r) const
    {
        return place<uint8_t>(m.at.byte)[r];
    }
    __device__ __forceinline__ float *uz(int r) const
    {
        return place<float>(m.at.uz) + r * T::uz_pitch;
    }
    /* An array of the resident part, of batch_share or batch_head. */
    __device__ __forceinline__ const float *resident(int offset) const
    {
        return place<float>(m.at.resident + offset);
    }
    __device__ __forceinline__ const char *share(int layer) const
    {
        return m.shares + (size_t)(layer * m.size + rank) * m.share.bytes;
    }
    __device__ __forceinline__ const char *head_share(void) const
    {
        return m.heads + (size_t)rank * m.head.bytes;
    }
    /* Rows of h that this block has. */
    __device__ __forceinline__ int n_own(void) const
    {
        return max(0, min(own, n - rank * own));
    }
};

/* Hides these values from the compiler.  Otherwise it computes the addresses of
 * all phases before the first layer, and runs out of registers. */
template <class T>
static __device__ __forceinline__ void batch_forget(batch_block<T> &k)
{
    asm volatile("" : "+r"(k.thread), "+r"(k.warp), "+r"(k.lane));
}

/* ---- channels, a thread each --------------------------------------------- */

/* A thread's channel, and its first row. */
template <class T>
static __device__ __forceinline__ int own_channel(const batch_block<T> &k)
{
    return k.thread % T::channels;
}

template <class T>
static __device__ __forceinline__ int own_row(const batch_block<T> &k)
{
    return k.thread / T::channels;
}

/* The past inputs of this thread's channel in the stream of row r; its states
 * are m.image.s floats on. */
template <class T>
static __device__ __forceinline__ float *past_of(const batch_block<T> &k,
                                                 int layer, int r)
{
    return k.template place<float *>(k.m.at.image)[r] +
           (size_t)layer * k.m.image.layer + k.rank * T::channels +
           own_channel(k);
}

/* ---- exchanges ----------------------------------------------------------- */

/* Waits until `bytes` have come to this block in exchange e.  All threads. */
template <class T>
static __device__ __forceinline__ void batch_await(batch_block<T> &k,
                                                   enum exchange e, int bytes)
{
    uint64_t *come = k.template place<uint64_t>(k.m.at.come) + e;
    if (k.thread == 0)
        mbarrier_expect(come, bytes);
    mbarrier_wait(come, k.parity >> e & 1);
    k.parity ^= 1u << e;
    batch_forget(k);
}

/* Sends x to offset `to` of the shared memory of the block of that rank. */
template <class T, typename V>
static __device__ __forceinline__ void
batch_send(const batch_block<T> &k, enum exchange e, int to, int rank, V x)
{
    uint32_t base = cluster_address(k.template place<char>(0), rank);
    cluster_store(base + to, base + k.m.at.come + e * 8, x);
}

/* To all blocks, its own first. */
template <class T, typename V>
static __device__ __forceinline__ void
batch_send_all(const batch_block<T> &k, enum exchange e, int to, V x)
{
#pragma unroll 4
    for (int i = 0; i < k.m.size; i++) {
        int rank = k.rank + i;
        batch_send(k, e, to, rank < k.m.size ? rank : rank - k.m.size, x);
    }
}

static __device__ __forceinline__ uint4 words_of(const float v[4])
{
    return make_uint4(exact_bits(v[0]), exact_bits(v[1]), exact_bits(v[2]),
                      exact_bits(v[3]));
}

/* ---- ahead of use -------------------------------------------------------- */

/* Starts to copy the resident part of a share to shared memory. */
template <class T>
static __device__ __forceinline__ void
fetch_resident(const batch_block<T> &k, const char *from, int bytes)
{
    for (int i = k.thread * 16; i < bytes; i += BATCH_THREADS * 16)
        copy16(k.template place<char>(k.m.at.resident) + i, from + i, true);
    copy_commit();
}

/* The weights of a layer, to the L2 cache.  The blocks of this rank need the
 * same ones in all teams, so each team asks for a part. */
template <class T>
static __device__ __forceinline__ void prefetch_weights(const batch_block<T> &k,
                                                        int layer)
{
    enum { LINE = 128 };
    const int teams = gridDim.x / k.m.size, team = blockIdx.x / k.m.size;
    const int n = k.m.share.bytes / LINE;
    const int first = n * team / teams, end = n * (team + 1) / teams;
    const char *from = k.share(layer) + (size_t)first * LINE;
    const int bytes = (end - first) * LINE;
    if (k.thread == 0 && bytes > 0)
        bulk_prefetch(from, bytes);
}

/* The states of a layer, to the L2 cache, while the memory is idle between two
 * scans: of as many rows as fit there, for all teams, beside the weights. */
template <class T>
static __device__ __forceinline__ void prefetch_states(const batch_block<T> &k,
                                                       int layer)
{
    enum { ROWS = 24, LINE = 32, LINES = T::channels / LINE }; /* floats */
    constexpr int each = (BATCH_TAPS - 1 + BATCH_STATES) * LINES;
    for (int i = k.thread; i < min(k.n, (int)ROWS) * each; i += BATCH_THREADS) {
        const float *at = k.template place<float *>(k.m.at.image)[i / each] +
                          (size_t)layer * k.m.image.layer +
                          (size_t)(i % each / LINES) * k.m.d_inner +
                          k.rank * T::channels + i % LINES * LINE;
        prefetch_line(at);
    }
}

#endif

#endif
