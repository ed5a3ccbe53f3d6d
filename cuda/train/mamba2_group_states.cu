/* mamba2_group_states.cu -- what mamba2_states.cu computes, by products of a
 * warpgroup and in one pass: heads of 64 channels, 64 states, bf16.
 *
 * A block is a warpgroup and has a head of a window.  It goes through the
 * chunks with the state in registers: what a chunk adds is made where it is
 * added, and while it works on a chunk, the next one's numbers are copied.
 * Backward it goes from the last chunk to the first.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_group_tile.cuh"
#include "cuda/train/mamba2_chunk.cuh"
#include "cuda/train/row_scale.cuh"

/* x^ and B^, or dy and C^. */
struct states_chunk {
    __nv_bfloat16 x[GROUP_TILE], b[GROUP_TILE];
};

/* Of this chunk and the next one; factor: what row s of x is multiplied with;
 * decay: over the chunk. */
struct states_room {
    struct states_chunk chunks[2];
    __nv_bfloat16 out[GROUP_TILE];
    float factor[2][SIDE], decay[2];
};

#if HAVE_WARPGROUP_PRODUCT

struct states_place {
    int window, head, group, row, g, q;
};

/* What a thread knows of a place of the next chunk. */
struct place_floats {
    float cum, last, factor;
};

static __device__ __forceinline__ int
chunk_of_turn(const struct chunk_job &j, int window, int turn, bool back)
{
    return window * j.n_chunks + (back ? j.n_chunks - 1 - turn : turn);
}

template <bool BACK>
static __device__ __forceinline__ void
copy_chunk(struct states_chunk *to, const struct chunk_job &j,
           const struct states_place &at, int chunk)
{
    const struct chunk_place c = chunk_at(j, chunk);
    const int d_inner = j.n_heads * SIDE, ld = BACK ? d_inner : j.ld;
    const __nv_bfloat16 *xbc = (const __nv_bfloat16 *)j.xbc + c.row * j.ld;
    const __nv_bfloat16 *x =
        BACK ? (const __nv_bfloat16 *)j.dy + c.row * d_inner : xbc;
    copy_group_rows(to->x, x + at.head * SIDE, ld, c.rows);
    copy_group_rows(to->b,
                    xbc + d_inner + ((BACK ? j.n_groups : 0) + at.group) * SIDE,
                    j.ld, c.rows);
    copy_commit();
}

/* Asks for what the factor of a place is made of. */
template <bool BACK>
static __device__ __forceinline__ struct place_floats
load_place(const struct chunk_job &j, const struct states_place &at, int chunk)
{
    const size_t first = at.head * all_places(j) + (size_t)chunk * CHUNK;
    const int s = threadIdx.x % SIDE;
    const size_t place = (size_t)chunk * CHUNK + s;
    struct place_floats f;
    f.cum = j.cum[first + s];
    f.last = j.cum[first + CHUNK - 1];
    f.factor = BACK ? scale_at(j, j.bc_scale, j.n_groups + at.group, place)
                    : j.delta[first + s] *
                          scale_at(j, j.x_scale, at.head, place) *
                          scale_at(j, j.bc_scale, at.group, place);
    return f;
}

template <bool BACK>
static __device__ __forceinline__ void
put_factor(struct states_room *room, int turn, const struct place_floats &f)
{
    const int s = threadIdx.x;
    if (s < SIDE)
        room->factor[turn][s] =
            fast_exp2(BACK ? f.cum : f.last - f.cum) * f.factor;
    if (s == 0)
        room->decay[turn] = fast_exp2(f.last);
}

/* The left side, 16 rows p and all 64 terms s, from x[s][p]: each term times
 * its factor, and rounded to int8 where QUANTISES.  amax and scale: of the rows
 * g and g + 8. */
