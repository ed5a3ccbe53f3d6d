/* mamba2_output_back.cu -- backward through what the bytes of a chunk read,
 * and through what the chunk adds to the state.
 *
 * With dS the gradient of the state after the chunk, Q the last place, E the
 * decay from the chunk's start, and B_scale, C_scale, x_scale left out:
 *
 *     dm[t][s] = sum over p of dy[t][p] x[s][p]
 *     dg[t][s] = dm[t][s] L[t][s] w[s]               summed over the heads
 *     dC[t]    = sum over s of dg[t][s] B[s]  +  E[t] sum over p of dy[t][p]
 * S[p] dB[s]    = sum over t of dg[t][s] C[t]  +  sum over p of v[p][s] dS[p]
 *     dv[p][s] = sum over n of dS[p][n] B[s][n]
 *     dx[s][p] = sum over t of m^[t][s] dy[t][p]  +  dv[p][s] L[Q][s] w[s]
 *                + D dy[s][p]
 *
 * and what passes the decays, as sums of dm m, dv v, dy y and dS S over the
 * places that a decay reaches from or to.
 *
 * A block has a chunk, all heads of a group one after the other, and 64
 * states: dg, dC and dB stay in registers.  With more than 64 states the
 * blocks of the first 64 also do what is not of a state.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/reduce.cuh"
#include "cuda/train/mamba2_weights.cuh"

/* ---- shared memory ------------------------------------------------------- */

/* By place: what the warps hand to each other. */
struct back_sums {
    float columns[SIDE_WARPS][SIDE]; /* of dm m / w, down t                 */
    float rows[SIDE];                /* of dm m and dy y, along s and p     */
    float tails[SIDE];               /* of dv v / w, along p                */
    float end[SIDE_WARPS];           /* what the decay to Q gets            */
    float dd[SIDE_WARPS];
};

/* B^ and C^, [state_tiles] tiles each; m^; and heads in turn. */
template <typename T> struct back_room {
    T *b, *c, *m;
    struct back_sums *sums;
    float *largest; /* [warp][head_tiles][64]: of v, over a warp's s        */
    float *scales;  /* [warp][2][64]: of v: inverse, scale                  */
    char *heads;
    size_t head_bytes;
};

/* dy, x^, S^ of the block's states: [head_tiles] tiles each; dS,
 * [head_tiles][state_tiles] tiles; by place: cum, w, w without delta, 1 over
 * the scale of x; the scale of each row of S^. */
template <typename T> struct back_head {
    T *dy, *x, *states, *dstates;
    float *cum, *w, *w_scale, *x_inverse, *x_scale, *state_scale;
};

template <typename T>
static __host__ __device__ __forceinline__ size_t
back_head_bytes(const struct chunk_job &j)
{
    int n = state_tiles(&j), p = head_tiles(&j);
    return (size_t)p * (3 + n) * tile_size<T>() * sizeof(T) +
           (5 + p) * SIDE * sizeof(float);
}

template <typename T>
static size_t back_bytes(const struct chunk_job &j, int n_turns)
{
    return (size_t)(2 * state_tiles(&j) + 1) * tile_size<T>() * sizeof(T) +
           sizeof(struct back_sums) +
           SIDE_WARPS * (head_tiles(&j) + 2) * SIDE * sizeof(float) +
           n_turns * back_head_bytes<T>(j);
}

template <typename T>
static __device__ __forceinline__ struct back_room<T>
deal_back(const struct chunk_job &j, char *shared) {
    const int n = state_tiles(&j), tile = tile_size<T>();
    struct back_room<T> room;
    room.b = (T *)shared;
    room.c = room.b + n * tile;
    room.m = room.c + n * tile;
    room.heads = (char *)(room.m + tile);
    room.sums = (struct back_sums *)room.heads;
    room.largest = (float *)(room.sums + 1);
    room.scales = room.largest + SIDE_WARPS * head_tiles(&j) * SIDE;
    room.heads = (char *)(room.scales + SIDE_WARPS * 2 * SIDE);
    room.head_bytes = back_head_bytes<T>(j);
    return room;
}

