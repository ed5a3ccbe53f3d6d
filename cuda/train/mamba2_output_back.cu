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
 * blocks of the first 64 also do what is not of a state.  Of every result of
 * 64 x 64 a warp has a band of 16 rows, and half of the columns.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/reduce.cuh"
#include "cuda/train/mamba2_weights.cuh"

/* ---- shared memory ------------------------------------------------------- */

/* By place: what the warps hand to each other. */
struct back_sums {
    float columns[BANDS][SIDE];  /* of dm m / w, down t                      */
    float rows[HALVES][SIDE];    /* of dm m and dy y, along s and p          */
    float tails[HALVES][SIDE];   /* of dv v / w, along p                     */
    float largest[HALVES][SIDE]; /* magnitude of m, along s                 */
    float end[HALF_WARPS];       /* what the decay to Q gets                 */
    float dd[HALF_WARPS];
};

/* B^ and C^, [state_tiles] tiles each; m^; and heads in turn. */
template <typename T> struct back_room {
    T *b, *c, *m;
    struct back_sums *sums;
    float *largest; /* [band][head_tiles][64]: of v, over a band's s        */
    float *scales;  /* [2][head_tiles][64]: of v: inverse, scale            */
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
           (BANDS + 2) * head_tiles(&j) * SIDE * sizeof(float) +
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
    room.scales = room.largest + BANDS * head_tiles(&j) * SIDE;
    room.heads = (char *)(room.scales + 2 * head_tiles(&j) * SIDE);
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
    int row, col;        /* the first of a warp's 16 and 32 */
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
#pragma unroll 1
    for (int p = 0, k = 0; p < j.headdim; p += SIDE, k++) {
        const size_t tile = k * tile_size<T>();
        const size_t first = state + (size_t)p * j.d_state;
        copy_tile<HALF_THREADS>(to.dy + tile, dy + p, d_inner, c.rows,
                                j.headdim - p);
        copy_tile<HALF_THREADS>(to.x + tile, x + p, j.ld, c.rows,
                                j.headdim - p);
        copy_tile<HALF_THREADS>(
            to.states + tile, (const T *)j.states + first + at.n * SIDE,
            j.d_state, j.headdim - p, j.d_state - at.n * SIDE);
#pragma unroll 1
        for (int i = 0; i < n_tiles; i++)
            copy_tile<HALF_THREADS>(
                to.dstates + (k * n_tiles + i) * tile_size<T>(),
                (const T *)j.dstates + first + i * SIDE, j.d_state,
                j.headdim - p, j.d_state - i * SIDE);
    }
    copy_commit();
    const int s = threadIdx.x;
    if (s < CHUNK) {
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
#pragma unroll 1
    for (int p = threadIdx.x; p < head_tiles(&j) * SIDE; p += HALF_THREADS)
        to.state_scale[p] = j.imitates && p < j.headdim ? scale[p] : 1.0f;
}

/* ---- the weights --------------------------------------------------------- */

/* The column of a warp's half whose sum or largest a lane gets: of those that
 * lane q of each row has, in the order of x[PIECES][2]. */
static __device__ __forceinline__ int column_of_lane(void)
{
    int i = lanes_scattered<2 * PIECES, 4, WARP>();
    return 8 * (i / 2) + lane_of() % 4 * 2 + i % 2;
}

/* From g and dm: dgram += dg; gram becomes m; rows and columns what passes
 * the decays within the chunk; dd, what D gets.  c_scale: of the rows. */
template <typename T>
static __device__ __forceinline__ void
weigh_back(float gram[PIECES][4], float dgram[PIECES][4], float rows[2],
           float *dd, const float dm[PIECES][4],
           const struct back_head<T> &head, struct back_sums *sums,
           const float c_scale[2], int row, int col)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
    const float cum_t[2] = {head.cum[row + g], head.cum[row + g + 8]};
    float columns[PIECES][2];
#pragma unroll
    for (int j = 0; j < PIECES; j++) {
        columns[j][0] = columns[j][1] = 0.0f;
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int s = col + 8 * j + 2 * q + e % 2;
            const int t = row + g + e / 2 * 8;
            if (col + 8 * j >= row + 16) {
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
    lanes_reduce_scatter<2 * PIECES, 4, WARP>(&columns[0][0]);
    sums->columns[row / 16][col + column_of_lane()] = columns[0][0];
}

/* m^, times its scale and that of C, to the tile. */
template <typename T>
static __device__ __forceinline__ void
put_weights(T *tile, const float m[PIECES][4],
            const float largest[HALVES][SIDE], const float c_scale[2], int row,
            int col, bool imitates)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
    struct exact_scale scale[2] = {{1.0f, 1.0f}, {1.0f, 1.0f}};
    for (int r = 0; r < 2; r++) {
        const int t = row + g + 8 * r;
        if (imitates)
            scale[r] = small_scale(fmaxf(largest[0][t], largest[1][t]));
    }
#pragma unroll
    for (int j = 0; j < PIECES; j++) {
        if (col + 8 * j >= row + 16)
            continue;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float x = m[j][2 * r], y = m[j][2 * r + 1];
            if (imitates) {
                x = quantise1(x, scale[r].inverse);
                y = quantise1(y, scale[r].inverse);
            }
            const float s = scale[r].scale * c_scale[r];
            put_pair(tile, row + g + 8 * r, col + 8 * j + 2 * q, x * s, y * s);
        }
    }
}

