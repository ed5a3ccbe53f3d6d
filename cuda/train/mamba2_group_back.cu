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

/* What weigh_group() reads of a row of a thread. */
struct weight_row {
    float cum, c_scale, x_scale, m_inverse, m_scale;
};

/* Two columns from s on of a row t of what weigh_group() does. */
template <bool IMITATES, bool IS_DIAGONAL>
static __device__ __forceinline__ uint32_t
weigh_pair(const float gram[2], float dgram[2], const float dm[2], float *row,
           float columns[2], float *dd, float2 cum, float2 weight,
           const struct weight_row &f, int s, int t)
{
    float m[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
        const float w = e ? weight.y : weight.x;
        float decay = fast_exp2(f.cum - (e ? cum.y : cum.x));
        if (IS_DIAGONAL && s + e > t)
            decay = 0.0f;
        if (IS_DIAGONAL && s + e == t)
            *dd = fmaf(dm[e], f.x_scale, *dd);
        const float gl = gram[e] * decay, through = dm[e] * gl;
        dgram[e] = fmaf(dm[e] * decay, w, dgram[e]);
        *row = fmaf(through, w, *row);
        columns[e] = fmaf(through, f.c_scale, columns[e]);
        m[e] = gl * w;
        if (IMITATES)
            m[e] = quantise1(m[e], f.m_inverse);
    }
    return pack2(m[0] * f.m_scale, m[1] * f.m_scale);
}

/* From g and dm: dgram += dg; m^, times its scale and that of C, to the tile,
 * where the rest is 0; rows and columns what passes the decays within the
 * chunk; dd, what D gets.  W: the number of the warp, which has rows from 16 W
 * on and so 16 W + 16 columns. */
template <bool IMITATES, int W>
static __device__ __forceinline__ void
weigh_rows_of(const float (&gram)[8][4], float (&dgram)[8][4], float rows[2],
              float *dd, const float (&dm)[8][4], struct group_room *room,
              const struct back_factors &f, struct group_sums *sums,
              const struct group_place &at)
{
    struct weight_row of[2];
    float columns[8][2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int t = 16 * W + at.g + 8 * r;
        of[r] = {f.cum[t], room->c_scale[t], f.x_scale[t], f.m_inverse[t],
                 f.m_scale[t]};
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const int s = 8 * j + 2 * at.q;
        columns[j][0] = columns[j][1] = 0.0f;
        if (j >= 2 * W + 2)
            continue;
        const float2 cum = *(const float2 *)(f.cum + s);
        const float2 w = *(const float2 *)(f.w + s);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int t = 16 * W + at.g + 8 * r;
            uint32_t *to = group_pair(room->m, t, j, at.q);
            if (j < 2 * W + r)
                *to = weigh_pair<IMITATES, false>(
                    gram[j] + 2 * r, dgram[j] + 2 * r, dm[j] + 2 * r, rows + r,
                    columns[j], dd, cum, w, of[r], s, t);
            else if (j == 2 * W + r)
                *to = weigh_pair<IMITATES, true>(
                    gram[j] + 2 * r, dgram[j] + 2 * r, dm[j] + 2 * r, rows + r,
                    columns[j], dd, cum, w, of[r], s, t);
        }
    }
    lanes_reduce_scatter<16, 4, WARP>(&columns[0][0]);
    const int i = lanes_scattered<16, 4, WARP>();
    *(float2 *)(sums->columns[W] + 4 * i + 2 * at.q) =
        make_float2(columns[0][0], columns[0][1]);
}

/* The same: each warp has code of its own, without branches. */
template <bool IMITATES>
static __device__ __forceinline__ void
weigh_group(const float (&gram)[8][4], float (&dgram)[8][4], float rows[2],
            float *dd, const float (&dm)[8][4], struct group_room *room,
            const struct back_factors &f, struct group_sums *sums,
            const struct group_place &at)
{
    switch (at.row / 16) {
    case 0:
        weigh_rows_of<IMITATES, 0>(gram, dgram, rows, dd, dm, room, f, sums,
                                   at);
        break;
    case 1:
        weigh_rows_of<IMITATES, 1>(gram, dgram, rows, dd, dm, room, f, sums,
                                   at);
        break;
    case 2:
        weigh_rows_of<IMITATES, 2>(gram, dgram, rows, dd, dm, room, f, sums,
                                   at);
        break;
    default:
        weigh_rows_of<IMITATES, 3>(gram, dgram, rows, dd, dm, room, f, sums,
                                   at);
    }
}

/* ---- the state after ----------------------------------------------------- */

/* dv becomes what it adds to dx; tails: dv x^, along p, to be added up over the
 * lanes of a row.  x: of the warp's rows. */
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
        tails[r] = sum;
    }
}

