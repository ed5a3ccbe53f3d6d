/* train_scan_back.cu -- the selective scan of training, backward.
 *
 * It takes the tiles from the last to the first, and of a tile the second half
 * before the first.  It computes the states of the half again, keeps them and
 * the decays 2^(delta a) in registers, and goes back through them.
 *
 * While a tile is in the recurrence, the one before it in time is fetched.
 * There is a barrier before the recurrence and one after it.  Why these two are
 * enough for a tile:
 *
 *     what is written           was last read by          ordered by
 *     delta, du, g of a         the same thread           nothing else needed
 *     thread's units
 *     dxb, dd, dbc, sums in du  the threads of the units  the barrier before
 *                               and of dbc, a tile ago    the recurrence
 *     bc, by copies             the recurrence two tiles  the barrier behind it
 *                               ago: two take turns
 *     next, kept, u, dz, slope  the same thread           its wait for copies
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_channel_sums.cuh"

#define LN2 0x1.62e430p-1f

enum { HALF = TILE / 2 };
static_assert((int)HALF == (int)KEPT, "states before a half are kept");

/* What a tile needs, on its way from memory: a thread copies what it will read
 * itself, but for B and C. */
template <typename T, int N> struct arrivals {
    four<T> v[dims<N>::EACH][SCAN_THREADS], u[dims<N>::EACH][SCAN_THREADS];
    four<T> z[dims<N>::EACH][SCAN_THREADS], dy[dims<N>::EACH][SCAN_THREADS];
    float v_row[dims<N>::EACH][SCAN_THREADS];
    float z_row[dims<N>::EACH][SCAN_THREADS];
    float y_inverse[dims<N>::EACH][SCAN_THREADS];
};

/* Shared memory of a block.  Of [SCAN_THREADS] each thread has its own. */
template <typename T, int N> struct backward_room {
    float delta[TILE][dims<N>::ROW];
    float du[TILE][dims<N>::ROW];  /* delta u, then the sum of C s         */
    float g[TILE][dims<N>::ROW];   /* derivative of sum C s + D u          */
    float dxb[TILE][dims<N>::ROW]; /* sums over states                     */
    float dd[TILE][dims<N>::ROW];
    float bc[2][TILE][2 * N]; /* of this tile and the next in turn */
    float dbc[TILE][dims<N>::WARPS][2 * N];
    /* of a thread's units, from before the recurrence to after it  */
    float4 dz[dims<N>::EACH][SCAN_THREADS]; /* dy silu'(z)              */
    float4 u[dims<N>::EACH][SCAN_THREADS], slope[dims<N>::EACH][SCAN_THREADS];
    struct kept_states<T, N> kept[2][TILE / KEPT][SCAN_THREADS];
    struct arrivals<T, N> next;
    float4 total_d[SCAN_THREADS], total_bias[SCAN_THREADS]; /* over time */
};

/* A thread's states: ds flows backward in time, da is a sum over time. */
template <int N> struct scan_flow {
    float ds[dims<N>::STATES], da[dims<N>::STATES], a[dims<N>::STATES];
};

/* Starts to copy what a tile needs. */
template <typename T, int N>
static __device__ __forceinline__ void
ask_for(struct backward_room<T, N> &m, const struct train_scan_job &j,
        const struct place_of<N> &at, int tile)
{
    constexpr int BYTES = sizeof(four<T>), COUNT = TILE / KEPT;
    int t0 = tile * TILE, own = threadIdx.x;
    struct arrivals<T, N> &x = m.next;
    copy_bc<N>(m.bc[tile % 2], j, at, t0);
#pragma unroll
    for (int i = 0; i < COUNT && at.has_channel; i++) {
        const struct kept_states<T, N> *kept =
            states_of<T, N>(j, at, tile * COUNT + i);
        constexpr int n = sizeof *kept < 16 ? sizeof *kept : 16;
#pragma unroll
        for (size_t k = 0; k < sizeof *kept; k += n)
            copy_bytes<n>((char *)&m.kept[tile % 2][i][own] + k,
                          (const char *)kept + k);
    }
#pragma unroll
    for (int i = 0; i < dims<N>::EACH; i++) {
        struct unit_of<N> unit(j, at, t0, i);
        if (!unit.is_there)
            continue;
        copy_bytes<BYTES>(&x.v[i][own], (const T *)j.v + unit.at);
        copy_bytes<BYTES>(&x.u[i][own], (const T *)j.u + unit.at);
        copy_bytes<BYTES>(&x.z[i][own], (const T *)j.z + unit.at_z(j));
        copy_bytes<BYTES>(&x.dy[i][own], (const T *)j.dy + unit.at);
        copy_bytes<4>(&x.v_row[i][own], j.v_row + unit.row);
        copy_bytes<4>(&x.z_row[i][own], j.z_row + unit.row);
        copy_bytes<4>(&x.y_inverse[i][own], j.y_inverse + unit.row);
    }
    copy_commit();
}

