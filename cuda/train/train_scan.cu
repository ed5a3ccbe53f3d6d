/* train_scan.cu -- the selective scan of training, forward.
 *
 * It keeps the state before every KEPT-th byte for the backward pass.
 *
 * Two rooms of shared memory take the tiles in turn.  Why one barrier a tile
 * is enough:
 *
 *     what is written          was last read by               ordered by
 *     delta, du of a thread's  the scan two tiles before;     the barrier of
 *     units                    du by the thread itself        the tile between
 *     bc, by copies            the scan two tiles before      the same
 *     sums of C s, in du       the lanes of the channel       their shuffles
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_scan.cuh"

/* Shared memory of a block, for a tile. */
template <int N> struct forward_room {
    float delta[TILE][dims<N>::ROW];
    float du[TILE][dims<N>::ROW]; /* delta u, then the sum of C s */
    float bc[TILE][2 * N];
};

/* s = decay s + delta u B; returns this thread's part of C s. */
template <int N>
static __device__ __forceinline__ float advance(float s[dims<N>::STATES],
                                                const float a[], float delta,
                                                float du, const float *bc)
{
    constexpr int STATES = dims<N>::STATES;
    float b[STATES], c[STATES], y[4] = {0, 0, 0, 0};
    get_floats<STATES>(b, bc);
    get_floats<STATES>(c, bc + N);
#pragma unroll
    for (int k = 0; k < STATES; k++) {
        s[k] = fmaf(fast_exp2(delta * a[k]), s[k], du * b[k]);
        y[k % 4] = fmaf(c[k], s[k], y[k % 4]);
    }
    return (y[0] + y[1]) + (y[2] + y[3]);
}

template <typename T, int N>
static __device__ __forceinline__ void
scan_tile(float s[dims<N>::STATES], const float a[dims<N>::STATES],
          struct forward_room<N> &m, const struct train_scan_job &j,
          const struct place_of<N> &at, int tile)
{
    constexpr int BATCH = dims<N>::BATCH, SLOTS = dims<N>::SLOTS;
#pragma unroll
    for (int t = 0; t < TILE; t += BATCH) {
        float y[BATCH];
        if (t % KEPT == 0 && at.has_channel)
            *states_of<T, N>(j, at, tile * (TILE / KEPT) + t / KEPT) =
                packed<T, N>(s);
#pragma unroll
        for (int i = 0; i < BATCH; i++)
            y[i] =
                advance<N>(s, a, m.delta[t + i][at.slot], m.du[t + i][at.slot],
                           m.bc[t + i] + at.lane * dims<N>::STATES);
        lanes_reduce_scatter<BATCH, SLOTS, WARP>(y);
        int mine = lanes_scattered<BATCH, SLOTS, WARP>();
        __syncwarp(); /* du has been read */
        if (at.lane < BATCH)
            m.du[t + mine][at.slot] = y[0];
    }
}

/* The largest y of a byte; all threads of a warp call it together. */
template <int N>
static __device__ __forceinline__ void put_amax(uint32_t *to, float4 y,
                                                bool is_row)
{
    uint32_t amax = magnitude4(y);
    constexpr int WIDTH = dims<N>::QUADS < WARP ? dims<N>::QUADS : WARP;
    amax = lanes_max<WIDTH>(amax);
    if (threadIdx.x % WIDTH == 0 && is_row)
        atomicMax(to, amax);
}

/* (sum + d u) silu(z) */
static __device__ __forceinline__ float gated(float sum, float d, float u,
                                              float z)
{
    return fmaf(d, u, sum) * z * fast_sigmoid(z);
}

template <typename T, int N>
static __device__ __forceinline__ void
put_y(const struct tile_numbers<T, N> &x, const struct forward_room<N> &m,
      const struct train_scan_job &j, const struct place_of<N> &at, int t0)
{
    if (at.t >= TILE)
        return;
#pragma unroll
    for (int i = 0; i < dims<N>::EACH; i++) {
        struct unit_of<N> unit(j, at, t0, i);
        four<T> y;
        put4((T *)&y, zero4());
        if (unit.is_there) {
            float4 sum = get4(&m.du[unit.t][at.slot_c]), u = get4(x.u[i]);
            float4 d = get4(j.d + at.c);
            float4 z = times(get4(x.z[i]), x.z_row[i], get4(j.z_col + at.c));
            put4((T *)&y, make_float4(gated(sum.x, d.x, u.x, z.x),
                                      gated(sum.y, d.y, u.y, z.y),
                                      gated(sum.z, d.z, u.z, z.z),
                                      gated(sum.w, d.w, u.w, z.w)));
            store_four<T>(j.y, unit.at, y);
        }
        put_amax<N>(j.amax + unit.row, get4(y), t0 + unit.t < j.n_t);
    }
}

