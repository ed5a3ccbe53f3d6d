/* train_scan.cuh -- what the selective scans of training share, forward and
 * backward.
 *
 * A block has some channels of a window and goes through it TILE bytes at a
 * time.  Before and after the recurrence a thread has four neighbouring
 * channels of a byte of the tile; in it, four states of one channel.  The
 * lanes of a warp first count the channels, then the states.
 *
 * A sum over the states of a channel waits for as many bytes as a channel has
 * lanes, up to four: then each lane ends with the sum of one byte.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_SCAN_CUH
#define MAMBYTE_TRAIN_SCAN_CUH

#include "trainer.cuh"

struct scan_job {
    const void *v; /* [t][d_inner] sums                             */
    const float *v_row, *v_col;
    const void *u; /* [t][d_inner]                                  */
    const void *z; /* [t][2 d_inner] sums                           */
    const float *z_row, *z_col;
    const float *bc;    /* [t][2 d_state]                                */
    const float *state; /* [window][state]: [d_state][d_inner]           */
    float *state_after; /* the same                                      */
    size_t state_floats;
    float *states;        /* [window][tiles][d_inner][d_state]             */
    const float *a_log2e; /* [d_inner][d_state]                            */
    const float *d, *dt_bias;
    void *y;        /* [t][d_inner], gated                           */
    uint32_t *amax; /* [t], of y                                     */
    int n_t, n_tiles, d_inner;

    const void *dy;         /* [t][d_inner], times the scale of y           */
    const float *y_inverse; /* [t]                                          */
    void *du, *dv;          /* [t][d_inner], dv times v_row                 */
    void *dz;               /* [t][2 d_inner], times z_row                  */
    float *dbc;             /* [t][blocks][2 d_state]                       */
    float *da;              /* [window][d_inner][d_state]                   */
    float *dd, *ddt_bias;   /* [window][d_inner]                            */
};

/* What follows from the number of states of a channel. */
template <int N> struct shape {
    static constexpr int LANES = N / SCAN_STATES; /* of a channel */
    static constexpr int SLOTS = WARP / LANES;    /* channels of a warp */
    static constexpr int CHANNELS = SCAN_THREADS / LANES;
    /* of four channels of a byte: what a thread has before and after */
    static constexpr int QUADS = CHANNELS / 4;
    static constexpr int UNITS = TILE * QUADS;
    static constexpr int EACH = UNITS > SCAN_THREADS ? UNITS / SCAN_THREADS : 1;
    /* of four numbers of B and C */
    static constexpr int BC_UNITS = TILE * 2 * N / 4;
    static constexpr int BC_EACH =
        BC_UNITS > SCAN_THREADS ? BC_UNITS / SCAN_THREADS : 1;
    /* bytes whose sums over states are made together */
    static constexpr int BATCH = LANES < 4 ? LANES : 4;
    static constexpr int WARPS = SCAN_THREADS / WARP;
};

/* Where a thread is: in the recurrence, and before and after it, where it has
 * the channels from c on of the bytes t + i STEP of a tile. */
template <int N> struct place_of {
    static constexpr int STEP = SCAN_THREADS / shape<N>::QUADS;
    int window, channel, slot, lane;
    int t, c, slot_c;
    bool has_channel, has_unit;

    __device__ place_of(int d_inner)
    {
        int first = blockIdx.x * shape<N>::CHANNELS;
        window = blockIdx.y;
        slot = threadIdx.x / WARP * shape<N>::SLOTS +
               threadIdx.x % shape<N>::SLOTS;
        lane = threadIdx.x % WARP / shape<N>::SLOTS;
        channel = first + slot;
        t = threadIdx.x / shape<N>::QUADS;
        slot_c = threadIdx.x % shape<N>::QUADS * 4;
        c = first + slot_c;
        has_channel = channel < d_inner;
        has_unit = t < TILE && c < d_inner;
    }
};

/* Sums n values over the lanes whose numbers differ in the bits from `low` up
 * to below `high`; of n > 1 values each lane ends with those of its own. */
