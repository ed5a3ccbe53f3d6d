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

/* What is made of it: w; the decay from the chunk's start times C_scale; what x
 * adds to y by way of D. */
struct output_factors {
    float cum[SIDE], w[SIDE], decay[SIDE], own[SIDE], state_scale[SIDE];
};

/* The tiles first: they start at multiples of 1024.  out: B, until g is made;
 * then room for results.  Of the rest there are this head's and the next
 * one's. */
struct group_output_room {
    __nv_bfloat16 c[GROUP_TILE], out[GROUP_TILE];
    struct output_head heads[2];
    struct output_floats floats[2];
    struct output_factors factors[2];
    float b_scale[SIDE], c_scale[SIDE];
};

#if HAVE_WARPGROUP_PRODUCT

/* Where a thread is: its chunk; the first of its warp's rows; its place in
 * results. */
struct output_place {
    int chunk, row, g, q;
    struct chunk_place c;
};

/* Starts copying the floats of a head: 16 threads have a row each. */
static __device__ __forceinline__ void
copy_output_floats(struct output_floats *to, const struct chunk_job &j,
                   const struct output_place &at, int head)
{
    const size_t places = head * all_places(j) + at.c.place;
    const size_t channels = ((size_t)at.chunk * j.n_heads + head) * SIDE;
    const int row = threadIdx.x / 16, i = threadIdx.x % 16 * 4;
    const float *from = row == 0   ? j.cum + places
                        : row == 1 ? j.delta + places
                        : row == 2 ? j.x_scale + places
                                   : j.state_scale + channels;
    if (row < 4)
        copy16(to->cum + row * SIDE + i, from + i, true);
}

/* Starts copying the tiles of a head. */
static __device__ __forceinline__ void
copy_output_head(struct output_head *to, const struct chunk_job &j,
                 const struct output_place &at, int head)
{
    copy_group_rows(
        to->x, (const __nv_bfloat16 *)j.xbc + at.c.row * j.ld + head * SIDE,
        j.ld, at.c.rows);
    copy_group_rows(to->states,
                    (const __nv_bfloat16 *)j.states +
                        state_at(j, at.chunk, head),
                    SIDE, SIDE);
}

/* Half of the threads have a place each, the others a channel. */
static __device__ __forceinline__ void
make_output_factors(struct output_factors *to,
                    const struct group_output_room *room,
                    const struct output_floats &from, float d, bool imitates)
{
    const int s = threadIdx.x % SIDE;
    if (threadIdx.x < SIDE) {
        const float x_scale = imitates ? from.x_scale[s] : 1.0f;
        to->cum[s] = from.cum[s];
        to->w[s] = from.delta[s] * x_scale * room->b_scale[s];
        to->decay[s] = fast_exp2(from.cum[s]) * room->c_scale[s];
        to->own[s] = d * x_scale;
    } else {
        to->state_scale[s] = imitates ? from.state_scale[s] : 1.0f;
    }
}

/* m of warp W, which has rows from 16 W on; largest: of its rows. */
template <int W>
static __device__ __forceinline__ void
weigh_rows_of(float (&m)[8][4], float largest[2], const float (&gram)[8][4],
              const float *cum, const float *w, const struct output_place &at)
{
    const int row = 16 * W + at.g;
    const float cum_t[2] = {cum[row], cum[row + 8]};
    largest[0] = largest[1] = 0.0f;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        m[j][0] = m[j][1] = m[j][2] = m[j][3] = 0.0f;
        if (j >= 2 * W + 2)
            continue;
        const float2 cum_s = *(const float2 *)(cum + 8 * j + 2 * at.q);
        const float2 w_s = *(const float2 *)(w + 8 * j + 2 * at.q);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int s = 8 * j + 2 * at.q + e % 2, t = row + e / 2 * 8;
            if (j > 2 * W + e / 2)
                continue;
            float decay = fast_exp2(cum_t[e / 2] - (e % 2 ? cum_s.y : cum_s.x));
            if (j == 2 * W + e / 2 && s > t)
                decay = 0.0f;
            m[j][e] = gram[j][e] * decay * (e % 2 ? w_s.y : w_s.x);
            largest[e / 2] = fmaxf(largest[e / 2], fabsf(m[j][e]));
        }
    }
    largest[0] = row_max(largest[0]);
    largest[1] = row_max(largest[1]);
}

/* The same: each warp has code of its own, without branches. */
static __device__ __forceinline__ void
weigh_rows(float (&m)[8][4], float largest[2], const float (&gram)[8][4],
           const float *cum, const float *w, const struct output_place &at)
{
    switch (at.row / 16) {
    case 0:
        weigh_rows_of<0>(m, largest, gram, cum, w, at);
        break;
    case 1:
        weigh_rows_of<1>(m, largest, gram, cum, w, at);
        break;
    case 2:
        weigh_rows_of<2>(m, largest, gram, cum, w, at);
        break;
    default:
        weigh_rows_of<3>(m, largest, gram, cum, w, at);
    }
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

/* y = scale (m^ x^) + decay state_scale (S^ C^) + own x^, of which the first
 * two products are y and from_state. */
static __device__ __forceinline__ void
add_up(float (&y)[8][4], const float (&from_state)[8][4],
       const uint32_t x[SIDE_STEPS][4], const float scale[2],
       const struct output_factors &f, const struct output_place &at)
{
    const int t = at.row + at.g;
    const float decay[2] = {f.decay[t], f.decay[t + 8]};
    const float factor[2] = {f.own[t], f.own[t + 8]};
#pragma unroll
    for (int a = 0; a < 8; a++) {
        const float2 s = *(const float2 *)(f.state_scale + 8 * a + 2 * at.q);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float2 own = get_pair(x[a / 2][a % 2 * 2 + r]);
            float *to = &y[a][2 * r];
            const float *from = &from_state[a][2 * r];
            to[0] = fmaf(to[0], scale[r], from[0] * (s.x * decay[r]));
            to[1] = fmaf(to[1], scale[r], from[1] * (s.y * decay[r]));
            to[0] = fmaf(own.x, factor[r], to[0]);
            to[1] = fmaf(own.y, factor[r], to[1]);
        }
    }
}

