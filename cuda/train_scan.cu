/* train_scan.cu -- the selective scan of training, forward.
 *
 * It keeps the state before each tile for the way back.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train_scan.cuh"

/* A tile of the recurrence: step has delta and delta u, and gets y. */
template <int N>
static __device__ __forceinline__ float4
scan_tile(float4 s, float4 a, float2 step[TILE][shape<N>::CHANNELS],
          float bc[TILE][2 * N], const struct place_of<N> &at)
{
    constexpr int BATCH = shape<N>::BATCH, SLOTS = shape<N>::SLOTS;
#pragma unroll
    for (int t = 0; t < TILE; t += BATCH) {
        float y[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            float2 d = step[t + i][at.slot];
            const float *b = bc[t + i] + at.lane * SCAN_STATES;
            s = advance(s, decay_of(d.x, a), d.y, get4(b));
            y[i] = dot(get4(b + N), s);
        }
        sum_lanes<BATCH, SLOTS, WARP>(y);
        int mine = sum_of_lane<BATCH, SLOTS, WARP>();
        if (at.lane < BATCH)
            step[t + mine][at.slot].x = y[0];
    }
    return s;
}

/* The largest y of a byte; all threads of a warp come together. */
template <int N>
static __device__ __forceinline__ void put_amax(uint32_t *to, float4 y,
                                                bool is_row)
{
    uint32_t amax = max(max(magnitude_bits(y.x), magnitude_bits(y.y)),
                        max(magnitude_bits(y.z), magnitude_bits(y.w)));
    constexpr int WIDTH = shape<N>::QUADS < WARP ? shape<N>::QUADS : WARP;
#pragma unroll
    for (int s = WIDTH / 2; s > 0; s /= 2)
        amax = max(amax, __shfl_xor_sync(0xffffffffu, amax, s));
    if (threadIdx.x % WIDTH == 0 && is_row)
        atomicMax(to, amax);
}

/* (sum + d u) silu(z), as it will be stored */
template <typename T>
static __device__ __forceinline__ float gated(float sum, float d, float u,
                                              float z)
{
    return stored<T>(fmaf(d, u, sum) * z * fast_sigmoid(z));
}

template <typename T, int N>
static __device__ __forceinline__ void
put_y(const struct tile_numbers<T, N> &x, float2 step[TILE][shape<N>::CHANNELS],
      const struct scan_job &j, const struct place_of<N> &at, int t0)
{
    if (at.t >= TILE)
        return;
#pragma unroll
    for (int i = 0; i < shape<N>::EACH; i++) {
        int t = at.t + i * place_of<N>::STEP;
        size_t row = row_of<N>(j, at, t0 + t);
        float4 y = zero4();
        if (t0 + t < j.n_t && at.has_unit) {
            const float4 *sums = (const float4 *)&step[t][at.slot_c];
            float4 low = sums[0], high = sums[1], u = get4(x.u[i]);
            float4 d = get4(j.d + at.c);
            float4 z = times(get4(x.z[i]), j.z_row[row], get4(j.z_col + at.c));
            y = make_float4(gated<T>(low.x, d.x, u.x, z.x),
                            gated<T>(low.z, d.y, u.y, z.y),
                            gated<T>(high.x, d.z, u.z, z.z),
                            gated<T>(high.z, d.w, u.w, z.w));
            put4((T *)j.y + row * j.d_inner + at.c, y);
        }
        put_amax<N>(j.amax + row, y, t0 + t < j.n_t);
    }
}

template <typename T, int N>
static __global__ void __launch_bounds__(SCAN_THREADS, N < 16 ? 1 : 4)
    scan_forward(struct scan_job j)
{
    __shared__ __align__(16) float2 step[TILE][shape<N>::CHANNELS];
    __shared__ __align__(16) float bc[TILE][2 * N];
    struct place_of<N> at(j.d_inner);
    struct tile_numbers<T, N> x, next;
    float4 s = first_state<N>(j, at), a = zero4();
    if (at.has_channel)
        a = get4(j.a_log2e + (size_t)at.channel * N + at.lane * SCAN_STATES);
    load_tile<T, N>(next, j, at, 0);
    for (int tile = 0; tile < j.n_tiles; tile++) {
        int t0 = tile * TILE;
        x = next;
        put_steps<T, N>(step, x, j, at, t0);
        put_bc<N>(bc, x.bc);
        __syncthreads();
        if (at.has_channel)
            put4(states_of<N>(j, at, tile), s);
        load_tile<T, N>(next, j, at, t0 + TILE);
        s = scan_tile<N>(s, a, step, bc, at);
        __syncthreads();
        put_y<T, N>(x, step, j, at, t0);
        __syncthreads();
    }
    keep_state<N>(j, at, s);
}

/* ---- launches ------------------------------------------------------------ */

struct scan_job scan_job_of(const struct replica *r, int l)
{
    const struct train_tape *tape = &r->tapes[l];
    const struct model_config *c = &r->config;
    size_t d_inner = c->d_inner, size = number_size(r);
    struct scan_job job = {};
    job.v = tape->v;
    job.v_row = tape->dt_scale.scale;
    job.v_col = tape->weights[W_DT].scale;
    job.u = tape->u;
    job.z = (const char *)tape->uz + d_inner * size;
    job.z_row = tape->x_scale.scale;
    job.z_col = tape->weights[W_IN].scale + d_inner;
    job.bc = tape->bc;
    job.state = state_s(c, r->states, l);
    job.state_after = state_s(c, r->after, l);
    job.state_floats = trainer_state_floats(c);
    job.states = tape->states;
    job.a_log2e = tape->a_log2e;
    job.d = weight_at(r, l, P_D);
    job.dt_bias = weight_at(r, l, P_DT_BIAS);
    job.y = tape->y;
    job.amax = r->amax;
    job.n_t = r->n_t;
    job.n_tiles = r->n_tiles;
    job.d_inner = c->d_inner;
    job.dy = r->dy;
    job.y_inverse = tape->y_scale.inverse;
    job.du = r->du;
    job.dv = r->dv;
    job.dz = (char *)r->duz + d_inner * size;
    job.dbc = r->dbc;
    job.da = r->partial;
    job.dd = job.da + (size_t)r->n_windows * d_inner * c->d_state;
    job.ddt_bias = job.dd + (size_t)r->n_windows * d_inner;
    return job;
}

template <typename T, int N>
static void forward_n(const struct replica *r, const struct scan_job &job)
{
    dim3 grid(r->scan_blocks, r->n_windows);
    scan_forward<T, N><<<grid, SCAN_THREADS, 0, r->stream>>>(job);
}

template <typename T>
static void forward(const struct replica *r, const struct scan_job &job)
{
    BY_STATES(forward_n, T, r, job)
}

void launch_train_scan(const struct replica *r, int l)
{
    struct scan_job job = scan_job_of(r, l);
    BY_NUMBER(r, forward, r, job);
}
