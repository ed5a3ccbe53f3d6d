/* mamba2_group_back.cu -- what mamba2_output_back.cu computes, by products of a
 * warpgroup: heads of 64 channels, 64 states, bf16.
 *
 * A block is a warpgroup and has a chunk, and all heads of a group one after
 * the other; dg, dC and dB stay in registers.  While it works on a head, the
 * next one's numbers are copied.  Products run beside the arithmetic that does
 * not need them: each is waited for where its result is read.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/common/reduce.cuh"
#include "cuda/train/mamba2_group_head.cuh"

#if HAVE_WARPGROUP_PRODUCT

/* ---- the weights --------------------------------------------------------- */

/* Eight columns from 8 j on of what weigh_group() does. */
template <bool IS_DIAGONAL>
static __device__ __forceinline__ void
weigh_piece(float gram[4], float dgram[4], const float dm[4], float rows[2],
            float columns[2], float *dd, const struct back_factors &f,
            const float cum_t[2], const float c_scale[2],
            const struct group_place &at, int j)
{
    const float2 cum_s = *(const float2 *)(f.cum + 8 * j + 2 * at.q);
    const float2 w_s = *(const float2 *)(f.w + 8 * j + 2 * at.q);
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const int s = 8 * j + 2 * at.q + e % 2;
        const int t = at.row + at.g + e / 2 * 8;
        const float w = e % 2 ? w_s.y : w_s.x;
        float decay = fast_exp2(cum_t[e / 2] - (e % 2 ? cum_s.y : cum_s.x));
        if (IS_DIAGONAL && s > t)
            decay = 0.0f;
        const float gl = gram[e] * decay, through = dm[e] * gl;
        dgram[e] = fmaf(dm[e] * decay, w, dgram[e]);
        rows[e / 2] = fmaf(through, w, rows[e / 2]);
        columns[e % 2] = fmaf(through, c_scale[e / 2], columns[e % 2]);
        gram[e] = gl * w;
        if (IS_DIAGONAL && s == t)
            *dd = fmaf(dm[e], f.x_scale[s], *dd);
    }
}

/* From g and dm: dgram += dg; gram becomes m; rows and columns what passes the
 * decays within the chunk; dd, what D gets. */
static __device__ __forceinline__ void
weigh_group(float (&gram)[8][4], float (&dgram)[8][4], float rows[2], float *dd,
            const float (&dm)[8][4], struct group_room *room,
            const struct group_place &at)
{
    const struct back_factors &f = room->factors;
    const int t = at.row + at.g;
    const float cum_t[2] = {f.cum[t], f.cum[t + 8]};
    const float c_scale[2] = {room->c_scale[t], room->c_scale[t + 8]};
    float columns[8][2];
#pragma unroll
    for (int j = 0; j < 8; j++) {
        columns[j][0] = columns[j][1] = 0.0f;
        if (8 * j < at.row)
            weigh_piece<false>(gram[j], dgram[j], dm[j], rows, columns[j], dd,
                               f, cum_t, c_scale, at, j);
        else if (8 * j < at.row + 16)
            weigh_piece<true>(gram[j], dgram[j], dm[j], rows, columns[j], dd, f,
                              cum_t, c_scale, at, j);
    }
    lanes_reduce_scatter<16, 4, WARP>(&columns[0][0]);
    const int i = lanes_scattered<16, 4, WARP>();
    *(float2 *)(room->sums.columns[at.row / 16] + 4 * i + 2 * at.q) =
        make_float2(columns[0][0], columns[0][1]);
}

/* m^, times its scale and that of C, to the tile, where the rest is 0. */
static __device__ __forceinline__ void
put_group_weights(struct group_room *room, const float (&m)[8][4],
                  const struct group_place &at, bool imitates)
{
    const struct back_factors &f = room->factors;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int t = at.row + at.g + 8 * r;
        const float inverse = f.m_inverse[t], scale = f.m_scale[t];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float x = m[j][2 * r], y = m[j][2 * r + 1];
            if (8 * j >= at.row + 16)
                continue;
            if (imitates) {
                x = quantise1(x, inverse);
                y = quantise1(y, inverse);
            }
            *group_pair(room->m, t, j, at.q) = pack2(x * scale, y * scale);
        }
    }
}

