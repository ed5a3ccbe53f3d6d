/* gemm_int8.cu -- the int8 products of prefill, on tensor cores.
 *
 * y[t][r] = scale of t * scale of r * sum over k of x[t][k] W[r][k]: the sum
 * is an integer, so that any tiling gives the same bits.  It becomes a float,
 * and is added to h or watched for its maximum, in the same kernel.
 *
 * A block computes a tile of rows x columns (gemm_tile.cuh).
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/prefill/gemm_tile.cuh"
#include "cuda/prefill/mamba2_batch.cuh"

/* One product: which matrix of the layer, from what, to what. */
struct int8_product {
    size_t matrix;        /* offset in struct cuda_layer   */
    const int8_t *x;      /* [layer][rows][stride]         */
    const float *x_scale; /* [layer][rows]                 */
    float *y;             /* [layer][rows], h: [slot][rows], logits: [rows] */
    int y_stride;
};

/* The large one suits products of a warpgroup.  Few rows wait for memory: the
 * deep ones ask for 640 and 896 bytes of each row at once. */
using large_tile = tile<128, 128, 16, 128, 3>;
using small_tile = tile<64, 64, 32, 32, 3>;
using deep_small_tile = tile<64, 64, 32, 32, 6>;
using deep_mid_tile = tile<32, 64, 16, 32, 8>;
using tiny_tile = tile<32, 32, 16, 16, 3>;
using deep_tiny_tile = tile<32, 32, 16, 16, 8>;

/* Stores v, the values of columns r and r + 1 of a row; old: what was there,
 * for PRODUCT_OUT. */
template <enum product_kind kind>
static __device__ __forceinline__ void
store_pair(const struct prefill_batch &b, float *row, uint32_t *amax, int r,
           int n, float2 v, float2 old)
{
    float2 *to = (float2 *)(row + r);
    if (kind == PRODUCT_IN || kind == PRODUCT_MAMBA2_IN ||
        kind == PRODUCT_MAMBA2_GATED) {
        *to = v;
    } else if (kind == PRODUCT_OUT) {
        *to = make_float2(old.x + v.x, old.y + v.y);
    } else if (kind == PRODUCT_HEAD) {
        check_finite(b.overflow, v);
        *to = make_float2(exact_logit(v.x), exact_logit(v.y));
    } else {
        float x[2] = {v.x, v.y};
        for (int i = 0; i < 2 && r + i < n; i++) {
            bool is_dt = r + i < b.dt_rank;
            row[r + i + (is_dt ? 0 : b.dt_room - b.dt_rank)] = x[i];
            if (is_dt)
                atomicMax(amax, magnitude_bits(x[i]));
        }
    }
}

/* Scales of the rows and columns of a block's tile. */
template <class T> struct tile_scales {
    float x[T::rows], w[T::cols];
};

/* Starts to fetch them; rows and columns past the last repeat it. */
template <class T>
static __device__ __forceinline__ void
fetch_w_scales(tile_scales<T> &to, const float *scale, int first, int last)
{
    for (int i = threadIdx.x; i < T::cols; i += T::threads)
        copy_bytes<4>(&to.w[i], scale + min(first + i, last));
}

template <class T>
static __device__ __forceinline__ void
fetch_x_scales(tile_scales<T> &to, const float *scale, int first, int last)
{
    for (int i = threadIdx.x; i < T::rows; i += T::threads)
        copy_bytes<4>(&to.x[i], scale + min(first + i, last));
}

/* in_proj makes u | z, or of Mamba-2 z | x .., and what follows wants silu(z);
 * v: the pairs of columns r, r + 8, .. */
template <int n, bool is_z_first>
static __device__ __forceinline__ void gate_pairs(float2 v[n], int r,
                                                  int d_inner)
{
    float2 gate[n];
#pragma unroll
    for (int j = 0; j < n; j++)
        gate[j] = v[j];
    silu_all<2 * n>(&gate[0].x);
#pragma unroll
    for (int j = 0; j < n; j++)
        v[j] = (r + j * 8 < d_inner) != is_z_first ? v[j] : gate[j];
}

/* Makes values of the sums, and stores them; y: of the tile's first row.  Only
 * x_proj may have half a pair of columns at its end: the other matrices have
 * an even number of rows, or y has room for a whole pair. */