/* ---- the state before ---------------------------------------------------- */

/* dc += E[t] sum over p of dy[t][p] S[p]; rows += dy y, of what y has from
 * the state. */
template <typename T>
static __device__ __forceinline__ void
read_state_back(float (&dc)[PIECES][4], float rows[2],
                const struct back_head<T> &head, const T *c,
                const struct chunk_job &j, int row, int col)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
    float sums[PIECES][4], dots[2] = {0.0f, 0.0f};
    clear(sums);
#pragma unroll 1
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
            multiply_step<true>(sums, a, head.states + p * tile_size<T>() + col,
                                16 * k, HALF);
        }
    }
    for (int r = 0; r < 2; r++) {
        const float decay = fast_exp2(head.cum[row + g + 8 * r]);
#pragma unroll
        for (int a = 0; a < PIECES; a++) {
            float2 own = pair_at(c, row + g + 8 * r, col + 8 * a + 2 * q);
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
#pragma unroll 1
    for (int p = 0; p < head_tiles(&j); p++) {
        const T *states = head.states + p * tile_size<T>();
        const T *dstates = head.dstates + (p * n_tiles + n) * tile_size<T>();
#pragma unroll 4
        for (int i = threadIdx.x; i < SIDE * SIDE / 2; i += HALF_THREADS) {
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

/* lanes_reduce_scatter() of maxima. */
static __device__ __forceinline__ float column_largest(float x[2 * PIECES])
{
    const int lane = lane_of();
#pragma unroll
    for (int half = PIECES, low = 4; half > 0; half /= 2, low *= 2) {
        const bool is_upper = lane & low;
#pragma unroll
        for (int i = 0; i < half; i++) {
            float keep = is_upper ? x[i + half] : x[i];
            float send = is_upper ? x[i] : x[i + half];
            x[i] = fmaxf(keep, __shfl_xor_sync(WHOLE_WARP, send, low));
        }
    }
    return x[0];
}

/* The largest v of each p over a band's rows s, for half of the p of a tile. */
template <typename T>
static __device__ __forceinline__ void
find_largest(float *largest, const struct back_head<T> &head,
             const struct chunk_job &j, const float factor[2], int row, int col)
{
#pragma unroll 1
    for (int p = 0; p < head_tiles(&j); p++) {
        float x[PIECES][2];
#pragma unroll
        for (int k = 0; k < HALF / 16; k++) {
            left<T> a;
            load_left<false>(a, head.x + p * tile_size<T>(), row, col + 16 * k);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float2 low = get(a.at[2 * i]), high = get(a.at[2 * i + 1]);
                x[2 * k + i][0] =
                    fmaxf(fabsf(low.x * factor[0]), fabsf(high.x * factor[1]));
                x[2 * k + i][1] =
                    fmaxf(fabsf(low.y * factor[0]), fabsf(high.y * factor[1]));
            }
        }
        largest[(row / 16 * head_tiles(&j) + p) * SIDE + col +
                column_of_lane()] = column_largest(&x[0][0]);
    }
}

/* The scales of v. */
static __device__ __forceinline__ void
share_scales(float *room, const float *largest, int n_tiles)
{
#pragma unroll 1
    for (int p = threadIdx.x; p < n_tiles * SIDE; p += HALF_THREADS) {
        float x = 0.0f;
        for (int band = 0; band < BANDS; band++)
            x = fmaxf(x, largest[band * n_tiles * SIDE + p]);
        struct exact_scale s = small_scale(x);
        room[p] = s.inverse;
        room[n_tiles * SIDE + p] = s.scale;
    }
}

/* db += sum over p of v[p][s] dS[p], for one tile of p; inverses and scales:
 * of v. */
template <typename T>
static __device__ __forceinline__ void
add_db(float (&db)[PIECES][4], const T *x, const T *dstates,
       const float factor[2], const float *inverses, const float *scales,
       int row, bool imitates)
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
                float2 inverse = *(const float2 *)(inverses + col);
                float2 scale = *(const float2 *)(scales + col);
                v.x = quantise1(v.x, inverse.x) * scale.x;
                v.y = quantise1(v.y, inverse.y) * scale.y;
            }
            put(a.at[i], v.x, v.y);
        }
        multiply_step<true>(db, a, dstates, 16 * k, HALF);
    }
}

