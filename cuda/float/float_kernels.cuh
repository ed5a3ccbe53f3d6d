/* float_kernels.cuh -- the kernels of float_engine.cu: what cpu_scalar.c does
 * with floats, a row a byte.
 *
 * Sums are in binary32, whatever the type of the weights.  Their order is not
 * that of the CPU: a model of floats does not promise equal bits.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FLOAT_KERNELS_CUH
#define MAMBYTE_FLOAT_KERNELS_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/common/overflow.cuh"
#include "cuda/common/reduce.cuh"

enum {
    NORM_THREADS = 256,
    CHANNEL_THREADS = 64,
    TILE = 64,       /* rows and columns of a block's part of a product  */
    TILE_DEPTH = 16, /* columns of the weights at a time                 */
    TILE_THREADS = 256,
    EACH = 4,         /* a thread has EACH x EACH of the part             */
    FEW = 8,          /* rows that a warp takes at a time                 */
    FEW_THREADS = 128 /* four warps, a row of the weights each            */
};

static __device__ __forceinline__ float float_of(float x)
{
    return x;
}

static __device__ __forceinline__ float float_of(__half x)
{
    return __half2float(x);
}

static __device__ __forceinline__ float float_of(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

/* h[t] <- the embedding of byte t; a block a row. */
static __global__ void embed_kernel(float *h, const float *embedding,
                                    const uint8_t *bytes, int d)
{
    const float *from = embedding + (size_t)bytes[blockIdx.x] * d;
    for (int i = threadIdx.x; i < d; i += blockDim.x)
        h[(size_t)blockIdx.x * d + i] = from[i];
}

/* x[t] <- norm(h[t]); a block a row.  overflow: NULL but for the final norm. */
static __global__ void norm_kernel(float *x, const float *h,
                                   const float *weight, const float *bias,
                                   float epsilon, int d, uint32_t *overflow)
{
    size_t row = (size_t)blockIdx.x * d;
    float sum = 0, squares = 0;
    for (int i = threadIdx.x; bias && i < d; i += blockDim.x)
        sum += h[row + i];
    float mean = bias ? block_sum_in_turn<NORM_THREADS>(sum) / d : 0.0f;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        float c = h[row + i] - mean;
        squares = fmaf(c, c, squares);
    }
    squares = block_sum_in_turn<NORM_THREADS>(squares);
    if (overflow)
        check_finite(overflow, squares);
    float r = 1.0f / sqrtf(squares / d + epsilon);
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        float c = (h[row + i] - mean) * r * weight[i];
        x[row + i] = bias ? c + bias[i] : c;
    }
}

/* y[t][r] (+)= x[t] . w[r] */
struct float_product {
    float *y; /* [n_t][ld_y] */
    int ld_y;
    const float *x; /* [n_t][ld_x] */
    int ld_x, n_t;
    const void *w; /* [rows][cols] */
    int rows, cols;
    bool accumulate;
};

static __device__ __forceinline__ void put(const struct float_product &p, int t,
                                           int r, float v)
{
    float *y = p.y + (size_t)t * p.ld_y + r;
    *y = p.accumulate ? *y + v : v;
}