template <typename T>
static __device__ __forceinline__ struct back_head<T>
deal_back_head(const struct chunk_job &j, const struct back_room<T> &room,
               int i) {
    const int n = state_tiles(&j), p = head_tiles(&j), tile = tile_size<T>();
    struct back_head<T> head;
    head.dy = (T *)(room.heads + i * room.head_bytes);
    head.x = head.dy + p * tile;
    head.states = head.x + p * tile;
    head.dstates = head.states + p * tile;
    head.cum = (float *)(head.dstates + p * n * tile);
    head.w = head.cum + SIDE;
    head.w_scale = head.w + SIDE;
    head.x_inverse = head.w_scale + SIDE;
    head.x_scale = head.x_inverse + SIDE;
    head.state_scale = head.x_scale + SIDE;
    return head;
}

/* Where a block is. */
struct back_place {
    int chunk, group, n; /* n: its tile of states */
    int row;             /* the first of a warp's 16 */
    struct chunk_place c;
};

/* Starts copying what a head needs. */
template <typename T>
static __device__ __forceinline__ void
copy_back_head(const struct back_head<T> &to, const struct chunk_job &j,
               const struct back_place &at, int head)
{
    const int n_tiles = state_tiles(&j), d_inner = j.n_heads * j.headdim;
    const struct chunk_place &c = at.c;
    const size_t n = all_places(j), state = state_at(j, at.chunk, head);
    const T *x = (const T *)j.xbc + c.row * j.ld + head * j.headdim;
    const T *dy = (const T *)j.dy + c.row * d_inner + head * j.headdim;
    for (int p = 0, k = 0; p < j.headdim; p += SIDE, k++) {
        const size_t tile = k * tile_size<T>();
        const size_t first = state + (size_t)p * j.d_state;
        copy_tile(to.dy + tile, dy + p, d_inner, c.rows, j.headdim - p);
        copy_tile(to.x + tile, x + p, j.ld, c.rows, j.headdim - p);
        copy_tile(to.states + tile, (const T *)j.states + first + at.n * SIDE,
                  j.d_state, j.headdim - p, j.d_state - at.n * SIDE);
        for (int i = 0; i < n_tiles; i++)
            copy_tile(to.dstates + (k * n_tiles + i) * tile_size<T>(),
                      (const T *)j.dstates + first + i * SIDE, j.d_state,
                      j.headdim - p, j.d_state - i * SIDE);
    }
    copy_commit();
    for (int s = threadIdx.x; s < CHUNK; s += SIDE_THREADS) {
        float x_scale = scale_at(j, j.x_scale, head, c.place + s);
        float b_scale = scale_at(j, j.bc_scale, at.group, c.place + s);
        to.cum[s] = j.cum[head * n + c.place + s];
        to.w[s] = j.delta[head * n + c.place + s] * x_scale * b_scale;
        to.w_scale[s] = x_scale * b_scale;
        to.x_scale[s] = x_scale;
        to.x_inverse[s] = x_scale > 0.0f ? 1.0f / x_scale : 0.0f;
    }
    const float *scale =
        j.state_scale + ((size_t)at.chunk * j.n_heads + head) * j.headdim;
    for (int p = threadIdx.x; p < head_tiles(&j) * SIDE; p += SIDE_THREADS)
        to.state_scale[p] = j.imitates && p < j.headdim ? scale[p] : 1.0f;
}

/* ---- the weights --------------------------------------------------------- */

/* Sums of a column over the eight lanes that have it: lane g gets those of
 * the columns 8 g + 2 q and the next. */
static __device__ __forceinline__ float2 column_sums(float x[SIDE / 8][2])
{
    const int lane = lane_of();
#pragma unroll
    for (int half = 4; half > 0; half /= 2) {
        const bool upper = lane & (4 * half);
#pragma unroll
        for (int i = 0; i < half; i++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float mine = upper ? x[i + half][e] : x[i][e];
                float other = upper ? x[i][e] : x[i + half][e];
                x[i][e] = mine + __shfl_xor_sync(0xffffffffu, other, 4 * half);
            }
    }
    return make_float2(x[0][0], x[0][1]);
}

