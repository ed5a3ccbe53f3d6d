/* mamba2_gate.cu -- the gated norm of Mamba-2, forward and backward.
 *
 * A block takes every gridDim-th row, and asks for the next one while it works
 * on one; thread i has the channels from 4 (i + k threads) on.  What the warps
 * tell each other of a row has room of its own beside that of the row before,
 * so that each sum takes one barrier.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_gate.cuh"

#include "cuda/common/reduce.cuh"
#include "cuda/train/fast_math.cuh"

/* Groups of four channels that a thread keeps: more where there are many. */
enum {
    FEW = 2,
    MANY = 4,
    D_OF_FEW = 2048,
    GATE_WARPS = 16,      /* of a block, at most                            */
    GATE_THREADS = 135168 /* of a grid, forward                             */
};

/* Of this row and the next one, what each warp has summed for each group, and
 * its largest. */
struct gate_room {
    float sums[2][GATE_GROUPS_MAX][GATE_WARPS];
    uint32_t largest[2][GATE_WARPS];
};

static int gate_threads(int d, int fours)
{
    return WARP * ceil_div(d, WARP * 4 * fours);
}

static constexpr int most_threads(int fours)
{
    return (fours == FEW ? (int)D_OF_FEW : (int)GATE_D_MAX) / (4 * fours);
}

/* Four sigmoids. */
static __device__ __forceinline__ float4 sigmoid4(float4 x)
{
    return make_float4(fast_sigmoid(x.x), fast_sigmoid(x.y), fast_sigmoid(x.z),
                       fast_sigmoid(x.w));
}

/* The group of each k. */
template <int FOURS>
static __device__ __forceinline__ void find_groups(int group[FOURS],
                                                   const struct gate_job &j)
{
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        const int i = 4 * (threadIdx.x + k * blockDim.x);
        group[k] = i < j.d ? i / (j.d / j.n_groups) : 0;
    }
}

static __device__ __forceinline__ void clear(struct gate_room *room)
{
    const int n = sizeof *room / sizeof(uint32_t);
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        ((uint32_t *)room)[i] = 0;
    __syncthreads();
}

/* A row's sum over a group. */
static __device__ __forceinline__ float total_of(const float sums[GATE_WARPS])
{
    float4 x = get4(sums);
#pragma unroll 1
    for (int i = 4; i < (int)blockDim.x / WARP; i += 4)
        x = plus(x, get4(sums + i));
    return (x.x + x.y) + (x.z + x.w);
}

/* A row's sum over the group of each k: x[k] is the part of the four channels
 * k.  A barrier. */
template <int FOURS>
static __device__ __forceinline__ void
group_totals(float totals[FOURS], const float x[FOURS], const int group[FOURS],
             int n_groups, float sums[GATE_GROUPS_MAX][GATE_WARPS])
{
#pragma unroll 1
    for (int g = 0; g < n_groups; g++) {
        float mine = 0.0f;
#pragma unroll
        for (int k = 0; k < FOURS; k++)
            mine += group[k] == g ? x[k] : 0.0f;
        mine = warp_sum(mine);
        if (threadIdx.x % WARP == 0)
            sums[g][threadIdx.x / WARP] = mine;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < FOURS; k++)
        totals[k] = total_of(sums[group[k]]);
}

/* The largest of a row.  A barrier. */
static __device__ __forceinline__ uint32_t
row_largest(uint32_t x, uint32_t largest[GATE_WARPS])
{
    x = warp_max(x);
    if (threadIdx.x % WARP == 0)
        largest[threadIdx.x / WARP] = x;
    __syncthreads();
#pragma unroll 1
    for (int i = 0; i < (int)blockDim.x / WARP; i += 4) {
        const uint4 four = *(const uint4 *)(largest + i);
        x = max(max(max(x, four.x), four.y), max(four.z, four.w));
    }
    return x;
}

/* ---- forward ------------------------------------------------------------- */

/* What a row needs, as it lies in memory. */
template <typename T, int FOURS> struct gate_input {
    four<T> y[FOURS], z[FOURS];
    float z_row;
};

template <typename T, int FOURS>
static __device__ __forceinline__ void
load_gate_input(struct gate_input<T, FOURS> &to, const struct gate_job &j,
                size_t row)
{
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        const int i = 4 * (threadIdx.x + k * blockDim.x);
        if (i >= j.d)
            continue;
        to.y[k] = load_four<T>(j.y, row * j.d + i);
        to.z[k] = load_four<T>(j.z, row * j.ld + i);
    }
    to.z_row = j.z_row[row];
}

