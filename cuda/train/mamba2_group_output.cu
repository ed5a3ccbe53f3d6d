/* mamba2_group_output.cu -- what mamba2_output.cu computes, by products of a
 * warpgroup: heads of 64 channels, 64 states, bf16.
 *
 * A block is a warpgroup and has a chunk and some heads of a group: their g is
 * the same, and is made once.  While it works on a head, the next one's numbers
 * are copied.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_group_tile.cuh"
#include "cuda/train/mamba2_weights.cuh"

enum {
    GROUP_BLOCKS = 3,   /* of a multiprocessor                            */
    GROUP_HEADS_MAX = 8 /* of a block                                     */
};

/* What is copied for a head beside its tiles: by place, then by channel. */
struct output_floats {
    float cum[SIDE], delta[SIDE], x_scale[SIDE], state_scale[SIDE];
};

struct output_head {
    __nv_bfloat16 x[GROUP_TILE], states[GROUP_TILE];
};

/* The tiles first: they start at multiples of 1024.  out: B, until g is made;
 * then room for results. */
struct group_output_room {
    __nv_bfloat16 c[GROUP_TILE], out[GROUP_TILE];
    struct output_head heads[2];
    struct output_floats floats[2];
    float w[SIDE], state_scale[SIDE], b_scale[SIDE];
};

#if HAVE_WARPGROUP_PRODUCT

/* Where a thread is: its chunk; the first of its warp's rows; its place in
 * results. */
struct output_place {
    int chunk, row, g, q;
    struct chunk_place c;
};

/* Starts copying what a head needs. */
static __device__ __forceinline__ void
copy_output_head(struct group_output_room *room, int turn,
                 const struct chunk_job &j, const struct output_place &at,
                 int head)
{
    struct output_head *to = &room->heads[turn];
    const size_t places = head * all_places(j) + at.c.place;
    const size_t channels = ((size_t)at.chunk * j.n_heads + head) * SIDE;
    const int row = threadIdx.x / 16, i = threadIdx.x % 16 * 4;
    const float *from = row == 0   ? j.cum + places
                        : row == 1 ? j.delta + places
                        : row == 2 ? j.x_scale + places
                                   : j.state_scale + channels;
    copy_group_tile(
        to->x, (const __nv_bfloat16 *)j.xbc + at.c.row * j.ld + head * SIDE,
        j.ld, at.c.rows);
    copy_group_tile(to->states,
                    (const __nv_bfloat16 *)j.states +
                        state_at(j, at.chunk, head),
                    SIDE, SIDE);
    if (row < 4)
        copy16(room->floats[turn].cum + row * SIDE + i, from + i, true);
    copy_commit();
}

/* m of a warp; largest: of its rows. */
static __device__ __forceinline__ void
weigh_rows(float (&m)[8][4], float largest[2], const float (&gram)[8][4],
           const float *cum, const float *w, const struct output_place &at)
{
    const float cum_t[2] = {cum[at.row + at.g], cum[at.row + at.g + 8]};
    largest[0] = largest[1] = 0.0f;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        m[j][0] = m[j][1] = m[j][2] = m[j][3] = 0.0f;
        if (8 * j >= at.row + 16)
            continue;
        const float2 cum_s = *(const float2 *)(cum + 8 * j + 2 * at.q);
        const float2 w_s = *(const float2 *)(w + 8 * j + 2 * at.q);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int s = 8 * j + 2 * at.q + e % 2;
            const int t = at.row + at.g + e / 2 * 8;
            float decay =
                decay_between(cum_t[e / 2], e % 2 ? cum_s.y : cum_s.x, t, s);
            m[j][e] = gram[j][e] * decay * (e % 2 ? w_s.y : w_s.x);
            largest[e / 2] = fmaxf(largest[e / 2], fabsf(m[j][e]));
        }
    }
    largest[0] = row_max(largest[0]);
    largest[1] = row_max(largest[1]);
}

/* m^ as the left side of a product; scale: of the rows g and g + 8. */
static __device__ __forceinline__ void
round_rows(uint32_t a[SIDE_STEPS][4], float scale[2], const float (&m)[8][4],
           const float largest[2], bool imitates)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        struct exact_scale s = {1.0f, 1.0f};
        if (imitates)
            s = small_scale(largest[r]);
        scale[r] = s.scale;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float x = m[j][2 * r], y = m[j][2 * r + 1];
            if (imitates) {
                x = quantise1(x, s.inverse);
                y = quantise1(y, s.inverse);
            }
            a[j / 2][j % 2 * 2 + r] = pack2(x, y);
        }
    }
}

/* y = scale (m^ x^) + state_factor state_scale (S^ C^) + own_factor x^, of
 * which the first two products are y and from_state. */
