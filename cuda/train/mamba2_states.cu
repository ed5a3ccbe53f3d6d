/* mamba2_states.cu -- the states at the starts of chunks, and their gradients.
 *
 * What a chunk adds to a state depends on the chunk alone, and so does what it
 * adds to a gradient: both are products, made for all chunks at once.  Then
 * a pass over the chunks of a window, one after the other, adds them up; a
 * state is rounded to int8 for the readers of the chunk, but goes on as it
 * is.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_chunk.cuh"
#include "cuda/train/row_scale.cuh"

/* ---- parts --------------------------------------------------------------- */

/* What a block of the parts has in shared memory: of x or dy two tiles in
 * turn, of the factors of the rows those of two heads. */
template <typename T> struct parts_room {
    T a[2][tile_size<T>()], b[tile_size<T>()];
    T out[tile_size<T>()];
    float factor[2][CHUNK];
};

/* What row s of x^, or of dy, is multiplied with. */
template <bool BACK>
static __device__ __forceinline__ float
factor_at(const struct chunk_job &j, size_t place, int s, int head, int group)
{
    size_t n = all_places(j), at = place + s;
    const float *cum = j.cum + head * n + place;
    if (BACK)
        return fast_exp2(cum[s]) *
               scale_at(j, j.bc_scale, j.n_groups + group, at);
    return fast_exp2(cum[CHUNK - 1] - cum[s]) * j.delta[head * n + at] *
           scale_at(j, j.x_scale, head, at) *
           scale_at(j, j.bc_scale, group, at);
}

/* The left operand, 16 rows [p] and all 64 terms [s], from [s][p]: each term
 * times its factor, rounded to int8 where QUANTISES.  amax and scale: of the
 * rows g and g + 8. */
template <bool QUANTISES, typename T>
static __device__ __forceinline__ void
weigh(left<T> a[SIDE_STEPS], float amax[2], float scale[2], const T *tile,
      int row, const float *factor)
{
    const int q = lane_of() % 4;
    float2 x[SIDE_STEPS][4];
    amax[0] = amax[1] = 0.0f;
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++) {
        load_left<true>(a[k], tile, row, 16 * k);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 f = *(const float2 *)(factor + 16 * k + 2 * q + i / 2 * 8);
            float2 y = get(a[k].at[i]);
            x[k][i] = make_float2(y.x * f.x, y.y * f.y);
            amax[i % 2] =
                fmaxf(amax[i % 2], fmaxf(fabsf(x[k][i].x), fabsf(x[k][i].y)));
        }
    }
    struct exact_scale s[2] = {{1.0f, 1.0f}, {1.0f, 1.0f}};
#pragma unroll
    for (int r = 0; r < 2; r++) {
        amax[r] = row_max(amax[r]);
        if (QUANTISES)
            s[r] = small_scale(amax[r]);
        scale[r] = s[r].scale;
    }
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 y = x[k][i];
            if (QUANTISES)
                y = make_float2(quantise1(y.x, s[i % 2].inverse),
                                quantise1(y.y, s[i % 2].inverse));
            put(a[k].at[i], y.x, y.y);
        }
    }
}

/* The largest v of a warp's rows, for the way back. */
static __device__ __forceinline__ void keep_largest(const struct chunk_job &j,
                                                    int chunk, int head,
                                                    int row,
                                                    const float amax[2])
{
    float *to = j.v_largest + ((size_t)chunk * j.n_heads + head) * j.headdim;
    for (int r = 0; r < 2; r++) {
        const int p = row + lane_of() / 4 + 8 * r;
        if (lane_of() % 4 == 0 && p < j.headdim)
            to[p] = amax[r];
    }
}

enum { PARTS_HEADS = 4 }; /* of a block, at most */

/* Heads of a block: they are of one group. */
static int heads_of_block(const struct chunk_job *j)
{
    int n = PARTS_HEADS;
    while (j->n_heads / j->n_groups % n != 0)
        n /= 2;
    return n;
}