/* The same for maxima. */
static __device__ __forceinline__ float2 column_maxima(float x[SIDE / 8][2])
{
    const int lane = lane_of();
#pragma unroll
    for (int half = 4; half > 0; half /= 2) {
        const bool upper = lane & (4 * half);
#pragma unroll
        for (int i = 0; i < half; i++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float mine = upper ? x[i + half][e] : x[i][e];
                float other = upper ? x[i][e] : x[i + half][e];
                x[i][e] =
                    fmaxf(mine, __shfl_xor_sync(0xffffffffu, other, 4 * half));
            }
    }
    return make_float2(x[0][0], x[0][1]);
}

/* From g and dm: dgram += dg; gram becomes m; rows and columns what passes
 * the decays within the chunk; dd, what D gets.  c_scale: of the rows. */
template <typename T>
static __device__ __forceinline__ void
weigh_back(float gram[SIDE / 8][4], float dgram[SIDE / 8][4], float rows[2],
           float *dd, const float dm[SIDE / 8][4],
           const struct back_head<T> &head, struct back_sums *sums,
           const float c_scale[2], int row)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
    const float cum_t[2] = {head.cum[row + g], head.cum[row + g + 8]};
    float columns[SIDE / 8][2];
#pragma unroll
    for (int j = 0; j < SIDE / 8; j++) {
        columns[j][0] = columns[j][1] = 0.0f;
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int s = 8 * j + 2 * q + e % 2, t = row + g + e / 2 * 8;
            if (8 * j >= row + 16) {
                gram[j][e] = 0.0f;
                continue;
            }
            float decay = decay_between(cum_t[e / 2], head.cum[s], t, s);
            float w = head.w[s];
            float gl = gram[j][e] * decay, through = dm[j][e] * gl;
            dgram[j][e] = fmaf(dm[j][e] * decay, w, dgram[j][e]);
            rows[e / 2] = fmaf(through, w, rows[e / 2]);
            columns[j][e % 2] =
                fmaf(through, c_scale[e / 2], columns[j][e % 2]);
            gram[j][e] = gl * w;
            if (s == t)
                *dd = fmaf(dm[j][e], head.x_scale[s], *dd);
        }
    }
    float2 own = column_sums(columns);
    *(float2 *)&sums->columns[row / 16][8 * g + 2 * q] = own;
}

/* m^, times its scale and that of C, to the tile. */
template <typename T>
static __device__ __forceinline__ void
put_weights(T *tile, float m[SIDE / 8][4], const float c_scale[2], int row,
            bool imitates)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
    float amax[2] = {0.0f, 0.0f};
    struct exact_scale scale[2] = {{1.0f, 1.0f}, {1.0f, 1.0f}};
#pragma unroll
    for (int j = 0; j < SIDE / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            amax[e / 2] = fmaxf(amax[e / 2], fabsf(m[j][e]));
    for (int r = 0; r < 2; r++)
        if (imitates)
            scale[r] = small_scale(row_max(amax[r]));
#pragma unroll
    for (int j = 0; j < SIDE / 8; j++) {
        if (8 * j >= row + 16)
            continue;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float x = m[j][2 * r], y = m[j][2 * r + 1];
            if (imitates) {
                x = quantise1(x, scale[r].inverse);
                y = quantise1(y, scale[r].inverse);
            }
            const float s = scale[r].scale * c_scale[r];
            put_pair(tile, row + g + 8 * r, 8 * j + 2 * q, x * s, y * s);
        }
    }
}

/* ---- the state before ---------------------------------------------------- */

/* dc += E[t] sum over p of dy[t][p] S[p]; rows += dy y, of what y has from
 * the state. */