/* log(1 + e^v) and its derivative */
static __device__ __forceinline__ float softplus_slope(float v, float *slope)
{
    float w = fast_exp2(-fabsf(v) * EXACT_LOG2E);
    *slope = (v < 0.0f ? w : 1.0f) * fast_inverse(1.0f + w);
    return fast_softplus_of(w, v);
}

/* dy silu(z); *dz = dy silu'(z) */
static __device__ __forceinline__ float gate_slope(float dy, float z, float *dz)
{
    float gate = fast_sigmoid(z);
    *dz = dy * gate * fmaf(z, 1.0f - gate, 1.0f);
    return dy * z * gate;
}

/* Scales of the rows of a thread's units, kept for put_slopes. */
template <int N> struct row_scales {
    float v[dims<N>::EACH], z[dims<N>::EACH];
};

/* delta, delta u and g of a tile, and what put_slopes needs; 0 past the
 * window. */
template <typename T, int N>
static __device__ __forceinline__ void
put_back(struct backward_room<T, N> &m, struct row_scales<N> &scales,
         const struct train_scan_job &j, const struct place_of<N> &at, int t0)
{
    const struct arrivals<T, N> &b = m.next;
    int own = threadIdx.x;
    if (at.t >= TILE)
        return;
#pragma unroll
    for (int i = 0; i < dims<N>::EACH; i++) {
        struct unit_of<N> unit(j, at, t0, i);
        float4 g = zero4(), delta = zero4(), u = zero4(), slope, dz;
        if (unit.is_there) {
            scales.v[i] = b.v_row[i][own];
            scales.z[i] = b.z_row[i][own];
            float4 dy = scaled(get4(b.dy[i][own]), b.y_inverse[i][own]);
            float4 z =
                times(get4(b.z[i][own]), scales.z[i], get4(j.z_col + at.c));
            float4 v =
                times(get4(b.v[i][own]), scales.v[i], get4(j.v_col + at.c));
            float4 bias = get4(j.dt_bias + at.c);
            u = get4(b.u[i][own]);
            delta = make_float4(softplus_slope(v.x + bias.x, &slope.x),
                                softplus_slope(v.y + bias.y, &slope.y),
                                softplus_slope(v.z + bias.z, &slope.z),
                                softplus_slope(v.w + bias.w, &slope.w));
            g = make_float4(
                gate_slope(dy.x, z.x, &dz.x), gate_slope(dy.y, z.y, &dz.y),
                gate_slope(dy.z, z.z, &dz.z), gate_slope(dy.w, z.w, &dz.w));
            m.u[i][own] = u;
            m.slope[i][own] = slope;
            m.dz[i][own] = dz;
        }
        put4(&m.g[unit.t][at.slot_c], g);
        put4(&m.delta[unit.t][at.slot_c], delta);
        put4(&m.du[unit.t][at.slot_c], product(delta, u));
    }
}

/* The recurrence of one byte, backward.  With e = ds + g C:
 *     dC     = sum over channels of g s
 *     dB     = sum over channels of e delta u
 *     du    += e delta B
 *     ds     = e decay, of the byte before
 *     ddelta = ds s_before A + e u B
 *     dA    += ds s_before delta
 * x: this thread's parts of dB and of dC; sums: those of C s, of what du is
 * made from, and of ddelta. */