/* x becomes v^. */
template <bool IMITATES>
static __device__ __forceinline__ void make_v(uint32_t x[SIDE_STEPS][4],
                                              const struct back_factors &f,
                                              const struct group_place &at)
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
            if (IMITATES) {
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

/* dy times the scales of S^ and the decay from the chunk's start. */
static __device__ __forceinline__ void
scale_dy(uint32_t to[SIDE_STEPS][4], const uint32_t dy[SIDE_STEPS][4],
         const struct back_factors &f, const struct group_place &at)
{
    const int t = at.row + at.g;
    const float decay[2] = {f.decay[t], f.decay[t + 8]};
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int p = 16 * k + 2 * at.q + i / 2 * 8;
            const float2 s = *(const float2 *)(f.state_scale + p);
            const float2 x = get_pair(dy[k][i]);
            to[k][i] =
                pack2(x.x * (s.x * decay[i % 2]), x.y * (s.y * decay[i % 2]));
        }
    }
}

/* dS S, to be added up over the warp: of its rows p, the diagonal of a product
 * of both. */
static __device__ __forceinline__ float
group_state_dot(const struct group_head &head, const struct back_factors &f,
                const struct group_place &at)
{
    uint32_t s[SIDE_STEPS][4], ds[SIDE_STEPS][4];
    float low[4] = {0.0f}, high[4] = {0.0f};
    load_group_left(s, head.states, at.row);
    load_group_left(ds, head.dstates, at.row);
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++) {
        const uint32_t first[2] = {ds[k][0], ds[k][2]};
        const uint32_t second[2] = {ds[k][1], ds[k][3]};
        product_16x8x16(low, s[k], first);
        product_16x8x16(high, s[k], second);
    }
    const float *scale = f.state_scale + at.row + at.g;
    const bool is_odd = at.g % 2 != 0;
    const float sum = fmaf(is_odd ? low[1] : low[0], scale[0],
                           (is_odd ? high[3] : high[2]) * scale[8]);
    return at.g / 2 == at.q ? sum * f.decay[CHUNK - 1] : 0.0f;
}

/* rows += dy y, of what y has from the state: what this head has added to
 * dC C.  before: dC C until then. */