/* ---- the state after ----------------------------------------------------- */

/* dv becomes what it adds to dx; tails: dv v / w, along p.  x: of the warp's
 * rows. */
static __device__ __forceinline__ void
pass_tails(float (&dv)[8][4], float tails[2], const uint32_t x[SIDE_STEPS][4],
           const struct back_factors &f, const struct group_place &at)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int s = at.row + at.g + 8 * r;
        const float factor = f.v_factor[s];
        float sum = 0.0f;
#pragma unroll
        for (int a = 0; a < 8; a++) {
            float2 own = get_pair(x[a / 2][a % 2 * 2 + r]);
            float *v = &dv[a][2 * r];
            sum = fmaf(v[0], own.x, fmaf(v[1], own.y, sum));
            v[0] *= factor;
            v[1] *= factor;
        }
        tails[r] = row_sum(sum) * f.tail[s];
    }
}

/* x becomes v^. */
static __device__ __forceinline__ void make_v(uint32_t x[SIDE_STEPS][4],
                                              const struct back_factors &f,
                                              const struct group_place &at,
                                              bool imitates)
{
    const int s = at.row + at.g;
    const float factor[2] = {f.v_factor[s], f.v_factor[s + 8]};
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int p = 16 * k + 2 * at.q + i / 2 * 8;
            float2 v = get_pair(x[k][i]);
            v.x *= factor[i % 2];
            v.y *= factor[i % 2];
            if (imitates) {
                const float2 inverse = *(const float2 *)(f.v_inverse + p);
                const float2 scale = *(const float2 *)(f.v_scale + p);
                v.x = quantise1(v.x, inverse.x) * scale.x;
                v.y = quantise1(v.y, inverse.y) * scale.y;
            }
            x[k][i] = pack2(v.x, v.y);
        }
    }
}

/* ---- the state before ---------------------------------------------------- */

/* dy times the scales of S^. */
static __device__ __forceinline__ void
scale_dy(uint32_t to[SIDE_STEPS][4], const uint32_t dy[SIDE_STEPS][4],
         const struct back_factors &f, const struct group_place &at)
{
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int p = 16 * k + 2 * at.q + i / 2 * 8;
            const float2 s = *(const float2 *)(f.state_scale + p);
            const float2 x = get_pair(dy[k][i]);
            to[k][i] = pack2(x.x * s.x, x.y * s.y);
        }
    }
}

/* dS S: the tiles lie alike, so that the order within a row does not matter. */
static __device__ __forceinline__ float
group_state_dot(const struct group_head &head, const struct back_factors &f)
{
    float all = 0.0f;
#pragma unroll
    for (int i = 0; i < GROUP_TILE / CELL / GROUP_THREADS; i++) {
        const int cell = threadIdx.x + i * GROUP_THREADS;
        const uint4 a = *(const uint4 *)(head.states + cell * CELL);
        const uint4 b = *(const uint4 *)(head.dstates + cell * CELL);
        const uint32_t x[4] = {a.x, a.y, a.z, a.w}, y[4] = {b.x, b.y, b.z, b.w};
        float sum = 0.0f;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float2 u = get_pair(x[k]), v = get_pair(y[k]);
            sum = fmaf(u.x, v.x, fmaf(u.y, v.y, sum));
        }
        all = fmaf(sum, f.state_scale[cell / 8], all);
    }
    return all * f.decay[CHUNK - 1];
}

/* dc += E[t] sum over p of dy[t][p] S[p]; rows += dy y, of what y has from the
 * state. */
static __device__ __forceinline__ void
add_group_dc(float (&dc)[8][4], float rows[2], const float (&sums)[8][4],
             struct group_room *room, const struct group_place &at)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int t = at.row + at.g + 8 * r;
        const float decay = room->factors.decay[t];
        float dots = 0.0f;
#pragma unroll
        for (int a = 0; a < 8; a++) {
            const float2 own = get_pair(*group_pair(room->c, t, a, at.q));
            const float x = sums[a][2 * r] * decay;
            const float y = sums[a][2 * r + 1] * decay;
            dc[a][2 * r] += x;
            dc[a][2 * r + 1] += y;
            dots = fmaf(x, own.x, fmaf(y, own.y, dots));
        }
        rows[r] = row_sum(rows[r] + dots) * room->c_scale[t];
    }
}

