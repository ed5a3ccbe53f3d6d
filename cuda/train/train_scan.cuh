/* train_scan.cuh -- what the selective scans of training share, forward and
 * backward.
 *
 * A block has some channels of a window and goes through it TILE bytes at a
 * time.  Before and after the recurrence a thread has units: four neighbouring
 * channels of a byte of the tile.  In the recurrence it has eight states of one
 * channel, or four where there are few.  The low bits of a lane's number say
 * which channel of the warp it has, the high bits which of the states.
 *
 * Sums over the states of a channel are made for as many bytes together as the
 * channel has lanes, up to four: then each lane ends with the sum of one byte.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_SCAN_CUH
#define MAMBYTE_TRAIN_SCAN_CUH

#include "cuda/common/reduce.cuh"
#include "cuda/common/tensor.cuh"
#include "cuda/train/fast_math.cuh"
#include "cuda/train/train_mamba1.cuh"

struct train_scan_job {
    const void *v; /* [t][d_inner] sums                             */
    const float *v_row, *v_col;
    const void *u; /* [t][d_inner]                                  */
    const void *z; /* [t][2 d_inner] sums                           */
    const float *z_row, *z_col;
    const float *bc;    /* [t][2 d_state]                                */
    const float *state; /* [window][state]: [d_state][d_inner]           */
    float *state_after; /* the same                                      */
    size_t state_floats;
    void *states;         /* [window][tiles][d_inner][d_state]             */
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

/* What follows from N, the number of states of a channel. */
template <int N> struct dims {
    static constexpr int STATES = scan_states(N); /* of a thread */
    static constexpr int LANES = N / STATES;      /* of a channel */
    static constexpr int SLOTS = WARP / LANES;    /* channels of a warp */
    static constexpr int CHANNELS = SCAN_THREADS / LANES;
    /* floats from a byte of a tile to the next: lanes that store sums of
     * different bytes of one channel use different banks */
    static constexpr int ROW = CHANNELS + SLOTS % WARP;
    /* units of a byte, of a tile, and of a thread */
    static constexpr int QUADS = CHANNELS / 4;
    static constexpr int UNITS = TILE * QUADS;
    static constexpr int EACH = UNITS > SCAN_THREADS ? UNITS / SCAN_THREADS : 1;
    /* fours of B and C of a tile, and of a thread */
    static constexpr int BC_UNITS = TILE * 2 * N / 4;
    static constexpr int BC_EACH =
        BC_UNITS > SCAN_THREADS ? BC_UNITS / SCAN_THREADS : 1;
    /* bytes whose sums over states are made together */
    static constexpr int BATCH = LANES < 4 ? LANES : 4;
    static constexpr int WARPS = SCAN_THREADS / WARP;
};

/* Where a thread is.  In the recurrence it has `channel`, which is number slot
 * of the block.  Before and after it, its units are the four channels from c
 * on (slot_c of the block) of the bytes t, t + STEP, .. of a tile. */
template <int N> struct place_of {
    static constexpr int STEP = SCAN_THREADS / dims<N>::QUADS;
    int window, channel, slot, lane;
    int t, c, slot_c;
    bool has_channel, has_unit;

    __device__ place_of(int d_inner)
    {
        int first = blockIdx.x * dims<N>::CHANNELS;
        window = blockIdx.y;
        slot =
            threadIdx.x / WARP * dims<N>::SLOTS + threadIdx.x % dims<N>::SLOTS;
        lane = threadIdx.x % WARP / dims<N>::SLOTS;
        channel = first + slot;
        t = threadIdx.x / dims<N>::QUADS;
        slot_c = threadIdx.x % dims<N>::QUADS * 4;
        c = first + slot_c;
        has_channel = channel < d_inner;
        has_unit = t < TILE && c < d_inner;
    }
};

/* ---- tiles, on their way from memory ------------------------------------- */

/* What a thread loads of a tile. */
template <typename T, int N> struct tile_numbers {
    four<T> v[dims<N>::EACH], u[dims<N>::EACH], z[dims<N>::EACH];
    float v_row[dims<N>::EACH], z_row[dims<N>::EACH];
};

/* The states of a thread, as they are kept. */
template <typename T, int N> struct kept_states {
    four<T> x[dims<N>::STATES / 4];
};
template <> struct __align__(16) kept_states<__nv_bfloat16, 16>
{
    four<__nv_bfloat16> x[2];
};

/* The i-th unit of a thread in a tile: its byte of the tile, its row, and where
 * it is in an array of rows of d_inner. */
template <int N> struct unit_of {
    int t;
    unsigned row;
    size_t at;
    bool is_there; /* in the window */

    __device__ unit_of(const struct train_scan_job &j,
                       const struct place_of<N> &p, int t0, int i)
    {
        t = p.t + i * place_of<N>::STEP;
        row = p.window * j.n_t + t0 + t;
        at = (size_t)row * (unsigned)j.d_inner + p.c;
        is_there = p.has_unit && t0 >= 0 && t0 + t < j.n_t;
    }

    /* the same in rows of 2 d_inner */
    __device__ size_t at_z(const struct train_scan_job &j) const
    {
        return at + (size_t)row * (unsigned)j.d_inner;
    }
};