template <bool QUANTISES>
static __device__ __forceinline__ void
weigh_terms(uint32_t a[SIDE_STEPS][4], float amax[2], float scale[2],
            const __nv_bfloat16 *x, const float *factor,
            const struct states_place &at)
{
    const int lane = lane_of(), cell = at.row / CELL + lane / 8 % 2;
    float2 v[SIDE_STEPS][4];
    amax[0] = amax[1] = 0.0f;
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++) {
        const int s = 16 * k + lane / 16 * 8 + lane % 8;
        load_transposed(a[k], x + s * SIDE + (cell ^ lane % 8) * CELL);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 f =
                *(const float2 *)(factor + 16 * k + 2 * at.q + i / 2 * 8);
            float2 y = get_pair(a[k][i]);
            y.x *= f.x;
            y.y *= f.y;
            v[k][i] = y;
            amax[i % 2] = fmaxf(amax[i % 2], fmaxf(fabsf(y.x), fabsf(y.y)));
        }
    }
    struct exact_scale s[2] = {{1.0f, 1.0f}, {1.0f, 1.0f}};
#pragma unroll
    for (int r = 0; r < 2; r++) {
        if (QUANTISES) {
            amax[r] = row_max(amax[r]);
            s[r] = small_scale(amax[r]);
        }
        scale[r] = s[r].scale;
    }
#pragma unroll
    for (int k = 0; k < SIDE_STEPS; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 y = v[k][i];
            if (QUANTISES)
                y = make_float2(quantise1(y.x, s[i % 2].inverse),
                                quantise1(y.y, s[i % 2].inverse));
            a[k][i] = pack2(y.x, y.y);
        }
}

/* The state, S^ where QUANTISES, to memory; with its scales and those of v. */
template <bool QUANTISES>
static __device__ __forceinline__ void
put_states(const struct chunk_job &j, __nv_bfloat16 *to,
           struct states_room *room, const float (&s)[8][4], int chunk,
           const struct states_place &at)
{
    float q[8][4], largest[2] = {0.0f, 0.0f};
    struct exact_scale scale[2] = {{1.0f, 1.0f}, {1.0f, 1.0f}};
#pragma unroll
    for (int i = 0; i < 8 && QUANTISES; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            largest[e / 2] = fmaxf(largest[e / 2], fabsf(s[i][e]));
#pragma unroll
    for (int r = 0; r < 2 && QUANTISES; r++) {
        scale[r] = small_scale(row_max(largest[r]));
        if (at.q == 0)
            j.state_scale[((size_t)chunk * j.n_heads + at.head) * SIDE +
                          at.row + at.g + 8 * r] = scale[r].scale;
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            q[i][e] =
                QUANTISES ? quantise1(s[i][e], scale[e / 2].inverse) : s[i][e];
    store_group_rows(to + state_at(j, chunk, at.head), SIDE, SIDE - at.row,
                     room->out, at.row, q);
}

/* The largest v of a warp's rows, for the way back. */
static __device__ __forceinline__ void
keep_largest(const struct chunk_job &j, int chunk,
             const struct states_place &at, const float amax[2])
{
    float *to = j.v_largest + ((size_t)chunk * j.n_heads + at.head) * SIDE +
                at.row + at.g;
    if (at.q == 0) {
        to[0] = amax[0];
        to[8] = amax[1];
    }
}

/* S = decay S + scale part; scale: of the rows g and g + 8. */
static __device__ __forceinline__ void add_part(float (&s)[8][4], float decay,
                                                const float (&part)[8][4],
                                                const float scale[2])
{
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            s[i][e] = fmaf(decay, s[i][e], part[i][e] * scale[e / 2]);
}

/* Where a state's image has columns 8 i + 2 q of row g + 8 r. */
static __device__ __forceinline__ size_t image_at(const struct chunk_job &j,
                                                  const struct states_place &at,
                                                  int i, int r)
{
    return at.window * j.stride +
           ((size_t)at.head * SIDE + at.row + at.g + 8 * r) * SIDE + 8 * i +
           2 * at.q;
}

static __device__ __forceinline__ void load_image(float (&s)[8][4],
                                                  const struct chunk_job &j,
                                                  const struct states_place &at)
{
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float2 x = *(const float2 *)(j.start + image_at(j, at, i, r));
            s[i][2 * r] = x.x;
            s[i][2 * r + 1] = x.y;
        }
}

static __device__ __forceinline__ void
store_image(const struct chunk_job &j, const float (&s)[8][4],
            const struct states_place &at)
{
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int r = 0; r < 2; r++)
            *(float2 *)(j.end + image_at(j, at, i, r)) =
                make_float2(s[i][2 * r], s[i][2 * r + 1]);
}

