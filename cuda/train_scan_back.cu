/* train_scan_back.cu -- the selective scan of training, backward.
 *
 * It takes the tiles from the last to the first: it makes the states of a
 * tile again, keeping them in shared memory and the decays in registers, and
 * goes back through them.  With decay = 2^(delta a) the state before a byte
 * needs no room of its own:
 *     decay s_before = s - delta u B.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train_scan.cuh"

#define LN2 0x1.62e430p-1f

/* What a thread has of a tile before the recurrence backward. */
template <typename T, int N> struct tile_back {
    struct tile_numbers<T, N> x;
    four<T> dy[shape<N>::EACH];
};

/* Shared memory of a block, backward.  [SCAN_THREADS]: each its own. */
template <typename T, int N> struct backward_room {
    float4 states[TILE][SCAN_THREADS];     /* after each byte               */
    float2 step[TILE][shape<N>::CHANNELS]; /* delta, delta u                */
    float g[TILE][shape<N>::CHANNELS];     /* derivative of sum C s + D u   */
    float bc[TILE][2 * N];
    float dbc[TILE][shape<N>::WARPS][2 * N];
    float4 dd[SCAN_THREADS]; /* of D, over time               */
};

/* What flows backward in time, and sums over time: da of the states, ddt_bias
 * of the channels from c on. */
struct scan_flow {
    float4 ds, da, a, ddt_bias;
};

template <typename T, int N>
static __device__ __forceinline__ void
load_back(struct tile_back<T, N> &b, const struct scan_job &j,
          const struct place_of<N> &at, int t0)
{
    load_tile<T, N>(b.x, j, at, t0);
#pragma unroll
    for (int i = 0; i < shape<N>::EACH; i++) {
        int t = t0 + at.t + i * place_of<N>::STEP;
        if (t >= 0 && t < j.n_t && at.has_unit)
            b.dy[i] =
                load_four<T>(j.dy, row_of<N>(j, at, t) * j.d_inner + at.c);
    }
}

/* g = dy silu(z) */
template <typename T, int N>
static __device__ __forceinline__ void
put_back(struct backward_room<T, N> &m, const struct tile_back<T, N> &b,
         const struct scan_job &j, const struct place_of<N> &at, int t0)
{
    if (at.t >= TILE)
        return;
#pragma unroll
    for (int i = 0; i < shape<N>::EACH; i++) {
        int t = at.t + i * place_of<N>::STEP;
        float4 g = zero4();
        if (t0 + t < j.n_t && at.has_unit) {
            size_t row = row_of<N>(j, at, t0 + t);
            float4 dy = scaled(get4(b.dy[i]), j.y_inverse[row]);
            float4 z =
                times(get4(b.x.z[i]), j.z_row[row], get4(j.z_col + at.c));
            g = make_float4(
                dy.x * z.x * fast_sigmoid(z.x), dy.y * z.y * fast_sigmoid(z.y),
                dy.z * z.z * fast_sigmoid(z.z), dy.w * z.w * fast_sigmoid(z.w));
        }
        put4(&m.g[t][at.slot_c], g);
    }
}

/* The recurrence of one byte backward.  With e = ds + g C:
 *     dC     = sum over channels of g s
 *     dB     = sum over channels of e delta u
 *     du    += e delta B
 *     ddelta = e (s_before decay A + u B)
 *     dA    += e s_before decay delta
 *     ds     = e decay, of the byte before
 * One state of it: */
static __device__ __forceinline__ void
step_back(float g, float2 d, float s, float decay, float a, float b, float c,
          float *ds, float *da, float *db, float *dc, float *dxb, float *dd)
{
    float e = fmaf(g, c, *ds);
    float q = e * fmaf(-d.y, b, s);
    *db = e * d.y;
    *dc = g * s;
    *dxb = fmaf(e, b, *dxb);
    *dd = fmaf(q, a, *dd);
    *da = fmaf(q, d.x, *da);
    *ds = e * decay;
}

