/* scan.cu -- the selective scan of the batched path.
 *
 * The recurrence runs in the order of time; the rest of a step (dt_proj,
 * softplus, the gate) needs no order and is done for a tile of TIME bytes at
 * once.  A block has `channels` channels of one piece of a wave and walks
 * through its bytes, tile by tile; or, where all pieces are single bytes, of
 * TIME pieces, which make one tile:
 *
 *   dt of the next tile -> int8                             all threads
 *   delta = softplus(dt_proj dt + bias), delta u            tensor cores
 *   s = 2^(delta a) s + delta u B, y = C s                  in time
 *   y = (y + d u) gate, its maximum                         as for delta
 *
 * A warp does all of this for its own channels: only B, C and dt are of the
 * block, which meets once a tile.  scan_tile.cuh has these parts.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/prefill/scan_tile.cuh"

/* The last inputs of the convolution, for the bytes to come; the convolution
 * itself has kept those of a piece of one span. */
static __device__ __forceinline__ void
keep_past(const struct batch &b, const struct scan_block &k, float *past, int c)
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

/* Deltas up to this one give no decay below 2^-126 where no a is smaller; a
 * little less, so that the product may be rounded. */
static __device__ __forceinline__ float steep_limit(float smallest)
{
    return smallest < 0.0f ? EXACT_EXP2_MIN / smallest * 0.99999f : 0x1p126f;
}

/* A thread in the recurrence: its part of the states of its channel. */
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
static __device__ __forceinline__ void make_limit(parameters<T> &of,
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

/* is_step: the block has pieces of one byte each. */
template <class T, bool is_step>
static __global__ void
__launch_bounds__(T::threads, (T::per_thread > 8 ? 384 : 512) / T::threads)
    scan(struct batch b, struct step s)
{
    extern __shared__ __align__(16) char shared[];
    scan_shared<T> &m = *(scan_shared<T> *)shared;
    const int depth = rank_padded(b.dt_rank), dt_q_tile = TIME * (depth + 16);
    float *dt = (float *)(shared + sizeof m);
    int8_t *dt_q = (int8_t *)(dt + TIME * b.dt_room);
    int8_t *dt_proj = dt_q + 2 * dt_q_tile;

    int layer = s.first + blockIdx.z;
    int piece = blockIdx.y * (is_step ? TIME : 1);
    const struct wave *w = &b.waves[step_slot(b, s, layer)];
    struct scan_block k = {&b.layers[layer], &w->pieces[piece], 0, 0,
                           (int)blockIdx.x * T::channels};
    const struct piece p = *k.pieces; /* its loads do not wait for the test */
    if (piece >= w->n_pieces)
        return;
    k.n = is_step ? min(TIME, w->n_pieces - piece) : p.n;
    k.row = (size_t)layer * b.rows + p.row;

    int part = threadIdx.x % WARP / T::lanes;
    int c = k.channel + own_channel<T>();
    bool has_channel = c < b.d_inner;
    size_t first = (size_t)part * T::per_thread * b.d_inner + c;
    size_t past_at = layer * b.image.layer, s_at = past_at + b.image.s + first;
    float *past = p.image + past_at, *state = p.image + s_at;
    if (is_step && (int)threadIdx.x < k.n)
        m.image[threadIdx.x] = k.pieces[threadIdx.x].image;
    fetch_parameters<T>(m.of, dt_proj, b, k);
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
        __syncthreads(); /* B, C, dt_q of this tile are there; the last one
                          * is done with */
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
        if (is_step)
            step_tile<T>(m, x, m.bc[now][0], s_at, b.d_inner, has_channel,
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
    if (!is_step && has_channel) {
#pragma unroll
        for (int n = 0; n < T::per_thread; n++)
            state[(size_t)n * b.d_inner] = x.s[n];
        if (part == 0 && k.n > SPAN)
            keep_past(b, k, past, c);
    }
}

/* Blocks last as long as their piece, so that each multiprocessor must get
 * its equal share, whatever else runs there when they are placed: each takes
 * so much shared memory that one more than a share does not fit. */
template <class T>
static size_t shared_for_share(const struct batch *b, int n_blocks)
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
static enum status launch_shape(struct queue q, const struct batch *b,
                                struct step s)
{
    bool is_step = s.count == 1 && s.rows == s.pieces;
    dim3 grid(ceil_div(b->d_inner, T::channels),
              is_step ? ceil_div(s.pieces, TIME) : s.pieces, s.count);
    return launch("the scan", q, grid, T::threads,
                  shared_for_share<T>(b, grid.x * grid.y * grid.z),
                  is_step ? scan<T, true> : scan<T, false>, *b, s);
}

template <class T> static enum status prepare_shape(const struct batch *b)
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

enum status launch_scan(struct queue q, const struct batch *b, struct step s)
{
    switch (b->d_state) {
    case 4:
        return launch_shape<scan_4>(q, b, s);
    case 8:
        return launch_shape<scan_8>(q, b, s);
    case 16:
        return launch_shape<scan_16>(q, b, s);
    case 32:
        return launch_shape<scan_32>(q, b, s);
    default:
        return launch_shape<scan_64>(q, b, s);
    }
}

enum status scan_prepare(const struct batch *b)
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
