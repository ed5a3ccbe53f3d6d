/* scan.cu -- the selective scan of prefill.
 *
 * The recurrence runs in the order of time.  The rest (dt_proj, softplus, the
 * gate) needs no order, and is done for a tile of TIME bytes at once.  A block
 * has `channels` channels of one span and walks through its bytes, tile by
 * tile.  Where all spans are single bytes it has TIME spans, which make one
 * tile.
 *
 *   dt of the next tile -> int8                       scan_feed.cuh
 *   delta = softplus(dt_proj dt + bias), delta u      scan_tile.cuh
 *   s = 2^(delta a) s + delta u B, y = C s            scan_recurrence.cuh
 *   y = (y + d u) gate, its maximum                   scan_tile.cuh
 *
 * A warp does all of this for its own channels.  The block shares B, C and dt
 * only, and meets once a tile.  Why shared memory may be written again:
 *
 *     place                 belongs to       ordered by
 *     bc, dt_q, dt_scale    the block        two of each, in turn; the barrier
 *                                            of a tile
 *     dt                    its own thread   that thread's wait for its copies
 *     delta, y              a warp           __syncwarp
 *     of, dt_proj           the block        written once, before the first
 *                                            barrier
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/prefill/scan_feed.cuh"
#include "cuda/prefill/scan_recurrence.cuh"
#include "cuda/prefill/scan_tile.cuh"

/* Stores the last inputs of the convolution, for the bytes to come.  Those of a
 * span of a single strip were stored by the convolution itself. */
static __device__ __forceinline__ void keep_past(const struct prefill_batch &b,
                                                 const struct scan_place &k,
                                                 float *past, int c)
{
    int n = k.n, kept = b.d_conv - 1;
    const float *uz = b.uz + k.row * 2 * b.d_inner + c;
    past += c;
    for (int i = 0; i < kept; i++) {
        int t = n - kept + i;
        past[(size_t)i * b.d_inner] = t >= 0
                                          ? uz[(size_t)t * 2 * b.d_inner]
                                          : past[(size_t)(i + n) * b.d_inner];
    }
}

/* Up to this delta no decay is below 2^-126, as no a is below `smallest`.  It
 * is a little less than the exact quotient, as the product may be rounded. */
static __device__ __forceinline__ float steep_limit(float smallest)
{
    return smallest < 0.0f ? EXACT_EXP2_MIN / smallest * 0.99999f : 0x1p126f;
}

/* A thread's part of the states of its channel. */
template <class T>
static __device__ __forceinline__ void load_states(states<T> &x, const float *s,
                                                   const float *a, int d_inner,
                                                   bool has_channel)
{
#pragma unroll
    for (int n = 0; n < T::per_thread; n++) {
        size_t at = (size_t)n * d_inner;
        x.a[n] = has_channel ? a[at] : 0.0f;
        x.s[n] = has_channel ? s[at] : 0.0f;
    }
}

template <class T>
static __device__ __forceinline__ void make_limit(channel_weights<T> &of,
                                                  const states<T> &x)
{
    float smallest = 0.0f;
#pragma unroll
    for (int n = 0; n < T::per_thread; n++)
        smallest = x.a[n] < smallest ? x.a[n] : smallest;
#pragma unroll
    for (int i = T::lanes; i < WARP; i *= 2)
        smallest = fminf(smallest, __shfl_xor_sync(WHOLE_WARP, smallest, i));
    of.limit[own_channel<T>()] = steep_limit(smallest);
}

