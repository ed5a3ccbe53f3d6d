/* mamba2_output.cu -- what the bytes of a chunk read: each other, by weights
 * m, and the state at the chunk's start.
 *
 * A block has a chunk and some heads of a group: their g is the same, and is
 * made once.  While it works on a head, the next one's numbers are copied.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_weights.cuh"

enum { HEADS_MAX = 8 }; /* of a block */

/* What a block has in shared memory: B^ and C^, [state_tiles] tiles each; m^;
 * room for results; the largest m of each row's halves; and for two heads in
 * turn what a head has. */
template <typename T> struct output_room {
    T *b, *c, *m, *out;
    float *largest; /* [HALVES][64] */
    char *heads;
    size_t head_bytes;
};

/* x^ [head_tiles] and S^ [head_tiles][state_tiles], tiles; by place, cum and
 * w; the scale of each row of S^. */
template <typename T> struct head_room {
    T *x, *states;
    float *cum, *w, *state_scale;
};

template <typename T>
static __host__ __device__ __forceinline__ size_t
head_bytes(const struct chunk_job &j)
{
    int n = state_tiles(&j), p = head_tiles(&j);
    return (size_t)p * (1 + n) * tile_size<T>() * sizeof(T) +
           (2 + p) * SIDE * sizeof(float);
}

template <typename T>
static size_t output_bytes(const struct chunk_job *j, int n_turns)
{
    return (size_t)(2 * state_tiles(j) + 2) * tile_size<T>() * sizeof(T) +
           HALVES * SIDE * sizeof(float) + n_turns * head_bytes<T>(*j);
}

template <typename T>
static __device__ __forceinline__ struct output_room<T>
deal_output(const struct chunk_job &j, char *shared) {
    const int n = state_tiles(&j), tile = tile_size<T>();
    struct output_room<T> room;
    room.b = (T *)shared;
    room.c = room.b + n * tile;
    room.m = room.c + n * tile;
    room.out = room.m + tile;
    room.largest = (float *)(room.out + tile);
    room.heads = (char *)(room.largest + HALVES * SIDE);
    room.head_bytes = head_bytes<T>(j);
    return room;
}

template <typename T>
static __device__ __forceinline__ struct head_room<T>
deal_head(const struct chunk_job &j, const struct output_room<T> &room, int i) {
    const int n = state_tiles(&j), p = head_tiles(&j), tile = tile_size<T>();
    struct head_room<T> head;
    head.x = (T *)(room.heads + i * room.head_bytes);
    head.states = head.x + p * tile;
    head.cum = (float *)(head.states + p * n * tile);
    head.w = head.cum + SIDE;
    head.state_scale = head.w + SIDE;
    return head;
}

/* Starts copying what a head needs. */
template <typename T>
static __device__ __forceinline__ void
copy_head(const struct head_room<T> &room, const struct chunk_job &j, int chunk,
          const struct chunk_place &c, int head)
{
    const int n_tiles = state_tiles(&j);
    const T *x = (const T *)j.xbc + c.row * j.ld + head * j.headdim;
    const T *states = (const T *)j.states + state_at(j, chunk, head);
    const size_t n = all_places(j), group = head / (j.n_heads / j.n_groups);
    for (int p = 0, k = 0; p < j.headdim; p += SIDE, k++) {
        copy_tile<HALF_THREADS>(room.x + k * tile_size<T>(), x + p, j.ld,
                                c.rows, j.headdim - p);
        for (int m = 0; m < n_tiles; m++)
            copy_tile<HALF_THREADS>(
                room.states + (k * n_tiles + m) * tile_size<T>(),
                states + (size_t)p * j.d_state + m * SIDE, j.d_state,
                j.headdim - p, j.d_state - m * SIDE);
    }
    copy_commit();
    const int s = threadIdx.x;
    if (s < CHUNK) {
        room.cum[s] = j.cum[head * n + c.place + s];
        room.w[s] = j.delta[head * n + c.place + s] *
                    scale_at(j, j.x_scale, head, c.place + s) *
                    scale_at(j, j.bc_scale, group, c.place + s);
    }
    const float *scale =
        j.state_scale + ((size_t)chunk * j.n_heads + head) * j.headdim;
    for (int p = threadIdx.x; p < head_tiles(&j) * SIDE; p += HALF_THREADS)
        room.state_scale[p] = j.imitates && p < j.headdim ? scale[p] : 1.0f;
}