/* Starts to copy B and C of a tile; zeros past the window. */
template <int N>
static __device__ __forceinline__ void
copy_bc(float bc[TILE][2 * N], const struct train_scan_job &j,
        const struct place_of<N> &at, int t0)
{
#pragma unroll
    for (int i = 0; i < dims<N>::BC_EACH; i++) {
        unsigned k = threadIdx.x + i * SCAN_THREADS;
        int t = k / (N / 2);
        unsigned row = at.window * j.n_t + min(t0 + t, j.n_t - 1);
        const float *from = j.bc + (size_t)row * 2 * N + 4 * (k % (N / 2));
        if (k < dims<N>::BC_UNITS)
            copy16(bc[0] + 4 * k, from, t0 + t < j.n_t);
    }
}

template <typename T, int N>
static __device__ __forceinline__ void
load_tile(struct tile_numbers<T, N> &x, const struct train_scan_job &j,
          const struct place_of<N> &at, int t0)
{
#pragma unroll
    for (int i = 0; i < dims<N>::EACH; i++) {
        struct unit_of<N> unit(j, at, t0, i);
        if (!unit.is_there)
            continue;
        x.v[i] = load_four<T>(j.v, unit.at);
        x.u[i] = load_four<T>(j.u, unit.at);
        x.z[i] = load_four<T>(j.z, unit.at_z(j));
        x.v_row[i] = j.v_row[unit.row];
        x.z_row[i] = j.z_row[unit.row];
    }
}

/* The state before the window. */
template <int N>
static __device__ __forceinline__ void
first_state(float s[dims<N>::STATES], const struct train_scan_job &j,
            const struct place_of<N> &at)
{
    constexpr int STATES = dims<N>::STATES;
    const float *from = j.state + at.window * j.state_floats + at.channel +
                        (size_t)at.lane * STATES * j.d_inner;
#pragma unroll
    for (int k = 0; k < STATES; k++)
        s[k] = at.has_channel ? from[(size_t)k * j.d_inner] : 0.0f;
}

template <int N>
static __device__ __forceinline__ void
keep_state(const struct train_scan_job &j, const struct place_of<N> &at,
           const float s[dims<N>::STATES])
{
    constexpr int STATES = dims<N>::STATES;
    float *to = j.state_after + at.window * j.state_floats + at.channel +
                (size_t)at.lane * STATES * j.d_inner;
    if (!at.has_channel)
        return;
#pragma unroll
    for (int k = 0; k < STATES; k++)
        to[(size_t)k * j.d_inner] = s[k];
}

/* The i-th of the states that this thread keeps. */
template <typename T, int N>
static __device__ __forceinline__ struct kept_states<T, N> *
states_of(const struct train_scan_job &j, const struct place_of<N> &at, int i) {
    unsigned k = at.window * j.n_tiles * (TILE / KEPT) + i;
    size_t channel = (size_t)k * (unsigned)j.d_inner + at.channel;
    T *states = (T *)j.states + channel * N + at.lane * dims<N>::STATES;
    return (struct kept_states<T, N> *)states;
}

/* n floats at a multiple of four. */
template <int n>
static __device__ __forceinline__ void get_floats(float x[n], const float *from)
{
#pragma unroll
    for (int k = 0; k < n; k += 4) {
        float4 y = get4(from + k);
        x[k] = y.x, x[k + 1] = y.y, x[k + 2] = y.z, x[k + 3] = y.w;
    }
}

template <typename T, int N>
static __device__ __forceinline__ void
unpack(float x[dims<N>::STATES], const struct kept_states<T, N> &kept)
{
#pragma unroll
    for (int k = 0; k < dims<N>::STATES; k += 4) {
        float4 y = get4(kept.x[k / 4]);
        x[k] = y.x, x[k + 1] = y.y, x[k + 2] = y.z, x[k + 3] = y.w;
    }
}

template <typename T, int N>
static __device__ __forceinline__ struct kept_states<T, N>
packed(const float x[dims<N>::STATES]) {
    struct kept_states<T, N> kept;
#pragma unroll
    for (int k = 0; k < dims<N>::STATES; k += 4)
        put4((T *)&kept.x[k / 4],
             make_float4(x[k], x[k + 1], x[k + 2], x[k + 3]));
    return kept;
}

/* delta and delta u of a tile; 0 past the window. */
template <typename T, int N>
static __device__ __forceinline__ void
put_steps(float delta[TILE][dims<N>::ROW], float du[TILE][dims<N>::ROW],
          const struct tile_numbers<T, N> &x, const struct train_scan_job &j,
          const struct place_of<N> &at, int t0)
{
    if (at.t >= TILE)
        return;
#pragma unroll
    for (int i = 0; i < dims<N>::EACH; i++) {
        struct unit_of<N> unit(j, at, t0, i);
        int t = unit.t;
        float4 d = zero4(), w = zero4();
        if (unit.is_there) {
            float4 bias = get4(j.dt_bias + at.c), u = get4(x.u[i]);
            float4 v = times(get4(x.v[i]), x.v_row[i], get4(j.v_col + at.c));
            d = make_float4(
                fast_softplus(v.x + bias.x), fast_softplus(v.y + bias.y),
                fast_softplus(v.z + bias.z), fast_softplus(v.w + bias.w));
            w = make_float4(d.x * u.x, d.y * u.y, d.z * u.z, d.w * u.w);
        }
        put4(&delta[t][at.slot_c], d);
        put4(&du[t][at.slot_c], w);
    }
}

/* ---- launches ------------------------------------------------------------ */

struct train_scan_job scan_job_of(const struct replica *r, int l);

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
