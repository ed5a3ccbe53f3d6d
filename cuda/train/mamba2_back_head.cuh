/* mamba2_back_head.cuh -- what a block of mamba2_output_back.cu has in shared
 * memory: B and C of its group, and heads in turn.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_BACK_HEAD_CUH
#define MAMBYTE_MAMBA2_BACK_HEAD_CUH

#include "cuda/train/mamba2_weights.cuh"

/* By place: what the warps hand to each other. */
struct back_sums {
    float columns[BANDS][SIDE]; /* of dm m / w, down t                      */
    float rows[HALVES][SIDE];   /* of dm m and dy y, along s and p          */
    float tails[HALVES][SIDE];  /* of dv v / w, along p                     */
    float end[HALF_WARPS];      /* what the decay to Q gets                 */
    float dd[HALF_WARPS];
};

/* B^ and C^, [state_tiles] tiles each; m^; and heads in turn. */
template <typename T> struct back_room {
    T *b, *c, *m;
    struct back_sums *sums;
    char *heads;
    size_t head_bytes;
};

/* dy, x^, S^ of the block's states: [head_tiles] tiles each; dS,
 * [head_tiles][state_tiles] tiles.  By place: cum, w, w without delta, 1 over
 * the scale of x and that scale, and what m is multiplied with to be rounded
 * and after.  By channel: the scale of S^, and for v as for m. */
template <typename T> struct back_head {
    T *dy, *x, *states, *dstates;
    float *cum, *w, *w_scale, *x_inverse, *x_scale, *m_inverse, *m_scale;
    float *state_scale, *v_inverse, *v_scale;
};

template <typename T>
static __host__ __device__ __forceinline__ size_t
back_head_bytes(const struct chunk_job &j)
{
    int n = state_tiles(&j), p = head_tiles(&j);
    return (size_t)p * (3 + n) * tile_size<T>() * sizeof(T) +
           (7 + 3 * p) * SIDE * sizeof(float);
}

template <typename T>
static size_t back_bytes(const struct chunk_job *j, int n_turns)
{
    return (size_t)(2 * state_tiles(j) + 1) * tile_size<T>() * sizeof(T) +
           sizeof(struct back_sums) + n_turns * back_head_bytes<T>(*j);
}

template <typename T>
static __device__ __forceinline__ struct back_room<T>
deal_back(const struct chunk_job &j, char *shared) {
    const int n = state_tiles(&j), tile = tile_size<T>();
    struct back_room<T> room;
    room.b = (T *)shared;
    room.c = room.b + n * tile;
    room.m = room.c + n * tile;
    room.sums = (struct back_sums *)(room.m + tile);
    room.heads = (char *)(room.sums + 1);
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
    head.m_inverse = head.x_scale + SIDE;
    head.m_scale = head.m_inverse + SIDE;
    head.state_scale = head.m_scale + SIDE;
    head.v_inverse = head.state_scale + p * SIDE;
    head.v_scale = head.v_inverse + p * SIDE;
    return head;
}

/* Where a block is. */
struct back_place {
    int chunk, group, n; /* n: its tile of states */
    int row, col;        /* the first of a warp's 16 and 32 */
    struct chunk_place c;
};

/* Starts copying the tiles of a head. */
template <typename T>
static __device__ __forceinline__ void
copy_back_tiles(const struct back_head<T> &to, const struct chunk_job &j,
                const struct back_place &at, int head)
{
    const int n_tiles = state_tiles(&j), d_inner = j.n_heads * j.headdim;
    const struct chunk_place &c = at.c;
    const size_t state = state_at(j, at.chunk, head);
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
}

/* Starts copying what a head needs. */
template <typename T>
static __device__ __forceinline__ void
copy_back_head(const struct back_head<T> &to, const struct chunk_job &j,
               const struct back_place &at, int head)
{
    const int s = threadIdx.x;
    const size_t place = at.c.place + s, row = head * all_places(j) + place;
    const size_t channels = ((size_t)at.chunk * j.n_heads + head) * j.headdim;
    copy_back_tiles(to, j, at, head);
    copy_commit();
    if (s < CHUNK) {
        float x_scale = scale_at(j, j.x_scale, head, place);
        float b_scale = scale_at(j, j.bc_scale, at.group, place);
        struct exact_scale m = scale_of_largest(j, j.m_largest + row, true);
        to.cum[s] = j.cum[row];
        to.w[s] = j.delta[row] * x_scale * b_scale;
        to.w_scale[s] = x_scale * b_scale;
        to.x_scale[s] = x_scale;
        to.x_inverse[s] = x_scale > 0.0f ? 1.0f / x_scale : 0.0f;
        to.m_inverse[s] = m.inverse;
        to.m_scale[s] = m.scale;
    }
#pragma unroll 1
    for (int p = s; p < head_tiles(&j) * SIDE; p += HALF_THREADS) {
        const bool is_there = p < j.headdim;
        struct exact_scale v =
            scale_of_largest(j, j.v_largest + channels + p, is_there);
        to.state_scale[p] =
            j.imitates && is_there ? j.state_scale[channels + p] : 1.0f;
        to.v_inverse[p] = v.inverse;
        to.v_scale[p] = v.scale;
    }
}

#endif