template <int N>
static __device__ __forceinline__ void
step_back(struct scan_flow<N> &f, float x[2 * dims<N>::STATES],
          const float before[], const float s[], const float decay[],
          float delta, float du, float g, const float *bc, float sums[3])
{
    constexpr int STATES = dims<N>::STATES;
    float b[STATES], c[STATES], y[2] = {0, 0}, dxb[2] = {0, 0}, dd[2] = {0, 0};
    get_floats<STATES>(b, bc);
    get_floats<STATES>(c, bc + N);
#pragma unroll
    for (int k = 0; k < STATES; k++) {
        float e = fmaf(g, c[k], f.ds[k]);
        x[k] = e * du;
        x[STATES + k] = g * s[k];
        y[k % 2] = fmaf(c[k], s[k], y[k % 2]);
        dxb[k % 2] = fmaf(e, b[k], dxb[k % 2]);
        f.ds[k] = e * decay[k];
        float q = f.ds[k] * before[k];
        dd[k % 2] = fmaf(q, f.a[k], dd[k % 2]);
        f.da[k] = fmaf(q, delta, f.da[k]);
    }
    sums[0] = y[0] + y[1];
    sums[1] = dxb[0] + dxb[1];
    sums[2] = dd[0] + dd[1];
}

/* The states of half a tile, computed again: after each byte. */
template <int N> struct half_tile {
    float s[HALF][dims<N>::STATES], decay[HALF][dims<N>::STATES];
};

/* s after one more byte, and the decay that it was multiplied by. */
template <typename T, int N>
static __device__ __forceinline__ void
scan_byte(float s[dims<N>::STATES], float decay[dims<N>::STATES],
          const struct backward_room<T, N> &m, const struct scan_flow<N> &f,
          const struct place_of<N> &at, int turn, int t)
{
    constexpr int STATES = dims<N>::STATES;
    float delta = m.delta[t][at.slot], du = m.du[t][at.slot], b[STATES];
    get_floats<STATES>(b, m.bc[turn][t] + at.lane * STATES);
#pragma unroll
    for (int k = 0; k < STATES; k++) {
        decay[k] = fast_exp2(delta * f.a[k]);
        s[k] = fmaf(decay[k], s[k], du * b[k]);
    }
}

/* The states of the half from byte `start` on. */
template <typename T, int N>
static __device__ __forceinline__ void
scan_again(struct half_tile<N> &h, const struct backward_room<T, N> &m,
           const struct scan_flow<N> &f, const struct place_of<N> &at, int turn,
           int start)
{
    constexpr int STATES = dims<N>::STATES;
    float s[STATES];
    unpack<T, N>(s, m.kept[turn][start / KEPT][threadIdx.x]);
#pragma unroll
    for (int i = 0; i < HALF; i++) {
        scan_byte<T, N>(s, h.decay[i], m, f, at, turn, start + i);
#pragma unroll
        for (int k = 0; k < STATES; k++)
            h.s[i][k] = s[k];
    }
}

/* Goes back through half a tile. */
template <typename T, int N>
static __device__ __forceinline__ void
scan_back(struct backward_room<T, N> &m, struct scan_flow<N> &f,
          const struct half_tile<N> &h, const struct place_of<N> &at, int turn,
          int start)
{
    constexpr int BATCH = dims<N>::BATCH, SLOTS = dims<N>::SLOTS;
    constexpr int STATES = dims<N>::STATES;
    int warp = threadIdx.x / WARP;
#pragma unroll
    for (int first = HALF - BATCH; first >= 0; first -= BATCH) {
        float y[BATCH], dxb[BATCH], dd[BATCH];
#pragma unroll
        for (int i = BATCH - 1; i >= 0; i--) {
            float x[2 * STATES], before[STATES], sums[3];
            int t = start + first + i;
            if (first + i == 0)
                unpack<T, N>(before, m.kept[turn][start / KEPT][threadIdx.x]);
#pragma unroll
            for (int k = 0; k < STATES && first + i > 0; k++)
                before[k] = h.s[first + i - 1][k];
            step_back<N>(f, x, before, h.s[first + i], h.decay[first + i],
                         m.delta[t][at.slot], m.du[t][at.slot], m.g[t][at.slot],
                         m.bc[turn][t] + at.lane * STATES, sums);
            channel_sums<T, N>::put(x, m.dbc[t][warp], at);
            y[i] = sums[0], dxb[i] = sums[1], dd[i] = sums[2];
        }
        lanes_reduce_scatter<BATCH, SLOTS, WARP>(y);
        lanes_reduce_scatter<BATCH, SLOTS, WARP>(dxb);
        lanes_reduce_scatter<BATCH, SLOTS, WARP>(dd);
        int mine = start + first + lanes_scattered<BATCH, SLOTS, WARP>();
        __syncwarp(); /* du has been read */
        if (at.lane < BATCH) {
            m.du[mine][at.slot] = y[0];
            m.dxb[mine][at.slot] = dxb[0];
            m.dd[mine][at.slot] = dd[0];
        }
    }
}

