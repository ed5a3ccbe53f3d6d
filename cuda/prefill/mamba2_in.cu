/* mamba2_in.cu -- in_proj of Mamba-2 and the convolution, in one kernel.
 *
 * What limits an int8 product of square tiles is the L2 cache: a tile takes as
 * many rows of x as of W from it.  Here a block keeps its 128 rows of x in
 * shared memory, and goes through the columns; only W streams.
 *
 * Sums of x | B | C never reach memory.  A warp has 16 rows of 128 columns in
 * registers: it gets the rows before its own from other lanes, and three from
 * the warp before.  Blocks overlap by three rows, which only serve the
 * convolution of the next ones.  Rows of W are so placed that a lane has 16
 * neighbouring channels of x, B or C.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/prefill/mamba2_in_conv.cuh"

/* ---- z ------------------------------------------------------------------- */

/* silu(z) of a warp's rows and 128 columns, col on. */
static __device__ __forceinline__ void
store_gates(const struct in_job &job, const int32_t sum[PART / 8][4],
            const float *w_scale, int row, int col)
{
    int lane = threadIdx.x % WARP;
    col += lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int i = row + lane / 4 + 8 * half;
        bool is_useful = job.is_useful(i);
        float x = job.x_scale[i];
        float *to =
            job.b.uz + (job.layer_row + job.row0 + i) * job.m.zx_stride + col;
#pragma unroll
        for (int j0 = 0; j0 < PART / 8; j0 += 4) {
            float v[8];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float2 w =
                    __ldg((const float2 *)(w_scale + col + (j0 + j) * 8));
                v[2 * j] = exact_dequantise(sum[j0 + j][2 * half], x, w.x);
                v[2 * j + 1] =
                    exact_dequantise(sum[j0 + j][2 * half + 1], x, w.y);
            }
            silu_all<8>(v);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (is_useful)
                    *(float2 *)(to + (j0 + j) * 8) =
                        make_float2(v[2 * j], v[2 * j + 1]);
            }
        }
    }
}

/* ---- dt ------------------------------------------------------------------ */

/* Step sizes and decays, of dt in shared memory: room for [ROWS][n_heads]. */
static __device__ __forceinline__ void
store_steps(const struct in_job &job, const int32_t sum[PART / 8][4],
            const float *w_scale, int row, int col, float *dts, int barrier)
{
    const struct mamba2_batch &m = job.m;
    int lane = threadIdx.x % WARP, g = lane / 4, n = m.n_heads;
#pragma unroll
    for (int j = 0; j < PART / 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int h = j * 8 + lane % 4 * 2 + i % 2, r = row + g + i / 2 * 8;
            if (h < n)
                dts[r * n + h] = exact_dequantise(sum[j][i], job.x_scale[r],
                                                  w_scale[col + h]);
        }
    }
    barrier_sync(barrier, PART_THREADS);
    for (int i = threadIdx.x % PART_THREADS; i < ROWS * n; i += PART_THREADS) {
        int h = i % n;
        if (!job.is_useful(i / n))
            continue;
        ptrdiff_t at = (job.layer_row + job.row0) * n + i;
        float delta =
            exact_delta(dts[i] + job.l.dt_bias[h], m.delta_min, m.delta_max);
        m.delta[at] = delta;
        m.alpha[at] = exact_alpha(delta, job.l.a_log2e[h]);
    }
}

/* ---- a block ------------------------------------------------------------- */

template <class T> static __host__ __device__ int shared_of(int stride)
{
    return ceil_div(stride, DEPTH) * ROWS * DEPTH + STAGES * T::cols * DEPTH;
}

/* Warps 8 i to 8 i + 7 have columns 128 i to 128 i + 127 of a tile; a block has
 * n_each tiles. */
template <class T>
static __global__ void __launch_bounds__(T::threads, T::cols == PART ? 2 : 1)
    multiply_and_convolve(struct prefill_batch b, struct mamba2_batch m,
                          struct tick tick, int n_each)
{
    extern __shared__ __align__(1024) int8_t sections[];
    __shared__ float x_scale[ROWS];
    __shared__ struct row_note notes[ROWS];
    int layer = tick.first + blockIdx.z;
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    const struct cuda_layer &l = b.layers[layer];
    const struct in_job job = {b,
                               m,
                               l,
                               mb,
                               layer,
                               mb->n_rows,
                               (int)blockIdx.x * USEFUL - HALO,
                               (ptrdiff_t)layer * b.rows,
                               x_scale,
                               notes};
    if (job.row0 + HALO >= mb->n_rows)
        return;
    const struct cuda_matrix w = l.in_proj;
    int warp = threadIdx.x / WARP, part = warp / 8, row = warp % 8 * SIDE;
    int n_sections = ceil_div(w.stride, DEPTH), tile = blockIdx.y * n_each;
    int end = min(tile + n_each, ceil_div(w.rows, T::cols));
    int8_t *weights = sections + n_sections * ROWS * DEPTH;
    weight_sections<T> stream = {job,  w, weights, n_sections, end,
                                 tile, 0, 0,       {}};
    stream.start_tile();
    await_previous();