/* dx, one tile of p; tails += dv v / w, along p. */
template <typename T>
static __device__ __forceinline__ void
make_dx(float (&dx)[PIECES][4], float tails[2], const struct back_room<T> &room,
        const struct back_head<T> &head, const struct chunk_job &j, int p,
        float d, const float tail[2], int row, int col)
{
    const int g = lane_of() / 4, q = lane_of() % 4, n_tiles = state_tiles(&j);
    const T *x = head.x + p * tile_size<T>();
    const T *dy = head.dy + p * tile_size<T>();
    float dv[PIECES][4];
    clear(dv);
#pragma unroll 1
    for (int n = 0; n < n_tiles; n++)
        multiply_tiles<false, false>(dv, room.b + n * tile_size<T>(), row,
                                     head.dstates +
                                         (p * n_tiles + n) * tile_size<T>() +
                                         col * tile_ld<T>(),
                                     0, SIDE, HALF);
    clear(dx);
    multiply_tiles<true, true>(dx, room.m, row, dy + col, row, SIDE, HALF);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int s = row + g + 8 * r;
        const float inverse = head.x_inverse[s], factor = tail[r] * head.w[s];
        float sum = 0.0f;
#pragma unroll
        for (int a = 0; a < PIECES; a++) {
            float2 own = pair_at(x, s, col + 8 * a + 2 * q);
            float2 down = pair_at(dy, s, col + 8 * a + 2 * q);
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
    float from = 0.0f, to = sums->rows[0][s] + sums->rows[1][s];
    if (is_first) {
        for (int band = 0; band < BANDS; band++)
            from += sums->columns[band][s];
        from += sums->tails[0][s] + sums->tails[1][s];
        j.ddelta[head * n + at.c.place + s] = from * own.w_scale[s];
    }
    if (s == CHUNK - 1)
        for (int w = 0; w < HALF_WARPS; w++)
            to += sums->end[w];
    j.dcum[(at.n * j.n_heads + head) * n + at.c.place + s] =
        to - from * own.w[s];
    if (is_first && s == 0) {
        float dd = 0.0f;
        for (int w = 0; w < HALF_WARPS; w++)
            dd += sums->dd[w];
        j.dd[(size_t)at.chunk * j.dd_ld + head] = dd;
    }
}

/* dg, and dg times the scale of C, to tiles. */
template <typename T>
static __device__ __forceinline__ void
put_dgram(T *plain, T *times_c, const float dgram[PIECES][4],
          const float c_scale[2], int row, int col)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
#pragma unroll
    for (int i = 0; i < PIECES; i++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float x = dgram[i][2 * r], y = dgram[i][2 * r + 1];
            const int t = row + g + 8 * r, s = col + 8 * i + 2 * q;
            if (col + 8 * i >= row + 16)
                continue;
            put_pair(plain, t, s, x, y);
            put_pair(times_c, t, s, x * c_scale[r], y * c_scale[r]);
        }
}

