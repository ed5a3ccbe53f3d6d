/* mamba2_conv.cu -- the convolution of Mamba-2, forward.
 *
 * What is rounded together is a run of neighbouring channels: the x of a head,
 * the B or the C of a group.  A block has some whole runs of 32 rows: 64
 * threads side by side have four channels each, of eight rows.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_conv.cuh"

enum {
    HEADS_THREADS = 256,
    ABREAST = 64,                    /* threads side by side              */
    TEAMS = HEADS_THREADS / ABREAST, /* each has SPAN_ROWS rows           */
    RUNS_MAX = 4 * ABREAST / 8       /* of a block: 8 channels at least   */
};

/* The channels of a block. */
struct runs {
    int first, width; /* the first run's channel, and the channels of each  */
    int n;
    int id; /* of the first: heads, then B, then C of the groups            */
};

static __host__ __device__ __forceinline__ int runs_abreast(int width)
{
    return 4 * ABREAST / width;
}

static __host__ __device__ __forceinline__ int
head_blocks(const struct conv_heads_job *j)
{
    return ceil_div(j->n_heads, runs_abreast(j->headdim));
}

static __host__ __device__ __forceinline__ int
group_blocks(const struct conv_heads_job *j)
{
    return ceil_div(2 * j->n_groups, runs_abreast(j->d_state));
}

static __device__ __forceinline__ struct runs
runs_of(const struct conv_heads_job &j, int block)
{
    struct runs r;
    const int n_blocks = head_blocks(&j);
    const bool is_x = block < n_blocks;
    r.width = is_x ? j.headdim : j.d_state;
    const int n = runs_abreast(r.width), k = is_x ? block : block - n_blocks;
    r.n = min(n, (is_x ? j.n_heads : 2 * j.n_groups) - k * n);
    r.first = k * n * r.width + (is_x ? 0 : j.n_heads * j.headdim);
    r.id = k * n + (is_x ? 0 : j.n_heads);
    return r;
}

/* Threads, a power of two, whose channels are of one run. */
static __device__ __forceinline__ int alike(int width)
{
    int n = width / 4;
    return min(n & -n, (int)WARP);
}

/* The scale of each run and row, which `scales` then has. */
static __device__ __forceinline__ void
scale_runs(struct exact_scale scales[RUNS_MAX][TEAMS * SPAN_ROWS],
           uint32_t largest[RUNS_MAX][TEAMS * SPAN_ROWS],
           const uint32_t amax[SPAN_ROWS], const struct conv_heads_job &j,
           const struct runs &runs, int run, int w, int t0)
{
    const int n_alike = alike(runs.width), team = threadIdx.x / ABREAST;
    for (int i = threadIdx.x; i < RUNS_MAX * TEAMS * SPAN_ROWS;
         i += HEADS_THREADS)
        (&largest[0][0])[i] = 0;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < SPAN_ROWS; i++) {
        uint32_t m = amax[i];
        for (int k = n_alike / 2; k > 0; k /= 2)
            m = max(m, __shfl_xor_sync(0xffffffffu, m, k));
        if (threadIdx.x % n_alike == 0 && run < runs.n)
            atomicMax(&largest[run][team * SPAN_ROWS + i], m);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < runs.n * TEAMS * SPAN_ROWS;
         i += HEADS_THREADS) {
        int r = i / (TEAMS * SPAN_ROWS), row = i % (TEAMS * SPAN_ROWS);
        int t = t0 + row, id = runs.id + r;
        struct exact_scale s = exact_scale_of(largest[r][row]);
        scales[r][row] = s;
        if (t >= j.conv.n_t)
            continue;
        size_t n = (size_t)gridDim.z * j.n_places;
        size_t place = (size_t)w * j.n_places + t;
        if (id < j.n_heads)
            j.x_scale[id * n + place] = s.scale;
        else
            j.bc_scale[(id - j.n_heads) * n + place] = s.scale;
    }
    __syncthreads();
}

template <typename T, int TAPS>
static __global__ void __launch_bounds__(HEADS_THREADS, TAPS > 4 ? 1 : 2)
    conv_heads(const __grid_constant__ struct conv_heads_job j)
{
    __shared__ struct exact_scale scales[RUNS_MAX][TEAMS * SPAN_ROWS];
    __shared__ uint32_t largest[RUNS_MAX][TEAMS * SPAN_ROWS];
    const struct runs runs = runs_of(j, blockIdx.y);
    const int w = blockIdx.z, t0 = blockIdx.x * TEAMS * SPAN_ROWS;
    const int team = threadIdx.x / ABREAST, lane = threadIdx.x % ABREAST;
    const int run = 4 * lane / runs.width, c = runs.first + 4 * lane;
    const int first = t0 + team * SPAN_ROWS, n_t = j.conv.n_t;
    const bool has_work = run < runs.n && first < n_t;
    float4 u[SPAN_ROWS];
    uint32_t amax[SPAN_ROWS];
#pragma unroll
    for (int i = 0; i < SPAN_ROWS; i++) {
        u[i] = zero4();
        amax[i] = 0;
    }
    if (has_work)
        convolve_rows<T, TAPS>(j.conv, w, first, c, [&](int i, float4 x) {
            u[i] = x;
            amax[i] = magnitude4(x);
        });
    if (has_work && first + SPAN_ROWS >= n_t)
        keep_history<T>(j.conv, w, c);
    if (j.conv.imitates)
        scale_runs(scales, largest, amax, j, runs, run, w, t0);
    T *to = (T *)j.conv.u + ((size_t)w * n_t + first) * j.conv.channels + c;
#pragma unroll
    for (int i = 0; i < SPAN_ROWS; i++) {
        if (!has_work || first + i >= n_t)
            continue;
        if (j.conv.imitates)
            u[i] = quantise4(u[i], scales[run][team * SPAN_ROWS + i]);
        put4(to + (size_t)i * j.conv.channels, u[i]);
    }
}

void launch_conv_heads(const struct conv_heads_job *j, int n_windows,
                       bool in_float, cudaStream_t stream)
{
    dim3 grid(ceil_div(j->conv.n_t, TEAMS * SPAN_ROWS),
              head_blocks(j) + group_blocks(j), n_windows);
    if (in_float && j->conv.d_conv <= 4)
        conv_heads<float, 4><<<grid, HEADS_THREADS, 0, stream>>>(*j);
    else if (in_float)
        conv_heads<float, 8><<<grid, HEADS_THREADS, 0, stream>>>(*j);
    else if (j->conv.d_conv <= 4)
        conv_heads<__nv_bfloat16, 4><<<grid, HEADS_THREADS, 0, stream>>>(*j);
    else
        conv_heads<__nv_bfloat16, 8><<<grid, HEADS_THREADS, 0, stream>>>(*j);
}
