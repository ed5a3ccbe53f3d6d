/* mamba2_decay.cu -- delta and the decays of Mamba-2's heads, and back to dt.
 *
 * A block has 32 heads of a chunk.  dt lies by bytes, all else by heads: a
 * tile in shared memory turns one into the other, and a warp sums along the
 * chunk, two places a lane.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/mamba2_decay.cuh"

#include "cuda/common/reduce.cuh"
#include "cuda/train/mamba2_chunk.cuh"

enum { DECAY_THREADS = 256, DECAY_HEADS = 32 };

/* The first row and place of a block's chunk, and its bytes. */
static __device__ __forceinline__ struct chunk_place
decay_place(const struct decay_job &j, int chunk)
{
    int w = chunk / j.n_chunks, first = chunk % j.n_chunks * CHUNK;
    return {(size_t)w * j.n_t + first, (size_t)chunk * CHUNK,
            min((int)CHUNK, j.n_t - first)};
}

static __device__ __forceinline__ float limited(const struct decay_job &j,
                                                float delta)
{
    return j.delta_max > 0.0f ? fminf(fmaxf(delta, j.delta_min), j.delta_max)
                              : delta;
}

/* The sum of x over the lanes up to this one, this one included. */
static __device__ __forceinline__ float sum_up_to(float x)
{
    for (int k = 1; k < WARP; k *= 2) {
        float before = __shfl_up_sync(WHOLE_WARP, x, k);
        if ((int)threadIdx.x % WARP >= k)
            x += before;
    }
    return x;
}

template <typename T>
static __global__ void __launch_bounds__(DECAY_THREADS)
    decay(const __grid_constant__ struct decay_job j)
{
    __shared__ float tile[DECAY_HEADS][CHUNK + 1];
    const int first = blockIdx.y * DECAY_HEADS;
    const int n_heads = min((int)DECAY_HEADS, j.n_heads - first);
    const struct chunk_place c = decay_place(j, blockIdx.x);
    const size_t n = (size_t)j.n_windows * j.n_chunks * CHUNK;
    for (int i = threadIdx.x; i < CHUNK * DECAY_HEADS; i += DECAY_THREADS) {
        int t = i / DECAY_HEADS, h = i % DECAY_HEADS;
        float delta = 0.0f;
        if (t < c.rows && h < n_heads) {
            const T *dt = (const T *)j.dt + (c.row + t) * j.ld + first + h;
            float scale = j.row_scale[c.row + t] * j.col_scale[first + h];
            delta = limited(
                j, fast_softplus(fmaf(get(*dt), scale, j.bias[first + h])));
        }
        tile[h][t] = delta;
    }
    __syncthreads();
    const int lane = threadIdx.x % WARP;
    for (int h = threadIdx.x / WARP; h < n_heads; h += DECAY_THREADS / WARP) {
        const float a = -exact_exp(j.a_log[first + h]) * EXACT_LOG2E;
        float x = tile[h][2 * lane], y = tile[h][2 * lane + 1];
        float sum = sum_up_to(a * x + a * y);
        size_t at = (first + h) * n + c.place + 2 * lane;
        *(float2 *)(j.delta + at) = make_float2(x, y);
        *(float2 *)(j.cum + at) = make_float2(sum - a * y, sum);
    }
}

/* ---- backward ------------------------------------------------------------ */

/* What a pair of places of a head gets by way of cum. */
static __device__ __forceinline__ float2 dcum_of(const struct decay_job &j,
                                                 size_t n, size_t at)
{
    float2 sum = make_float2(0.0f, 0.0f);
    for (int i = 0; i < j.n_parts; i++) {
        float2 x = *(const float2 *)(j.dcum + i * j.n_heads * n + at);
        sum.x += x.x;
        sum.y += x.y;
    }
    return sum;
}

/* The slope of softplus: 1 - e^-delta; 0 where a limit holds delta. */
static __device__ __forceinline__ float slope(const struct decay_job &j,
                                              float delta)
{
    bool is_held =
        j.delta_max > 0.0f && (delta <= j.delta_min || delta >= j.delta_max);
    return is_held ? 0.0f : -expm1f(-delta);
}

/* dA of a head and chunk, and its ddt to the tile. */
static __device__ __forceinline__ void
decay_head_back(const struct decay_job &j, float *tile, int head, size_t n,
                size_t place)
{
    const int lane = threadIdx.x % WARP;
    const float a = -exact_exp(j.a_log[head]);
    const size_t at = head * n + place + 2 * lane;
    const float2 delta = *(const float2 *)(j.delta + at);
    const float2 dcum = dcum_of(j, n, at);
    float2 dx = *(const float2 *)(j.ddelta + at);
    /* a place gets what all cums from its own on get */
    float up_to = sum_up_to(dcum.x + dcum.y);
    float all = __shfl_sync(WHOLE_WARP, up_to, WARP - 1);
    float y = all - up_to + dcum.y, x = y + dcum.x;
    dx.x = fmaf(a, x, dx.x) * slope(j, delta.x);
    dx.y = fmaf(a, y, dx.y) * slope(j, delta.y);
    tile[2 * lane] = dx.x;
    tile[2 * lane + 1] = dx.y;
    float da = warp_sum(a * fmaf(delta.x, x, delta.y * y));
    float dbias = warp_sum(dx.x + dx.y);
    if (lane > 0)
        return;
    float *partial = j.partial + (size_t)blockIdx.x * 3 * j.n_heads + head;
    partial[0] = dbias;
    partial[j.n_heads] = da;
}

template <typename T>
static __global__ void __launch_bounds__(DECAY_THREADS)
    decay_back(const __grid_constant__ struct decay_job j)
{
    __shared__ float tile[DECAY_HEADS][CHUNK + 1];
    const int first = blockIdx.y * DECAY_HEADS;
    const int n_heads = min((int)DECAY_HEADS, j.n_heads - first);
    const struct chunk_place c = decay_place(j, blockIdx.x);
    const size_t n = (size_t)j.n_windows * j.n_chunks * CHUNK;
    for (int h = threadIdx.x / WARP; h < n_heads; h += DECAY_THREADS / WARP)
        decay_head_back(j, tile[h], first + h, n, c.place);
    __syncthreads();
    for (int i = threadIdx.x; i < CHUNK * DECAY_HEADS; i += DECAY_THREADS) {
        int t = i / DECAY_HEADS, h = i % DECAY_HEADS;
        if (t < c.rows && h < n_heads)
            put((T *)j.ddt + (c.row + t) * j.ld + first + h,
                tile[h][t] * j.row_scale[c.row + t]);
    }
}

/* ---- launches ------------------------------------------------------------ */

static dim3 decay_grid(const struct decay_job *j)
{
    return dim3(j->n_windows * j->n_chunks, ceil_div(j->n_heads, DECAY_HEADS));
}

void launch_decay(const struct decay_job *j, bool in_float, cudaStream_t stream)
{
    if (in_float)
        decay<float><<<decay_grid(j), DECAY_THREADS, 0, stream>>>(*j);
    else
        decay<__nv_bfloat16><<<decay_grid(j), DECAY_THREADS, 0, stream>>>(*j);
}

void launch_decay_back(const struct decay_job *j, bool in_float,
                       cudaStream_t stream)
{
    if (in_float)
        decay_back<float><<<decay_grid(j), DECAY_THREADS, 0, stream>>>(*j);
    else
        decay_back<__nv_bfloat16>
            <<<decay_grid(j), DECAY_THREADS, 0, stream>>>(*j);
}