template <class T, enum product_kind kind>
static __device__ __forceinline__ void
store_tile(const struct prefill_batch &b, int n_cols,
           const int32_t sum[T::warp_rows / 16][T::warp_cols / 8][4],
           const tile_scales<T> &scales, float *y, size_t stride,
           uint32_t *dt_amax, int warp_row, int n_rows, int col0, int warp_col)
{
    constexpr int n_i = T::warp_rows / 8, n_j = T::warp_cols / 8;
    constexpr int some = n_j < 4 ? n_j : 4; /* pairs at a time */
    int lane = threadIdx.x % WARP;
    int row = warp_row + lane / 4, col = warp_col + lane % 4 * 2;
#pragma unroll
    for (int j0 = 0; j0 < n_j; j0 += some) {
        int at = col + j0 * 8, r0 = col0 + at;
        float2 old[n_i][some], v[n_i][some];
#pragma unroll
        for (int i = 0; i < n_i; i++) {
            const float *from = y + (size_t)(row + i * 8) * stride + r0;
#pragma unroll
            for (int j = 0; j < some; j++) {
                if (kind == PRODUCT_OUT && row + i * 8 < n_rows &&
                    r0 + j * 8 < n_cols)
                    old[i][j] = *(const float2 *)(from + j * 8);
            }
        }
#pragma unroll
        for (int i = 0; i < n_i; i++) {
            float x = scales.x[row + i * 8];
#pragma unroll
            for (int j = 0; j < some; j++) {
                const int32_t *c = &sum[i / 2][j0 + j][i % 2 * 2];
                float2 w = *(const float2 *)&scales.w[at + j * 8];
                v[i][j] = make_float2(exact_dequantise(c[0], x, w.x),
                                      exact_dequantise(c[1], x, w.y));
            }
            if (kind == PRODUCT_IN && col0 + T::cols > b.d_inner)
                gate_pairs<some, false>(v[i], r0, b.d_inner);
            if (kind == PRODUCT_MAMBA2_GATED && col0 < b.d_inner)
                gate_pairs<some, true>(v[i], r0, b.d_inner);
        }
#pragma unroll
        for (int i = 0; i < n_i; i++) {
            int t = row + i * 8;
#pragma unroll
            for (int j = 0; j < some; j++) {
                if (t < n_rows && r0 + j * 8 < n_cols)
                    store_pair<kind>(b, y + (size_t)t * stride, &dt_amax[t],
                                     r0 + j * 8, n_cols, v[i][j], old[i][j]);
            }
        }
    }
}

template <class T, enum product_kind kind>
static __global__ void __launch_bounds__(T::threads, 2)
    multiply(struct prefill_batch b, struct tick tick, struct int8_product p)
{
    extern __shared__ __align__(1024) int8_t sections[];
    __shared__ tile_scales<T> scales;
    int layer = tick.first + blockIdx.z;
    int slot = slot_of(b, tick, layer);
    int n_rows = b.slots[slot].n_rows;
    int row0 = blockIdx.x * T::rows, col0 = blockIdx.y * T::cols;
    if (row0 >= n_rows)
        return;

    const struct cuda_matrix w = *(
        const struct cuda_matrix *)((const char *)&b.layers[layer] + p.matrix);
    size_t layer_row = (size_t)layer * b.rows;
    const int8_t *x = p.x + layer_row * w.stride;
    int warp = threadIdx.x / WARP;
    int warp_row = warp / T::warps_across * T::warp_rows;
    int warp_col = warp % T::warps_across * T::warp_cols;
    int n_sections = ceil_div(w.stride, DEPTH);

    const loader<T::rows, T::threads> x_loader(x, w.stride, row0, b.rows - 1);
    const loader<T::cols, T::threads> w_loader(w.q, w.stride, col0, w.rows - 1);
    auto load_x = [&](int i) {
        if (i < n_sections)
            x_loader.load(sections + i % T::stages * T::stage, i * DEPTH);
    };
    auto load_w = [&](int i) {
        if (i < n_sections)
            w_loader.load(sections + i % T::stages * T::stage + T::rows * DEPTH,
                          i * DEPTH);
    };

    /* The kernel before does not make the weights: they need not wait. */
    int32_t sum[T::warp_rows / 16][T::warp_cols / 8][4] = {};
    fetch_w_scales<T>(scales, w.scale, col0, w.rows - 1);
    for (int i = 0; i < T::stages - 1; i++)
        load_w(i);
    /* h goes with its microbatch; the logits are those of one microbatch. */
    float *y = p.y + (size_t)row0 * p.y_stride;
    if (kind == PRODUCT_OUT)
        y += (size_t)slot * b.rows * p.y_stride;
    else if (kind != PRODUCT_HEAD)
        y += layer_row * p.y_stride;
    await_previous();
    fetch_x_scales<T>(scales, p.x_scale + layer_row, row0, n_rows - 1);
    for (int i = 0; i < T::stages - 1; i++) {
        load_x(i);
        copy_commit();
    }
    for (int i = 0; i < n_sections; i++) {
        const int8_t *section = sections + i % T::stages * T::stage;
        copy_wait<T::stages - 2>();
#if HAVE_WARPGROUP_PRODUCT
        fence_async_proxy();
#endif
        __syncthreads(); /* the section is there, the one before it is free */
        auto load_next = [&]() {
            load_x(i + T::stages - 1);
            load_w(i + T::stages - 1);
            copy_commit();
        };
#if HAVE_WARPGROUP_PRODUCT
        if constexpr (T::is_for_groups) {
            group_begin();
            group_multiply_section(sum, section + warp / 4 * 64 * DEPTH,
                                   section + T::rows * DEPTH, true);
            group_commit();
            load_next();
            group_wait();
            continue;
        }
#endif
        load_next();
        multiply_section<T>(sum, section + warp_row * DEPTH,
                            section + (T::rows + warp_col) * DEPTH);
    }

    store_tile<T, kind>(b, w.rows, sum, scales, y, p.y_stride,
                        b.dt_amax + layer_row + row0, warp_row, n_rows - row0,
                        col0, warp_col);
}

