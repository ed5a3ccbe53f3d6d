/* mamba2_in.cu -- in_proj of Mamba-2 and the convolution, in one kernel.
 *
 * What limits an int8 product of square tiles is the L2 cache: a tile takes as
 * many rows of x as of W from it.  Here a block keeps its 128 rows of x in
 * shared memory, and goes through the columns; only W streams.
 *
 * A block has parts, of eight warps each.  Each part takes tiles of 128 columns
 * for itself, in turn with the others, so that the products of one part run
 * beside what the others make of their sums.
 *
 * Sums of x | B | C never reach memory.  Blocks overlap by three rows, which
 * only serve the convolution of the next ones.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/prefill/mamba2_in_conv.cuh"

/* ---- z, or columns as they are ------------------------------------------- */

/* silu of a warp's rows and 128 columns, col on, or the numbers themselves. */
template <bool is_gate>
static __device__ __forceinline__ void
store_columns(const struct in_job &job, const int32_t sum[COLS / 8][4],
              const float *w_scale, int row, int col)
{
    int lane = threadIdx.x % WARP;
    row += lane / 4;
    col += lane % 4 * 2;
    w_scale += col;
    float *to =
        job.b.uz + (job.layer_row + job.row0 + row) * job.m.zx_stride + col;
    float x[2] = {job.x_scale[row], job.x_scale[row + 8]};
    bool is_useful[2] = {job.is_useful(row), job.is_useful(row + 8)};
    size_t below = (size_t)8 * job.m.zx_stride;
#pragma unroll
    for (int j0 = 0; j0 < COLS / 8; j0 += 4) {
        float2 w[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            w[j] = __ldg((const float2 *)(w_scale + (j0 + j) * 8));
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float v[8];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int32_t *of = sum[j0 + j] + 2 * half;
                v[2 * j] = exact_dequantise(of[0], x[half], w[j].x);
                v[2 * j + 1] = exact_dequantise(of[1], x[half], w[j].y);
            }
            if (is_gate)
                silu_all<8>(v);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (is_useful[half])
                    *(float2 *)(to + half * below + (j0 + j) * 8) =
                        make_float2(v[2 * j], v[2 * j + 1]);
            }
        }
    }
}

/* ---- dt ------------------------------------------------------------------ */