/* Keeps the largest m of a warp's rows; scale: of m^, becomes that of m^ C^. */
static __device__ __forceinline__ void
keep_rows(float scale[2], const struct chunk_job &j,
          const struct group_output_room *room, const struct output_place &at,
          int head, const float largest[2])
{
    float *to = j.m_largest + head * all_places(j) + at.c.place;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int t = at.row + at.g + 8 * r;
        if (at.q == 0)
            to[t] = largest[r];
        scale[r] *= room->c_scale[t];
    }
}

/* g; the first head's factors; its tiles, and the next one's floats, are on
 * their way. */
static __device__ __forceinline__ void
start_output(float (&gram)[8][4], struct group_output_room *room,
             const struct chunk_job &j, const struct output_place &at,
             int first, int n_heads)
{
    const int group = first / (j.n_heads / j.n_groups);
    const int s = threadIdx.x % SIDE, is_c = threadIdx.x / SIDE;
    const __nv_bfloat16 *b = (const __nv_bfloat16 *)j.xbc + at.c.row * j.ld +
                             (j.n_heads + group) * SIDE;
    copy_group_rows(room->out, b, j.ld, at.c.rows);
    copy_group_rows(room->c, b + j.n_groups * SIDE, j.ld, at.c.rows);
    copy_output_floats(&room->floats[0], j, at, first);
    copy_commit();
    if (n_heads > 1)
        copy_output_floats(&room->floats[1], j, at, first + 1);
    copy_output_head(&room->heads[0], j, at, first);
    copy_commit();
    (is_c ? room->c_scale : room->b_scale)[s] =
        scale_at(j, j.bc_scale, is_c * j.n_groups + group, at.c.place + s);
    copy_wait<1>();
    fence_async_proxy();
    __syncthreads(); /* B, C and their scales are there */
    group_begin();
    group_multiply<false, false>(gram, room->c, room->out, false);
    group_commit();
    make_output_factors(&room->factors[0], room, room->floats[0], j.d[first],
                        j.imitates);
    group_wait_for<0>();
    group_hold(gram);
}

#endif

static __global__ void __launch_bounds__(GROUP_THREADS, GROUP_BLOCKS)
    chunk_group_output(const __grid_constant__ struct chunk_job j, int n_heads)
{
#if HAVE_WARPGROUP_PRODUCT
    extern __shared__ __align__(1024) char shared[];
    struct group_output_room *room = (struct group_output_room *)shared;
    const int first = blockIdx.y * n_heads, lane = lane_of();
    const int d_inner = j.n_heads * SIDE;
    const struct output_place at = {(int)blockIdx.x, warp_of() * 16, lane / 4,
                                    lane % 4, chunk_at(j, blockIdx.x)};
    float gram[8][4];
    start_output(gram, room, j, at, first, n_heads);
    for (int k = 0; k < n_heads; k++) {
        const int head = first + k, next = 1 - k % 2;
        const struct output_head *tiles = &room->heads[k % 2];
        const struct output_factors &f = room->factors[k % 2];
        float from_state[8][4], y[8][4], largest[2], m_scale[2];
        uint32_t a[SIDE_STEPS][4], x[SIDE_STEPS][4];
        copy_wait<0>();
        fence_async_proxy();
        __syncthreads(); /* the head and f are there; no one reads the last */
        if (k + 2 < n_heads)
            copy_output_floats(&room->floats[k % 2], j, at, head + 2);
        if (k + 1 < n_heads)
            copy_output_head(&room->heads[next], j, at, head + 1);
        copy_commit();
        group_begin();
        group_multiply<false, false>(from_state, room->c, tiles->states, false);
        group_commit();
        if (k + 1 < n_heads)
            make_output_factors(&room->factors[next], room, room->floats[next],
                                j.d[head + 1], j.imitates);
        weigh_rows(y, largest, gram, f.cum, f.w, at);
        round_rows(a, m_scale, y, largest, j.imitates);
        group_begin();
        group_multiply<true>(y, a, tiles->x, false);
        group_commit();
        load_group_left(x, tiles->x, at.row);
        keep_rows(m_scale, j, room, at, head, largest);
        group_wait_for<0>();
        group_hold(from_state);
        group_hold(y);
        add_up(y, from_state, x, m_scale, f, at);
        store_group_rows((__nv_bfloat16 *)j.y + at.c.row * d_inner +
                             head * SIDE,
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