/* One tile of p and n of a head, from its left operand. */
template <typename T>
static __device__ __forceinline__ void
put_part(parts_room<T> &room, T *to, const struct chunk_job &j,
         const left<T> a[SIDE_STEPS], const float scale[2], int p, int n)
{
    const int row = threadIdx.x / WARP * 16;
    float sums[SIDE / 8][4];
    clear(sums);
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++)
        multiply_step<true>(sums, a[k], room.b, 16 * k,
                            round_up(j.d_state - n, 16));
#pragma unroll
    for (int i = 0; i < SIDE / 8; i++) {
        sums[i][0] *= scale[0];
        sums[i][1] *= scale[0];
        sums[i][2] *= scale[1];
        sums[i][3] *= scale[1];
    }
    store_rows(to + (size_t)(p + row) * j.d_state + n, j.d_state,
               j.headdim - p - row, j.d_state - n,
               room.out + row * tile_ld<T>(), sums);
}

/* Forward v^ B^, backward (E dy) C^.  A block has some heads of a chunk, for
 * which B^ or C^ is copied once, where it is one tile. */
template <typename T, bool BACK, bool QUANTISES>
static __global__ void __launch_bounds__(SIDE_THREADS, sizeof(T) == 2 ? 5 : 1)
    chunk_parts(const __grid_constant__ struct chunk_job j, int n_heads)
{
    extern __shared__ __align__(16) char shared[];
    parts_room<T> &room = *(parts_room<T> *)shared;
    const int chunk = blockIdx.x, first = blockIdx.y * n_heads;
    const int group = first / (j.n_heads / j.n_groups);
    const int warp = threadIdx.x / WARP, d_inner = j.n_heads * j.headdim;
    const struct chunk_place c = chunk_at(j, chunk);
    const T *xbc = (const T *)j.xbc + c.row * j.ld;
    const T *from = BACK ? (const T *)j.dy + c.row * d_inner : xbc;
    const T *b =
        xbc + d_inner + (BACK ? j.n_groups + group : group) * j.d_state;
    const int p_tiles = head_tiles(&j), n_turns = n_heads * p_tiles;
    const auto copy_turn = [&](int i) {
        const int p = i % p_tiles * SIDE, head = first + i / p_tiles;
        copy_tile(room.a[i % 2], from + head * j.headdim + p,
                  BACK ? d_inner : j.ld, c.rows, j.headdim - p);
    };
    copy_turn(0);
#pragma unroll 1
    for (int i = 0; i < n_turns; i++) {
        const int p = i % p_tiles * SIDE, head = first + i / p_tiles;
        T *to = (T *)(BACK ? j.dstates : j.parts) + state_at(j, chunk, head);
        left<T> a[SIDE_STEPS];
        float amax[2], scale[2];
#pragma unroll 1
        for (int n = 0; n < j.d_state; n += SIDE) {
            if (i == 0 || j.d_state > SIDE) {
                if (i > 0 || n > 0)
                    __syncthreads(); /* no one reads b */
                copy_tile(room.b, b + n, j.ld, c.rows, j.d_state - n);
            }
            if (n == 0 && p == 0 && threadIdx.x < CHUNK)
                room.factor[head % 2][threadIdx.x] =
                    factor_at<BACK>(j, c.place, threadIdx.x, head, group);
            copy_commit();
            copy_wait<0>();
            __syncthreads();
            if (n == 0) { /* all are through with the last turn */
                if (i + 1 < n_turns)
                    copy_turn(i + 1);
                copy_commit();
                weigh<QUANTISES>(a, amax, scale, room.a[i % 2], 16 * warp,
                                 room.factor[head % 2]);
                if (QUANTISES)
                    keep_largest(j, chunk, head, p + 16 * warp, amax);
            }
            put_part(room, to, j, a, scale, p, n);
        }
    }
}

/* ---- passes -------------------------------------------------------------- */

enum { PASS_THREADS = 256, AHEAD = 4, EACH = 8 };

template <typename T>
static __device__ __forceinline__ void store_eight(T *to, const float x[EACH])
{
    put4(to, make_float4(x[0], x[1], x[2], x[3]));
    put4(to + 4, make_float4(x[4], x[5], x[6], x[7]));
}

template <typename T>
static __device__ __forceinline__ void get_eight(float x[EACH],
                                                 const eight<T> &from)
{
    float4 a = get4(from.half[0]), b = get4(from.half[1]);
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
    x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}

