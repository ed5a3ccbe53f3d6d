/* mamba2_gate.cu -- the gated norm of Mamba-2, forward and backward.
 *
 * Thread i has the channels from 8 i on, all of one group.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_gate.cuh"

#include "cuda/common/reduce.cuh"
#include "cuda/train/fast_math.cuh"

enum {
    BLOCK_ROWS = 32,  /* of a block, forward                                 */
    D_OF_MANY = 4096, /* channels up to which a block takes the more rows   */
    GATE_WARPS = GATE_D_MAX / (8 * WARP)
};

static int gate_threads(int d)
{
    return round_up(ceil_div(d, 8), WARP);
}

static constexpr int most_threads(bool has_many)
{
    return (has_many ? (int)D_OF_MANY : (int)GATE_D_MAX) / 8;
}

/* Four sigmoids. */
static __device__ __forceinline__ float4 sigmoid4(float4 x)
{
    return make_float4(fast_sigmoid(x.x), fast_sigmoid(x.y), fast_sigmoid(x.z),
                       fast_sigmoid(x.w));
}

/* The channels of a thread: eight from c on, of a group; and what every row
 * needs for them. */
struct gate_channels {
    int c, group;
    bool is_there;
    float4 weight[2], z_col[2];
};

static __device__ __forceinline__ struct gate_channels
load_channels(const struct gate_job &j)
{
    struct gate_channels to;
    to.is_there = 8 * (int)threadIdx.x < j.d;
    to.c = to.is_there ? 8 * threadIdx.x : 0;
    to.group = to.is_there ? to.c / (j.d / j.n_groups) : -1;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        to.weight[h] = get4(j.weight + to.c + 4 * h);
        to.z_col[h] = get4(j.z_col + to.c + 4 * h);
    }
    return to;
}

/* ---- forward ------------------------------------------------------------- */

/* What the warps tell of some rows, and what they are told. */
template <int ROWS> struct gate_room {
    float sums[ROWS][GATE_GROUPS_MAX][GATE_WARPS + 1]; /* of squares        */
    uint32_t largest[ROWS][GATE_GROUPS_MAX][GATE_WARPS + 1];
    float factors[ROWS][GATE_GROUPS_MAX]; /* of v weight, to the integers   */
};

/* What a row needs, as it lies in memory. */
template <typename T> struct gate_input {
    eight<T> y, z;
    float z_row;
};

template <typename T>
static __device__ __forceinline__ struct gate_input<T>
load_gate_input(const struct gate_job &j, int c, size_t row) {
    return {load_eight<T>(j.y, row *j.d + c), load_eight<T>(j.z, row *j.ld + c),
            j.z_row[row]};
}

/* v weight; returns the sum of the squares of v. */
template <typename T>
static __device__ __forceinline__ float
gate_values(float4 vw[2], const struct gate_input<T> &in,
            const struct gate_channels &own)
{
    float squares = 0.0f;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float4 x = times(get4(in.z.half[h]), in.z_row, own.z_col[h]);
        float4 v = product(get4(in.y.half[h]), product(x, sigmoid4(x)));
        squares += dot4(v, v);
        vw[h] = product(v, own.weight[h]);
    }
    return squares;
}

/* What this warp has of some rows. */
template <int ROWS>
static __device__ __forceinline__ void
tell_rows(struct gate_room<ROWS> *room, const float squares[ROWS],
          const float4 vw[ROWS][2], int group, int n_groups)
{
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
#pragma unroll 1
    for (int g = 0; g < n_groups; g++) {
        float sums[ROWS];
        uint32_t largest = 0;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            uint32_t m = max(magnitude4(vw[i][0]), magnitude4(vw[i][1]));
            m = warp_max(group == g ? m : 0);
            largest = lane == i ? m : largest;
            sums[i] = group == g ? squares[i] : 0.0f;
        }
        lanes_reduce_scatter<ROWS, 1, WARP>(sums);
        if (lane < ROWS) {
            room->sums[lanes_scattered<ROWS, 1, WARP>()][g][warp] = sums[0];
            room->largest[lane][g][warp] = largest;
        }
    }
}

/* For one warp: r of all groups of some rows, their scales, and the factors.
 * A lane has a group of a row. */