/* v, and the sum of its squares for each k. */
template <typename T, int FOURS>
static __device__ __forceinline__ void
gate_values(float4 v[FOURS], float squares[FOURS],
            const struct gate_input<T, FOURS> &now, const struct gate_job &j)
{
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        const int i = 4 * (threadIdx.x + k * blockDim.x);
        v[k] = zero4();
        if (i < j.d) {
            float4 x = times(get4(now.z[k]), now.z_row, get4(j.z_col + i));
            v[k] = product(get4(now.y[k]), product(x, sigmoid4(x)));
        }
        squares[k] = dot4(v[k], v[k]);
    }
}

template <typename T, int FOURS>
static __global__ void __launch_bounds__(most_threads(FOURS),
                                         FOURS == FEW ? 5 : 1)
    gate(const __grid_constant__ struct gate_job j)
{
    __shared__ __align__(16) struct gate_room room;
    const int step = 4 * blockDim.x, first = 4 * threadIdx.x;
    const size_t n_rows = j.n_rows;
    const float share = (float)j.n_groups / (float)j.d;
    int group[FOURS], turn = 0;
    find_groups<FOURS>(group, j);
    struct gate_input<T, FOURS> next;
    load_gate_input(next, j, blockIdx.x);
    clear(&room);
    for (size_t row = blockIdx.x; row < n_rows; row += gridDim.x, turn ^= 1) {
        const struct gate_input<T, FOURS> now = next;
        float4 v[FOURS];
        float squares[FOURS], totals[FOURS];
        uint32_t amax = 0;
        if (row + gridDim.x < n_rows)
            load_gate_input(next, j, row + gridDim.x);
        gate_values(v, squares, now, j);
        group_totals<FOURS>(totals, squares, group, j.n_groups,
                            room.sums[turn]);
#pragma unroll
        for (int k = 0; k < FOURS; k++) {
            int i = first + k * step;
            if (i >= j.d)
                continue;
            float r = rsqrtf(fmaf(totals[k], share, j.epsilon));
            v[k] = product(scaled(v[k], r), get4(j.weight + i));
            amax = max(amax, magnitude4(v[k]));
        }
        if ((int)threadIdx.x < j.n_groups)
            j.r[row * j.n_groups + threadIdx.x] = rsqrtf(
                fmaf(total_of(room.sums[turn][threadIdx.x]), share, j.epsilon));
        struct exact_scale s = {1.0f, 1.0f};
        if (j.imitates) {
            s = scale_of(row_largest(amax, room.largest[turn]));
            if (threadIdx.x == 0)
                put_scale(j.scale, row, s);
        }
#pragma unroll
        for (int k = 0; k < FOURS; k++) {
            int i = first + k * step;
            if (i < j.d)
                put4((T *)j.out + row * j.d + i,
                     j.imitates ? quantise4(v[k], s) : v[k]);
        }
    }
}

/* ---- backward ------------------------------------------------------------ */

/* silu'(x), s being sigmoid(x) */
static __device__ __forceinline__ float silu_slope_of(float x, float s)
{
    return s * fmaf(x, 1.0f - s, 1.0f);
}

/* With c = v r and e = dout weight:  dv = r (e - c mean of e c) */
static __device__ __forceinline__ float4 dv_of(float4 e, float4 c, float r,
                                               float mean)
{
    return make_float4(r * fmaf(-c.x, mean, e.x), r * fmaf(-c.y, mean, e.y),
                       r * fmaf(-c.z, mean, e.z), r * fmaf(-c.w, mean, e.w));
}

/* What a row needs, as it lies in memory. */
template <typename T, int FOURS> struct gate_row {
    four<T> y[FOURS], z[FOURS], dout[FOURS];
    float r[FOURS], z_row, inverse;
};

template <typename T, int FOURS>
static __device__ __forceinline__ void
load_gate_row(struct gate_row<T, FOURS> &to, const struct gate_job &j,
              const int group[FOURS], size_t row)
{
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        const int i = 4 * (threadIdx.x + k * blockDim.x);
        if (i >= j.d)
            continue;
        to.dout[k] = load_four<T>(j.dout, row * j.d + i);
        to.y[k] = load_four<T>(j.y, row * j.d + i);
        to.z[k] = load_four<T>(j.z, row * j.ld + i);
        to.r[k] = j.r[row * j.n_groups + group[k]];
    }
    to.z_row = j.z_row[row];
    to.inverse = j.scale.inverse[row];
}