/* m of a warp. */
static __device__ __forceinline__ void weigh(float m[PIECES][4],
                                             const float gram[PIECES][4],
                                             const float *cum, const float *w,
                                             int row, int col)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
    const float cum_t[2] = {cum[row + g], cum[row + g + 8]};
#pragma unroll
    for (int j = 0; j < PIECES; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int s = col + 8 * j + 2 * q + e % 2, t = row + g + e / 2 * 8;
            m[j][e] = 0.0f;
            if (col + 8 * j >= row + 16)
                continue;
            float decay = decay_between(cum_t[e / 2], cum[s], t, s);
            m[j][e] = gram[j][e] * decay * w[s];
        }
    }
}

/* m^ to its tile; scale: of the rows g and g + 8; kept: the largest m by place,
 * for the way back.  The warps of a band wait for each other. */
template <typename T>
static __device__ __forceinline__ void
put_weights(const struct output_room<T> &room, float scale[2], float *kept,
            const float m[PIECES][4], int row, int col, bool imitates)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
    struct exact_scale s[2] = {{1.0f, 1.0f}, {1.0f, 1.0f}};
    if (imitates) {
        share_largest(room.largest + col / HALF * SIDE, m, row);
        wait_for_band(row);
    }
    for (int r = 0; r < 2; r++) {
        const float *at = room.largest + row + g + 8 * r;
        const float largest = fmaxf(at[0], at[SIDE]);
        if (imitates)
            s[r] = small_scale(largest);
        if (imitates && col == 0 && lane_of() % 4 == 0)
            kept[row + g + 8 * r] = largest;
        scale[r] = s[r].scale;
    }
#pragma unroll
    for (int j = 0; j < PIECES; j++) {
        if (col + 8 * j >= row + 16)
            continue;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float x = m[j][2 * r], y = m[j][2 * r + 1];
            if (imitates) {
                x = quantise1(x, s[r].inverse);
                y = quantise1(y, s[r].inverse);
            }
            put_pair(room.m, row + g + 8 * r, col + 8 * j + 2 * q, x, y);
        }
    }
    wait_for_band(row);
}

/* y[t][p] *= column[p] row[t] */
static __device__ __forceinline__ void
scale_columns(float y[PIECES][4], const float *column, const float row[2])
{
#pragma unroll
    for (int a = 0; a < PIECES; a++) {
        float2 s = *(const float2 *)(column + 8 * a + lane_of() % 4 * 2);
#pragma unroll
        for (int e = 0; e < 4; e++)
            y[a][e] *= (e % 2 ? s.y : s.x) * row[e / 2];
    }
}