template <int ROWS>
static __device__ __forceinline__ void finish_rows(struct gate_room<ROWS> *room,
                                                   const struct gate_job &j,
                                                   size_t first)
{
    const int i = threadIdx.x / GATE_GROUPS_MAX % ROWS;
    const int g = threadIdx.x % GATE_GROUPS_MAX;
    const size_t row = first + i;
    const bool is_there = g < j.n_groups && row < (size_t)j.n_rows &&
                          threadIdx.x < ROWS * GATE_GROUPS_MAX;
    float sum = 0.0f;
    uint32_t largest = 0;
    for (int k = 0; is_there && k < (int)blockDim.x / WARP; k++) {
        sum += room->sums[i][g][k];
        largest = max(largest, room->largest[i][g][k]);
    }
    const float share = (float)j.n_groups / (float)j.d;
    const float r = rsqrtf(fmaf(sum, share, j.epsilon));
    const uint32_t amax = lanes_max<GATE_GROUPS_MAX>(
        is_there ? magnitude_bits(exact_float(largest) * r) : 0);
    const struct exact_scale s = scale_of(amax);
    if (!is_there)
        return;
    j.r[row * j.n_groups + g] = r;
    room->factors[i][g] = j.imitates ? s.inverse * r : r;
    if (j.imitates && g == 0)
        put_scale(j.scale, row, s);
}

/* A block takes some rows at a time: what a row costs beside its channels
 * (addresses, sums over the block, the scale) is as much as they, if it is not
 * shared.  A row's largest number is that of v weight, times r, so that all
 * that the rows need of other threads comes at once. */
template <typename T, int ROWS>
static __global__ void __launch_bounds__(most_threads(ROWS == 4))
    gate(const __grid_constant__ struct gate_job j)
{
    __shared__ struct gate_room<ROWS> room;
    const struct gate_channels own = load_channels(j);
    const size_t n_rows = j.n_rows, start = (size_t)blockIdx.x * BLOCK_ROWS;
    const size_t end = min(start + BLOCK_ROWS, n_rows);
    for (size_t first = start; first < end; first += ROWS) {
        struct gate_input<T> in[ROWS];
        float4 vw[ROWS][2];
        float squares[ROWS];
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            in[i] = load_gate_input<T>(j, own.c, min(first + i, n_rows - 1));
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            squares[i] = gate_values(vw[i], in[i], own);
        tell_rows<ROWS>(&room, squares, vw, own.group, j.n_groups);
        __syncthreads(); /* all have told, and read the last factors */
        if (threadIdx.x < WARP)
            finish_rows<ROWS>(&room, j, first);
        __syncthreads(); /* the factors are there */
#pragma unroll
        for (int i = 0; i < ROWS && own.is_there; i++) {
            const float factor = room.factors[i][own.group];
            if (first + i >= end)
                break;
#pragma unroll
            for (int h = 0; h < 2; h++)
                vw[i][h] = j.imitates ? quantise4(vw[i][h], {factor, factor})
                                      : scaled(vw[i][h], factor);
            put8((T *)j.out + (first + i) * j.d + own.c, vw[i]);
        }
    }
}

/* ---- backward ------------------------------------------------------------ */

/* What a row needs, as it lies in memory. */
template <typename T> struct gate_row {
    eight<T> y, z, dout;
    float r, z_row, inverse;
};

template <typename T>
static __device__ __forceinline__ struct gate_row<T>
load_gate_row(const struct gate_job &j, const struct gate_channels &own,
              size_t row) {
    return {load_eight<T>(j.y, row *j.d + own.c),
            load_eight<T>(j.z, row *j.ld + own.c),
            load_eight<T>(j.dout, row *j.d + own.c),
            j.r[row * j.n_groups + max(own.group, 0)],
            j.z_row[row],
            j.scale.inverse[row]};
}

/* silu(z) and its sigmoid, of four channels. */
struct silu_parts {
    float4 sigmoid, silu;
};

static __device__ __forceinline__ struct silu_parts silu_parts_of(float4 x)
{
    const float4 s = sigmoid4(x);
    return {s, product(x, s)};
}

/* silu'(z): s + silu (1 - s) */
static __device__ __forceinline__ float4 slope_of(const struct silu_parts &z)
{
    const float4 s = z.sigmoid;
    return fused(
        z.silu, make_float4(1.0f - s.x, 1.0f - s.y, 1.0f - s.z, 1.0f - s.w), s);
}

/* The sum of x over the group of this thread.  A barrier. */
static __device__ __forceinline__ float
group_total(float x, float sums[GATE_GROUPS_MAX][GATE_WARPS], int group,
            int n_groups)
{
#pragma unroll 1
    for (int g = 0; g < n_groups; g++) {
        float mine = warp_sum(group == g ? x : 0.0f);
        if (threadIdx.x % WARP == 0)
            sums[g][threadIdx.x / WARP] = mine;
    }
    __syncthreads(); /* all have told of this row */
    const float *from = sums[max(group, 0)];
    float4 total = get4(from);
#pragma unroll 1
    for (int i = 4; i < (int)blockDim.x / WARP; i += 4)
        total = plus(total, get4(from + i));
    return (total.x + total.y) + (total.z + total.w);
}

/* dweight += d v r, where d is dout by its scale; returns the sum of
 * dout v weight. */