template <int n, int low, int high>
static __device__ __forceinline__ void sum_lanes(float *x)
{
    if constexpr (low < high) {
        if constexpr (n > 1) {
            bool is_upper = threadIdx.x & low;
#pragma unroll
            for (int i = 0; i < n / 2; i++) {
                float keep = is_upper ? x[i + n / 2] : x[i];
                float send = is_upper ? x[i] : x[i + n / 2];
                x[i] = keep + __shfl_xor_sync(0xffffffffu, send, low);
            }
            sum_lanes<n / 2, 2 * low, high>(x);
        } else {
            x[0] += __shfl_xor_sync(0xffffffffu, x[0], low);
            sum_lanes<1, 2 * low, high>(x);
        }
    }
}

/* Which of n values a lane has after that. */
template <int n, int low, int high>
static __device__ __forceinline__ int sum_of_lane(void)
{
    if constexpr (low < high && n > 1)
        return (threadIdx.x & low ? n / 2 : 0) +
               sum_of_lane<n / 2, 2 * low, high>();
    else
        return 0;
}

/* ---- tiles, on their way from memory ---------------------------------------
 */

/* Four numbers as they lie in memory. */
template <typename T> struct four;
template <> struct four<float> {
    float4 x;
};
template <> struct four<__nv_bfloat16> {
    uint2 x;
};

template <typename T>
static __device__ __forceinline__ four<T> load_four(const void *from, size_t at)
{
    return *(const four<T> *)((const T *)from + at);
}

template <typename T>
static __device__ __forceinline__ float4 get4(const four<T> &from)
{
    return get4((const T *)&from);
}