template <typename T, int FOURS>
static __global__ void __launch_bounds__(most_threads(FOURS),
                                         FOURS == FEW ? 3 : 1)
    gate_back(const __grid_constant__ struct gate_job j)
{
    __shared__ __align__(16) struct gate_room room;
    const int step = 4 * blockDim.x, first = 4 * threadIdx.x;
    const size_t n_rows = j.n_rows;
    const float share = (float)j.n_groups / (float)j.d;
    float4 dweight[FOURS];
#pragma unroll
    for (int k = 0; k < FOURS; k++)
        dweight[k] = zero4();
    int group[FOURS], turn = 0;
    find_groups<FOURS>(group, j);
    struct gate_row<T, FOURS> next;
    load_gate_row(next, j, group, blockIdx.x);
    clear(&room);
    for (size_t row = blockIdx.x; row < n_rows; row += gridDim.x, turn ^= 1) {
        const struct gate_row<T, FOURS> now = next;
        float4 e[FOURS], x[FOURS], sigmoid[FOURS];
        float along[FOURS], totals[FOURS];
        if (row + gridDim.x < n_rows)
            load_gate_row(next, j, group, row + gridDim.x);
#pragma unroll
        for (int k = 0; k < FOURS; k++) {
            int i = first + k * step;
            along[k] = 0.0f;
            if (i >= j.d)
                continue;
            x[k] = times(get4(now.z[k]), now.z_row, get4(j.z_col + i));
            sigmoid[k] = sigmoid4(x[k]);
            float4 d = scaled(get4(now.dout[k]), now.inverse);
            float4 c = scaled(
                product(get4(now.y[k]), product(x[k], sigmoid[k])), now.r[k]);
            e[k] = product(d, get4(j.weight + i));
            dweight[k] = fused(d, c, dweight[k]);
            along[k] = dot4(e[k], c);
        }
        group_totals<FOURS>(totals, along, group, j.n_groups, room.sums[turn]);
#pragma unroll
        for (int k = 0; k < FOURS; k++) {
            int i = first + k * step;
            if (i >= j.d)
                continue;
            const float r = now.r[k], mean = totals[k] * share;
            float4 own = get4(now.y[k]), silu = product(x[k], sigmoid[k]);
            float4 c = scaled(product(own, silu), r);
            float4 dv = dv_of(e[k], c, r, mean);
            put4((T *)j.dy + row * j.d + i, product(dv, silu));
            float4 slope = make_float4(silu_slope_of(x[k].x, sigmoid[k].x),
                                       silu_slope_of(x[k].y, sigmoid[k].y),
                                       silu_slope_of(x[k].z, sigmoid[k].z),
                                       silu_slope_of(x[k].w, sigmoid[k].w));
            put4((T *)j.dz + row * j.ld + i,
                 scaled(product(product(dv, own), slope), now.z_row));
        }
    }
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        int i = first + k * step;
        if (i < j.d)
            put4(j.partial + (size_t)blockIdx.x * j.d + i, dweight[k]);
    }
}

/* ---- launches ------------------------------------------------------------ */

template <typename T>
static void forward(const struct gate_job *j, cudaStream_t stream)
{
    const int fours = j->d <= D_OF_FEW ? FEW : MANY;
    const int threads = gate_threads(j->d, fours);
    const int most = GATE_THREADS / threads;
    const int blocks = j->n_rows < most ? j->n_rows : most;
    if (fours == FEW)
        gate<T, FEW><<<blocks, threads, 0, stream>>>(*j);
    else
        gate<T, MANY><<<blocks, threads, 0, stream>>>(*j);
}

void launch_gate(const struct gate_job *j, bool in_float, cudaStream_t stream)
{
    in_float ? forward<float>(j, stream) : forward<__nv_bfloat16>(j, stream);
}

template <typename T>
static void back(const struct gate_job *j, int blocks, cudaStream_t stream)
{
    if (j->d <= D_OF_FEW)
        gate_back<T, FEW><<<blocks, gate_threads(j->d, FEW), 0, stream>>>(*j);
    else
        gate_back<T, MANY><<<blocks, gate_threads(j->d, MANY), 0, stream>>>(*j);
}

int launch_gate_back(const struct gate_job *j, bool in_float,
                     cudaStream_t stream)
{
    int blocks = j->n_rows < GATE_BLOCKS ? j->n_rows : (int)GATE_BLOCKS;
    in_float ? back<float>(j, blocks, stream)
             : back<__nv_bfloat16>(j, blocks, stream);
    return blocks;
}