/* The states that a thread has: eight of a row p of a head of a window.
 * lanes: threads of a row, a power of two. */
struct pass_place {
    bool is_row, has_states;
    int window, row, n; /* row: head * headdim + p; n: the first state */
    int head;
};

static __device__ __forceinline__ struct pass_place
pass_place_of(const struct chunk_job &j, int lanes)
{
    struct pass_place at;
    int rows = j.n_heads * j.headdim;
    int i = (blockIdx.x * PASS_THREADS + threadIdx.x) / lanes;
    at.is_row = i < j.n_windows * rows;
    at.window = at.is_row ? i / rows : 0;
    at.row = at.is_row ? i % rows : 0;
    at.head = at.row / j.headdim;
    at.n = threadIdx.x % lanes * EACH;
    at.has_states = at.is_row && at.n < j.d_state;
    return at;
}

/* What a chunk adds, and the decay over it. */
template <typename T> struct pass_step {
    eight<T> part;
    float cum;
};

template <typename T>
static __device__ __forceinline__ void
load_steps(struct pass_step<T> s[AHEAD], const struct chunk_job &j,
           const struct pass_place &at, const T *parts, int first, int step)
{
    size_t rows = (size_t)j.n_heads * j.headdim;
    const float *cum = j.cum + at.head * all_places(j) + CHUNK - 1;
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
        int k = min(max(first + i * step, 0), j.n_chunks - 1);
        size_t chunk = (size_t)at.window * j.n_chunks + k;
        s[i].part =
            load_eight<T>(parts, (chunk * rows + at.row) * j.d_state + at.n);
        s[i].cum = cum[chunk * CHUNK];
    }
}

/* The largest magnitude of a row of `lanes` threads. */
static __device__ __forceinline__ float largest_of(const float s[EACH],
                                                   int lanes)
{
    float x = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++)
        x = fmaxf(x, fabsf(s[i]));
    return lanes_max(x, lanes);
}

/* S^ of a chunk. */
template <typename T>
static __device__ __forceinline__ void
put_state(const struct chunk_job &j, const struct pass_place &at, size_t chunk,
          const float s[EACH], int lanes)
{
    size_t row = chunk * j.n_heads * j.headdim + at.row;
    float q[EACH];
    struct exact_scale scale = {1.0f, 1.0f};
    if (j.imitates) {
        scale = small_scale(largest_of(s, lanes));
        if (at.is_row && at.n == 0)
            j.state_scale[row] = scale.scale;
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
        q[i] = j.imitates ? quantise1(s[i], scale.inverse) : s[i];
    if (at.has_states)
        store_eight((T *)j.states + row * j.d_state + at.n, q);
}

template <typename T>
static __global__ void __launch_bounds__(PASS_THREADS)
    chunk_states(const __grid_constant__ struct chunk_job j, int lanes)
{
    const struct pass_place at = pass_place_of(j, lanes);
    const size_t image =
        at.window * j.stride + (size_t)at.row * j.d_state + at.n;
    struct pass_step<T> next[AHEAD], now[AHEAD];
    float s[EACH] = {0.0f};
    struct pass_place from = at;
    if (!at.has_states)
        from.n = 0; /* loads something, and stores nothing */
#pragma unroll
    for (int i = 0; i < EACH; i++)
        s[i] = at.has_states ? j.start[image + i] : 0.0f;
    load_steps(next, j, from, (const T *)j.parts, 0, 1);
    for (int k = 0; k < j.n_chunks; k += AHEAD) {
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            now[i] = next[i];
        load_steps(next, j, from, (const T *)j.parts, k + AHEAD, 1);
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            float part[EACH], decay = fast_exp2(now[i].cum);
            if (k + i >= j.n_chunks)
                break;
            put_state<T>(j, at, (size_t)at.window * j.n_chunks + k + i, s,
                         lanes);
            get_eight(part, now[i].part);
#pragma unroll
            for (int e = 0; e < EACH; e++)
                s[e] = fmaf(decay, s[e], at.has_states ? part[e] : 0.0f);
        }
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (at.has_states)
            j.end[image + i] = s[i];
}

/* In place: what a chunk adds to the gradient of the state at its start
 * becomes the gradient of the state at its end. */
template <typename T>
static __global__ void __launch_bounds__(PASS_THREADS)
    chunk_dstates(const __grid_constant__ struct chunk_job j, int lanes)
{
    const struct pass_place at = pass_place_of(j, lanes);
    const size_t rows = (size_t)j.n_heads * j.headdim;
    struct pass_step<T> next[AHEAD], now[AHEAD];
    float s[EACH] = {0.0f};
    T *dstates = (T *)j.dstates;
    const int last = j.n_chunks - 1;
    if (!at.has_states)
        return;
    load_steps(next, j, at, dstates, last, -1);
    for (int k = 0; k < j.n_chunks; k += AHEAD) {
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            now[i] = next[i];
        load_steps(next, j, at, dstates, last - k - AHEAD, -1);
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            float part[EACH], decay = fast_exp2(now[i].cum);
            if (k + i >= j.n_chunks)
                break;
            size_t chunk = (size_t)at.window * j.n_chunks + last - k - i;
            store_eight(dstates + (chunk * rows + at.row) * j.d_state + at.n,
                        s);
            get_eight(part, now[i].part);
#pragma unroll
            for (int e = 0; e < EACH; e++)
                s[e] = fmaf(decay, s[e], part[e]);
        }
    }
}

