/* mamba2_in_block.cuh -- a block of mamba2_in.cu: its rows, and the weights on
 * their way to it.
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
    PART = 128,           /* columns of a part: of 8 warps                 */
    PART_THREADS = 256,
    SIDE = 16, /* rows of a warp                                           */
    STAGES = 3 /* sections of W in shared memory                           */
};

using wide_tile = tile<ROWS, PART, SIDE, PART, STAGES>;
using widest_tile = tile<ROWS, 2 * PART, SIDE, PART, STAGES>;

/* What 128 columns are. */
enum columns { COLUMNS_Z, COLUMNS_CONV, COLUMNS_DT, COLUMNS_NONE };

/* A row of a block: its distance from the start of its span, 3 at most;
 * whether the span ends within three rows; the span. */
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

static __device__ __forceinline__ enum columns
columns_at(const struct prefill_batch &b, const struct mamba2_batch &m, int col)
{
    int dt = b.d_inner + m.conv_channels;
    if (col < b.d_inner)
        return COLUMNS_Z;
    if (col < dt)
        return COLUMNS_CONV;
    return col < dt + m.n_heads ? COLUMNS_DT : COLUMNS_NONE;
}

/* ---- loading ------------------------------------------------------------- */

/* Starts to copy bytes [k, k + DEPTH) of some rows of a matrix, zeros past
 * their end; row_of: of a place in the section. */
template <int rows, int threads, typename F>
static __device__ __forceinline__ void
load_section(int8_t *section, const int8_t *from, int stride, int k, F row_of)
{
    int cell = threadIdx.x % CELLS, at = k + cell * CELL;
    bool is_valid = at < stride;
#pragma unroll
    for (int i = 0; i < rows / (threads / CELLS); i++) {
        int r = threadIdx.x / CELLS + i * (threads / CELLS);
        copy16(section + place(r, cell),
               from + (size_t)row_of(r) * stride + (is_valid ? at : 0),
               is_valid);
    }
}

/* Rows of W on their way to shared memory, section by section of tile by tile:
 * tiles [tile, end). */
template <class T> struct weight_sections {
    static constexpr int step = T::threads / CELLS, count = T::cols / step;
    const struct in_job &job;
    const struct cuda_matrix &w;
    int8_t *room; /* [STAGES][T::cols][DEPTH]                               */
    int n_sections, end;
    int tile, section, stage; /* of the next one                            */
    uint32_t from[count];     /* where this thread's cells are in W         */

    __device__ __forceinline__ uint32_t row_of(int r) const
    {
        int part = tile * T::cols + r / PART * PART, i = r % PART;
        if (columns_at(job.b, job.m, part) == COLUMNS_CONV)
            i = i / 64 * 64 + i % 8 / 2 * 16 + i % 64 / 8 * 2 + i % 2;
        return min(part + i, w.rows - 1);
    }
    __device__ __forceinline__ void start_tile(void)
    {
#pragma unroll
        for (int i = 0; i < count; i++)
            from[i] = row_of(threadIdx.x / CELLS + i * step) * w.stride +
                      threadIdx.x % CELLS * CELL;
    }
    __device__ __forceinline__ void load_next(void)
    {
        int k = section * DEPTH;
        bool is_valid = k + (int)threadIdx.x % CELLS * CELL < w.stride;
        int8_t *to = room + stage * T::cols * DEPTH +
                     place(threadIdx.x / CELLS, threadIdx.x % CELLS);
#pragma unroll
        for (int i = 0; tile < end && i < count; i++)
            copy16(to + i * step * DEPTH, w.q + from[i] + (is_valid ? k : 0),
                   is_valid);
        copy_commit();
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        if (++section < n_sections)
            return;
        section = 0;
        tile++;
        start_tile();
    }
};

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
