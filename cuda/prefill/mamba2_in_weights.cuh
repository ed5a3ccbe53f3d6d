/* mamba2_in_weights.cuh -- the weights of in_proj on their way to the parts of
 * a block of mamba2_in.cu.
 *
 * They come by sections, through a ring.  From compute capability 9.0 on, W is
 * packed beforehand, so that a section is one bulk copy, which an mbarrier of
 * its slot counts.  Other devices copy rows, each thread its share.
 *
 *     may be replaced        when all warps of the part have
 *     a slot of the ring     multiplied it
 *     a slot of sums         read the sums as well
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_IN_WEIGHTS_CUH
#define MAMBYTE_MAMBA2_IN_WEIGHTS_CUH

#include "cuda/prefill/mamba2_in_block.cuh"

/* Bytes of W, packed: of a layer, tile by tile, section by section, each as it
 * lies in shared memory. */
static __host__ __device__ __forceinline__ size_t packed_bytes(int rows,
                                                               int stride)
{
    return (size_t)ceil_div(rows, COLS) * ceil_div(stride, DEPTH) *
           SECTION_BYTES;
}

#ifdef HAS_CLUSTER
/* The sections of the tiles of a part; one thread asks for them. */
template <class R> struct weight_sections {
    static constexpr bool is_bulk = true;
    const struct cuda_matrix &w;
    int8_t *room;         /* [R::slots][COLS][DEPTH]                        */
    int n;                /* of a tile                                      */
    const int8_t *packed; /* of the layer                                   */
    uint64_t *come;       /* mbarriers, of each slot                        */
    const int8_t *from;   /* of the tile; NULL: there is none               */
    uint32_t parities;    /* of the next phase of each slot, as bits        */

    __device__ __forceinline__ void set_up(void)
    {
        parities = 0;
        if (part_thread() != 0)
            return;
        for (int i = 0; i < R::slots; i++)
            mbarrier_init(come + i);
        mbarrier_publish();
    }
    /* The next sections will be those of a tile. */
    __device__ __forceinline__ void start(int tile, int end)
    {
        from = tile < end ? packed + (size_t)tile * n * SECTION_BYTES : NULL;
    }
    /* Starts to copy section i, if there is one. */
    __device__ __forceinline__ void load(int i) const
    {
        if (part_thread() != 0 || !from || i >= n)
            return;
        int slot = i % R::slots;
        mbarrier_expect(come + slot, SECTION_BYTES);
        bulk_copy(room + slot * SECTION_BYTES, from + i * SECTION_BYTES,
                  SECTION_BYTES, come + slot);
    }
    __device__ __forceinline__ void await(int i)
    {
        int slot = i % R::slots;
        mbarrier_wait(come + slot, parities >> slot & 1);
        parities ^= 1u << slot;
    }
};
#else
/* A thread's share of the sections of the tiles of a part. */
template <class R> struct weight_sections {
    static constexpr bool is_bulk = false;
    static constexpr int step = PART_THREADS / CELLS, count = COLS / step;
    const struct cuda_matrix &w;
    int8_t *room;         /* [R::slots][COLS][DEPTH]                        */
    int n;                /* of a tile                                      */
    const int8_t *packed; /* not used, as the next one                      */
    uint64_t *come;
    bool has_tile;        /* there is a tile                                */
    uint32_t from[count]; /* where the thread's cells are in W              */

    __device__ __forceinline__ void set_up(void)
    {
    }
    /* The next sections will be those of a tile. */
    __device__ __forceinline__ void start(int tile, int end)
    {
        has_tile = tile < end;
#pragma unroll
        for (int j = 0; j < count; j++)
            from[j] = min(tile * COLS + part_thread() / CELLS + j * step,
                          w.rows - 1) *
                          w.stride +
                      part_thread() % CELLS * CELL;
    }
    /* Starts to copy section i, one group of copies; of none where there is no
     * such section. */
    __device__ __forceinline__ void load(int i) const
    {
        int cell = part_thread() % CELLS, k = i * DEPTH;
        bool is_valid = k + cell * CELL < w.stride;
        if (has_tile && i < n) {
            int8_t *to = room + i % R::slots * SECTION_BYTES +
                         place(part_thread() / CELLS, cell);
#pragma unroll
            for (int j = 0; j < count; j++)
                copy16(to + j * step * DEPTH,
                       w.q + from[j] + (is_valid ? k : 0), is_valid);
        }
        copy_commit();
    }
    __device__ __forceinline__ void await(int i) const
    {
        copy_wait<R::ahead - 1>();
    }
};
#endif

#endif
