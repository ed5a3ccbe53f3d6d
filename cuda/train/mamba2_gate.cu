/* mamba2_gate.cu -- the gated norm of Mamba-2, forward and backward.
 *
 * A block a row; thread i has the channels from 4 (i + k threads) on.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_gate.cuh"

#include "cuda/common/reduce.cuh"
#include "cuda/train/fast_math.cuh"

/* Groups of four channels that a thread keeps: more where there are many. */
enum { FEW = 2, MANY = 4, D_OF_FEW = 2048 };

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

/* A row's sum over each group, for all threads: x[k] is the part of the four
 * channels k.  room: [WARP] shared floats; sums: [GATE_GROUPS_MAX] shared. */
template <int FOURS>
static __device__ __forceinline__ void
group_totals(float sums[], const float x[FOURS], const struct gate_job &j,
             float *room)
{
    const int width = j.d / j.n_groups;
    for (int g = 0; g < j.n_groups; g++) {
        float mine = 0.0f;
#pragma unroll
        for (int k = 0; k < FOURS; k++) {
            int i = 4 * (threadIdx.x + k * blockDim.x);
            mine += j.n_groups == 1 || i / width == g ? x[k] : 0.0f;
        }
        float total = block_sum(mine, room);
        if (threadIdx.x == 0)
            sums[g] = total;
    }
    __syncthreads();
}

static __device__ __forceinline__ int group_of(const struct gate_job &j, int i)
{
    return j.n_groups == 1 ? 0 : i / (j.d / j.n_groups);
}

template <typename T, int FOURS>
static __global__ void __launch_bounds__(most_threads(FOURS))
    gate(const __grid_constant__ struct gate_job j)
{
    __shared__ float room[WARP], totals[GATE_GROUPS_MAX];
    const int step = 4 * blockDim.x, first = 4 * threadIdx.x;
    const size_t row = blockIdx.x;
    const float z_row = j.z_row[row];
    four<T> y[FOURS], z[FOURS];
    float4 v[FOURS];
    float squares[FOURS];
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        int i = first + k * step;
        if (i >= j.d)
            continue;
        y[k] = load_four<T>(j.y, row * j.d + i);
        z[k] = load_four<T>(j.z, row * j.ld + i);
    }
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        int i = first + k * step;
        v[k] = zero4();
        if (i < j.d) {
            float4 x = times(get4(z[k]), z_row, get4(j.z_col + i));
            v[k] = product(get4(y[k]), product(x, sigmoid4(x)));
        }
        squares[k] = dot4(v[k], v[k]);
    }
    group_totals<FOURS>(totals, squares, j, room);
    uint32_t amax = 0;
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        int i = first + k * step;
        if (i >= j.d)
            continue;
        float mean = totals[group_of(j, i)] * j.n_groups / j.d;
        float r = 1.0f / sqrtf(mean + j.epsilon);
        v[k] = product(scaled(v[k], r), get4(j.weight + i));
        amax = max(amax, magnitude4(v[k]));
    }
    if ((int)threadIdx.x < j.n_groups)
        j.r[row * j.n_groups + threadIdx.x] =
            1.0f / sqrtf(totals[threadIdx.x] * j.n_groups / j.d + j.epsilon);
    struct exact_scale s = {1.0f, 1.0f};
    if (j.imitates) {
        s = exact_scale_of(block_max(amax, room));
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
    float z_row, inverse;
};

template <typename T, int FOURS>
static __device__ __forceinline__ void
load_gate_row(struct gate_row<T, FOURS> &to, const struct gate_job &j,
              size_t row)
{
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        const int i = 4 * (threadIdx.x + k * blockDim.x);
        if (i >= j.d)
            continue;
        to.dout[k] = load_four<T>(j.dout, row * j.d + i);
        to.y[k] = load_four<T>(j.y, row * j.d + i);
        to.z[k] = load_four<T>(j.z, row * j.ld + i);
    }
    to.z_row = j.z_row[row];
    to.inverse = j.scale.inverse[row];
}

/* A block takes every gridDim-th row, and asks for the next one while it works
 * on one. */
template <typename T, int FOURS>
static __global__ void __launch_bounds__(most_threads(FOURS))
    gate_back(const __grid_constant__ struct gate_job j)
{
    __shared__ float room[WARP], totals[GATE_GROUPS_MAX];
    const int step = 4 * blockDim.x, first = 4 * threadIdx.x;
    const size_t n_rows = j.n_rows;
    float4 dweight[FOURS];
#pragma unroll
    for (int k = 0; k < FOURS; k++)
        dweight[k] = zero4();
    struct gate_row<T, FOURS> next;
    load_gate_row(next, j, blockIdx.x);
    for (size_t row = blockIdx.x; row < n_rows; row += gridDim.x) {
        const struct gate_row<T, FOURS> now = next;
        float4 e[FOURS], x[FOURS], sigmoid[FOURS];
        float along[FOURS];
        if (row + gridDim.x < n_rows)
            load_gate_row(next, j, row + gridDim.x);
#pragma unroll
        for (int k = 0; k < FOURS; k++) {
            int i = first + k * step;
            along[k] = 0.0f;
            if (i >= j.d)
                continue;
            float r = j.r[row * j.n_groups + group_of(j, i)];
            x[k] = times(get4(now.z[k]), now.z_row, get4(j.z_col + i));
            sigmoid[k] = sigmoid4(x[k]);
            float4 d = scaled(get4(now.dout[k]), now.inverse);
            float4 c =
                scaled(product(get4(now.y[k]), product(x[k], sigmoid[k])), r);
            e[k] = product(d, get4(j.weight + i));
            dweight[k] = fused(d, c, dweight[k]);
            along[k] = dot4(e[k], c);
        }
        group_totals<FOURS>(totals, along, j, room);
#pragma unroll
        for (int k = 0; k < FOURS; k++) {
            int i = first + k * step;
            if (i >= j.d)
                continue;
            float r = j.r[row * j.n_groups + group_of(j, i)];
            float mean = totals[group_of(j, i)] * j.n_groups / j.d;
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
    if (j->d <= D_OF_FEW)
        gate<T, FEW><<<j->n_rows, gate_threads(j->d, FEW), 0, stream>>>(*j);
    else
        gate<T, MANY><<<j->n_rows, gate_threads(j->d, MANY), 0, stream>>>(*j);
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