static __device__ __forceinline__ float4 zero4(void)
{
    return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

static __device__ __forceinline__ float4 scaled(float4 x, float s)
{
    return make_float4(x.x * s, x.y * s, x.z * s, x.w * s);
}

/* x (row col) */
static __device__ __forceinline__ float4 times(float4 x, float row, float4 col)
{
    return make_float4(x.x * (row * col.x), x.y * (row * col.y),
                       x.z * (row * col.z), x.w * (row * col.w));
}

/* What a thread has of a tile before the recurrence. */
template <typename T, int N> struct tile_numbers {
    four<T> v[shape<N>::EACH], u[shape<N>::EACH], z[shape<N>::EACH];
    float4 bc[shape<N>::BC_EACH];
};

template <int N>
static __device__ __forceinline__ size_t row_of(const struct scan_job &j,
                                                const struct place_of<N> &at,
                                                int t)
{
    return (size_t)at.window * j.n_t + t;
}

/* B and C of a tile: zeros after the window. */
template <int N>
static __device__ __forceinline__ void
load_bc(float4 bc[shape<N>::BC_EACH], const struct scan_job &j, int w, int t0)
{
#pragma unroll
    for (int i = 0; i < shape<N>::BC_EACH; i++) {
        int k = threadIdx.x + i * SCAN_THREADS, t = t0 + k / (N / 2);
        size_t row = (size_t)w * j.n_t + t;
        bc[i] = zero4();
        if (k < shape<N>::BC_UNITS && t < j.n_t)
            bc[i] = get4(j.bc + row * 2 * N + 4 * (k % (N / 2)));
    }
}

template <int N>
static __device__ __forceinline__ void
put_bc(float bc[TILE][2 * N], const float4 from[shape<N>::BC_EACH])
{
#pragma unroll
    for (int i = 0; i < shape<N>::BC_EACH; i++) {
        int k = threadIdx.x + i * SCAN_THREADS;
        if (k < shape<N>::BC_UNITS)
            put4(bc[0] + 4 * k, from[i]);
    }
}

template <typename T, int N>
static __device__ __forceinline__ void
load_tile(struct tile_numbers<T, N> &x, const struct scan_job &j,
          const struct place_of<N> &at, int t0)
{
#pragma unroll
    for (int i = 0; i < shape<N>::EACH; i++) {
        int t = t0 + at.t + i * place_of<N>::STEP;
        if (t < 0 || t >= j.n_t || !at.has_unit)
            continue;
        size_t row = row_of<N>(j, at, t), k = row * j.d_inner + at.c;
        x.v[i] = load_four<T>(j.v, k);
        x.u[i] = load_four<T>(j.u, k);
        x.z[i] = load_four<T>(j.z, k + row * j.d_inner);
    }
    if (t0 >= 0)
        load_bc<N>(x.bc, j, at.window, t0);
}

/* The state before the window. */
template <int N>
static __device__ __forceinline__ float4
first_state(const struct scan_job &j, const struct place_of<N> &at)
{
    const float *s = j.state + at.window * j.state_floats + at.channel +
                     (size_t)at.lane * SCAN_STATES * j.d_inner;
    size_t d = j.d_inner;
    if (!at.has_channel)
        return zero4();
    return make_float4(s[0], s[d], s[2 * d], s[3 * d]);
}

template <int N>
static __device__ __forceinline__ void
keep_state(const struct scan_job &j, const struct place_of<N> &at, float4 s)
{
    float *to = j.state_after + at.window * j.state_floats + at.channel +
                (size_t)at.lane * SCAN_STATES * j.d_inner;
    size_t d = j.d_inner;
    if (!at.has_channel)
        return;
    to[0] = s.x;
    to[d] = s.y;
    to[2 * d] = s.z;
    to[3 * d] = s.w;
}

/* The states of this thread before a tile. */
template <int N>
static __device__ __forceinline__ float *
states_of(const struct scan_job &j, const struct place_of<N> &at, int tile)
{
    size_t i = (size_t)at.window * j.n_tiles + tile;
    return j.states + (i * j.d_inner + at.channel) * N + at.lane * SCAN_STATES;
}

/* delta and delta u of a tile; 0 after the window. */
template <typename T, int N>
static __device__ __forceinline__ void
put_steps(float2 step[TILE][shape<N>::CHANNELS],
          const struct tile_numbers<T, N> &x, const struct scan_job &j,
          const struct place_of<N> &at, int t0)
{
    if (at.t >= TILE)
        return;
#pragma unroll
    for (int i = 0; i < shape<N>::EACH; i++) {
        int t = at.t + i * place_of<N>::STEP;
        float4 d = zero4(), w = zero4();
        if (t0 + t < j.n_t && at.has_unit) {
            float row = j.v_row[row_of<N>(j, at, t0 + t)];
            float4 bias = get4(j.dt_bias + at.c), u = get4(x.u[i]);
            float4 v = times(get4(x.v[i]), row, get4(j.v_col + at.c));
            d = make_float4(
                fast_softplus(v.x + bias.x), fast_softplus(v.y + bias.y),
                fast_softplus(v.z + bias.z), fast_softplus(v.w + bias.w));
            w = make_float4(d.x * u.x, d.y * u.y, d.z * u.z, d.w * u.w);
        }
        float4 *to = (float4 *)&step[t][at.slot_c];
        to[0] = make_float4(d.x, w.x, d.y, w.y);
        to[1] = make_float4(d.z, w.z, d.w, w.w);
    }
}

/* ---- the recurrence --------------------------------------------------------
 */

static __device__ __forceinline__ float4 decay_of(float delta, float4 a)
{
    return make_float4(fast_exp2(delta * a.x), fast_exp2(delta * a.y),
                       fast_exp2(delta * a.z), fast_exp2(delta * a.w));
}

/* s = decay s + w b */
static __device__ __forceinline__ float4 advance(float4 s, float4 decay,
                                                 float w, float4 b)
{
    return make_float4(fmaf(decay.x, s.x, w * b.x), fmaf(decay.y, s.y, w * b.y),
                       fmaf(decay.z, s.z, w * b.z),
                       fmaf(decay.w, s.w, w * b.w));
}

static __device__ __forceinline__ float dot(float4 a, float4 b)
{
    return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, a.w * b.w)));
}

/* ---- launches ------------------------------------------------------------ */

struct scan_job scan_job_of(const struct replica *r, int l);

/* Runs launch<T, N> for the number of states. */
#define BY_STATES(launch, T, r, job)                                           \
    switch ((r)->config.d_state) {                                             \
    case 4:                                                                    \
        launch<T, 4>(r, job);                                                  \
        break;                                                                 \
    case 8:                                                                    \
        launch<T, 8>(r, job);                                                  \
        break;                                                                 \
    case 16:                                                                   \
        launch<T, 16>(r, job);                                                 \
        break;                                                                 \
    case 32:                                                                   \
        launch<T, 32>(r, job);                                                 \
        break;                                                                 \
    default:                                                                   \
        launch<T, 64>(r, job);                                                 \
        break;                                                                 \
    }

#endif