/* While a tile is scanned, the one before it is finished and the one after it
 * loaded: shared memory has room for two. */
template <typename T, int N>
static __global__ void __launch_bounds__(SCAN_THREADS, N < 16 ? 1 : 4)
    scan_forward(struct train_scan_job j)
{
    __shared__ __align__(16) struct forward_room<N> rooms[2];
    struct place_of<N> at(j.d_inner);
    struct tile_numbers<T, N> last, now, next;
    float s[dims<N>::STATES], a[dims<N>::STATES] = {};
    first_state<N>(s, j, at);
    if (at.has_channel)
        get_floats<dims<N>::STATES>(a, j.a_log2e + (size_t)at.channel * N +
                                           at.lane * dims<N>::STATES);
    load_tile<T, N>(next, j, at, 0);
    copy_bc<N>(rooms[0].bc, j, at, 0);
    copy_commit();
#pragma unroll 2
    for (int tile = 0; tile < j.n_tiles; tile++) {
        int t0 = tile * TILE;
        struct forward_room<N> &m = rooms[tile % 2];
        now = next;
        put_steps<T, N>(m.delta, m.du, now, j, at, t0);
        copy_wait<0>();
        __syncthreads();
        load_tile<T, N>(next, j, at, t0 + TILE);
        copy_bc<N>(rooms[(tile + 1) % 2].bc, j, at, t0 + TILE);
        copy_commit();
        scan_tile<T, N>(s, a, m, j, at, tile);
        if (tile > 0)
            put_y<T, N>(last, rooms[(tile + 1) % 2], j, at, t0 - TILE);
        last = now;
    }
    __syncthreads();
    put_y<T, N>(last, rooms[(j.n_tiles + 1) % 2], j, at,
                (j.n_tiles - 1) * TILE);
    keep_state<N>(j, at, s);
}

/* ---- launches ------------------------------------------------------------ */

struct train_scan_job scan_job_of(const struct replica *r, int l)
{
    const struct train_tape *tape = &r->tapes[l];
    const struct mamba1_tape *own = &r->mamba1->tapes[l];
    const struct model_config *c = &r->config;
    size_t d_inner = c->d_inner, size = number_size(r);
    struct train_scan_job job = {};
    job.v = own->v;
    job.v_row = own->dt_scale.scale;
    job.v_col = tape->weights[W_DT].scale;
    job.u = own->u;
    job.z = (const char *)tape->projected + d_inner * size;
    job.z_row = tape->x_scale.scale;
    job.z_col = tape->weights[W_IN].scale + d_inner;
    job.bc = own->bc;
    job.state = state_s(c, r->states, l);
    job.state_after = state_s(c, r->after, l);
    job.state_floats = trainer_state_floats(c);
    job.states = own->states;
    job.a_log2e = own->a_log2e;
    job.d = weight_at(r, l, P_D);
    job.dt_bias = weight_at(r, l, P_DT_BIAS);
    job.y = tape->y;
    job.amax = r->amax;
    job.n_t = r->n_t;
    job.n_tiles = r->mamba1->n_tiles;
    job.d_inner = c->d_inner;
    job.dy = r->dy;
    job.y_inverse = tape->y_scale.inverse;
    job.du = r->mamba1->du;
    job.dv = r->mamba1->dv;
    job.dz = (char *)r->dprojected + d_inner * size;
    job.dbc = r->mamba1->dbc;
    job.da = r->partial;
    job.dd = job.da + (size_t)r->n_windows * d_inner * c->d_state;
    job.ddt_bias = job.dd + (size_t)r->n_windows * d_inner;
    return job;
}

template <typename T, int N>
static void forward_n(const struct replica *r, const struct train_scan_job &job)
{
    dim3 grid(r->mamba1->scan_blocks, r->n_windows);
    scan_forward<T, N><<<grid, SCAN_THREADS, 0, r->stream>>>(job);
}

template <typename T>
static void forward(const struct replica *r, const struct train_scan_job &job)
{
    BY_STATES(forward_n, T, r, job)
}

void launch_train_scan(const struct replica *r, int l)
{
    struct train_scan_job job = scan_job_of(r, l);
    BY_NUMBER(r, forward, r, job);
}
