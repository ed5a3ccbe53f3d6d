/* decode_product.cuh -- the products of a block: its share of a matrix, from
 * the stream of weights, times a quantised vector.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_PRODUCT_CUH
#define MAMBYTE_DECODE_PRODUCT_CUH

#include "cuda/common/reduce.cuh"
#include "cuda/decode/decode_block.cuh"

static __device__ __forceinline__ int32_t dot16(int4 a, int4 b, int32_t sum)
{
    sum = __dp4a(a.x, b.x, sum);
    sum = __dp4a(a.y, b.y, sum);
    sum = __dp4a(a.z, b.z, sum);
    return __dp4a(a.w, b.w, sum);
}

/* A warp's part in a product: bytes of q, from column col on, and the rows that
 * it multiplies by them. */
struct warp_part {
    int4 q;
    int col, stride;
    int n, pitch; /* rows in all; from one of this warp's to the next */
};

/* Adds the products of `at_once` rows of a warp, from `row` on, to their sums.
 * Past the last row it multiplies the last one again and drops the result: a
 * branch would cost more. */
template <int at_once>
static __device__ __forceinline__ void
multiply_some(const struct decode_block *block, const struct warp_part *p,
              int row, int32_t *sums)
{
    const int last = (p->n - 1) * p->stride;
    int4 w[at_once];
    int32_t sum[at_once];
#pragma unroll
    for (int k = 0; k < at_once; k++)
        w[k] = *(const int4 *)weights_at(
            &block->weights, block->weights.at,
            min((row + k * p->pitch) * p->stride, last) + p->col);
#pragma unroll
    for (int k = 0; k < at_once; k++)
        sum[k] = dot16(w[k], p->q, 0);
    const int32_t mine = warp_sum_each<at_once>(sum, block->lane);
    const int my_row = row + block->lane * p->pitch;
    if (block->lane < at_once && my_row < p->n)
        atomicAdd(sums + my_row, mine);
}

/* Adds the products of n rows of cols columns, which begin at the place of the
 * weights, to sums [n].  A warp takes a strip of the columns, and the rows of
 * its group: eight at a time while there are more than four, then four. */
template <class S>
static __device__ __forceinline__ void
multiply_rows(const struct decode_block *block, int cols, int n, int32_t *sums)
{
    const int stride = round_up(cols, COPY_ALIGN);
    const int n_strips = ceil_div(stride, STRIP_BYTES);
    const int lanes = ceil_div(stride / COPY_ALIGN, n_strips);
    const int n_groups = n_strips < N_WARPS ? N_WARPS / n_strips : 1;
#pragma unroll 1
    for (int unit = block->warp; unit < n_strips * n_groups; unit += N_WARPS) {
        const int lane_col =
            (unit % n_strips * lanes + block->lane) * COPY_ALIGN;
        const bool works = block->lane < lanes && lane_col < stride;
        const int col = works ? lane_col : 0;
        struct warp_part p = {*(const int4 *)(block->q + col), col, stride, n,
                              n_groups};
        if (!works)
            p.q = make_int4(0, 0, 0, 0);
        int row = unit / n_strips;
#pragma unroll 1
        for (; S::has_many_rows && row + 4 * n_groups < n; row += 8 * n_groups)
            multiply_some<8>(block, &p, row, sums);
#pragma unroll 1
        for (; row < n; row += 4 * n_groups)
            multiply_some<4>(block, &p, row, sums);
    }
}

static __device__ __forceinline__ void
free_weights(const struct decode_block *block)
{
    if (block->thread == 0)
        weights_free(&block->weights);
}

/* The bytes to wait for next, when `left` rows of a matrix are left; `ahead`
 * bytes are wanted after its last row. */
static __device__ __forceinline__ int next_bytes(const struct matrix_share *m,
                                                 int cols, int left, int ahead)
{
    const int stride = round_up(cols, COPY_ALIGN);
    return left <= m->rows_at_once ? left * stride + ahead
                                   : m->rows_at_once * stride;
}

/* sums <- W q, for the rows at the place of the weights, which then moves past
 * them.  This waits for the `ahead` bytes after them too.  Rows that are not
 * waited for at once are freed as it goes, but for the last. */
template <class S>
static __device__ __forceinline__ void multiply(struct decode_block *block,
                                                const struct matrix_share *m,
                                                int cols, int ahead)
{
    int left = m->rows;
#pragma unroll 1
    for (;;) {
        const int n = min(m->rows_at_once, left);
        if (block->warp == WAITING_WARP)
            weights_wait(&block->weights, next_bytes(m, cols, left, ahead));
        compute_barrier(); /* q, cleared sums and weights are there */
        multiply_rows<S>(block, cols, n, block->sums + (m->rows - left));
        compute_barrier(); /* sums are complete */
        weights_advance(&block->weights, n * round_up(cols, COPY_ALIGN));
        left -= n;
        if (left <= 0)
            break;
        free_weights(block);
    }
}

#endif
