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
#include "cuda/train/mamba2_back_head.cuh"
#include "cuda/train/mamba2_weights.cuh"

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
put_weights(T *tile, const float m[PIECES][4], const struct back_head<T> &head,
            const float c_scale[2], int row, int col, bool imitates)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
#pragma unroll
    for (int j = 0; j < PIECES; j++) {
        if (col + 8 * j >= row + 16)
            continue;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int t = row + g + 8 * r;
            float x = m[j][2 * r], y = m[j][2 * r + 1];
            if (imitates) {
                x = quantise1(x, head.m_inverse[t]);
                y = quantise1(y, head.m_inverse[t]);
            }
            const float scale = head.m_scale[t] * c_scale[r];
            put_pair(tile, t, col + 8 * j + 2 * q, x * scale, y * scale);
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

/* A warp's sums for the block: of its rows, and of itself. */
template <typename T>
static __device__ __forceinline__ void
share_sums(struct back_sums *sums, const struct back_head<T> &own,
           const float tails[2], float end, float dd, int row, int half)
{
    for (int r = 0; r < 2; r++) {
        const int s = row + lane_of() / 4 + 8 * r;
        const float tail = row_sum(tails[r]);
        if (lane_of() % 4 == 0) {
            sums->tails[half][s] = tail;
            end = fmaf(tail, own.w[s], end);
        }
    }
    end = warp_sum(end);
    if (lane_of() == 0) {
        sums->end[threadIdx.x / WARP] = end;
        sums->dd[threadIdx.x / WARP] = dd;
    }
}

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
        tails_of(tail, own, row);
        for (int r = 0; r < 2; r++)
            factor[r] = tail[r] * own.w[row + g + 8 * r];
        float end = state_dot(own, j, at.n);
        dd = warp_sum(dd);
        put_weights(room.m, gram, own, c_scale, row, col, j.imitates);
        if (at.n > 0)
            rows[0] = rows[1] = 0.0f;
        read_state_back(dc, rows, own, room.c + at.n * tile_size<T>(), j, row,
                        col);
        for (int r = 0; r < 2; r++) {
            rows[r] = row_sum(rows[r]) * c_scale[r];
            if (q == 0)
                room.sums->rows[half][row + g + 8 * r] = rows[r];
        }
        __syncthreads(); /* m^ is there */
#pragma unroll 1
        for (int p = 0; p < p_tiles; p++) {
            float dx[PIECES][4];
            T *x = own.x + p * tile_size<T>();
            if (at.n == 0)
                make_dx(dx, tails, room, own, j, p, j.d[head], tail, row, col);
            add_db(db, x,
                   own.dstates + (p * n_tiles + at.n) * tile_size<T>() + col,
                   factor, own.v_inverse + p * SIDE, own.v_scale + p * SIDE,
                   row, j.imitates);
            if (at.n > 0)
                continue;
            wait_for_band(row); /* no one reads its x */
            store_rows((T *)j.dxbc + (c.row + row) * j.ld + head * j.headdim +
                           p * SIDE + col,
                       j.ld, c.rows - row, j.headdim - p * SIDE - col,
                       x + row * tile_ld<T>() + col, dx);
        }
        share_sums(room.sums, own, tails, end, dd, row, half);
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
static void back(const struct chunk_job *j, cudaStream_t stream)
{
    struct turns turns;
    dim3 grid(all_chunks(j), j->n_groups, state_tiles(j));
    if (chunk_turns(&turns, j, back_bytes<T>) == OK)
        chunk_output_back<T>
            <<<grid, HALF_THREADS, turns.n_bytes, stream>>>(*j, turns.n);
}

void launch_chunk_output_back(const struct chunk_job *j, bool in_float,
                              cudaStream_t stream)
{
    if (j->by_warpgroups)
        launch_group_back(j, stream);
    else
        in_float ? back<float>(j, stream) : back<__nv_bfloat16>(j, stream);
}

template <typename T> static enum status allow(const struct chunk_job *j)
{
    return allow_turns((const void *)chunk_output_back<T>, j, back_bytes<T>);
}

enum status output_back_prepare_device(const struct chunk_job *j, bool in_float)
{
    return in_float ? allow<float>(j) : allow<__nv_bfloat16>(j);
}