template <typename T>
static __device__ __forceinline__ void
read_state_back(float dc[SIDE / 8][4], float rows[2],
                const struct back_head<T> &head, const T *c,
                const struct chunk_job &j, int row)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
    float sums[SIDE / 8][4], dots[2] = {0.0f, 0.0f};
    clear(sums);
    for (int p = 0; p < head_tiles(&j); p++) {
#pragma unroll
        for (int k = 0; k < SIDE_STEPS; k++) {
            left<T> a;
            load_left<false>(a, head.dy + p * tile_size<T>(), row, 16 * k);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float2 s = *(const float2 *)(head.state_scale + p * SIDE +
                                             16 * k + 2 * q + i / 2 * 8);
                float2 x = get(a.at[i]);
                put(a.at[i], x.x * s.x, x.y * s.y);
            }
            multiply_step<true>(sums, a, head.states + p * tile_size<T>(),
                                16 * k, SIDE);
        }
    }
    for (int r = 0; r < 2; r++) {
        const float decay = fast_exp2(head.cum[row + g + 8 * r]);
#pragma unroll
        for (int a = 0; a < SIDE / 8; a++) {
            float2 own = pair_at(c, row + g + 8 * r, 8 * a + 2 * q);
            float x = sums[a][2 * r] * decay, y = sums[a][2 * r + 1] * decay;
            dc[a][2 * r] += x;
            dc[a][2 * r + 1] += y;
            dots[r] = fmaf(x, own.x, fmaf(y, own.y, dots[r]));
        }
        rows[r] += dots[r];
    }
}

/* dS S, of the block's states. */
template <typename T>
static __device__ __forceinline__ float
state_dot(const struct back_head<T> &head, const struct chunk_job &j, int n)
{
    const int n_tiles = state_tiles(&j);
    float sum = 0.0f;
    for (int p = 0; p < head_tiles(&j); p++) {
        const T *states = head.states + p * tile_size<T>();
        const T *dstates = head.dstates + (p * n_tiles + n) * tile_size<T>();
#pragma unroll 4
        for (int i = threadIdx.x; i < SIDE * SIDE / 2; i += SIDE_THREADS) {
            const int row = i / (SIDE / 2), col = i % (SIDE / 2) * 2;
            float2 a = pair_at(states, row, col);
            float2 b = pair_at(dstates, row, col);
            sum = fmaf(fmaf(a.x, b.x, a.y * b.y),
                       head.state_scale[p * SIDE + row], sum);
        }
    }
    return sum * fast_exp2(head.cum[CHUNK - 1]);
}

/* ---- the state after ----------------------------------------------------- */

/* The decay from a row's place to the last one. */
template <typename T>
static __device__ __forceinline__ void
tails_of(float tail[2], const struct back_head<T> &head, int row)
{
    for (int r = 0; r < 2; r++)
        tail[r] = fast_exp2(head.cum[CHUNK - 1] -
                            head.cum[row + lane_of() / 4 + 8 * r]);
}

/* The largest v of each p over a warp's rows s. */
template <typename T>
static __device__ __forceinline__ void
find_largest(float *largest, const struct back_head<T> &head,
             const struct chunk_job &j, const float factor[2], int row)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
    for (int p = 0; p < head_tiles(&j); p++) {
        float x[SIDE / 8][2];
#pragma unroll
        for (int k = 0; k < SIDE_STEPS; k++) {
            left<T> a;
            load_left<false>(a, head.x + p * tile_size<T>(), row, 16 * k);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float2 low = get(a.at[2 * i]), high = get(a.at[2 * i + 1]);
                x[2 * k + i][0] =
                    fmaxf(fabsf(low.x * factor[0]), fabsf(high.x * factor[1]));
                x[2 * k + i][1] =
                    fmaxf(fabsf(low.y * factor[0]), fabsf(high.y * factor[1]));
            }
        }
        float2 own = column_maxima(x);
        *(float2 *)(largest + (row / 16 * head_tiles(&j) + p) * SIDE + 8 * g +
                    2 * q) = own;
    }
}

/* The scales of v, for a warp: room of [2][64]. */
static __device__ __forceinline__ void
share_scales(float *room, const float *largest, int n_tiles, int p)
{
    __syncwarp();
    for (int col = lane_of(); col < SIDE; col += WARP) {
        float x = 0.0f;
        for (int w = 0; w < SIDE_WARPS; w++)
            x = fmaxf(x, largest[(w * n_tiles + p) * SIDE + col]);
        struct exact_scale s = small_scale(x);
        room[col] = s.inverse;
        room[SIDE + col] = s.scale;
    }
    __syncwarp();
}

