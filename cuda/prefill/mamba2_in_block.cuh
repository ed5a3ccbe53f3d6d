/* mamba2_in_block.cuh -- a block of mamba2_in.cu: its rows, its parts, and the
 * weights on their way to them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_IN_BLOCK_CUH
#define MAMBYTE_MAMBA2_IN_BLOCK_CUH

#include "cuda/prefill/gemm_tile.cuh"
#include "cuda/prefill/mamba2_batch.cuh"

enum {
    TAPS = 4,
    HALO = TAPS - 1,
    ROWS = 128,
    USEFUL = ROWS - HALO, /* rows whose results a block stores             */
    COLS = 128,           /* of a tile                                     */
    HEAD = 64,            /* columns of x of a head, of B, of C            */
    PART_WARPS = 8,
    PART_THREADS = PART_WARPS * WARP,
    SIDE = 16, /* rows of a warp                                           */

    SECTION_BYTES = COLS * DEPTH,
    SUMS_SLOTS = ROWS * HEAD * 4 / SECTION_BYTES /* see struct part_room      */
};

/* The shared memory of a part: a ring of sections of W, in `kept' slots of its
 * own and then in those that sums of half a tile take while they are used. */
template <int kept_> struct part_room {
    static constexpr int kept = kept_, slots = kept + SUMS_SLOTS;
    static constexpr int ahead = slots - 1; /* sections on their way          */
    static constexpr int n_bytes = slots * SECTION_BYTES;
};

using part_tile = tile<ROWS, COLS, SIDE, COLS, 2>;

/* What the columns of a tile are. */
enum columns { COLUMNS_Z, COLUMNS_CONV, COLUMNS_PLAIN, COLUMNS_DT };

/* A row of a block: its distance from the start of its span, 3 at most;
 * whether the span ends within three rows; the span. */
static_assert(ROWS_MAX <= 1 << 13, "a note has room for the number of a span");
struct row_note {
    uint16_t bits;

    __device__ __forceinline__ int in_span(void) const
    {
        return bits & 3;
    }
    __device__ __forceinline__ bool is_near_end(void) const
    {
        return bits & 4;
    }
    __device__ __forceinline__ int span(void) const
    {
        return bits >> 3;
    }
};

struct in_job {
    const struct prefill_batch &b;
    const struct mamba2_batch &m;
    const struct cuda_layer &l;
    const struct microbatch *mb;
    int layer, n_rows;
    int row0; /* of the microbatch: of the block's first, or before all     */
    ptrdiff_t layer_row;
    const float *x_scale;         /* shared [ROWS]                          */
    const struct row_note *notes; /* shared [ROWS]                          */

    __device__ __forceinline__ bool is_useful(int i) const
    {
        return i >= HALO && row0 + i < n_rows;
    }
};

/* B and C have a scale for more channels than a tile has where there are more
 * states: then a kernel of its own convolves them. */
static __host__ __device__ __forceinline__ bool
has_plain_bc(const struct prefill_batch &b)
{
    return b.d_state != HEAD;
}

static __device__ __forceinline__ enum columns
columns_at(const struct prefill_batch &b, const struct mamba2_batch &m, int col)
{
    if (col < b.d_inner)
        return COLUMNS_Z;
    if (col < 2 * b.d_inner)
        return COLUMNS_CONV;
    if (col < b.d_inner + m.conv_channels)
        return has_plain_bc(b) ? COLUMNS_PLAIN : COLUMNS_CONV;
    return COLUMNS_DT;
}

/* ---- loading: the threads of a part -------------------------------------- */

static __device__ __forceinline__ int part_thread(void)
{
    return threadIdx.x % PART_THREADS;
}

/* Starts to copy bytes [k, k + DEPTH) of the block's rows of x, zeros past
 * their end; row_of: of a place in the section. */
template <typename F>
static __device__ __forceinline__ void
load_x_section(int8_t *section, const int8_t *from, int stride, int k, F row_of)
{
    int cell = part_thread() % CELLS, at = k + cell * CELL;
    bool is_valid = at < stride;
#pragma unroll
    for (int i = 0; i < ROWS / (PART_THREADS / CELLS); i++) {
        int r = part_thread() / CELLS + i * (PART_THREADS / CELLS);
        copy16(section + place(r, cell),
               from + (size_t)row_of(r) * stride + (is_valid ? at : 0),
               is_valid);
    }
}

/* The number of the thread's warp; the compiler sees that it is the warp's. */
static __device__ __forceinline__ int warp_number(void)
{
    return __shfl_sync(WHOLE_WARP, (int)threadIdx.x / WARP, 0);
}

static __device__ __forceinline__ struct row_note
note_of(const struct microbatch *mb, int row)
{
    struct row_note note = {HALO};
    if (row < 0 || row >= mb->n_rows)
        return note;
    int i = find_span<&span::row>(mb, row, mb->n_rows),
        in_span = row - mb->spans[i].row;
    bool is_near_end = mb->spans[i].n - in_span <= HALO;
    note.bits =
        (uint16_t)(min(in_span, (int)HALO) | (is_near_end ? 4 : 0) | i << 3);
    return note;
}

#endif
