/* mamba2_conv.cu -- the convolution of Mamba-2, forward.
 *
 * What is rounded together is a run of neighbouring channels: the x of a head,
 * the B or the C of a group.  Where each run is 8, 16 or 32 lanes of a warp,
 * four channels a lane, a warp does without the others: conv_lanes.  Else a
 * block has some whole runs of 32 rows, and 64 threads side by side have four
 * channels each, of eight rows: conv_heads.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_conv.cuh"

#include "cuda/common/reduce.cuh"

enum {
    LANES_THREADS = 128,
    LANES_ROWS = 64, /* of a warp of conv_lanes */
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
            m = max(m, __shfl_xor_sync(WHOLE_WARP, m, k));
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

/* ---- runs within a warp -------------------------------------------------- */

/* The largest of eight numbers each of `lanes` lanes, 8, 16 or 32: a lane gets
 * that of number lane % 8. */
static __device__ __forceinline__ uint32_t largest_of_row(uint32_t x[SPAN_ROWS],
                                                          int lane, int lanes)
{
#pragma unroll
    for (int half = SPAN_ROWS / 2; half > 0; half /= 2) {
        const bool is_upper = lane & half;
#pragma unroll
        for (int i = 0; i < half; i++) {
            uint32_t keep = is_upper ? x[i + half] : x[i];
            uint32_t send = is_upper ? x[i] : x[i + half];
            x[i] = max(keep, __shfl_xor_sync(WHOLE_WARP, send, half));
        }
    }
    uint32_t m = x[0];
#pragma unroll
    for (int k = SPAN_ROWS; k < WARP; k *= 2) {
        uint32_t other = __shfl_xor_sync(WHOLE_WARP, m, k);
        m = lanes > k ? max(m, other) : m;
    }
    return m;
}

/* The channels of a lane, and its run: id as in struct runs. */
struct lane_run {
    int c, id, lanes;
    bool is_there;
};

static __device__ __forceinline__ struct lane_run
lane_run_of(const struct conv_heads_job &j, int warp_column, int lane)
{
    struct lane_run r;
    const int c = 4 * (warp_column * WARP + lane);
    const int d_inner = j.n_heads * j.headdim;
    r.is_there = c < j.conv.channels;
    r.c = r.is_there ? c : 0;
    r.id = r.c < d_inner ? r.c / j.headdim
                         : j.n_heads + (r.c - d_inner) / j.d_state;
    r.lanes = (r.c < d_inner ? j.headdim : j.d_state) / 4;
    return r;
}

/* Rounds eight rows; the first eight lanes of a run keep their scales. */
static __device__ __forceinline__ void
round_rows(float4 u[SPAN_ROWS], const struct conv_heads_job &j,
           const struct lane_run &run, int lane, int w, int t0)
{
    uint32_t amax[SPAN_ROWS];
#pragma unroll
    for (int i = 0; i < SPAN_ROWS; i++)
        amax[i] = run.is_there ? magnitude4(u[i]) : 0;
    const struct exact_scale s =
        scale_of(largest_of_row(amax, lane, run.lanes));
    const int t = t0 + lane % SPAN_ROWS;
    if (run.is_there && lane % run.lanes < SPAN_ROWS && t < j.conv.n_t) {
        size_t n = (size_t)gridDim.y * j.n_places;
        size_t place = (size_t)w * j.n_places + t;
        if (run.id < j.n_heads)
            j.x_scale[run.id * n + place] = s.scale;
        else
            j.bc_scale[(run.id - j.n_heads) * n + place] = s.scale;
    }
#pragma unroll
    for (int i = 0; i < SPAN_ROWS; i++) {
        float inverse =
            __shfl_sync(WHOLE_WARP, s.inverse, (lane & ~(SPAN_ROWS - 1)) | i);
        u[i] = quantise4(u[i], {inverse, inverse}); /* both 0, or neither */
    }
}

/* A warp has 128 channels of 64 rows: it asks for the next eight rows while it
 * works on eight. */