template <typename T>
static __device__ __forceinline__ float
add_row(float4 dweight[2], struct silu_parts z[2],
        const struct gate_row<T> &row, const struct gate_channels &own)
{
    const float4 along = splat(row.inverse * row.r);
    float sum = 0.0f;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        z[h] =
            silu_parts_of(times(get4(row.z.half[h]), row.z_row, own.z_col[h]));
        float4 v = product(get4(row.y.half[h]), z[h].silu);
        float4 dv = product(get4(row.dout.half[h]), v);
        dweight[h] = fused(along, dv, dweight[h]);
        sum += dot4(dv, own.weight[h]);
    }
    return sum;
}

/* With the mean m over a group of d weight v r:
 *     dv = r (d weight - v r m);  dy = dv silu(z);  dz = dv y silu'(z) */
template <typename T>
static __device__ __forceinline__ void
put_row(const struct gate_job &j, size_t at, const struct gate_row<T> &row,
        const struct silu_parts z[2], const struct gate_channels &own,
        float sum)
{
    const float share = (float)j.n_groups / (float)j.d;
    const float along = row.inverse * row.r;
    const float against = -(along * row.r * row.r * (sum * share));
    float4 dy[2], dz[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float4 y = get4(row.y.half[h]);
        float4 dw = product(get4(row.dout.half[h]), own.weight[h]);
        float4 dv =
            fused(splat(against), product(y, z[h].silu), scaled(dw, along));
        dy[h] = product(dv, z[h].silu);
        dz[h] = scaled(product(product(dv, y), slope_of(z[h])), row.z_row);
    }
    put8((T *)j.dy + at * j.d + own.c, dy);
    put8((T *)j.dz + at * j.ld + own.c, dz);
}

/* A block takes every gridDim-th row, and asks for the next one while it works
 * on one.  Sums of a row have room of their own beside those of the row before,
 * so that a row takes one barrier. */
template <typename T, int THREADS>
static __global__ void __launch_bounds__(THREADS, THREADS > 256 ? 1 : 2)
    gate_back(const __grid_constant__ struct gate_job j)
{
    __shared__ __align__(16) float sums[2][GATE_GROUPS_MAX][GATE_WARPS];
    const struct gate_channels own = load_channels(j);
    const size_t n_rows = j.n_rows;
    float4 dweight[2] = {zero4(), zero4()};
    struct gate_row<T> next = load_gate_row<T>(j, own, blockIdx.x);
    int turn = 0;
    for (int i = threadIdx.x; i < 2 * GATE_GROUPS_MAX * GATE_WARPS;
         i += blockDim.x)
        (&sums[0][0][0])[i] = 0.0f;
    __syncthreads(); /* sums of warps that are not there are 0 */
    for (size_t row = blockIdx.x; row < n_rows; row += gridDim.x, turn ^= 1) {
        const struct gate_row<T> now = next;
        struct silu_parts z[2];
        if (row + gridDim.x < n_rows)
            next = load_gate_row<T>(j, own, row + gridDim.x);
        float sum = add_row(dweight, z, now, own);
        sum = group_total(sum, sums[turn], own.group, j.n_groups);
        if (own.is_there)
            put_row(j, row, now, z, own, sum);
    }
    if (own.is_there)
        put8(j.partial + (size_t)blockIdx.x * j.d + own.c, dweight);
}

/* ---- launches ------------------------------------------------------------ */

template <typename T>
static void forward(const struct gate_job *j, cudaStream_t stream)
{
    const int threads = gate_threads(j->d);
    const int blocks = ceil_div(j->n_rows, BLOCK_ROWS);
    if (j->d <= D_OF_MANY)
        gate<T, 4><<<blocks, threads, 0, stream>>>(*j);
    else
        gate<T, 2><<<blocks, threads, 0, stream>>>(*j);
}

void launch_gate(const struct gate_job *j, bool in_float, cudaStream_t stream)
{
    in_float ? forward<float>(j, stream) : forward<__nv_bfloat16>(j, stream);
}

template <typename T>
static void back(const struct gate_job *j, int blocks, cudaStream_t stream)
{
    const int threads = gate_threads(j->d);
    if (threads <= 256)
        gate_back<T, 256><<<blocks, threads, 0, stream>>>(*j);
    else
        gate_back<T, GATE_D_MAX / 8><<<blocks, threads, 0, stream>>>(*j);
}

int launch_gate_back(const struct gate_job *j, bool in_float,
                     cudaStream_t stream)
{
    int blocks = j->n_rows < GATE_BLOCKS ? j->n_rows : (int)GATE_BLOCKS;
    in_float ? back<float>(j, blocks, stream)
             : back<__nv_bfloat16>(j, blocks, stream);
    return blocks;
}