/* du, dv and dz of a unit, and its part of the sums over time. */
template <typename T, int N>
static __device__ __forceinline__ void
put_slopes(struct backward_room<T, N> &m, const struct row_scales<N> &scales,
           const struct train_scan_job &j, const struct place_of<N> &at, int t0,
           int i)
{
    struct unit_of<N> unit(j, at, t0, i);
    int t = unit.t, c = at.slot_c, own = threadIdx.x;
    if (!unit.is_there)
        return;
    float4 d = get4(j.d + at.c), u = m.u[i][own], g = get4(&m.g[t][c]);
    float4 dxb = get4(&m.dxb[t][c]), dd = scaled(get4(&m.dd[t][c]), LN2);
    float4 du = fused(dxb, get4(&m.delta[t][c]), product(g, d));
    float4 dv = product(fused(dxb, u, dd), m.slope[i][own]);
    float4 dz = product(m.dz[i][own], fused(d, u, get4(&m.du[t][c])));
    m.total_d[own] = fused(g, u, m.total_d[own]);
    m.total_bias[own] = plus(m.total_bias[own], dv);
    put4((T *)j.du + unit.at, du);
    put4((T *)j.dv + unit.at, scaled(dv, scales.v[i]));
    put4((T *)j.dz + unit.at_z(j), scaled(dz, scales.z[i]));
}

/* The sums over the warps of dB and dC. */
template <typename T, int N>
static __device__ __forceinline__ void
put_dbc(const struct backward_room<T, N> &m, const struct train_scan_job &j,
        int w, int t0)
{
#pragma unroll
    for (int i = 0; i < dims<N>::BC_EACH; i++) {
        unsigned k = threadIdx.x + i * SCAN_THREADS, n = 4 * (k % (N / 2));
        int t = k / (N / 2);
        if (k >= dims<N>::BC_UNITS || t0 + t >= j.n_t)
            continue;
        float4 sum = get4(m.dbc[t][0] + n);
#pragma unroll
        for (int warp = 1; warp < dims<N>::WARPS; warp++)
            sum = plus(sum, get4(m.dbc[t][warp] + n));
        unsigned row = w * j.n_t + t0 + t;
        size_t to = (size_t)row * gridDim.x + blockIdx.x;
        put4(j.dbc + to * 2 * N + n, sum);
    }
}

/* The sum of the parts of a channel, which threads of different bytes have. */
template <int N>
static __device__ __forceinline__ void put_total(float *to, const float4 *parts,
                                                 const struct place_of<N> &at)
{
    constexpr int ROWS = TILE < place_of<N>::STEP ? TILE : place_of<N>::STEP;
    float4 sum = zero4();
    if (at.t > 0 || !at.has_unit)
        return;
    for (int i = 0; i < ROWS; i++)
        sum = plus(sum, parts[i * dims<N>::QUADS + threadIdx.x]);
    put4(to + at.c, sum);
}

/* The sums over time, of this window. */
template <typename T, int N>
static __device__ __forceinline__ void
put_totals(struct backward_room<T, N> &m, const struct scan_flow<N> &f,
           const struct train_scan_job &j, const struct place_of<N> &at)
{
    constexpr int STATES = dims<N>::STATES;
    size_t window = (size_t)at.window * j.d_inner;
    float *da = j.da + (window + at.channel) * N + at.lane * STATES;
#pragma unroll
    for (int k = 0; k < STATES && at.has_channel; k += 4)
        put4(da + k,
             make_float4(f.da[k], f.da[k + 1], f.da[k + 2], f.da[k + 3]));
    __syncthreads();
    put_total<N>(j.dd + window, m.total_d, at);
    put_total<N>(j.ddt_bias + window, m.total_bias, at);
}