/* Few rows: a warp reads a row of the weights once for FEW of them. */
template <typename T> static __global__ void few_kernel(struct float_product p)
{
    int r = blockIdx.x * (FEW_THREADS / WARP) + threadIdx.x / WARP;
    int t0 = blockIdx.y * FEW, lane = threadIdx.x % WARP;
    if (r >= p.rows)
        return;
    const T *w = (const T *)p.w + (size_t)r * p.cols;
    float sum[FEW] = {};
    for (int k = lane; k < p.cols; k += WARP) {
        float weight = float_of(w[k]);
#pragma unroll
        for (int i = 0; i < FEW; i++) {
            if (t0 + i < p.n_t)
                sum[i] =
                    fmaf(weight, p.x[(size_t)(t0 + i) * p.ld_x + k], sum[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < FEW; i++) {
        float total = warp_sum(sum[i]);
        if (lane == 0 && t0 + i < p.n_t)
            put(p, t0 + i, r, total);
    }
}

/* Many rows: a block makes TILE x TILE of the product. */
template <typename T> static __global__ void tile_kernel(struct float_product p)
{
    __shared__ float xs[TILE_DEPTH][TILE + 1], ws[TILE_DEPTH][TILE + 1];
    int t0 = blockIdx.y * TILE, r0 = blockIdx.x * TILE;
    int ty = threadIdx.x / (TILE / EACH), tx = threadIdx.x % (TILE / EACH);
    float sum[EACH][EACH] = {};
    for (int k0 = 0; k0 < p.cols; k0 += TILE_DEPTH) {
        for (int i = threadIdx.x; i < TILE * TILE_DEPTH; i += TILE_THREADS) {
            int row = i / TILE_DEPTH, k = i % TILE_DEPTH;
            bool has_k = k0 + k < p.cols;
            xs[k][row] = has_k && t0 + row < p.n_t
                             ? p.x[(size_t)(t0 + row) * p.ld_x + k0 + k]
                             : 0.0f;
            ws[k][row] =
                has_k && r0 + row < p.rows
                    ? float_of((
                          (const T *)p.w)[(size_t)(r0 + row) * p.cols + k0 + k])
                    : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < TILE_DEPTH; k++) {
#pragma unroll
            for (int i = 0; i < EACH; i++) {
#pragma unroll
                for (int j = 0; j < EACH; j++)
                    sum[i][j] = fmaf(xs[k][ty + i * (TILE / EACH)],
                                     ws[k][tx + j * (TILE / EACH)], sum[i][j]);
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < EACH; i++) {
        for (int j = 0; j < EACH; j++) {
            int t = t0 + ty + i * (TILE / EACH);
            int r = r0 + tx + j * (TILE / EACH);
            if (t < p.n_t && r < p.rows)
                put(p, t, r, sum[i][j]);
        }
    }
}

/* Rows [row, row + n) are bytes of the stream with this image. */
struct float_span {
    float *image;
    int row, n;
};

/* One layer's convolution and scan: a thread a channel, blockIdx.y a span. */
struct float_layer_job {
    const struct float_span *spans;
    size_t conv, s;    /* where the layer's parts of an image begin           */
    float *uz;         /* [t][2 d_inner]: u becomes silu(conv(u))             */
    float *y;          /* [t][d_inner]: dt_proj dt becomes the gated output   */
    const float *dtbc; /* [t][dt_rank + 2 d_state]                          */
    const float *taps, *conv_bias, *a_log2e, *d, *dt_bias;
    int d_inner, d_conv, dt_rank;
};

static __global__ void conv_kernel(struct float_layer_job j)
{
    int c = blockIdx.x * CHANNEL_THREADS + threadIdx.x, past = j.d_conv - 1;
    struct float_span p = j.spans[blockIdx.y];
    if (c >= j.d_inner)
        return;
    float *history = p.image + j.conv + c;
    float window[D_CONV_MAX];
    for (int k = 0; k < past; k++)
        window[k] = history[(size_t)k * j.d_inner];
    for (int t = p.row; t < p.row + p.n; t++) {
        float *u = j.uz + (size_t)t * 2 * j.d_inner + c, a = j.conv_bias[c];
        window[past] = *u;
        for (int k = 0; k <= past; k++)
            a = fmaf(j.taps[(size_t)k * j.d_inner + c], window[k], a);
        *u = exact_silu(a);
        for (int k = 0; k < past; k++)
            window[k] = window[k + 1];
    }
    for (int k = 0; k < past; k++)
        history[(size_t)k * j.d_inner] = window[k];
}

template <int d_state>
static __global__ void scan_kernel(struct float_layer_job j)
{
    int c = blockIdx.x * CHANNEL_THREADS + threadIdx.x;
    struct float_span p = j.spans[blockIdx.y];
    if (c >= j.d_inner)
        return;
    float *image = p.image + j.s + c, s[d_state], a[d_state];
#pragma unroll
    for (int n = 0; n < d_state; n++) {
        s[n] = image[(size_t)n * j.d_inner];
        a[n] = j.a_log2e[(size_t)n * j.d_inner + c];
    }
    int ld_bc = j.dt_rank + 2 * d_state;
    float d = j.d[c], dt_bias = j.dt_bias[c];
    for (int t = p.row; t < p.row + p.n; t++) {
        const float *b = j.dtbc + (size_t)t * ld_bc + j.dt_rank;
        const float *uz = j.uz + (size_t)t * 2 * j.d_inner + c;
        float *y = j.y + (size_t)t * j.d_inner + c, u = uz[0], sum = 0;
        float delta = exact_softplus(*y + dt_bias), du = delta * u;
#pragma unroll
        for (int n = 0; n < d_state; n++) {
            s[n] = fmaf(exact_exp2_neg(delta * a[n]), s[n], du * b[n]);
            sum = fmaf(b[d_state + n], s[n], sum);
        }
        *y = fmaf(d, u, sum) * exact_silu(uz[j.d_inner]);
    }
#pragma unroll
    for (int n = 0; n < d_state; n++)
        image[(size_t)n * j.d_inner] = s[n];
}

/* A logit that is not finite becomes 0.  The last prediction of a span goes to
 * its image.  A block a span, a thread a byte of the vocabulary. */
static __global__ void logits_kernel(float *logits,
                                     const struct float_span *spans, size_t at,
                                     uint32_t *overflow)
{
    struct float_span p = spans[blockIdx.x];
    float x = 0;
    for (int t = p.row; t < p.row + p.n; t++) {
        float *logit = logits + (size_t)t * N_BYTES_VOCAB + threadIdx.x;
        check_finite(overflow, *logit);
        *logit = x = exact_logit(*logit);
    }
    p.image[at + threadIdx.x] = x;
}

#endif