template <typename T, int TAPS>
static __global__ void __launch_bounds__(LANES_THREADS, TAPS > 4 ? 2 : 4)
    conv_lanes(const __grid_constant__ struct conv_heads_job j, int n_columns)
{
    const struct train_conv_job &conv = j.conv;
    const int unit = (blockIdx.x * LANES_THREADS + threadIdx.x) / WARP;
    const int lane = threadIdx.x % WARP, w = blockIdx.y, n_t = conv.n_t;
    const struct lane_run run = lane_run_of(j, unit % n_columns, lane);
    const int c = run.c, first = unit / n_columns * LANES_ROWS;
    const int end = min(first + LANES_ROWS, n_t);
    if (first >= n_t)
        return;
    struct conv_row<T> next[SPAN_ROWS];
#pragma unroll
    for (int i = 0; i < SPAN_ROWS; i++)
        next[i] = load_row<T>(conv, w, first + i, c);
    float4 taps[TAPS], x[TAPS];
    const float4 bias = get4(conv.bias + c), scale = get4(conv.col_scale + c);
    load_taps<TAPS>(taps, conv, c);
#pragma unroll
    for (int i = 1; i < TAPS; i++) {
        int t = first + i - TAPS;
        x[i] = t < 0 ? past(conv, w, t, c)
                     : input_of<T>(load_row<T>(conv, w, t, c), scale);
    }
    for (int t = first; t < end; t += SPAN_ROWS) {
        float4 u[SPAN_ROWS];
        struct conv_row<T> now[SPAN_ROWS];
#pragma unroll
        for (int i = 0; i < SPAN_ROWS; i++)
            now[i] = next[i];
        if (t + SPAN_ROWS < end)
#pragma unroll
            for (int i = 0; i < SPAN_ROWS; i++)
                next[i] = load_row<T>(conv, w, t + SPAN_ROWS + i, c);
#pragma unroll
        for (int i = 0; i < SPAN_ROWS; i++) {
            push<TAPS>(x, input_of<T>(now[i], scale));
            float4 a = convolve<TAPS>(taps, x, bias);
            u[i] = make_float4(fast_silu(a.x), fast_silu(a.y), fast_silu(a.z),
                               fast_silu(a.w));
        }
        if (conv.imitates)
            round_rows(u, j, run, lane, w, t);
        T *to = (T *)conv.u + ((size_t)w * n_t + t) * conv.channels + c;
#pragma unroll
        for (int i = 0; i < SPAN_ROWS; i++)
            if (run.is_there && t + i < n_t)
                put4(to + (size_t)i * conv.channels, u[i]);
    }
    if (run.is_there && end == n_t)
        keep_history<T>(conv, w, c);
}

/* ---- launches ------------------------------------------------------------ */

static bool is_part_of_warp(int width)
{
    return width == 32 || width == 64 || width == 128;
}

template <typename T, int TAPS>
static void conv(const struct conv_heads_job *j, int n_windows,
                 cudaStream_t stream)
{
    if (is_part_of_warp(j->headdim) && is_part_of_warp(j->d_state) &&
        j->n_heads * j->headdim % j->d_state == 0) {
        int columns = ceil_div(j->conv.channels, 4 * WARP);
        int warps = columns * ceil_div(j->conv.n_t, LANES_ROWS);
        dim3 grid(ceil_div(warps, LANES_THREADS / WARP), n_windows);
        conv_lanes<T, TAPS><<<grid, LANES_THREADS, 0, stream>>>(*j, columns);
        return;
    }
    dim3 grid(ceil_div(j->conv.n_t, TEAMS * SPAN_ROWS),
              head_blocks(j) + group_blocks(j), n_windows);
    conv_heads<T, TAPS><<<grid, HEADS_THREADS, 0, stream>>>(*j);
}

void launch_conv_heads(const struct conv_heads_job *j, int n_windows,
                       bool in_float, cudaStream_t stream)
{
    if (in_float && j->conv.d_conv <= 4)
        conv<float, 4>(j, n_windows, stream);
    else if (in_float)
        conv<float, 8>(j, n_windows, stream);
    else if (j->conv.d_conv <= 4)
        conv<__nv_bfloat16, 4>(j, n_windows, stream);
    else
        conv<__nv_bfloat16, 8>(j, n_windows, stream);
}