static struct int8_product product_of(const struct prefill_batch *b,
                                      enum product_kind kind)
{
    struct int8_product p = {};
    bool is_inner = kind == PRODUCT_X || kind == PRODUCT_OUT;
    p.x = is_inner ? b->u_q : b->x;
    p.x_scale = is_inner ? b->u_scale : b->x_scale;
    switch (kind) {
    case PRODUCT_IN:
        p.matrix = offsetof(struct cuda_layer, in_proj);
        p.y = b->uz;
        p.y_stride = 2 * b->d_inner;
        break;
    case PRODUCT_X:
        p.matrix = offsetof(struct cuda_layer, x_proj);
        p.y = b->dtbc;
        p.y_stride = b->dtbc_stride;
        break;
    case PRODUCT_OUT:
        p.matrix = offsetof(struct cuda_layer, out_proj);
        p.y = b->h;
        p.y_stride = b->d_model;
        break;
    case PRODUCT_HEAD:
        p.matrix = offsetof(struct cuda_layer, in_proj);
        p.y = b->logits;
        p.y_stride = N_BYTES_VOCAB;
        break;
    case PRODUCT_MAMBA2_IN:
    case PRODUCT_MAMBA2_GATED: /* its stride is that of a mamba2_batch */
        p.matrix = offsetof(struct cuda_layer, in_proj);
        p.y = b->uz;
        break;
    }
    return p;
}

static int product_cols(const struct prefill_batch *b, enum product_kind kind)
{
    switch (kind) {
    case PRODUCT_IN:
        return 2 * b->d_inner;
    case PRODUCT_X:
        return b->dt_rank + 2 * b->d_state;
    case PRODUCT_OUT:
        return b->d_model;
    default:
        return N_BYTES_VOCAB;
    }
}

template <class T, enum product_kind kind>
static enum status launch_tile(struct queue q, const struct prefill_batch *b,
                               struct tick tick, struct int8_product p,
                               int n_cols)
{
    /* no more shared memory than is used: other blocks fit beside it */
    bool is_inner = kind == PRODUCT_X || kind == PRODUCT_OUT;
    int sections = ceil_div(is_inner ? b->u_stride : b->x_stride, DEPTH);
    int stages = sections < T::stages ? sections : T::stages;
    dim3 grid(ceil_div(tick.rows, T::rows), ceil_div(n_cols, T::cols),
              tick.count);
    return launch("an int8 product", q, grid, T::threads, stages * T::stage,
                  multiply<T, kind>, *b, tick, p);
}

template <class T> static bool fits(const struct prefill_batch *b)
{
    return T::shared + (int)sizeof(tile_scales<T>) <= b->max_shared;
}

enum { ENOUGH_BLOCKS = 128 };

template <class T> static int blocks_of(int rows, int cols)
{
    return ceil_div(rows, T::rows) * ceil_div(cols, T::cols);
}

/* Whether the large tile gives every multiprocessor a block. */
static bool is_large(const struct prefill_batch *b, int rows, int cols,
                     int n_layers)
{
    return fits<large_tile>(b) &&
           blocks_of<large_tile>(rows, cols) * n_layers >= ENOUGH_BLOCKS;
}

/* For out_proj of batch decode, which has one slot: whether all blocks of the
 * mid tile run at once, one on every multiprocessor at least, and each asks for
 * all of its rows at once. */
static bool is_deep_mid(const struct prefill_batch *b, int rows, int cols)
{
    const int n = blocks_of<deep_mid_tile>(rows, cols);
    return b->n_slots == 1 && fits<deep_mid_tile>(b) &&
           ceil_div(b->u_stride, DEPTH) <= deep_mid_tile::stages &&
           n >= ENOUGH_BLOCKS && n <= 2 * b->n_processors;
}