/* The four states of this thread; x: [8] its parts of dB and of dC. */
template <int N>
static __device__ __forceinline__ void
step_back4(struct scan_flow &f, float x[2 * SCAN_STATES], float g, float2 d,
           float4 s, float4 decay, const float *bc, float *dxb, float *dd)
{
    float4 b = get4(bc), c = get4(bc + N);
    step_back(g, d, s.x, decay.x, f.a.x, b.x, c.x, &f.ds.x, &f.da.x, x, x + 4,
              dxb, dd);
    step_back(g, d, s.y, decay.y, f.a.y, b.y, c.y, &f.ds.y, &f.da.y, x + 1,
              x + 5, dxb, dd);
    step_back(g, d, s.z, decay.z, f.a.z, b.z, c.z, &f.ds.z, &f.da.z, x + 2,
              x + 6, dxb, dd);
    step_back(g, d, s.w, decay.w, f.a.w, b.w, c.w, &f.ds.w, &f.da.w, x + 3,
              x + 7, dxb, dd);
}

/* The sums over the channels of a warp of dB and dC of bytes t to t + BATCH,
 * byte by byte: each lane stores those that it ends with. */
template <typename T, int N> struct channel_sums {
    __device__ void add(float x[2 * SCAN_STATES], int i, float *dbc,
                        const struct place_of<N> &at)
    {
        constexpr int SLOTS = shape<N>::SLOTS;
        constexpr int LEFT = SLOTS < 8 ? 8 / SLOTS : 1;
        sum_lanes<8, 1, SLOTS>(x);
        int mine = sum_of_lane<8, 1, SLOTS>();
        (void)i;
        if (threadIdx.x % SLOTS >= 8)
            return;
#pragma unroll
        for (int k = mine; k < mine + LEFT; k++) {
            int n = at.lane * SCAN_STATES + k % SCAN_STATES;
            dbc[k < SCAN_STATES ? n : N + n] = x[k - mine];
        }
    }

    __device__ void finish(float *dbc, const struct place_of<N> &at)
    {
        (void)dbc;
        (void)at;
    }
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800

/* c += a b, 16 x 8 and 8 deep, in tf32.  With g = lane / 4 and t = lane % 4 a
 * lane holds a[0] row g, a[1] row g + 8 of column t, a[2] and a[3] those of
 * column t + 4; b[0] row t, b[1] row t + 4 of column g; c[0] and c[1] row g,
 * c[2] and c[3] row g + 8 of columns 2 t and 2 t + 1. */
static __device__ __forceinline__ void
product_16x8x8(float c[4], const float a[4], const float b[2])
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(exact_bits(a[0])), "r"(exact_bits(a[1])), "r"(exact_bits(a[2])),
          "r"(exact_bits(a[3])), "r"(exact_bits(b[0])), "r"(exact_bits(b[1])));
}

/* With sixteen states, on tensor cores: b is 1 where byte i belongs, so that
 * the sums over four lanes of four bytes end in one product, a byte a lane.
 * tf32 cuts a number off after 11 bits; where numbers are float32, what is
 * cut off is summed too. */
template <typename T> struct channel_sums<T, 16> {
    float db[4] = {0, 0, 0, 0}, dc[4] = {0, 0, 0, 0};

    __device__ void add(float x[2 * SCAN_STATES], int i, float *,
                        const struct place_of<16> &)
    {
        int column = threadIdx.x % WARP / 4;
        float b[2] = {column == 2 * i ? 1.0f : 0.0f,
                      column == 2 * i + 1 ? 1.0f : 0.0f};
        product_16x8x8(db, x, b);
        product_16x8x8(dc, x + 4, b);
        if constexpr (sizeof(T) == sizeof(float)) {
#pragma unroll
            for (int k = 0; k < 2 * SCAN_STATES; k++)
                x[k] -= exact_float(exact_bits(x[k]) & 0xffffe000u);
            product_16x8x8(db, x, b);
            product_16x8x8(dc, x + 4, b);
        }
    }

    /* Lanes that differ in bit 2 have other channels: one gets dB, one dC. */
    __device__ void finish(float *dbc, const struct place_of<16> &at)
    {
        bool has_dc = threadIdx.x & 4;
        float sum[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            float keep = has_dc ? dc[k] : db[k], send = has_dc ? db[k] : dc[k];
            sum[k] = keep + __shfl_xor_sync(0xffffffffu, send, 4);
        }
        float *to = dbc + threadIdx.x % 4 * shape<16>::WARPS * 32;
        put4(to + (has_dc ? 16 : 0) + at.lane * SCAN_STATES,
             make_float4(sum[0], sum[2], sum[1], sum[3]));
        db[0] = db[1] = db[2] = db[3] = 0.0f;
        dc[0] = dc[1] = dc[2] = dc[3] = 0.0f;
    }
};