template <typename T, int N>
static __global__ void __launch_bounds__(SCAN_THREADS, N < 64 ? 4 : 1)
    scan_backward(struct train_scan_job j)
{
    constexpr int STATES = dims<N>::STATES;
    extern __shared__ float4 shared[];
    struct backward_room<T, N> &m = *(struct backward_room<T, N> *)shared;
    struct place_of<N> at(j.d_inner);
    struct scan_flow<N> f = {
    };
    m.total_d[threadIdx.x] = m.total_bias[threadIdx.x] = zero4();
    if (at.has_channel)
        get_floats<STATES>(f.a, j.a_log2e + (size_t)at.channel * N +
                                    at.lane * STATES);
    else
        for (int i = 0; i < 2 * TILE / KEPT; i++)
            m.kept[i % 2][i / 2][threadIdx.x] = {};
    ask_for<T, N>(m, j, at, j.n_tiles - 1);
    for (int tile = j.n_tiles - 1; tile >= 0; tile--) {
        struct row_scales<N> scales;
        int t0 = tile * TILE;
        copy_wait<0>();
        put_back<T, N>(m, scales, j, at, t0);
        __syncthreads();
        if (tile > 0)
            ask_for<T, N>(m, j, at, tile - 1);
#pragma unroll
        for (int start = HALF; start >= 0; start -= HALF) {
            struct half_tile<N> h;
            scan_again<T, N>(h, m, f, at, tile % 2, start);
            scan_back<T, N>(m, f, h, at, tile % 2, start);
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < dims<N>::EACH; i++)
            put_slopes<T, N>(m, scales, j, at, t0, i);
        put_dbc<T, N>(m, j, at.window, t0);
    }
    put_totals<T, N>(m, f, j, at);
}

/* ---- launches ------------------------------------------------------------ */

/* More than 48 KiB of shared memory has to be asked for. */
template <typename T, int N> static enum status ask_room(void)
{
    CUDA_TRY(cudaFuncSetAttribute(scan_backward<T, N>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  (int)sizeof(struct backward_room<T, N>)),
             "shared memory for the scan");
    return OK;
}

template <typename T> static enum status ask_rooms(void)
{
    TRY((ask_room<T, 4>()));
    TRY((ask_room<T, 8>()));
    TRY((ask_room<T, 16>()));
    TRY((ask_room<T, 32>()));
    return ask_room<T, 64>();
}

enum status scan_prepare_device(void)
{
    TRY(ask_rooms<float>());
    return ask_rooms<__nv_bfloat16>();
}

template <typename T, int N>
static void backward_n(const struct replica *r,
                       const struct train_scan_job &job)
{
    dim3 grid(r->mamba1->scan_blocks, r->n_windows);
    size_t room = sizeof(struct backward_room<T, N>);
    scan_backward<T, N><<<grid, SCAN_THREADS, room, r->stream>>>(job);
}

template <typename T>
static void backward(const struct replica *r, const struct train_scan_job &job)
{
    BY_STATES(backward_n, T, r, job)
}

/* ---- sums over windows --------------------------------------------------- */

struct totals_job {
    const float *da, *dd, *ddt_bias; /* as in struct train_scan_job */
    const float *a_log2e;
    float *da_log, *sum_d, *sum_bias;
    int d_inner, d_state, n_windows;
};

/* The sum over the windows of x[window][i]; n: floats of a window. */
static __device__ __forceinline__ float over_windows(const float *x, int n,
                                                     int i, int n_windows)
{
    float sum = 0.0f;
#pragma unroll 8
    for (int w = 0; w < n_windows; w++)
        sum += x[(size_t)w * n + i];
    return sum;
}

/* With a = -e^A_log log2(e): dA_log = sum of da a ln 2, where ln 2 comes from
 * the derivative of 2^(delta a). */
static __global__ void sum_windows(struct totals_job j)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int d = j.d_inner, n_a = d * j.d_state;
    if (i < n_a)
        j.da_log[i] =
            over_windows(j.da, n_a, i, j.n_windows) * (j.a_log2e[i] * LN2);
    else if (i < n_a + d)
        j.sum_d[i - n_a] = over_windows(j.dd, d, i - n_a, j.n_windows);
    else if (i < n_a + 2 * d)
        j.sum_bias[i - n_a - d] =
            over_windows(j.ddt_bias, d, i - n_a - d, j.n_windows);
}

void launch_train_scan_backward(const struct replica *r, int l)
{
    enum { THREADS = 256 };
    struct train_scan_job job = scan_job_of(r, l);
    struct totals_job totals = {job.da,
                                job.dd,
                                job.ddt_bias,
                                job.a_log2e,
                                gradient_at(r, l, P_A_LOG),
                                gradient_at(r, l, P_D),
                                gradient_at(r, l, P_DT_BIAS),
                                job.d_inner,
                                r->config.d_state,
                                r->n_windows};
    int n = job.d_inner * (r->config.d_state + 2);
    BY_NUMBER(r, backward, r, job);
    sum_windows<<<ceil_div(n, THREADS), THREADS, 0, r->stream>>>(totals);
}