    auto row_of = [&](int r) {
        return min(max(job.row0 + r, 0), mb->n_rows - 1);
    };
    for (int i = 0; i < n_sections; i++)
        load_section<ROWS, T::threads>(sections + i * ROWS * DEPTH,
                                       b.x + job.layer_row * w.stride, w.stride,
                                       i * DEPTH, row_of);
    for (int i = 0; i < STAGES - 1; i++)
        stream.load_next();
    if (threadIdx.x < ROWS) {
        x_scale[threadIdx.x] = b.x_scale[job.layer_row + row_of(threadIdx.x)];
        notes[threadIdx.x] = note_of(mb, job.row0 + (int)threadIdx.x);
    }
    for (int stage = 0; tile < end; tile++) {
        int32_t sum[1][PART / 8][4] = {};
        int8_t *used = weights;
        for (int i = 0; i < n_sections; i++) {
            copy_wait<STAGES - 2>();
#if HAVE_WARPGROUP_PRODUCT
            fence_async_proxy();
#endif
            __syncthreads(); /* the section is there, the last one is free */
            used = weights + (stage * T::cols + part * PART) * DEPTH;
#if HAVE_WARPGROUP_PRODUCT
            group_multiply_section(
                sum, sections + (i * ROWS + row / 64 * 64) * DEPTH, used);
            stream.load_next();
            group_wait();
#else
            stream.load_next();
            multiply_section<wide_tile>(
                sum, sections + (i * ROWS + row) * DEPTH, used);
#endif
            stage = stage + 1 == STAGES ? 0 : stage + 1;
        }
        __syncthreads(); /* no one reads the section, nor x of the last tile */
        int col = tile * T::cols + part * PART;
        switch (columns_at(b, m, col)) {
        case COLUMNS_Z:
            store_gates(job, sum[0], w.scale, row, col);
            break;
        case COLUMNS_CONV:
            store_convolved(job, sum[0], w.scale, row, col, (float *)used,
                            1 + part);
            break;
        case COLUMNS_DT:
            store_steps(job, sum[0], w.scale, row, col, (float *)sections,
                        1 + part);
            break;
        default:
            break;
        }
    }
}

/* ---- launches ------------------------------------------------------------ */

/* Whether the kernel can take the shape, and n blocks of a multiprocessor have
 * the room. */
template <class T>
static bool can_take(const struct prefill_batch *b,
                     const struct mamba2_batch *m, int n)
{
    enum { OTHER = 2048 }; /* what the system and static arrays take */
    return m->headdim == 64 && (b->d_state == 64 || b->d_state == 128) &&
           b->d_conv == TAPS && b->d_inner % PART == 0 &&
           m->conv_channels % PART == 0 && m->n_heads <= PART &&
           m->n_heads * (int)sizeof(float) <= round_up(b->x_stride, DEPTH) &&
           shared_of<T>(b->x_stride) <= (b->max_shared + 1024) / n - OTHER;
}

/* The columns are cut into as many parts as make the last blocks end soonest;
 * a part costs its tiles and the rows of x. */
template <class T>
static enum status launch_tiles(struct queue q, const struct prefill_batch *b,
                                const struct mamba2_batch *m, struct tick tick,
                                int n)
{
    int rows = ceil_div(tick.rows, USEFUL), best = 1, least = 0;
    int tiles = ceil_div(m->zx_columns, T::cols);
    for (int parts = 1; parts <= tiles; parts++) {
        int turns = ceil_div(rows * tick.count * parts, b->n_processors * n);
        int cost = turns * (ceil_div(tiles, parts) + 1);
        if (least == 0 || cost < least) {
            least = cost;
            best = parts;
        }
    }
    int each = ceil_div(tiles, best);
    dim3 grid(rows, ceil_div(tiles, each), tick.count);
    return launch("an int8 product", q, grid, T::threads,
                  shared_of<T>(b->x_stride), multiply_and_convolve<T>, *b, *m,
                  tick, each);
}

template <class T> static enum status prepare(const struct prefill_batch *b)
{
    return cuda_status(
        cudaFuncSetAttribute(multiply_and_convolve<T>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             shared_of<T>(b->x_stride)),
        "an int8 product");
}

enum status mamba2_inputs_prepare(const struct prefill_batch *b,
                                  const struct mamba2_batch *m)
{
    if (can_take<wide_tile>(b, m, 2))
        return prepare<wide_tile>(b);
    return can_take<widest_tile>(b, m, 1) ? prepare<widest_tile>(b) : OK;
}

/* A few rows do not fill the chip with blocks of this kind. */
enum status launch_mamba2_inputs(struct queue q, const struct prefill_batch *b,
                                 const struct mamba2_batch *m, struct tick tick)
{
    int blocks = ceil_div(tick.rows, USEFUL) * tick.count *
                 ceil_div(m->zx_columns, 2 * PART);
    bool is_many = blocks >= b->n_processors / 4;
    if (is_many && can_take<wide_tile>(b, m, 2))
        return launch_tiles<wide_tile>(q, b, m, tick, 2);
    if (is_many && can_take<widest_tile>(b, m, 1))
        return launch_tiles<widest_tile>(q, b, m, tick, 1);
    TRY(launch_mamba2_gated_in(q, b, m, tick));
    return launch_mamba2_conv(q, b, m, tick);
}