/* For batch decode: whether the deep tile gives every other multiprocessor a
 * block, and all its blocks run at once. */
static bool is_deep_small(const struct prefill_batch *b, int rows, int cols)
{
    const int n = blocks_of<deep_small_tile>(rows, cols);
    return b->n_slots == 1 && fits<deep_small_tile>(b) &&
           n >= ENOUGH_BLOCKS / 2 && n <= 2 * b->n_processors;
}

/* The largest tile that still gives every multiprocessor a block, if any. */
template <enum product_kind kind>
static enum status launch_best(struct queue q, const struct prefill_batch *b,
                               struct tick tick, struct int8_product p,
                               int n_cols)
{
    if (kind != PRODUCT_X && is_large(b, tick.rows, n_cols, tick.count))
        return launch_tile<large_tile, kind>(q, b, tick, p, n_cols);
    if constexpr (kind == PRODUCT_OUT) {
        if (is_deep_mid(b, tick.rows, n_cols))
            return launch_tile<deep_mid_tile, kind>(q, b, tick, p, n_cols);
    }
    if (is_deep_small(b, tick.rows, n_cols))
        return launch_tile<deep_small_tile, kind>(q, b, tick, p, n_cols);
    if (blocks_of<small_tile>(tick.rows, n_cols) * tick.count >= ENOUGH_BLOCKS)
        return launch_tile<small_tile, kind>(q, b, tick, p, n_cols);
    if (fits<deep_tiny_tile>(b))
        return launch_tile<deep_tiny_tile, kind>(q, b, tick, p, n_cols);
    return launch_tile<tiny_tile, kind>(q, b, tick, p, n_cols);
}

template <enum product_kind kind>
static enum status launch_kind(struct queue q, const struct prefill_batch *b,
                               struct tick tick)
{
    return launch_best<kind>(q, b, tick, product_of(b, kind),
                             product_cols(b, kind));
}

bool mamba2_in_is_large(const struct prefill_batch *b,
                        const struct mamba2_batch *m, int rows)
{
    return is_large(b, rows, m->zx_columns, 1);
}

enum status launch_mamba2_in(struct queue q, const struct prefill_batch *b,
                             const struct mamba2_batch *m, struct tick tick)
{
    struct int8_product p = product_of(b, PRODUCT_MAMBA2_IN);
    p.y_stride = m->zx_stride;
    return launch_best<PRODUCT_MAMBA2_IN>(q, b, tick, p, m->zx_columns);
}

enum status launch_mamba2_gated_in(struct queue q,
                                   const struct prefill_batch *b,
                                   const struct mamba2_batch *m,
                                   struct tick tick)
{
    struct int8_product p = product_of(b, PRODUCT_MAMBA2_GATED);
    p.y_stride = m->zx_stride;
    return launch_best<PRODUCT_MAMBA2_GATED>(q, b, tick, p, m->zx_columns);
}

enum status launch_product(struct queue q, const struct prefill_batch *b,
                           struct tick tick, enum product_kind kind)
{
    switch (kind) {
    case PRODUCT_IN:
        return launch_kind<PRODUCT_IN>(q, b, tick);
    case PRODUCT_X:
        return launch_kind<PRODUCT_X>(q, b, tick);
    case PRODUCT_OUT:
        return launch_kind<PRODUCT_OUT>(q, b, tick);
    default:
        return launch_kind<PRODUCT_HEAD>(q, b, tick);
    }
}

/* A tile that does not fit the device is never used. */
template <class T, enum product_kind kind>
static enum status prepare_tile(const struct prefill_batch *b)
{
    if (!fits<T>(b))
        return OK;
    return cuda_status(
        cudaFuncSetAttribute(multiply<T, kind>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             T::shared),
        "an int8 product");
}

template <enum product_kind kind>
static enum status prepare_kind(const struct prefill_batch *b)
{
    TRY((prepare_tile<large_tile, kind>(b)));
    TRY((prepare_tile<small_tile, kind>(b)));
    TRY((prepare_tile<deep_small_tile, kind>(b)));
    TRY((prepare_tile<deep_tiny_tile, kind>(b)));
    return prepare_tile<tiny_tile, kind>(b);
}

enum status products_prepare(const struct prefill_batch *b)
{
    TRY(prepare_kind<PRODUCT_IN>(b));
    TRY(prepare_kind<PRODUCT_X>(b));
    TRY(prepare_kind<PRODUCT_OUT>(b));
    TRY((prepare_tile<deep_mid_tile, PRODUCT_OUT>(b)));
    TRY(prepare_kind<PRODUCT_MAMBA2_IN>(b));
    TRY(prepare_kind<PRODUCT_MAMBA2_GATED>(b));
    return prepare_kind<PRODUCT_HEAD>(b);
}