/* db += sum over p of v[p][s] dS[p], for one tile of p. */
template <typename T>
static __device__ __forceinline__ void
add_db(float db[SIDE / 8][4], const T *x, const T *dstates,
       const float factor[2], const float *scales, int row, bool imitates)
{
    const int q = lane_of() % 4;
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++) {
        left<T> a;
        load_left<false>(a, x, row, 16 * k);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int col = 16 * k + 2 * q + i / 2 * 8;
            float2 v = get(a.at[i]);
            v.x *= factor[i % 2];
            v.y *= factor[i % 2];
            if (imitates) {
                float2 inverse = *(const float2 *)(scales + col);
                float2 scale = *(const float2 *)(scales + SIDE + col);
                v.x = quantise1(v.x, inverse.x) * scale.x;
                v.y = quantise1(v.y, inverse.y) * scale.y;
            }
            put(a.at[i], v.x, v.y);
        }
        multiply_step<true>(db, a, dstates, 16 * k, SIDE);
    }
}

/* dx, one tile of p; tails += dv v / w, along p. */
template <typename T>
static __device__ __forceinline__ void
make_dx(float dx[SIDE / 8][4], float tails[2], const struct back_room<T> &room,
        const struct back_head<T> &head, const struct chunk_job &j, int p,
        float d, const float tail[2], int row)
{
    const int g = lane_of() / 4, q = lane_of() % 4, n_tiles = state_tiles(&j);
    const T *x = head.x + p * tile_size<T>();
    const T *dy = head.dy + p * tile_size<T>();
    float dv[SIDE / 8][4];
    clear(dv);
    for (int n = 0; n < n_tiles; n++)
        multiply_tiles<false, false>(
            dv, room.b + n * tile_size<T>(), row,
            head.dstates + (p * n_tiles + n) * tile_size<T>(), 0, SIDE, SIDE);
    clear(dx);
    multiply_tiles<true, true>(dx, room.m, row, dy, row, SIDE, SIDE);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int s = row + g + 8 * r;
        const float inverse = head.x_inverse[s], factor = tail[r] * head.w[s];
        float sum = 0.0f;
#pragma unroll
        for (int a = 0; a < SIDE / 8; a++) {
            float2 own = pair_at(x, s, 8 * a + 2 * q);
            float2 down = pair_at(dy, s, 8 * a + 2 * q);
            float *out = &dx[a][2 * r];
            const float *v = &dv[a][2 * r];
            sum = fmaf(v[0], own.x, fmaf(v[1], own.y, sum));
            out[0] = fmaf(fmaf(v[0], factor, out[0]), inverse, d * down.x);
            out[1] = fmaf(fmaf(v[1], factor, out[1]), inverse, d * down.y);
        }
        tails[r] = fmaf(sum, tail[r], tails[r]);
    }
}

/* ---- results ------------------------------------------------------------- */

/* What the decays and delta of a head get, by place. */
template <typename T>
static __device__ __forceinline__ void
put_decays(const struct chunk_job &j, const struct back_place &at,
           const struct back_sums *sums, const struct back_head<T> &own,
           int head)
{
    const int s = threadIdx.x;
    const size_t n = all_places(j);
    const bool is_first = at.n == 0;
    if (s >= CHUNK)
        return;
    float from = 0.0f, to = sums->rows[s];
    if (is_first) {
        for (int w = 0; w < SIDE_WARPS; w++)
            from += sums->columns[w][s];
        from += sums->tails[s];
        j.ddelta[head * n + at.c.place + s] = from * own.w_scale[s];
    }
    if (s == CHUNK - 1)
        for (int w = 0; w < SIDE_WARPS; w++)
            to += sums->end[w];
    j.dcum[(at.n * j.n_heads + head) * n + at.c.place + s] =
        to - from * own.w[s];
    if (is_first && s == 0)
        j.dd[(size_t)at.chunk * j.dd_ld + head] =
            (sums->dd[0] + sums->dd[1]) + (sums->dd[2] + sums->dd[3]);
}

