/* scan.cu -- the selective scan of the batched path.
 *
 * The recurrence runs in the order of time; the rest of a step (dt_proj,
 * softplus, the gate) needs no order and is done for a tile of TIME bytes at
 * once.  A block has `channels` channels of one piece of a wave and walks
 * through its bytes, tile by tile; or, where all pieces are single bytes, of
 * TIME pieces, which make one tile:
 *
 *   dt of the tile -> int8                                  all threads
 *   delta = softplus(dt_proj dt + bias), delta u            tensor cores
 *   s = 2^(delta a) s + delta u B, y = C s                  in time
 *   y = (y + d u) silu(z), its maximum                      as for delta
 *
 * scan_tile.cuh has these parts.
 *
 * SPDX-License-Identifier: MIT
 */
#include "scan_tile.cuh"

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

/* A thread in the recurrence: its part of the states of channel c. */
template <class T>
static __device__ __forceinline__ void
load_states(scan_shared<T> &m, states<T> &x, const float *s, const float *a,
            int d_inner, bool has_channel)
{
    float smallest = 0.0f;
#pragma unroll
    for (int n = 0; n < T::per_thread; n++) {
        size_t at = (size_t)n * d_inner;
        x.s[n] = has_channel ? s[at] : 0.0f;
        x.a[n] = has_channel ? a[at] : 0.0f;
        smallest = fminf(smallest, x.a[n]);
    }
#pragma unroll
    for (int i = T::lanes; i < WARP; i *= 2)
        smallest = fminf(smallest, __shfl_xor_sync(0xffffffffu, smallest, i));
    int lane = threadIdx.x % WARP;
    m.bound[threadIdx.x / WARP * T::lanes + lane % T::lanes] = smallest;
}

/* is_step: the block has pieces of one byte each. */
template <class T, bool is_step>
static __global__ void __launch_bounds__(T::threads)
    scan(struct batch b, struct step s)
{
    extern __shared__ __align__(16) char shared[];
    scan_shared<T> &m = *(scan_shared<T> *)shared;
    float *dtbc = (float *)(shared + sizeof m);
    int tile = TIME * b.dtbc_stride;
    int8_t *dt_q = (int8_t *)(dtbc + 2 * tile);

    int layer = s.first + blockIdx.z;
    int piece = blockIdx.y * (is_step ? TIME : 1);
    const struct wave *w = &b.waves[step_slot(b, s, layer)];
    if (piece >= w->n_pieces)
        return;
    struct scan_block k = {&b.layers[layer], &w->pieces[piece], 0, 0,
                           (int)blockIdx.x * T::channels};
    k.n = is_step ? min(TIME, w->n_pieces - piece) : k.pieces->n;
    k.row = (size_t)layer * b.rows + k.pieces->row;

    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int part = lane / T::lanes;
    int c = k.channel + warp * T::lanes + lane % T::lanes;
    bool has_channel = c < b.d_inner;
    size_t first = (size_t)part * T::per_thread * b.d_inner + c;
    size_t past_at = layer * b.image.layer, s_at = past_at + b.image.s + first;
    float *past = k.pieces->image + past_at, *state = k.pieces->image + s_at;
    if (is_step && (int)threadIdx.x < k.n)
        m.image[threadIdx.x] = k.pieces[threadIdx.x].image;
    states<T> x;
    await_previous();
    load_states(m, x, state, k.layer->a_log2e + first, b.d_inner, has_channel);

    columns<T> own = columns_of<T>(b, k);
    const int depth = rank_padded(b.dt_rank);
    const size_t u_stride = b.d_inner, z_stride = 2 * u_stride;
    uint32_t *y_amax = b.y_amax + k.row;
    elements<T> u, z, next_u;
    uint32_t dt_amax = dt_amax_at<T>(b, k, 0);
    fetch_dtbc<T>(dtbc, b, k, 0);
    load_elements<T>(next_u, own.u, u_stride, k.n);
    for (int t0 = 0, buffer = 0; t0 < k.n; t0 += TIME, buffer ^= 1) {
        const float *now = dtbc + buffer * tile;
        int rows = k.n - t0;
        u = next_u;
        copy_wait<0>();
        __syncthreads(); /* dt, B, C have come; y has been read */
        if (rows > TIME)
            fetch_dtbc<T>(dtbc + (buffer ^ 1) * tile, b, k, t0 + TIME);
        quantise_dt(m, dt_q, now, b, dt_amax);
        dt_amax = dt_amax_at<T>(b, k, t0 + TIME);
        if (threadIdx.x == 0)
            m.is_steep = 0;
        __syncthreads(); /* dt_q is written */
        int32_t sum[T::tiles][4] = {};
        project_dt(sum, dt_q, own, depth);
        load_elements<T>(z, own.z, z_stride, rows);
        make_delta(m, u, sum, own);
        __syncthreads(); /* delta is written */
        const float *bc = now + b.dt_room + part * T::per_thread;
        if (is_step)
            step_tile(m, x, bc, b.dtbc_stride, s_at, b.d_inner, has_channel,
                      rows);
        else if (m.is_steep)
            scan_tile<T, true>(m, x, bc, b.dtbc_stride, min(TIME, rows));
        else
            scan_tile<T, false>(m, x, bc, b.dtbc_stride, min(TIME, rows));
        __syncthreads(); /* y is written */
        finish_tile(m, u, z, own, u_stride, rows, y_amax + t0);
#pragma unroll
        for (int j = 0; j < T::tiles; j++) {
            own.u[j] += TIME * u_stride;
            own.z[j] += TIME * z_stride;
        }
        load_elements<T>(next_u, own.u, u_stride, rows - TIME);
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