/* ---- results ------------------------------------------------------------- */

/* dx, from what it is times the scale of x, and from dy by way of D. */
static __device__ __forceinline__ void
finish_dx(float (&dx)[8][4], const uint32_t dy[SIDE_STEPS][4],
          const struct back_factors &f, const struct group_place &at, float d)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const float inverse = f.x_inverse[at.row + at.g + 8 * r];
#pragma unroll
        for (int a = 0; a < 8; a++) {
            const float2 down = get_pair(dy[a / 2][a % 2 * 2 + r]);
            float *x = &dx[a][2 * r];
            x[0] = fmaf(x[0], inverse, d * down.x);
            x[1] = fmaf(x[1], inverse, d * down.y);
        }
    }
}

/* A warp's sums for the block: of its rows, and of itself. */
static __device__ __forceinline__ void
share_sums(struct group_room *room, const float rows[2], const float tails[2],
           float end, float dd, const struct group_place &at)
{
    if (at.q == 0) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int s = at.row + at.g + 8 * r;
            room->sums.rows[s] = rows[r];
            room->sums.tails[s] = tails[r];
            end = fmaf(tails[r], room->factors.w[s], end);
        }
    }
    end = warp_sum(end);
    dd = warp_sum(dd);
    if (lane_of() == 0) {
        room->sums.end[at.row / 16] = end;
        room->sums.dd[at.row / 16] = dd;
    }
}

/* What the decays and delta of a head get, by place. */
static __device__ __forceinline__ void
put_group_decays(const struct chunk_job &j, const struct group_place &at,
                 const struct group_room *room, int head)
{
    const int s = threadIdx.x;
    const struct group_sums &sums = room->sums;
    if (s >= CHUNK)
        return;
    const size_t place = head * all_places(j) + at.c.place + s;
    float from = sums.tails[s], to = sums.rows[s], dd = 0.0f;
    for (int w = 0; w < SIDE_WARPS; w++) {
        from += sums.columns[w][s];
        dd += sums.dd[w];
        if (s == CHUNK - 1)
            to += sums.end[w];
    }
    j.ddelta[place] = from * room->factors.w_scale[s];
    j.dcum[place] = to - from * room->factors.w[s];
    if (s == 0)
        j.dd[(size_t)at.chunk * j.dd_ld + head] = dd;
}

/* dg, and dg times the scale of C, to tiles. */
static __device__ __forceinline__ void
put_group_dgram(__nv_bfloat16 *plain, __nv_bfloat16 *times_c,
                const float (&dgram)[8][4], const float *c_scale,
                const struct group_place &at)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int t = at.row + at.g + 8 * r;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float x = dgram[i][2 * r], y = dgram[i][2 * r + 1];
            *group_pair(plain, t, i, at.q) = pack2(x, y);
            *group_pair(times_c, t, i, at.q) =
                pack2(x * c_scale[t], y * c_scale[t]);
        }
    }
}

/* dC and dB of the group, from what all heads have left. */
static __device__ __forceinline__ void
put_group_dbc(const struct chunk_job &j, const struct group_place &at,
              struct group_room *room, const float (&dgram)[8][4],
              float (&dc)[8][4], float (&db)[8][4])
{
    __nv_bfloat16 *to = (__nv_bfloat16 *)j.dxbc + at.c.row * j.ld +
                        j.n_heads * SIDE + at.group * SIDE;
    __nv_bfloat16 *times_c = room->heads[0].dy, *stage = room->heads[0].x;
    put_group_dgram(room->m, times_c, dgram, room->c_scale, at);
    fence_async_proxy();
    __syncthreads();
    group_hold(dc);
    group_hold(db);
    group_begin();
    group_multiply<false, true>(dc, room->m, room->b, true);
    group_multiply<true, true>(db, times_c, room->c, true);
    group_commit();
    group_wait_for<0>();
    group_hold(dc);
    group_hold(db);
    for (int r = 0; r < 2; r++) {
        const float scale = room->b_scale[at.row + at.g + 8 * r];
        const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            db[i][2 * r] *= inverse;
            db[i][2 * r + 1] *= inverse;
        }
    }
    store_group_rows(to, j.ld, at.c.rows - at.row, stage, at.row, db);
    store_group_rows(to + j.n_groups * SIDE, j.ld, at.c.rows - at.row, stage,
                     at.row, dc);
}