/* ---- launches ------------------------------------------------------------ */

template <typename T>
static void parts(const struct chunk_job *j, bool back, cudaStream_t stream)
{
    const int n = heads_of_block(j);
    dim3 grid(all_chunks(j), j->n_heads / n);
    size_t shared = sizeof(parts_room<T>);
    if (back)
        chunk_parts<T, true, false>
            <<<grid, SIDE_THREADS, shared, stream>>>(*j, n);
    else if (j->imitates)
        chunk_parts<T, false, true>
            <<<grid, SIDE_THREADS, shared, stream>>>(*j, n);
    else
        chunk_parts<T, false, false>
            <<<grid, SIDE_THREADS, shared, stream>>>(*j, n);
}

template <typename T>
static void pass(const struct chunk_job *j, bool back, cudaStream_t stream)
{
    int lanes = 1;
    while (lanes * EACH < j->d_state)
        lanes *= 2;
    int rows = j->n_windows * j->n_heads * j->headdim;
    int blocks = ceil_div(rows, PASS_THREADS / lanes);
    if (back)
        chunk_dstates<T><<<blocks, PASS_THREADS, 0, stream>>>(*j, lanes);
    else
        chunk_states<T><<<blocks, PASS_THREADS, 0, stream>>>(*j, lanes);
}

void launch_chunk_parts(const struct chunk_job *j, bool in_float,
                        cudaStream_t stream)
{
    if (j->in_one_pass)
        return;
    in_float ? parts<float>(j, false, stream)
             : parts<__nv_bfloat16>(j, false, stream);
}

void launch_chunk_dparts(const struct chunk_job *j, bool in_float,
                         cudaStream_t stream)
{
    if (j->in_one_pass)
        return;
    in_float ? parts<float>(j, true, stream)
             : parts<__nv_bfloat16>(j, true, stream);
}

void launch_chunk_states(const struct chunk_job *j, bool in_float,
                         cudaStream_t stream)
{
    if (j->in_one_pass)
        launch_group_states(j, stream);
    else
        in_float ? pass<float>(j, false, stream)
                 : pass<__nv_bfloat16>(j, false, stream);
}

void launch_chunk_dstates(const struct chunk_job *j, bool in_float,
                          cudaStream_t stream)
{
    if (j->in_one_pass)
        launch_group_dstates(j, stream);
    else
        in_float ? pass<float>(j, true, stream)
                 : pass<__nv_bfloat16>(j, true, stream);
}

template <typename T> static enum status allow(void)
{
    const void *kernels[] = {(const void *)chunk_parts<T, true, false>,
                             (const void *)chunk_parts<T, false, true>,
                             (const void *)chunk_parts<T, false, false>};
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++)
        TRY(allow_shared(kernels[i], sizeof(parts_room<T>)));
    return OK;
}

enum status parts_prepare_device(bool in_float)
{
    return in_float ? allow<float>() : allow<__nv_bfloat16>();
}