/* is_single: the block has spans of a byte each. */
template <class T, bool is_single>
static __global__ void
__launch_bounds__(T::threads, (T::per_thread > 8 ? 384 : 512) / T::threads)
    scan(struct prefill_batch b, struct tick tick)
{
    extern __shared__ __align__(16) char shared[];
    scan_shared<T> &m = *(scan_shared<T> *)shared;
    const int depth = rank_padded(b.dt_rank), dt_q_tile = TIME * (depth + 16);
    float *dt = (float *)(shared + sizeof m);
    int8_t *dt_q = (int8_t *)(dt + TIME * b.dt_room);
    int8_t *dt_proj = dt_q + 2 * dt_q_tile;

    int layer = tick.first + blockIdx.z;
    int span = blockIdx.y * (is_single ? TIME : 1);
    const struct microbatch *mb = &b.slots[slot_of(b, tick, layer)];
    struct scan_place k = {&b.layers[layer], &mb->spans[span], 0, 0,
                           (int)blockIdx.x * T::channels};
    const struct span p = *k.spans; /* its loads do not wait for the test */
    if (span >= mb->n_spans)
        return;
    k.n = is_single ? min(TIME, mb->n_spans - span) : p.n;
    k.row = (size_t)layer * b.rows + p.row;

    int part = threadIdx.x % WARP / T::lanes;
    int c = k.channel + own_channel<T>();
    bool has_channel = c < b.d_inner;
    size_t first = (size_t)part * T::per_thread * b.d_inner + c;
    size_t past_at = layer * b.image.layer, s_at = past_at + b.image.s + first;
    float *past = p.image + past_at, *state = p.image + s_at;
    if (is_single && (int)threadIdx.x < k.n)
        m.image[threadIdx.x] = k.spans[threadIdx.x].image;
    fetch_channel_weights<T>(m.of, dt_proj, b, k);
    await_previous();

    feed<T> f = feed_of<T>(b, k);
    fetch_dt(f, dt, b);
    fetch_bc(f, m.bc[0][0], b.dtbc_stride);
    copy_commit();
    columns<T> own = columns_of<T>(b, k);
    const size_t u_stride = b.d_inner, gate_stride = 2 * u_stride;
    uint32_t *y_amax = b.y_amax + k.row;
    elements<T> u, gate, next_u;
    load_elements<T>(next_u, own.u, u_stride, k.n);
    states<T> x;
    load_states(x, state, k.layer->a_log2e + first, b.d_inner, has_channel);
    copy_wait<0>();
    quantise_dt(f, m.dt_scale[0], dt_q, dt, b.dt_rank, b.dt_room);
    fetch_dt(f, dt, b);
    copy_commit();
    make_limit<T>(m.of, x);
    for (int t0 = 0, now = 0; t0 < k.n; t0 += TIME, now ^= 1) {
        int rows = k.n - t0;
        u = next_u;
        copy_wait<0>();
        __syncthreads(); /* B, C and dt_q of this tile are there, and nobody
                          * reads those of the last one any more */
        if (rows > TIME) {
            fetch_bc(f, m.bc[now ^ 1][0], b.dtbc_stride);
            quantise_dt(f, m.dt_scale[now ^ 1], dt_q + (now ^ 1) * dt_q_tile,
                        dt, b.dt_rank, b.dt_room);
            fetch_dt(f, dt, b);
        }
        copy_commit();
        int32_t sum[T::tiles][4] = {};
        project_dt<T>(sum, dt_q + now * dt_q_tile, dt_proj, depth);
        load_elements<T>(gate, own.gate, gate_stride, rows);
        bool is_steep = make_delta<T>(m, u, sum, m.dt_scale[now], own.in_block);
        load_elements<T>(next_u, own.u, u_stride, rows - TIME, TIME);
        __syncwarp(); /* delta is written */
        if (is_single)
            scan_singles<T>(m, x, m.bc[now][0], s_at, b.d_inner, has_channel,
                            rows);
        else if (is_steep)
            scan_tile<T, true>(m, x, m.bc[now][0], min(TIME, rows));
        else
            scan_tile<T, false>(m, x, m.bc[now][0], min(TIME, rows));
        __syncwarp(); /* y is written */
        finish_tile<T>(m, u, gate, own, u_stride, rows, y_amax + t0);
#pragma unroll
        for (int j = 0; j < T::tiles; j++) {
            own.u[j] += TIME * u_stride;
            own.gate[j] += TIME * gate_stride;
        }
    }
    if (!is_single && has_channel) {
#pragma unroll
        for (int n = 0; n < T::per_thread; n++)
            state[(size_t)n * b.d_inner] = x.s[n];
        if (part == 0 && k.n > STRIP)
            keep_past(b, k, past, c);
    }
}

/* A block lives as long as its span, so each multiprocessor must get an equal
 * share of the blocks, whatever else runs there when they are placed.  So each
 * block asks for enough shared memory that no more than that share fits. */
template <class T>
static size_t shared_for_share(const struct prefill_batch *b, int n_blocks)
{
    enum { RESERVED = 1024, UNIT = 1024 }; /* by the system, for a block */
    size_t need = scan_shared_size<T>(b);
    int share = ceil_div(n_blocks, b->n_processors);
    if (share > MAX_SHARE)
        return need;
    size_t part = (b->max_shared + RESERVED) / (share + 1) / UNIT * UNIT;
    return part > need ? part : need;
}

template <class T>
static enum status launch_shape(struct queue q, const struct prefill_batch *b,
                                struct tick tick)
{
    bool is_single = tick.count == 1 && tick.rows == tick.spans;
    dim3 grid(ceil_div(b->d_inner, T::channels),
              is_single ? ceil_div(tick.spans, TIME) : tick.spans, tick.count);
    return launch("the scan", q, grid, T::threads,
                  shared_for_share<T>(b, grid.x * grid.y * grid.z),
                  is_single ? scan<T, true> : scan<T, false>, *b, tick);
}

template <class T>
static enum status prepare_shape(const struct prefill_batch *b)
{
    if (scan_shared_size<T>(b) > (size_t)b->max_shared)
        return fail(E_DEVICE,
                    "the GPU has too little shared memory for a "
                    "dt_rank of %d",
                    b->dt_rank);
    const char *what = "shared memory for the scan";
    CUDA_TRY(cudaFuncSetAttribute(scan<T, true>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  b->max_shared),
             what);
    return cuda_status(
        cudaFuncSetAttribute(scan<T, false>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             b->max_shared),
        what);
}

using scan_4 = scan_shape<4, 4, 64>;
using scan_8 = scan_shape<8, 8, 64>;
using scan_16 = scan_shape<16, 8, 64>;
using scan_32 = scan_shape<32, 8, 32>;
using scan_64 = scan_shape<64, 16, 32>;

enum status launch_scan(struct queue q, const struct prefill_batch *b,
                        struct tick tick)
{
    switch (b->d_state) {
    case 4:
        return launch_shape<scan_4>(q, b, tick);
    case 8:
        return launch_shape<scan_8>(q, b, tick);
    case 16:
        return launch_shape<scan_16>(q, b, tick);
    case 32:
        return launch_shape<scan_32>(q, b, tick);
    default:
        return launch_shape<scan_64>(q, b, tick);
    }
}

enum status scan_prepare(const struct prefill_batch *b)
{
    switch (b->d_state) {
    case 4:
        return prepare_shape<scan_4>(b);
    case 8:
        return prepare_shape<scan_8>(b);
    case 16:
        return prepare_shape<scan_16>(b);
    case 32:
        return prepare_shape<scan_32>(b);
    default:
        return prepare_shape<scan_64>(b);
    }
}