#endif

template <bool BACK, bool QUANTISES>
static __global__ void __launch_bounds__(GROUP_THREADS, 4)
    chunk_group_states(const __grid_constant__ struct chunk_job j)
{
#if HAVE_WARPGROUP_PRODUCT
    extern __shared__ __align__(1024) char shared[];
    struct states_room *room = (struct states_room *)shared;
    const int lane = lane_of(), head = blockIdx.x;
    const struct states_place at = {
        (int)blockIdx.y, head,     head / (j.n_heads / j.n_groups),
        warp_of() * 16,  lane / 4, lane % 4};
    __nv_bfloat16 *to = (__nv_bfloat16 *)(BACK ? j.dstates : j.states);
    float s[8][4];
    clear(s);
    if (!BACK)
        load_image(s, j, at);
    int chunk = chunk_of_turn(j, at.window, 0, BACK);
    copy_chunk<BACK>(&room->chunks[0], j, at, chunk);
    put_factor<BACK>(room, 0, load_place<BACK>(j, at, chunk));
    for (int k = 0; k < j.n_chunks; k++) {
        const int turn = k % 2, next = BACK ? chunk - 1 : chunk + 1;
        const bool goes_on = k + 1 < j.n_chunks;
        struct states_chunk *now = &room->chunks[turn];
        float part[8][4], amax[2], scale[2];
        uint32_t a[SIDE_STEPS][4];
        struct place_floats f = {};
        copy_wait<0>();
        fence_async_proxy();
        __syncthreads(); /* it is there, and no one reads the last one */
        if (goes_on) {
            copy_chunk<BACK>(&room->chunks[1 - turn], j, at, next);
            f = load_place<BACK>(j, at, next);
        }
        weigh_terms<QUANTISES>(a, amax, scale, now->x, room->factor[turn], at);
        group_begin();
        group_multiply<true>(part, a, now->b, false);
        group_commit();
        put_states<QUANTISES>(j, to, room, s, chunk, at);
        if (QUANTISES)
            keep_largest(j, chunk, at, amax);
        const float decay = room->decay[turn];
        if (goes_on)
            put_factor<BACK>(room, 1 - turn, f);
        group_wait_for<0>();
        group_hold(part);
        add_part(s, decay, part, scale);
        chunk = next;
    }
    if (!BACK)
        store_image(j, s, at);
#endif
}

/* ---- launches ------------------------------------------------------------ */

void launch_group_states(const struct chunk_job *j, cudaStream_t stream)
{
    dim3 grid(j->n_heads, j->n_windows);
    size_t shared = sizeof(struct states_room);
    if (j->imitates)
        chunk_group_states<false, true>
            <<<grid, GROUP_THREADS, shared, stream>>>(*j);
    else
        chunk_group_states<false, false>
            <<<grid, GROUP_THREADS, shared, stream>>>(*j);
}

void launch_group_dstates(const struct chunk_job *j, cudaStream_t stream)
{
    dim3 grid(j->n_heads, j->n_windows);
    chunk_group_states<true, false>
        <<<grid, GROUP_THREADS, sizeof(struct states_room), stream>>>(*j);
}

enum status group_states_prepare_device(void)
{
    const void *kernels[] = {(const void *)chunk_group_states<false, true>,
                             (const void *)chunk_group_states<false, false>,
                             (const void *)chunk_group_states<true, false>};
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++)
        TRY(allow_shared(kernels[i], sizeof(struct states_room)));
    return OK;
}