static __device__ __forceinline__ void
add_state_rows(float rows[2], float before[2], const float (&dc)[8][4],
               const struct group_room *room, const struct group_place &at)
{
    uint32_t c[SIDE_STEPS][4];
    load_group_left(c, room->c, at.row);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float dots = 0.0f;
#pragma unroll
        for (int a = 0; a < 8; a++) {
            const float2 own = get_pair(c[a / 2][a % 2 * 2 + r]);
            dots =
                fmaf(dc[a][2 * r], own.x, fmaf(dc[a][2 * r + 1], own.y, dots));
        }
        rows[r] += dots - before[r];
        before[r] = dots;
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
share_sums(struct group_sums *sums, const float rows[2], const float tails[2],
           float end, float dd, const struct group_room *room,
           const struct back_factors &f, const struct group_place &at)
{
    float of_rows[4] = {rows[0], rows[1], tails[0], tails[1]};
    lanes_reduce_scatter<4, 1, 4>(of_rows);
    const int s = at.row + at.g + at.q / 2 * 8;
    if (at.q % 2 == 0) {
        sums->rows[s] = of_rows[0] * room->c_scale[s];
    } else {
        const float tail = of_rows[0] * f.tail[s];
        sums->tails[s] = tail;
        end = fmaf(tail, f.w[s], end);
    }
    float of_warp[2] = {end, dd};
    lanes_reduce_scatter<2, 1, WARP>(of_warp);
    if (lane_of() < 2)
        (lane_of() == 0 ? sums->end : sums->dd)[at.row / 16] = of_warp[0];
}

/* What the decays and delta of a head get, by place. */
static __device__ __forceinline__ void
put_group_decays(const struct chunk_job &j, const struct group_place &at,
                 const struct group_sums &sums, const struct back_factors &f,
                 int head)
{
    const int s = threadIdx.x;
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
    j.ddelta[place] = from * f.w_scale[s];
    j.dcum[place] = to - from * f.w[s];
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

/* ---- the whole ----------------------------------------------------------- */

/* B, C, the first head, its factors, and the next one's floats are on their
 * way or there. */
template <bool IMITATES>
static __device__ __forceinline__ void
start_back(struct group_room *room, const struct chunk_job &j,
           const struct group_place &at, int first, int n_heads)
{
    copy_back_floats(&room->floats[0], j, at, first);
    copy_commit();
    if (n_heads > 1)
        copy_back_floats(&room->floats[1], j, at, first + 1);
    copy_group(room, j, at);
    copy_group_head(&room->heads[0], j, at, first);
    copy_commit();
    for (int i = threadIdx.x; i < GROUP_TILE / CELL; i += GROUP_THREADS)
        *(uint4 *)(room->m + i * CELL) = make_uint4(0, 0, 0, 0);
    copy_wait<1>();
    __syncthreads(); /* the floats and the scales of B and C are there */
    make_factors<IMITATES>(&room->factors[0], room->floats[0], room);
}

/* Beside the first products of head k: results of the last one, and what the
 * next one needs.  A thread reads what it overwrites of the factors. */
template <bool IMITATES>
static __device__ __forceinline__ void
turn_heads(struct group_room *room, const struct chunk_job &j,
           const struct group_place &at, int first, int k, int n_heads)
{
    const int other = 1 - k % 2;
    if (k + 1 < n_heads)
        copy_group_head(&room->heads[other], j, at, first + k + 1);
    if (k + 2 < n_heads)
        copy_back_floats(&room->floats[k % 2], j, at, first + k + 2);
    copy_commit();
    if (k > 0)
        put_group_decays(j, at, room->sums[other], room->factors[other],
                         first + k - 1);
    if (k + 1 < n_heads)
        make_factors<IMITATES>(&room->factors[other], room->floats[other],
                               room);
}

#endif

template <bool IMITATES>
static __global__ void __launch_bounds__(GROUP_THREADS, 2)
    chunk_group_back(const __grid_constant__ struct chunk_job j)
{
#if HAVE_WARPGROUP_PRODUCT
    extern __shared__ __align__(1024) char shared[];
    struct group_room *room = (struct group_room *)shared;
    const struct group_place at = group_place_of(j);
    const int n_heads = j.n_heads / j.n_groups, first = at.group * n_heads;
    float dgram[8][4], dc[8][4], db[8][4], dots[2] = {0.0f, 0.0f};
    clear(dgram);
    clear(dc);
    clear(db);
    start_back<IMITATES>(room, j, at, first, n_heads);
    for (int k = 0; k < n_heads; k++) {
        struct group_head *head = &room->heads[k % 2];
        const struct back_factors &f = room->factors[k % 2];
        struct group_sums *sums = &room->sums[k % 2];
        const float d = j.d[first + k];
        float dx[8][4], rows[2] = {0.0f, 0.0f}, tails[2], dd = 0.0f;
        uint32_t a[SIDE_STEPS][4], dy[SIDE_STEPS][4];
        copy_wait<0>();
        fence_async_proxy();
        __syncthreads(); /* the head and f are there; no one reads the last */
        {
            float gram[8][4], dm[8][4];
            group_begin();
            group_multiply<false, false>(gram, room->c, room->b, false);
            group_multiply<false, false>(dm, head->dy, head->x, false);
            group_commit();
            turn_heads<IMITATES>(room, j, at, first, k, n_heads);
            group_wait_for<0>();
            group_hold(gram);
            group_hold(dm);
            weigh_group<IMITATES>(gram, dgram, rows, &dd, dm, room, f, sums,
                                  at);
        }
        group_begin();
        group_multiply<false, false>(dx, room->b, head->dstates, false);
        group_commit();
        const float end = group_state_dot(*head, f, at);
        load_group_left(a, head->x, at.row);
        load_group_left(dy, head->dy, at.row);
        group_wait_for<0>();
        group_hold(dx);
        pass_tails(dx, tails, a, f, at);
        make_v<IMITATES>(a, f, at);
        fence_async_proxy();
        __syncthreads(); /* m^ is there, and no one reads x */
        group_hold(dx);
        group_begin();
        group_multiply<true, true>(dx, room->m, head->dy, true);
        group_commit();
        group_multiply<true>(db, a, head->dstates, true);
        group_commit();
        uint32_t scaled[SIDE_STEPS][4];
        scale_dy(scaled, dy, f, at);
        group_begin();
        group_multiply<true>(dc, scaled, head->states, true);
        group_commit();
        group_wait_for<2>();
        group_hold(dx);
        finish_dx(dx, dy, f, at, d);
        store_group_rows((__nv_bfloat16 *)j.dxbc + at.c.row * j.ld +
                             (first + k) * SIDE,
                         j.ld, at.c.rows - at.row, head->x, at.row, dx);
        group_wait_for<0>();
        group_hold(dc);
        group_hold(db);
        add_state_rows(rows, dots, dc, room, at);
        share_sums(sums, rows, tails, end, dd, room, f, at);
    }
    __syncthreads(); /* the last sums are there, and no product is under way */
    put_group_decays(j, at, room->sums[(n_heads - 1) % 2],
                     room->factors[(n_heads - 1) % 2], first + n_heads - 1);
    put_group_dbc(j, at, room, dgram, dc, db);
#endif
}

/* ---- launches ------------------------------------------------------------ */

void launch_group_back(const struct chunk_job *j, cudaStream_t stream)
{
    dim3 grid(all_chunks(j), j->n_groups);
    size_t shared = sizeof(struct group_room);
    if (j->imitates)
        chunk_group_back<true><<<grid, GROUP_THREADS, shared, stream>>>(*j);
    else
        chunk_group_back<false><<<grid, GROUP_THREADS, shared, stream>>>(*j);
}

enum status group_back_prepare_device(void)
{
    TRY(allow_shared((const void *)chunk_group_back<true>,
                     sizeof(struct group_room)));
    return allow_shared((const void *)chunk_group_back<false>,
                        sizeof(struct group_room));
}