/* Step sizes and decays, of dt in shared memory: room for [ROWS][n_heads]. */
static __device__ __forceinline__ void
store_steps(const struct in_job &job, const int32_t sum[COLS / 8][4],
            const float *w_scale, int row, int col, float *dts, int barrier)
{
    const struct mamba2_batch &m = job.m;
    int lane = threadIdx.x % WARP, g = lane / 4, n = m.n_heads;
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int h = j * 8 + lane % 4 * 2 + i % 2, r = row + g + i / 2 * 8;
            if (h < n)
                dts[r * n + h] = exact_dequantise(sum[j][i], job.x_scale[r],
                                                  w_scale[col + h]);
        }
    }
    barrier_sync(barrier, PART_THREADS);
    for (int i = part_thread(); i < ROWS * n; i += PART_THREADS) {
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

/* ---- a part -------------------------------------------------------------- */

#if HAVE_WARPGROUP_PRODUCT
/* The sums of a tile of R::ahead sections, which are on their way. */
template <class R>
static __device__ __forceinline__ void
multiply_short_tile(int32_t (&sum)[1][COLS / 8][4], const int8_t *x, int row,
                    struct weight_sections<R> &stream)
{
    x += row / 64 * 64 * DEPTH;
#pragma unroll
    for (int i = 0; i < R::ahead; i++) {
        stream.await(i);
        group_begin();
        group_multiply_section(sum, x + i * ROWS * DEPTH,
                               stream.room + i * SECTION_BYTES, i > 0);
        group_commit();
    }
    group_wait();
}
#endif

/* The sums of a tile, of which the first R::ahead sections are on their way. */
template <class R>
static __device__ __forceinline__ void
multiply_tile(int32_t (&sum)[1][COLS / 8][4], const int8_t *x, int row,
              struct weight_sections<R> &stream, int barrier)
{
#if !HAVE_WARPGROUP_PRODUCT
#pragma unroll
    for (int i = 0; i < COLS / 2; i++)
        sum[0][i / 4][i % 4] = 0;
#endif
#pragma unroll 1
    for (int i = 0; i < stream.n; i++) {
        bool has_next = !stream.is_bulk || i + R::ahead < stream.n;
        stream.await(i);
        if (has_next)
            barrier_sync(barrier, PART_THREADS); /* the last one is free, and
                                                  * this one there */
        const int8_t *used = stream.room + i % R::slots * SECTION_BYTES;
        const int8_t *from = x + i * ROWS * DEPTH;
#if HAVE_WARPGROUP_PRODUCT
        group_begin();
        group_multiply_section(sum, from + row / 64 * 64 * DEPTH, used, i > 0);
        group_commit();
        if (has_next)
            stream.load(i + R::ahead);
        group_wait();
#else
        if (has_next)
            stream.load(i + R::ahead);
        multiply_section<part_tile>(sum, from + row * DEPTH, used);
#endif
    }
}

/* Tiles tile, tile + step, .. before end.  most: shared [ROWS]. */
template <class R>
static __device__ __forceinline__ void
run_part(const struct in_job &job, const int8_t *x,
         struct weight_sections<R> &stream, uint32_t *most, int tile, int end,
         int step)
{
    int warp = warp_number(), barrier = 1 + warp / PART_WARPS;
    int row = warp % PART_WARPS * SIDE;
    int32_t *sums = (int32_t *)(stream.room + R::kept * SECTION_BYTES);
    const float *w_scale = job.l.in_proj.scale;
    for (; tile < end; tile += step) {
        int32_t sum[1][COLS / 8][4];
#if HAVE_WARPGROUP_PRODUCT
        if (stream.n == R::ahead)
            multiply_short_tile(sum, x, row, stream);
        else
#endif
            multiply_tile(sum, x, row, stream, barrier);
        barrier_sync(barrier, PART_THREADS); /* all sections are free */
        stream.start(tile + step, end);
        for (int i = 0; i < R::kept; i++)
            stream.load(i);
        int col = tile * COLS;
        enum columns kind = columns_at(job.b, job.m, col);
        if (kind == COLUMNS_CONV)
            store_convolved(job, sum[0], w_scale, sums, most, row, col,
                            barrier);
        else if (kind == COLUMNS_DT)
            store_steps(job, sum[0], w_scale, row, col, (float *)sums, barrier);
        if (kind == COLUMNS_CONV || kind == COLUMNS_DT) {
#ifdef HAS_CLUSTER
            fence_async_proxy();
#endif
            barrier_sync(barrier, PART_THREADS); /* nobody reads the sums */
        }
        for (int i = R::kept; i < R::ahead; i++)
            stream.load(i);
        if (kind == COLUMNS_Z)
            store_columns<true>(job, sum[0], w_scale, row, col);
        else if (kind == COLUMNS_PLAIN)
            store_columns<false>(job, sum[0], w_scale, row, col);
    }
}

/* ---- a block ------------------------------------------------------------- */

template <int PARTS, class R> static int shared_of(int stride)
{
    return ceil_div(stride, DEPTH) * ROWS * DEPTH + PARTS * R::n_bytes;
}

/* A block has n_each tiles. */
template <int PARTS, class R>
static __global__ void __launch_bounds__(PARTS *PART_THREADS, 1)
    multiply_and_convolve(struct prefill_batch b, struct mamba2_batch m,
                          struct tick tick, int n_each)
{
    extern __shared__ __align__(1024) int8_t sections[];
    __shared__ __align__(16) float x_scale[ROWS];
    __shared__ struct row_note notes[ROWS];
    __shared__ uint32_t most[PARTS][ROWS];
    __shared__ uint64_t come[PARTS][R::slots];
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
    int n = ceil_div(w.stride, DEPTH);
    int part = warp_number() / PART_WARPS, tile = blockIdx.y * n_each;
    int end = min(tile + n_each, ceil_div(w.rows, COLS));
    tile += part;
    int8_t *room = sections + n * ROWS * DEPTH + part * R::n_bytes;
    const int8_t *packed = m.in_packed + layer * packed_bytes(w.rows, w.stride);
    struct weight_sections<R> stream = {
        w, room, n, packed, come[part]
    };
    stream.set_up();
    stream.start(tile, end);
    await_previous();

    auto row_of = [&](int r) {
        return min(max(job.row0 + r, 0), mb->n_rows - 1);
    };
    for (int i = part; i < n; i += PARTS)
        load_x_section(sections + i * ROWS * DEPTH,
                       b.x + job.layer_row * w.stride, w.stride, i * DEPTH,
                       row_of);
    copy_commit();
    for (int i = 0; i < R::ahead; i++)
        stream.load(i);
    if (threadIdx.x < ROWS) {
        x_scale[threadIdx.x] = b.x_scale[job.layer_row + row_of(threadIdx.x)];
        notes[threadIdx.x] = note_of(mb, job.row0 + (int)threadIdx.x);
    }
    copy_wait<stream.is_bulk ? 0 : R::ahead>();
#if HAVE_WARPGROUP_PRODUCT
    fence_async_proxy();
#endif
    __syncthreads(); /* x is there, its scales and the notes */
    run_part(job, sections, stream, most[part], tile, end, PARTS);
}

/* ---- forms of a block ---------------------------------------------------- */

template <int PARTS, class R>
static enum status prepare(const struct prefill_batch *b)
{
    return cuda_status(
        cudaFuncSetAttribute(multiply_and_convolve<PARTS, R>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             shared_of<PARTS, R>(b->x_stride)),
        "an int8 product");
}

/* The best first. */
enum form { TWO_PARTS, TWO_SMALL_PARTS, ONE_PART, NO_FORM };
using large_room = part_room<3>;
using small_room = part_room<1>;

/* That of the shape, where the kernel can take it and there is room. */
static enum form form_of(const struct prefill_batch *b,
                         const struct mamba2_batch *m)
{
    enum { OTHER = 2048 }; /* what static arrays take */
    int room = b->max_shared - OTHER;
    if (m->headdim != HEAD || b->d_state % HEAD != 0 || b->d_conv != TAPS ||
        b->d_inner % COLS != 0 || m->conv_channels % COLS != 0 ||
        m->n_heads > HEAD)
        return NO_FORM;
    if (shared_of<2, large_room>(b->x_stride) <= room)
        return TWO_PARTS;
    if (shared_of<2, small_room>(b->x_stride) <= room)
        return TWO_SMALL_PARTS;
    return shared_of<1, small_room>(b->x_stride) <= room ? ONE_PART : NO_FORM;
}

enum status mamba2_inputs_prepare(const struct prefill_batch *b,
                                  const struct mamba2_batch *m)
{
    switch (form_of(b, m)) {
    case TWO_PARTS:
        return prepare<2, large_room>(b);
    case TWO_SMALL_PARTS:
        return prepare<2, small_room>(b);
    case ONE_PART:
        return prepare<1, small_room>(b);
    default:
        return OK;
    }
}

/* ---- W, packed ----------------------------------------------------------- */

/* Of the free memory, at most one part in so many is for a second copy. */
enum { PACKED_SHARE = 4 };

/* A block a section. */
static __global__ void pack_section(const struct cuda_layer *layers,
                                    int8_t *packed)
{
    const struct cuda_matrix w = layers[blockIdx.z].in_proj;
    int tile = blockIdx.y, section = blockIdx.x;
    int8_t *to = packed + blockIdx.z * packed_bytes(w.rows, w.stride) +
                 ((size_t)tile * gridDim.x + section) * SECTION_BYTES;
    for (int i = threadIdx.x; i < COLS * CELLS; i += blockDim.x) {
        int row = tile * COLS + i / CELLS,
            k = section * DEPTH + i % CELLS * CELL;
        bool is_there = row < w.rows && k < w.stride;
        *(uint4 *)(to + place(i / CELLS, i % CELLS)) =
            is_there ? *(const uint4 *)(w.q + (size_t)row * w.stride + k)
                     : make_uint4(0, 0, 0, 0);
    }
}

enum status mamba2_inputs_pack(const struct prefill_batch *b,
                               struct mamba2_batch *m)
{
    bool has_bulk;
    size_t n_free, n_all;
    size_t n = b->n_layer * packed_bytes(m->zx_columns, b->x_stride);
    TRY(cuda_has_clusters(&has_bulk));
    m->has_in = form_of(b, m) != NO_FORM;
    if (!m->has_in || !has_bulk)
        return OK;
    CUDA_TRY(cudaMemGetInfo(&n_free, &n_all), "asking for memory");
    m->has_in = n <= n_free / PACKED_SHARE &&
                cudaMalloc((void **)&m->in_packed, n) == cudaSuccess;
    if (!m->has_in) {
        cudaGetLastError();
        return OK;
    }
    dim3 grid(ceil_div(b->x_stride, DEPTH), ceil_div(m->zx_columns, COLS),
              b->n_layer);
    pack_section<<<grid, PART_THREADS, 0, 0>>>(b->layers, m->in_packed);
    return cuda_status(cudaGetLastError(), "packing weights");
}

/* ---- launches ------------------------------------------------------------ */

/* The columns are cut so that the last blocks end soonest; a block costs the
 * tiles of a part, and the rows of x. */
template <int PARTS, class R>
static enum status launch_parts(struct queue q, const struct prefill_batch *b,
                                const struct mamba2_batch *m, struct tick tick)
{
    int rows = ceil_div(tick.rows, USEFUL), best = 1, least = 0;
    int tiles = ceil_div(m->zx_columns, COLS);
    for (int cuts = 1; cuts <= tiles; cuts++) {
        int turns = ceil_div(rows * tick.count * cuts, b->n_processors);
        int each = ceil_div(ceil_div(tiles, cuts), PARTS);
        int cost = turns * (each + 1);
        if (least == 0 || cost < least) {
            least = cost;
            best = cuts;
        }
    }
    int each = ceil_div(tiles, best);
    dim3 grid(rows, ceil_div(tiles, each), tick.count);
    return launch("an int8 product", q, grid, PARTS * PART_THREADS,
                  shared_of<PARTS, R>(b->x_stride),
                  multiply_and_convolve<PARTS, R>, *b, *m, tick, each);
}

static enum status launch_form(struct queue q, const struct prefill_batch *b,
                               const struct mamba2_batch *m, struct tick tick,
                               enum form form)
{
    switch (form) {
    case TWO_PARTS:
        return launch_parts<2, large_room>(q, b, m, tick);
    case TWO_SMALL_PARTS:
        return launch_parts<2, small_room>(q, b, m, tick);
    default:
        return launch_parts<1, small_room>(q, b, m, tick);
    }
}

/* A few rows do not fill the chip with blocks of this kind. */
enum status launch_mamba2_inputs(struct queue q, const struct prefill_batch *b,
                                 const struct mamba2_batch *m, struct tick tick)
{
    int blocks = ceil_div(tick.rows, USEFUL) * tick.count *
                 ceil_div(m->zx_columns, 2 * COLS);
    if (!m->has_in || blocks < b->n_processors / 4) {
        TRY(launch_mamba2_gated_in(q, b, m, tick));
        return launch_mamba2_conv(q, b, m, tick);
    }
    TRY(launch_form(q, b, m, tick, form_of(b, m)));
    return has_plain_bc(*b) ? launch_mamba2_conv_bc(q, b, m, tick) : OK;
}