/* dC and dB of the group, from what all heads have left. */
template <typename T>
static __device__ __forceinline__ void
put_dbc(const struct chunk_job &j, const struct back_place &at,
        const struct back_room<T> &room, float dgram[SIDE / 8][4],
        float dc[SIDE / 8][4], float db[SIDE / 8][4], const float c_scale[2])
{
    const int g = lane_of() / 4, q = lane_of() % 4, row = at.row;
    const T *b = room.b + at.n * tile_size<T>();
    const T *c = room.c + at.n * tile_size<T>();
    T *stage = (T *)room.heads + row * tile_ld<T>();
    T *to = (T *)j.dxbc + (at.c.row + row) * j.ld + j.n_heads * j.headdim +
            at.group * j.d_state + at.n * SIDE;
    const int cols = j.d_state - at.n * SIDE;
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++) {
        left<T> a;
        left_of(a, dgram, k);
        if (16 * k <= row)
            multiply_step<true>(dc, a, b, 16 * k, SIDE);
    }
#pragma unroll
    for (int i = 0; i < SIDE / 8; i++)
#pragma unroll
        for (int r = 0; r < 2; r++)
            if (8 * i < row + 16)
                put_pair(room.m, row + g + 8 * r, 8 * i + 2 * q,
                         dgram[i][2 * r] * c_scale[r],
                         dgram[i][2 * r + 1] * c_scale[r]);
    __syncthreads();
    multiply_tiles<true, true>(db, room.m, row, c, row, SIDE, SIDE);
    for (int r = 0; r < 2; r++) {
        float scale =
            scale_at(j, j.bc_scale, at.group, at.c.place + row + g + 8 * r);
        float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
#pragma unroll
        for (int i = 0; i < SIDE / 8; i++) {
            db[i][2 * r] *= inverse;
            db[i][2 * r + 1] *= inverse;
        }
    }
    store_rows(to, j.ld, at.c.rows - row, cols, stage, db);
    store_rows(to + j.n_groups * j.d_state, j.ld, at.c.rows - row, cols, stage,
               dc);
}

/* ---- the whole ----------------------------------------------------------- */