#endif

/* The states of a tile again: after each byte to memory. */
template <typename T, int N>
static __device__ __forceinline__ void
scan_again(struct backward_room<T, N> &m, float4 decay[TILE], float4 s,
           float4 a, const struct place_of<N> &at)
{
#pragma unroll
    for (int t = 0; t < TILE; t++) {
        float2 d = m.step[t][at.slot];
        decay[t] = decay_of(d.x, a);
        s = advance(s, decay[t], d.y, get4(m.bc[t] + at.lane * SCAN_STATES));
        m.states[t][threadIdx.x] = s;
    }
}

/* A tile backward.  The sums over states of C s, dxb and ddelta take the
 * place of states: see sums_of. */
template <typename T, int N>
static __device__ __forceinline__ void
scan_back(struct backward_room<T, N> &m, struct scan_flow &f,
          const float4 decay[TILE], const struct place_of<N> &at)
{
    constexpr int BATCH = shape<N>::BATCH, SLOTS = shape<N>::SLOTS;
    struct channel_sums<T, N> sums;
    int warp = threadIdx.x / WARP;
#pragma unroll
    for (int t = TILE - BATCH; t >= 0; t -= BATCH) {
        float dxb[BATCH], dd[BATCH], y[BATCH];
#pragma unroll
        for (int i = BATCH - 1; i >= 0; i--) {
            float4 s = m.states[t + i][threadIdx.x];
            const float *bc = m.bc[t + i] + at.lane * SCAN_STATES;
            float x[2 * SCAN_STATES];
            dxb[i] = dd[i] = 0.0f;
            y[i] = dot(get4(bc + N), s);
            step_back4<N>(f, x, m.g[t + i][at.slot], m.step[t + i][at.slot], s,
                          decay[t + i], bc, dxb + i, dd + i);
            sums.add(x, i, m.dbc[t + i][warp], at);
        }
        sums.finish(m.dbc[t][warp], at);
        sum_lanes<BATCH, SLOTS, WARP>(dxb);
        sum_lanes<BATCH, SLOTS, WARP>(dd);
        sum_lanes<BATCH, SLOTS, WARP>(y);
        int mine = t + sum_of_lane<BATCH, SLOTS, WARP>();
        if (at.lane < BATCH)
            m.states[mine][threadIdx.x] = make_float4(y[0], dxb[0], dd[0], 0);
    }
}

/* Where scan_back left the sums of byte t of a channel. */
template <typename T, int N>
static __device__ __forceinline__ float4
sums_of(const struct backward_room<T, N> &m, int t, int slot)
{
    constexpr int BATCH = shape<N>::BATCH, SLOTS = shape<N>::SLOTS;
    int k = t % BATCH, lane = 0;
    if (BATCH == 2)
        lane = k;
    if (BATCH == 4)
        lane = (k & 1) * 2 + (k >> 1);
    return m.states[t][slot / SLOTS * WARP + lane * SLOTS + slot % SLOTS];
}

/* What one byte and channel gives, and what it takes. */
struct slopes {
    float du, dv, dz, du_d; /* du_d: g u, of D */
};

static __device__ __forceinline__ struct slopes
slopes_of(float4 sum, float delta, float g, float v, float u, float z, float dy,
          float d)
{
    struct slopes s;
    float gate = fast_sigmoid(z);
    s.dz = dy * fmaf(d, u, sum.x) * gate * fmaf(z, 1.0f - gate, 1.0f);
    s.du = fmaf(sum.y, delta, g * d);
    s.dv = fmaf(sum.y, u, LN2 * sum.z) * fast_sigmoid(v);
    s.du_d = g * u;
    return s;
}

