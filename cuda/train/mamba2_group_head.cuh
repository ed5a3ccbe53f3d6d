/* mamba2_group_head.cuh -- what a block of mamba2_group_back.cu has in shared
 * memory: B and C of its group, and two heads in turn.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_GROUP_HEAD_CUH
#define MAMBYTE_MAMBA2_GROUP_HEAD_CUH

#include "cuda/train/mamba2_chunk.cuh"
#include "cuda/train/mamba2_group_tile.cuh"
#include "cuda/train/row_scale.cuh"

/* What is copied for a head beside its tiles: by place, then by channel. */
struct back_floats {
    float cum[SIDE], delta[SIDE], x_scale[SIDE], m_largest[SIDE];
    float state_scale[SIDE], v_largest[SIDE];
};

/* What is made of it: w without delta; 1 over the scale of x; the decays from
 * the chunk's start and to its end; what x is multiplied with in v; of m and v
 * what they are multiplied with to be rounded, and their scale, that of m times
 * C_scale. */
struct back_factors {
    float cum[SIDE], w[SIDE], w_scale[SIDE], x_scale[SIDE], x_inverse[SIDE];
    float decay[SIDE], tail[SIDE], v_factor[SIDE];
    float m_inverse[SIDE], m_scale[SIDE];
    float state_scale[SIDE], v_inverse[SIDE], v_scale[SIDE];
};

/* What the warps hand to each other, as struct back_sums. */
struct group_sums {
    float columns[SIDE_WARPS][SIDE], rows[SIDE], tails[SIDE];
    float end[SIDE_WARPS], dd[SIDE_WARPS];
};

struct group_head {
    __nv_bfloat16 dy[GROUP_TILE], x[GROUP_TILE];
    __nv_bfloat16 states[GROUP_TILE], dstates[GROUP_TILE];
};

/* The tiles first: they start at multiples of 1024.  Of the rest there are this
 * head's and the next or the last one's. */
struct group_room {
    __nv_bfloat16 b[GROUP_TILE], c[GROUP_TILE], m[GROUP_TILE];
    struct group_head heads[2];
    struct back_floats floats[2];
    struct back_factors factors[2];
    struct group_sums sums[2];
    float b_scale[SIDE], c_scale[SIDE];
};

#if HAVE_WARPGROUP_PRODUCT

/* Where a thread is: its chunk and group; the first of its warp's rows; its
 * place in results. */
struct group_place {
    int chunk, group, row, g, q;
    struct chunk_place c;
};

static __device__ __forceinline__ struct group_place
group_place_of(const struct chunk_job &j)
{
    const int lane = lane_of();
    return {(int)blockIdx.x, (int)blockIdx.y, warp_of() * 16,
            lane / 4,        lane % 4,        chunk_at(j, blockIdx.x)};
}

/* ---- copies -------------------------------------------------------------- */

/* Starts copying the floats of a head: 16 threads have a row each. */
static __device__ __forceinline__ void
copy_back_floats(struct back_floats *to, const struct chunk_job &j,
                 const struct group_place &at, int head)
{
    const size_t places = head * all_places(j) + at.c.place;
    const size_t channels = ((size_t)at.chunk * j.n_heads + head) * SIDE;
    const int row = threadIdx.x / 16, i = threadIdx.x % 16 * 4;
    const float *from = row == 0   ? j.cum + places
                        : row == 1 ? j.delta + places
                        : row == 2 ? j.x_scale + places
                        : row == 3 ? j.m_largest + places
                        : row == 4 ? j.state_scale + channels
                                   : j.v_largest + channels;
    if (row < 6)
        copy16(to->cum + row * SIDE + i, from + i, true);
}

/* Starts copying the tiles of a head. */
static __device__ __forceinline__ void
copy_group_head(struct group_head *to, const struct chunk_job &j,
                const struct group_place &at, int head)
{
    const int d_inner = j.n_heads * SIDE, rows = at.c.rows;
    const size_t state = state_at(j, at.chunk, head);
    copy_group_rows(
        to->x, (const __nv_bfloat16 *)j.xbc + at.c.row * j.ld + head * SIDE,
        j.ld, rows);
    copy_group_rows(
        to->dy, (const __nv_bfloat16 *)j.dy + at.c.row * d_inner + head * SIDE,
        d_inner, rows);
    copy_group_rows(to->dstates, (const __nv_bfloat16 *)j.dstates + state, SIDE,
                    SIDE);
    copy_group_rows(to->states, (const __nv_bfloat16 *)j.states + state, SIDE,
                    SIDE);
}

/* Starts copying B and C, and loads their scales. */
static __device__ __forceinline__ void copy_group(struct group_room *room,
                                                  const struct chunk_job &j,
                                                  const struct group_place &at)
{
    const __nv_bfloat16 *b = (const __nv_bfloat16 *)j.xbc + at.c.row * j.ld +
                             j.n_heads * SIDE + at.group * SIDE;
    const int s = threadIdx.x % SIDE, is_c = threadIdx.x / SIDE;
    copy_group_tile(room->b, b, j.ld, at.c.rows);
    copy_group_tile(room->c, b + j.n_groups * SIDE, j.ld, at.c.rows);
    (is_c ? room->c_scale : room->b_scale)[s] =
        scale_at(j, j.bc_scale, is_c * j.n_groups + at.group, at.c.place + s);
}

/* ---- factors ------------------------------------------------------------- */

/* small_scale() in fewer instructions; without IMITATES 1. */
template <bool IMITATES>
static __device__ __forceinline__ struct exact_scale scale_back(float amax)
{
    if (!IMITATES)
        return {1.0f, 1.0f};
    amax = fmaxf(amax, 1e-30f);
    return {amax * (1.0f / 127.0f), 127.0f * fast_inverse(amax)};
}

/* Half of the threads have a place each, the others a channel. */
template <bool IMITATES>
static __device__ __forceinline__ void
make_factors(struct back_factors *to, const struct back_floats &from,
             const struct group_room *room)
{
    const int s = threadIdx.x % SIDE;
    if (threadIdx.x < SIDE) {
        const float cum = from.cum[s];
        const float x_scale = IMITATES ? from.x_scale[s] : 1.0f;
        const float w_scale = x_scale * room->b_scale[s];
        const float w = from.delta[s] * w_scale;
        const float tail = fast_exp2(from.cum[CHUNK - 1] - cum);
        const struct exact_scale m = scale_back<IMITATES>(from.m_largest[s]);
        to->cum[s] = cum;
        to->w[s] = w;
        to->w_scale[s] = w_scale;
        to->x_scale[s] = x_scale;
        to->x_inverse[s] = x_scale > 1e-30f ? fast_inverse(x_scale) : 0.0f;
        to->decay[s] = fast_exp2(cum);
        to->tail[s] = tail;
        to->v_factor[s] = tail * w;
        to->m_inverse[s] = m.inverse;
        to->m_scale[s] = m.scale * room->c_scale[s];
    } else {
        const struct exact_scale v = scale_back<IMITATES>(from.v_largest[s]);
        to->state_scale[s] = IMITATES ? from.state_scale[s] : 1.0f;
        to->v_inverse[s] = v.inverse;
        to->v_scale[s] = v.scale;
    }
}

#endif
#endif
