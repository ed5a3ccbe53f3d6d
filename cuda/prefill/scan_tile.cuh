/* scan_tile.cuh -- what the scan does to a tile of TIME bytes before and after
 * the recurrence: dt_proj, softplus, the gate.
 *
 * No order in time is needed here.  A thread has the elements that a product
 * of a warp leaves with it (tensor.cuh), so that delta, u and the gate stay in
 * its registers.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SCAN_TILE_CUH
#define MAMBYTE_SCAN_TILE_CUH

#include "cuda/common/exact_vector.cuh"
#include "cuda/prefill/scan_shape.cuh"

/* A thread's columns, for each product of a warp: where the first elements of
 * the pair 2 t, 2 t + 1 are.  Columns past the model's are computed, and not
 * stored. */
template <class T> struct columns {
    const float *gate[T::tiles];
    float *u[T::tiles]; /* then y */
    int in_block;       /* of the first */
    int has;            /* a bit for each: it is the model's */
};

template <class T>
static __device__ __forceinline__ columns<T>
columns_of(const struct prefill_batch &b, const struct scan_place &k)
{
    int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    int first = threadIdx.x / WARP * T::columns;
    columns<T> c;
    c.in_block = first + t * 2;
    c.has = 0;
#pragma unroll
    for (int j = 0; j < T::tiles; j++) {
        int at = k.channel + first + j * 8;
        int pair = min(at + t * 2, b.d_inner - 2);
        c.has |= (at + t * 2 < b.d_inner) << j;
        c.u[j] = b.u + (k.row + g) * b.d_inner + pair;
        c.gate[j] = b.uz + (k.row + g) * 2 * b.d_inner + b.d_inner + pair;
    }
    return c;
}

/* Sums of dt_proj for this warp's columns; depth: bytes of a row. */
template <class T>
static __device__ __forceinline__ void
project_dt(int32_t sum[T::tiles][4], const int8_t *dt_q, const int8_t *dt_proj,
           int depth)
{
    int lane = threadIdx.x % WARP, pitch = depth + 16;
    const int8_t *x = dt_q + lane % 16 * pitch + lane / 16 * 16;
    const int8_t *w = dt_proj +
                      (threadIdx.x / WARP * T::columns + lane / 4) * pitch +
                      lane % 4 * 4;
#pragma unroll 1
    for (int i = 0; i < depth; i += 32) {
        uint32_t a[4];
        load_matrices(a, x + i);
#pragma unroll
        for (int j = 0; j < T::tiles; j++) {
            const int8_t *row = w + j * 8 * pitch + i;
            uint32_t v[2] = {*(const uint32_t *)row,
                             *(const uint32_t *)(row + 16)};
            product_16x8x32(sum[j], a, v);
        }
    }
}

/* A thread's elements of a tile: rows g and g + 8, and for each product a pair
 * of columns. */
template <class T> struct elements {
    float2 at[T::tiles][2];
};

/* from: for each product, where row g of the tile is.  Loads from row `first`
 * on, after which the span has `rows` rows.  A row past the span gets ones, so
 * that nothing unusual is computed. */
template <class T, typename Pointer>
static __device__ __forceinline__ void
load_elements(elements<T> &e, const Pointer from[T::tiles], size_t stride,
              int rows, int first = 0)
{
    int g = threadIdx.x % WARP / 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        bool is_there = g + i * 8 < rows;
#pragma unroll
        for (int j = 0; j < T::tiles; j++)
            e.at[j][i] =
                is_there ? *(const float2 *)(from[j] + (first + i * 8) * stride)
                         : make_float2(1.0f, 1.0f);
    }
}

/* Delta of this warp's columns, for its recurrence.  Returns whether one may
 * be steep: some delta a below -126. */
template <class T>
static __device__ __forceinline__ bool
make_delta(scan_shared<T> &m, const elements<T> &u,
           const int32_t sum[T::tiles][4], const float *dt_scale, int in_block)
{
    int g = threadIdx.x % WARP / 4;
    float x[T::tiles][2][2];
#pragma unroll
    for (int j = 0; j < T::tiles; j++) {
        int at = in_block + j * 8;
        float2 w = *(const float2 *)&m.of.dt_scale[at];
        float2 bias = *(const float2 *)&m.of.dt_bias[at];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float s = dt_scale[g + i * 8];
            x[j][i][0] = exact_dequantise(sum[j][i * 2], s, w.x) + bias.x;
            x[j][i][1] = exact_dequantise(sum[j][i * 2 + 1], s, w.y) + bias.y;
        }
    }
    softplus_all<T::tiles * 4>(&x[0][0][0]);
    bool is_steep = false;
#pragma unroll
    for (int j = 0; j < T::tiles; j++) {
        int at = in_block + j * 8;
        float2 limit = *(const float2 *)&m.of.limit[at];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float *d = x[j][i];
            float2 v = u.at[j][i];
            *(float4 *)&m.delta[g + i * 8][at] =
                make_float4(d[0], d[0] * v.x, d[1], d[1] * v.y);
            is_steep |= !(d[0] <= limit.x) || !(d[1] <= limit.y);
        }
    }
    return __any_sync(WHOLE_WARP, is_steep);
}

/* C s of two channels: the parts are added in pairs of neighbours. */
template <class T>
static __device__ __forceinline__ float2 sum_parts(const scan_shared<T> &m,
                                                   int at)
{
    float2 y[T::split];
#pragma unroll
    for (int j = 0; j < T::split; j++)
        y[j] = *(const float2 *)&m.y[j][at];
#pragma unroll
    for (int n = T::split / 2; n > 0; n /= 2) {
#pragma unroll
        for (int j = 0; j < n; j++)
            y[j] = make_float2(y[2 * j].x + y[2 * j + 1].x,
                               y[2 * j].y + y[2 * j + 1].y);
    }
    return y[0];
}

/* Stores y = (y + d u) gate, and the maxima of the rows. */
template <class T>
static __device__ __forceinline__ void
finish_tile(const scan_shared<T> &m, const elements<T> &u,
            const elements<T> &gate, const columns<T> &c, size_t stride,
            int rows, uint32_t *y_amax)
{
    int lane = threadIdx.x % WARP, g = lane / 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        bool is_there = g + i * 8 < rows;
        uint32_t amax = 0;
#pragma unroll
        for (int j = 0; j < T::tiles; j++) {
            int at = c.in_block + j * 8;
            float2 d = *(const float2 *)&m.of.d[at];
            float2 y = sum_parts(m, (g + i * 8) * T::pitch + at);
            y.x = fmaf(d.x, u.at[j][i].x, y.x) * gate.at[j][i].x;
            y.y = fmaf(d.y, u.at[j][i].y, y.y) * gate.at[j][i].y;
            if (is_there && (c.has >> j & 1)) {
                *(float2 *)(c.u[j] + i * 8 * stride) = y;
                amax = max(amax, magnitude_bits(y.x));
                amax = max(amax, magnitude_bits(y.y));
            }
        }
        amax = lanes_max<4>(amax);
        if (lane % 4 == 0 && is_there)
            atomicMax(&y_amax[g + i * 8], amax);
    }
}

#endif