template <typename T>
static __global__ void __launch_bounds__(SIDE_THREADS, 2)
    chunk_output_back(const __grid_constant__ struct chunk_job j, int n_turns)
{
    extern __shared__ __align__(16) char shared[];
    const struct back_room<T> room = deal_back<T>(j, shared);
    const int warp = threadIdx.x / WARP, row = 16 * warp;
    const int g = lane_of() / 4, q = lane_of() % 4;
    const int n_tiles = state_tiles(&j), p_tiles = head_tiles(&j);
    const int n_heads = j.n_heads / j.n_groups, d_inner = j.n_heads * j.headdim;
    const struct back_place at = {(int)blockIdx.x, (int)blockIdx.y,
                                  (int)blockIdx.z, row,
                                  chunk_at(j, blockIdx.x)};
    const struct chunk_place &c = at.c;
    const int first = at.group * n_heads;
    const T *b =
        (const T *)j.xbc + c.row * j.ld + d_inner + at.group * j.d_state;
    float dgram[SIDE / 8][4], dc[SIDE / 8][4], db[SIDE / 8][4], c_scale[2];
    clear(dgram);
    clear(dc);
    clear(db);
    for (int i = 0; i < n_tiles; i++) {
        copy_tile(room.b + i * tile_size<T>(), b + i * SIDE, j.ld, c.rows,
                  j.d_state - i * SIDE);
        copy_tile(room.c + i * tile_size<T>(),
                  b + j.n_groups * j.d_state + i * SIDE, j.ld, c.rows,
                  j.d_state - i * SIDE);
    }
    for (int r = 0; r < 2; r++)
        c_scale[r] = scale_at(j, j.bc_scale, j.n_groups + at.group,
                              c.place + row + g + 8 * r);
    copy_back_head(deal_back_head(j, room, 0), j, at, first);
    for (int k = 0; k < n_heads; k++) {
        const int head = first + k;
        const struct back_head<T> own = deal_back_head(j, room, k % n_turns);
        float rows[2] = {0.0f, 0.0f}, tails[2] = {0.0f, 0.0f}, dd = 0.0f;
        float tail[2], factor[2];
        copy_wait<0>();
        __syncthreads();
        if (n_turns > 1 && k + 1 < n_heads)
            copy_back_head(deal_back_head(j, room, 1 - k % 2), j, at, head + 1);
        {
            float gram[SIDE / 8][4], dm[SIDE / 8][4];
            multiply_cb(gram, room.c, room.b, row, n_tiles);
            clear(dm);
            for (int p = 0; p < p_tiles; p++)
                multiply_tiles<false, false>(dm, own.dy + p * tile_size<T>(),
                                             row, own.x + p * tile_size<T>(), 0,
                                             SIDE, row + 16);
            weigh_back(gram, dgram, rows, &dd, dm, own, room.sums, c_scale,
                       row);
            put_weights(room.m, gram, c_scale, row, j.imitates);
        }
        if (at.n > 0)
            rows[0] = rows[1] = 0.0f;
        read_state_back(dc, rows, own, room.c + at.n * tile_size<T>(), j, row);
        for (int r = 0; r < 2; r++) {
            rows[r] = row_sum(rows[r]) * c_scale[r];
            if (q == 0)
                room.sums->rows[row + g + 8 * r] = rows[r];
        }
        tails_of(tail, own, row);
        for (int r = 0; r < 2; r++)
            factor[r] = tail[r] * own.w[row + g + 8 * r];
        if (j.imitates)
            find_largest(room.largest, own, j, factor, row);
        float end = state_dot(own, j, at.n);
        dd = warp_sum(dd);
        __syncthreads(); /* m^ and the largest are there */
        for (int p = 0; p < p_tiles; p++) {
            float dx[SIDE / 8][4];
            T *x = own.x + p * tile_size<T>();
            float *scales = room.scales + warp * 2 * SIDE;
            if (at.n == 0)
                make_dx(dx, tails, room, own, j, p, j.d[head], tail, row);
            if (j.imitates)
                share_scales(scales, room.largest, p_tiles, p);
            add_db(db, x, own.dstates + (p * n_tiles + at.n) * tile_size<T>(),
                   factor, scales, row, j.imitates);
            if (at.n == 0)
                store_rows((T *)j.dxbc + (c.row + row) * j.ld +
                               head * j.headdim + p * SIDE,
                           j.ld, c.rows - row, j.headdim - p * SIDE,
                           x + row * tile_ld<T>(), dx);
        }
        for (int r = 0; r < 2; r++) {
            const int s = row + g + 8 * r;
            tails[r] = row_sum(tails[r]);
            if (q == 0) {
                room.sums->tails[s] = tails[r];
                end = fmaf(tails[r], own.w[s], end);
            }
        }
        end = warp_sum(end);
        if (lane_of() == 0) {
            room.sums->end[warp] = end;
            room.sums->dd[warp] = dd;
        }
        __syncthreads(); /* the sums are there, and no one reads the head */
        put_decays(j, at, room.sums, own, head);
        if (n_turns == 1 && k + 1 < n_heads) {
            __syncthreads(); /* nor its floats */
            copy_back_head(own, j, at, head + 1);
        }
    }
    put_dbc(j, at, room, dgram, dc, db, c_scale);
}

/* ---- launches ------------------------------------------------------------ */

template <typename T>
static enum status turns_of(const struct chunk_job *j, int *n_turns)
{
    return chunk_turns(j, n_turns, back_bytes<T>(*j, 1), back_bytes<T>(*j, 2));
}

template <typename T>
static void back(const struct chunk_job *j, cudaStream_t stream)
{
    int n_turns;
    dim3 grid(all_chunks(j), j->n_groups, state_tiles(j));
    if (turns_of<T>(j, &n_turns) == OK)
        chunk_output_back<T>
            <<<grid, SIDE_THREADS, back_bytes<T>(*j, n_turns), stream>>>(
                *j, n_turns);
}

void launch_chunk_output_back(const struct chunk_job *j, bool in_float,
                              cudaStream_t stream)
{
    in_float ? back<float>(j, stream) : back<__nv_bfloat16>(j, stream);
}

template <typename T> static enum status allow_shared(const struct chunk_job *j)
{
    int n_turns;
    TRY(turns_of<T>(j, &n_turns));
    CUDA_TRY(cudaFuncSetAttribute(chunk_output_back<T>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  (int)back_bytes<T>(*j, n_turns)),
             "shared memory for heads and states of this size");
    return OK;
}

enum status output_back_prepare_device(const struct chunk_job *j, bool in_float)
{
    return in_float ? allow_shared<float>(j) : allow_shared<__nv_bfloat16>(j);
}