static __device__ __forceinline__ void
add_up(float (&y)[8][4], const float (&from_state)[8][4],
       const uint32_t x[SIDE_STEPS][4], const float scale[2],
       const float state_factor[2], const float own_factor[2],
       const float *state_scale, int q)
{
#pragma unroll
    for (int a = 0; a < 8; a++) {
        const float2 s = *(const float2 *)(state_scale + 8 * a + 2 * q);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float2 own = get_pair(x[a / 2][a % 2 * 2 + r]);
            float *to = &y[a][2 * r];
            const float *from = &from_state[a][2 * r];
            to[0] = fmaf(to[0], scale[r], from[0] * (s.x * state_factor[r]));
            to[1] = fmaf(to[1], scale[r], from[1] * (s.y * state_factor[r]));
            to[0] = fmaf(own.x, own_factor[r], to[0]);
            to[1] = fmaf(own.y, own_factor[r], to[1]);
        }
    }
}

#endif

static __global__ void __launch_bounds__(GROUP_THREADS, GROUP_BLOCKS)
    chunk_group_output(const __grid_constant__ struct chunk_job j, int n_heads)
{
#if HAVE_WARPGROUP_PRODUCT
    extern __shared__ __align__(1024) char shared[];
    struct group_output_room *room = (struct group_output_room *)shared;
    const int first = blockIdx.y * n_heads, lane = lane_of();
    const int group = first / (j.n_heads / j.n_groups);
    const int d_inner = j.n_heads * SIDE, s = threadIdx.x % SIDE;
    const struct output_place at = {(int)blockIdx.x, warp_of() * 16, lane / 4,
                                    lane % 4, chunk_at(j, blockIdx.x)};
    const __nv_bfloat16 *b =
        (const __nv_bfloat16 *)j.xbc + at.c.row * j.ld + d_inner + group * SIDE;
    const size_t place = at.c.place + at.row + at.g;
    float gram[8][4], c_scale[2];
    copy_group_tile(room->out, b, j.ld, at.c.rows);
    copy_group_tile(room->c, b + j.n_groups * SIDE, j.ld, at.c.rows);
    copy_commit();
    copy_output_head(room, 0, j, at, first);
    room->b_scale[s] = scale_at(j, j.bc_scale, group, at.c.place + s);
    for (int r = 0; r < 2; r++)
        c_scale[r] = scale_at(j, j.bc_scale, j.n_groups + group, place + 8 * r);
    copy_wait<1>();
    fence_async_proxy();
    __syncthreads(); /* B and C are there */
    group_begin();
    group_multiply<false, false>(gram, room->c, room->out, false);
    group_commit();
    group_wait_for<0>();
    group_hold(gram);
    for (int k = 0; k < n_heads; k++) {
        struct output_head *head = &room->heads[k % 2];
        const struct output_floats &floats = room->floats[k % 2];
        float from_state[8][4], y[8][4], largest[2], m_scale[2];
        float state_factor[2], own_factor[2];
        uint32_t a[SIDE_STEPS][4], x[SIDE_STEPS][4];
        copy_wait<0>();
        fence_async_proxy();
        __syncthreads(); /* the head is there, and no one reads the last one */
        if (k + 1 < n_heads)
            copy_output_head(room, 1 - k % 2, j, at, first + k + 1);
        group_begin();
        group_multiply<false, false>(from_state, room->c, head->states, false);
        group_commit();
        if (threadIdx.x < SIDE)
            room->w[s] = floats.delta[s] *
                         (j.imitates ? floats.x_scale[s] : 1.0f) *
                         room->b_scale[s];
        else
            room->state_scale[s] = j.imitates ? floats.state_scale[s] : 1.0f;
        __syncthreads(); /* w and the scales are there */
        weigh_rows(y, largest, gram, floats.cum, room->w, at);
        round_rows(a, m_scale, y, largest, j.imitates);
        group_begin();
        group_multiply<true>(y, a, head->x, false);
        group_commit();
        load_group_left(x, head->x, at.row);
        for (int r = 0; r < 2; r++) {
            const int t = at.row + at.g + 8 * r;
            if (at.q == 0)
                j.m_largest[(first + k) * all_places(j) + place + 8 * r] =
                    largest[r];
            m_scale[r] *= c_scale[r];
            state_factor[r] = fast_exp2(floats.cum[t]) * c_scale[r];
            own_factor[r] =
                j.d[first + k] * (j.imitates ? floats.x_scale[t] : 1.0f);
        }
        group_wait_for<0>();
        group_hold(from_state);
        group_hold(y);
        add_up(y, from_state, x, m_scale, state_factor, own_factor,
               room->state_scale, at.q);
        store_group_rows((__nv_bfloat16 *)j.y + at.c.row * d_inner +
                             (first + k) * SIDE,
                         d_inner, at.c.rows - at.row, room->out, at.row, y);
    }
#endif
}

/* ---- launches ------------------------------------------------------------ */

/* Heads of a block: they are of one group. */
static int group_heads(const struct chunk_job *j)
{
    int n = GROUP_HEADS_MAX;
    while (j->n_heads / j->n_groups % n != 0)
        n /= 2;
    return n;
}

void launch_group_output(const struct chunk_job *j, cudaStream_t stream)
{
    const int n = group_heads(j);
    dim3 grid(all_chunks(j), j->n_heads / n);
    chunk_group_output<<<grid, GROUP_THREADS, sizeof(struct group_output_room),
                         stream>>>(*j, n);
}

enum status group_output_prepare_device(void)
{
    return allow_shared((const void *)chunk_group_output,
                        sizeof(struct group_output_room));
}