static __device__ __forceinline__ float4 plus(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

/* du, dv, dz of byte t of a tile, and its part of the sums over time. */
template <typename T, int N>
static __device__ __forceinline__ void
put_slopes(struct backward_room<T, N> &m, struct scan_flow &f,
           const struct scan_job &j, const struct place_of<N> &at, int t0,
           int i)
{
    int t = at.t + i * place_of<N>::STEP, c = at.slot_c;
    if (t0 + t >= j.n_t)
        return;
    size_t row = row_of<N>(j, at, t0 + t), k = row * j.d_inner + at.c;
    float v_row = j.v_row[row], z_row = j.z_row[row];
    float4 d = get4(j.d + at.c), bias = get4(j.dt_bias + at.c);
    float4 v = get4((const T *)j.v + k), u = get4((const T *)j.u + k);
    float4 z = get4((const T *)j.z + k + row * j.d_inner);
    float4 dy = get4((const T *)j.dy + k), g = get4(&m.g[t][c]);
    v = plus(times(v, v_row, get4(j.v_col + at.c)), bias);
    z = times(z, z_row, get4(j.z_col + at.c));
    dy = scaled(dy, j.y_inverse[row]);
    const float2 *step = &m.step[t][c];
    struct slopes x =
        slopes_of(sums_of(m, t, c), step[0].x, g.x, v.x, u.x, z.x, dy.x, d.x);
    struct slopes y = slopes_of(sums_of(m, t, c + 1), step[1].x, g.y, v.y, u.y,
                                z.y, dy.y, d.y);
    struct slopes p = slopes_of(sums_of(m, t, c + 2), step[2].x, g.z, v.z, u.z,
                                z.z, dy.z, d.z);
    struct slopes q = slopes_of(sums_of(m, t, c + 3), step[3].x, g.w, v.w, u.w,
                                z.w, dy.w, d.w);
    float4 dv = make_float4(x.dv, y.dv, p.dv, q.dv);
    m.dd[threadIdx.x] =
        plus(m.dd[threadIdx.x], make_float4(x.du_d, y.du_d, p.du_d, q.du_d));
    f.ddt_bias = plus(f.ddt_bias, dv);
    put4((T *)j.du + k, make_float4(x.du, y.du, p.du, q.du));
    put4((T *)j.dv + k, scaled(dv, v_row));
    put4((T *)j.dz + k + row * j.d_inner,
         scaled(make_float4(x.dz, y.dz, p.dz, q.dz), z_row));
}

/* The sums over the warps of dB and dC. */
template <typename T, int N>
static __device__ __forceinline__ void
put_dbc(const struct backward_room<T, N> &m, const struct scan_job &j, int w,
        int t0)
{
#pragma unroll
    for (int i = 0; i < shape<N>::BC_EACH; i++) {
        int k = threadIdx.x + i * SCAN_THREADS;
        int t = k / (N / 2), n = 4 * (k % (N / 2));
        if (k >= shape<N>::BC_UNITS || t0 + t >= j.n_t)
            continue;
        float4 sum = get4(m.dbc[t][0] + n);
#pragma unroll
        for (int warp = 1; warp < shape<N>::WARPS; warp++)
            sum = plus(sum, get4(m.dbc[t][warp] + n));
        size_t row = (size_t)w * j.n_t + t0 + t;
        put4(j.dbc + (row * gridDim.x + blockIdx.x) * 2 * N + n, sum);
    }
}

/* The sum over the bytes of a channel's parts. */
template <int N>
static __device__ __forceinline__ void put_total(float *to, const float4 *parts,
                                                 const struct place_of<N> &at)
{
    constexpr int ROWS = TILE < place_of<N>::STEP ? TILE : place_of<N>::STEP;
    float4 sum = zero4();
    if (at.t > 0 || !at.has_unit)
        return;
    for (int i = 0; i < ROWS; i++)
        sum = plus(sum, parts[i * shape<N>::QUADS + threadIdx.x]);
    put4(to + at.c, sum);
}

/* The sums over time, of this window. */
template <typename T, int N>
static __device__ __forceinline__ void
put_totals(struct backward_room<T, N> &m, const struct scan_flow &f,
           const struct scan_job &j, const struct place_of<N> &at)
{
    size_t window = (size_t)at.window * j.d_inner;
    if (at.has_channel)
        put4(j.da + (window + at.channel) * N + at.lane * SCAN_STATES, f.da);
    put_total<N>(j.dd + window, m.dd, at);
    m.states[0][threadIdx.x] = f.ddt_bias;
    __syncthreads();
    put_total<N>(j.ddt_bias + window, m.states[0], at);
}

/* What a tile needs is loaded while the one after it is finished. */
template <typename T, int N>
static __global__ void __launch_bounds__(SCAN_THREADS, N < 64 ? 2 : 1)
    scan_backward(struct scan_job j)
{
    extern __shared__ float4 shared[];
    struct backward_room<T, N> &m = *(struct backward_room<T, N> *)shared;
    struct place_of<N> at(j.d_inner);
    struct tile_back<T, N> next;
    struct scan_flow f = {};
    float4 s = zero4();
    m.dd[threadIdx.x] = zero4();
    if (at.has_channel) {
        f.a = get4(j.a_log2e + (size_t)at.channel * N + at.lane * SCAN_STATES);
        s = get4(states_of<N>(j, at, j.n_tiles - 1));
    }
    load_back<T, N>(next, j, at, (j.n_tiles - 1) * TILE);
    for (int tile = j.n_tiles - 1; tile >= 0; tile--) {
        int t0 = tile * TILE;
        float4 decay[TILE];
        put_steps<T, N>(m.step, next.x, j, at, t0);
        put_back<T, N>(m, next, j, at, t0);
        put_bc<N>(m.bc, next.x.bc);
        __syncthreads();
        scan_again<T, N>(m, decay, s, f.a, at);
        scan_back<T, N>(m, f, decay, at);
        __syncthreads();
        load_back<T, N>(next, j, at, t0 - TILE);
        if (at.has_channel && tile > 0)
            s = get4(states_of<N>(j, at, tile - 1));
        for (int i = 0; i < shape<N>::EACH && at.has_unit; i++)
            put_slopes<T, N>(m, f, j, at, t0, i);
        put_dbc<T, N>(m, j, at.window, t0);
        __syncthreads();
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
static void backward_n(const struct replica *r, const struct scan_job &job)
{
    dim3 grid(r->scan_blocks, r->n_windows);
    size_t room = sizeof(struct backward_room<T, N>);
    scan_backward<T, N><<<grid, SCAN_THREADS, room, r->stream>>>(job);
}

template <typename T>
static void backward(const struct replica *r, const struct scan_job &job)
{
    BY_STATES(backward_n, T, r, job)
}

/* dA_log = sum of dA log2(e)^-1 A log2(e): a derivative by the exponent is
 * ln 2 times that, and the exponential its own derivative. */
static __global__ void finish_a(float *da_log, const float *a_log2e, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        da_log[i] *= a_log2e[i] * LN2;
}

void launch_train_scan_backward(const struct replica *r, int l)
{
    struct scan_job job = scan_job_of(r, l);
    int d = job.d_inner, n = d * r->config.d_state, windows = r->n_windows;
    float *da_log = gradient_at(r, l, P_A_LOG);
    BY_NUMBER(r, backward, r, job);
    launch_sum_partial(r, da_log, job.da, windows, n, n, false);
    finish_a<<<ceil_div(n, 256), 256, 0, r->stream>>>(da_log, job.a_log2e, n);
    launch_sum_partial(r, gradient_at(r, l, P_D), job.dd, windows, d, d, false);
    launch_sum_partial(r, gradient_at(r, l, P_DT_BIAS), job.ddt_bias, windows,
                       d, d, false);
}