/* dC and dB of the group, from what all heads have left. */
template <typename T>
static __device__ __forceinline__ void
put_dbc(const struct chunk_job &j, const struct back_place &at,
        const struct back_room<T> &room, const float dgram[PIECES][4],
        float (&dc)[PIECES][4], float (&db)[PIECES][4], const float c_scale[2])
{
    const int g = lane_of() / 4, row = at.row, col = at.col;
    const T *b = room.b + at.n * tile_size<T>() + col;
    const T *c = room.c + at.n * tile_size<T>() + col;
    T *stage = (T *)room.heads + row * tile_ld<T>() + col;
    T *times_c = (T *)room.heads + tile_size<T>();
    T *to = (T *)j.dxbc + (at.c.row + row) * j.ld + j.n_heads * j.headdim +
            at.group * j.d_state + at.n * SIDE + col;
    const int cols = j.d_state - at.n * SIDE - col;
    put_dgram(room.m, times_c, dgram, c_scale, row, col);
    __syncthreads();
    multiply_tiles<false, true>(dc, room.m, row, b, 0, row + 16, HALF);
    multiply_tiles<true, true>(db, times_c, row, c, row, SIDE, HALF);
    for (int r = 0; r < 2; r++) {
        float scale =
            scale_at(j, j.bc_scale, at.group, at.c.place + row + g + 8 * r);
        float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
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
static __global__ void __launch_bounds__(HALF_THREADS, 2)
    chunk_output_back(const __grid_constant__ struct chunk_job j, int n_turns)
{
    extern __shared__ __align__(16) char shared[];
    const struct back_room<T> room = deal_back<T>(j, shared);
    const int warp = threadIdx.x / WARP, half = warp / BANDS;
    const int row = warp % BANDS * 16, col = half * HALF;
    const int n_end = row + 16 - col; /* the columns of g that count */
    const int g = lane_of() / 4, q = lane_of() % 4;
    const int n_tiles = state_tiles(&j), p_tiles = head_tiles(&j);
    const int n_heads = j.n_heads / j.n_groups, d_inner = j.n_heads * j.headdim;
    const struct back_place at = {
        (int)blockIdx.x,        (int)blockIdx.y, (int)blockIdx.z, row, col,
        chunk_at(j, blockIdx.x)};
    const struct chunk_place &c = at.c;
    const int first = at.group * n_heads;
    const T *b =
        (const T *)j.xbc + c.row * j.ld + d_inner + at.group * j.d_state;
    float dgram[PIECES][4], dc[PIECES][4], db[PIECES][4], c_scale[2];
    clear(dgram);
    clear(dc);
    clear(db);
#pragma unroll 1
    for (int i = 0; i < n_tiles; i++) {
        copy_tile<HALF_THREADS>(room.b + i * tile_size<T>(), b + i * SIDE, j.ld,
                                c.rows, j.d_state - i * SIDE);
        copy_tile<HALF_THREADS>(room.c + i * tile_size<T>(),
                                b + j.n_groups * j.d_state + i * SIDE, j.ld,
                                c.rows, j.d_state - i * SIDE);
    }
    for (int r = 0; r < 2; r++)
        c_scale[r] = scale_at(j, j.bc_scale, j.n_groups + at.group,
                              c.place + row + g + 8 * r);
    copy_back_head(deal_back_head(j, room, 0), j, at, first);
    for (int k = 0; k < n_heads; k++) {
        const int head = first + k;
        const struct back_head<T> own = deal_back_head(j, room, k % n_turns);
        float rows[2] = {0.0f, 0.0f}, tails[2] = {0.0f, 0.0f}, dd = 0.0f;
        float tail[2], factor[2], gram[PIECES][4];
        copy_wait<0>();
        __syncthreads();
        if (n_turns > 1 && k + 1 < n_heads)
            copy_back_head(deal_back_head(j, room, 1 - k % 2), j, at, head + 1);
        {
            float dm[PIECES][4];
            clear(gram);
            clear(dm);
            if (n_end > 0) {
                multiply_cb(gram, room.c, room.b + col * tile_ld<T>(), row,
                            n_end, n_tiles);
#pragma unroll 1
                for (int p = 0; p < p_tiles; p++)
                    multiply_tiles<false, false>(
                        dm, own.dy + p * tile_size<T>(), row,
                        own.x + p * tile_size<T>() + col * tile_ld<T>(), 0,
                        SIDE, n_end);
            }
            weigh_back(gram, dgram, rows, &dd, dm, own, room.sums, c_scale, row,
                       col);
        }
        if (j.imitates)
            share_largest(room.sums->largest[half], gram, row);
        tails_of(tail, own, row);
        for (int r = 0; r < 2; r++)
            factor[r] = tail[r] * own.w[row + g + 8 * r];
        if (j.imitates)
            find_largest(room.largest, own, j, factor, row, col);
        float end = state_dot(own, j, at.n);
        dd = warp_sum(dd);
        if (j.imitates) {
            __syncthreads(); /* the largest are there */
            share_scales(room.scales, room.largest, p_tiles);
        }
        put_weights(room.m, gram, room.sums->largest, c_scale, row, col,
                    j.imitates);
        if (at.n > 0)
            rows[0] = rows[1] = 0.0f;
        read_state_back(dc, rows, own, room.c + at.n * tile_size<T>(), j, row,
                        col);
        for (int r = 0; r < 2; r++) {
            rows[r] = row_sum(rows[r]) * c_scale[r];
            if (q == 0)
                room.sums->rows[half][row + g + 8 * r] = rows[r];
        }
        __syncthreads(); /* m^ and the scales are there */
#pragma unroll 1
        for (int p = 0; p < p_tiles; p++) {
            float dx[PIECES][4];
            T *x = own.x + p * tile_size<T>();
            if (at.n == 0)
                make_dx(dx, tails, room, own, j, p, j.d[head], tail, row, col);
            add_db(db, x,
                   own.dstates + (p * n_tiles + at.n) * tile_size<T>() + col,
                   factor, room.scales + p * SIDE,
                   room.scales + (p_tiles + p) * SIDE, row, j.imitates);
            if (at.n > 0)
                continue;
            wait_for_band(row); /* no one reads its x */
            store_rows((T *)j.dxbc + (c.row + row) * j.ld + head * j.headdim +
                           p * SIDE + col,
                       j.ld, c.rows - row, j.headdim - p * SIDE - col,
                       x + row * tile_ld<T>() + col, dx);
        }
        for (int r = 0; r < 2; r++) {
            const int s = row + g + 8 * r;
            tails[r] = row_sum(tails[r]);
            if (q == 0) {
                room.sums->tails[half][s] = tails[r];
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
            <<<grid, HALF_THREADS, back_bytes<T>(*j, n_turns), stream>>>(
                *j, n_turns);
}

void launch_chunk_output_back(const struct chunk_job *j, bool in_float,
                              cudaStream_t stream)
{
    if (j->by_warpgroups)
        launch_group_back(j, stream);
    else
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