/* y += scale (m^ x^) */
template <typename T>
static __device__ __forceinline__ void
add_weighted(float y[PIECES][4], const T *m, const float scale[2], const T *x,
             int row)
{
    float sums[PIECES][4];
    clear(sums);
    multiply_tiles<false, true>(sums, m, row, x, 0, row + 16, HALF);
#pragma unroll
    for (int a = 0; a < PIECES; a++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            y[a][e] = fmaf(sums[a][e], scale[e / 2], y[a][e]);
}

/* y += factor x^ */
template <typename T>
static __device__ __forceinline__ void add_own(float y[PIECES][4], const T *x,
                                               const float factor[2], int row)
{
    const int g = lane_of() / 4, q = lane_of() % 4;
#pragma unroll
    for (int a = 0; a < PIECES; a++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float2 own = pair_at(x, row + g + 8 * r, 8 * a + 2 * q);
            y[a][2 * r] = fmaf(own.x, factor[r], y[a][2 * r]);
            y[a][2 * r + 1] = fmaf(own.y, factor[r], y[a][2 * r + 1]);
        }
}

template <typename T>
static __global__ void __launch_bounds__(HALF_THREADS, sizeof(T) == 2 ? 2 : 1)
    chunk_output(const __grid_constant__ struct chunk_job j, int n_heads,
                 int n_turns)
{
    extern __shared__ __align__(16) char shared[];
    const struct output_room<T> room = deal_output<T>(j, shared);
    const int chunk = blockIdx.x, first = blockIdx.y * n_heads;
    const int group = first / (j.n_heads / j.n_groups);
    const int g = lane_of() / 4, warp = threadIdx.x / WARP;
    const int row = warp % BANDS * 16, col = warp / BANDS * HALF;
    const int n_tiles = state_tiles(&j), d_inner = j.n_heads * j.headdim;
    const struct chunk_place c = chunk_at(j, chunk);
    const T *b = (const T *)j.xbc + c.row * j.ld + d_inner + group * j.d_state;
    float gram[PIECES][4], c_scale[2];
#pragma unroll 1
    for (int i = 0; i < n_tiles; i++) {
        copy_tile<HALF_THREADS>(room.b + i * tile_size<T>(), b + i * SIDE, j.ld,
                                c.rows, j.d_state - i * SIDE);
        copy_tile<HALF_THREADS>(room.c + i * tile_size<T>(),
                                b + j.n_groups * j.d_state + i * SIDE, j.ld,
                                c.rows, j.d_state - i * SIDE);
    }
    for (int r = 0; r < 2; r++)
        c_scale[r] = scale_at(j, j.bc_scale, j.n_groups + group,
                              c.place + row + g + 8 * r);
    copy_head(deal_head(j, room, 0), j, chunk, c, first);
    for (int k = 0; k < n_heads; k++) {
        const int head = first + k;
        const struct head_room<T> own = deal_head(j, room, k % n_turns);
        float m[PIECES][4], m_scale[2], state_factor[2], own_factor[2];
        copy_wait<0>();
        __syncthreads();
        if (k == 0)
            multiply_cb(gram, room.c, room.b + col * tile_ld<T>(), row,
                        row + 16 - col, n_tiles);
        if (n_turns > 1 && k + 1 < n_heads)
            copy_head(deal_head(j, room, 1 - k % 2), j, chunk, c, head + 1);
        weigh(m, gram, own.cum, own.w, row, col);
        put_weights(room, m_scale, j.m_largest + head * all_places(j) + c.place,
                    m, row, col, j.imitates);
        for (int r = 0; r < 2; r++) {
            const int t = row + g + 8 * r;
            m_scale[r] *= c_scale[r];
            state_factor[r] = fast_exp2(own.cum[t]) * c_scale[r];
            own_factor[r] =
                j.d[head] * scale_at(j, j.x_scale, head, c.place + t);
        }
#pragma unroll 1
        for (int p = 0; p < head_tiles(&j); p++) {
            const T *x = own.x + p * tile_size<T>() + col;
            const T *states =
                own.states + p * n_tiles * tile_size<T>() + col * tile_ld<T>();
            float y[PIECES][4];
            clear(y);
#pragma unroll 1
            for (int n = 0; n < n_tiles; n++)
                multiply_tiles<false, false>(y, room.c + n * tile_size<T>(),
                                             row, states + n * tile_size<T>(),
                                             0, SIDE, HALF);
            scale_columns(y, own.state_scale + p * SIDE + col, state_factor);
            add_weighted(y, room.m, m_scale, x, row);
            add_own(y, x, own_factor, row);
            store_rows((T *)j.y + (c.row + row) * d_inner + head * j.headdim +
                           p * SIDE + col,
                       d_inner, c.rows - row, j.headdim - p * SIDE - col,
                       room.out + row * tile_ld<T>() + col, y);
        }
        if (n_turns == 1 && k + 1 < n_heads) {
            __syncthreads(); /* no one reads the head */
            copy_head(own, j, chunk, c, head + 1);
        }
    }
}

/* ---- launches ------------------------------------------------------------ */

/* Heads of a block: they are of one group. */
static int heads_of_block(const struct chunk_job *j)
{
    int n = HEADS_MAX;
    while (j->n_heads / j->n_groups % n != 0)
        n /= 2;
    return n;
}

template <typename T>
static void output(const struct chunk_job *j, cudaStream_t stream)
{
    const int n_heads = heads_of_block(j);
    struct turns turns;
    dim3 grid(all_chunks(j), j->n_heads / n_heads);
    if (chunk_turns(&turns, j, output_bytes<T>) == OK)
        chunk_output<T><<<grid, HALF_THREADS, turns.n_bytes, stream>>>(
            *j, n_heads, turns.n);
}

void launch_chunk_output(const struct chunk_job *j, bool in_float,
                         cudaStream_t stream)
{
    if (j->by_warpgroups)
        launch_group_output(j, stream);
    else
        in_float ? output<float>(j, stream) : output<__nv_bfloat16>(j, stream);
}

template <typename T> static enum status allow(const struct chunk_job *j)
{
    return allow_turns((const void *)chunk_output<T>, j, output_bytes<T>);
}

enum status output_prepare_device(const struct chunk_job *j, bool in_float)
{
    return in_float ? allow<float>(j) : allow<__nv_bfloat16>(j);
}