#endif

/* ---- the whole ----------------------------------------------------------- */

static __global__ void __launch_bounds__(GROUP_THREADS, 2)
    chunk_group_back(const __grid_constant__ struct chunk_job j)
{
#if HAVE_WARPGROUP_PRODUCT
    extern __shared__ __align__(1024) char shared[];
    struct group_room *room = (struct group_room *)shared;
    const struct group_place at = group_place_of(j);
    const struct back_factors &f = room->factors;
    const int n_heads = j.n_heads / j.n_groups, first = at.group * n_heads;
    float dgram[8][4], dc[8][4], db[8][4];
    clear(dgram);
    clear(dc);
    clear(db);
    copy_group(room, j, at);
    copy_group_head(room, 0, j, at, first);
    for (int i = threadIdx.x; i < GROUP_TILE / CELL; i += GROUP_THREADS)
        *(uint4 *)(room->m + i * CELL) = make_uint4(0, 0, 0, 0);
    for (int k = 0; k < n_heads; k++) {
        struct group_head *head = &room->heads[k % 2];
        float dx[8][4], rows[2] = {0.0f, 0.0f}, tails[2], dd = 0.0f;
        uint32_t a[SIDE_STEPS][4], dy[SIDE_STEPS][4];
        copy_wait<0>();
        fence_async_proxy();
        __syncthreads(); /* the head is there, and no one reads the last one */
        if (k + 1 < n_heads)
            copy_group_head(room, 1 - k % 2, j, at, first + k + 1);
        {
            float gram[8][4], dm[8][4];
            group_begin();
            group_multiply<false, false>(dx, room->b, head->dstates, false);
            group_commit();
            group_multiply<false, false>(gram, room->c, room->b, false);
            group_multiply<false, false>(dm, head->dy, head->x, false);
            group_commit();
            make_factors(room, room->floats[k % 2], j.imitates);
            load_group_left(a, head->x, at.row);
            __syncthreads(); /* the factors are there */
            group_wait_for<1>();
            group_hold(dx);
            pass_tails(dx, tails, a, f, at);
            make_v(a, f, at, j.imitates);
            group_begin();
            group_multiply<true>(db, a, head->dstates, true);
            group_commit();
            group_wait_for<1>();
            group_hold(gram);
            group_hold(dm);
            weigh_group(gram, dgram, rows, &dd, dm, room, at);
            put_group_weights(room, gram, at, j.imitates);
            group_wait_for<0>(); /* no product reads a */
        }
        load_group_left(dy, head->dy, at.row);
        fence_async_proxy();
        __syncthreads(); /* m^ is there, and no one reads x */
        float sums[8][4];
        group_hold(dx);
        group_begin();
        group_multiply<true, true>(dx, room->m, head->dy, true);
        group_commit();
        scale_dy(a, dy, f, at);
        group_begin();
        group_multiply<true>(sums, a, head->states, false);
        group_commit();
        float end = group_state_dot(*head, f);
        group_wait_for<0>();
        group_hold(dx);
        group_hold(db);
        group_hold(sums);
        add_group_dc(dc, rows, sums, room, at);
        finish_dx(dx, dy, f, at, j.d[first + k]);
        store_group_rows((__nv_bfloat16 *)j.dxbc + at.c.row * j.ld +
                             (first + k) * SIDE,
                         j.ld, at.c.rows - at.row, head->x, at.row, dx);
        share_sums(room, rows, tails, end, dd, at);
        __syncthreads(); /* the sums are there */
        put_group_decays(j, at, room, first + k);
    }
    put_group_dbc(j, at, room, dgram, dc, db);
#endif
}

/* ---- launches ------------------------------------------------------------ */

void launch_group_back(const struct chunk_job *j, cudaStream_t stream)
{
    dim3 grid(all_chunks(j), j->n_groups);
    chunk_group_back<<<grid, GROUP_THREADS, sizeof(struct group_room),
                       stream>>>(*j);
}

enum status group_back_prepare_device(void)
{
    return allow_shared((const void *)chunk_group_back,
                        sizeof(struct group_room));
}
