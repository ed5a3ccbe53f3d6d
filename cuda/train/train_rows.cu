/* train_rows.cu -- what training does row by row: weights made ready,
 * quantisation; and sums down the columns.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_rows.cuh"

#include "cuda/common/reduce.cuh"

enum {
    ROW_THREADS = 256,
    SOME_ROWS = 4, /* of a block that quantises */
    SUM_COLUMNS = 32,
    SUM_THREADS = 32,
    SUM_LOADS = 8 /* under way together */
};

/* ---- weights, made ready ------------------------------------------------ */

struct prepare_job {
    struct {
        const float *from; /* [rows][cols] */
        void *q, *seen;    /* [rows][ld]   */
        float *scale;
        int rows, cols, ld;
    } weights[WEIGHTS_MAX];
    bool imitates;
};

/* Four numbers of a row; zeros past its end. */
static __device__ __forceinline__ float4 weight4(const float *row, int i,
                                                 int cols)
{
    if (cols % 4 == 0)
        return i < cols ? get4(row + i) : zero4();
    return make_float4(
        i < cols ? row[i] : 0.0f, i + 1 < cols ? row[i + 1] : 0.0f,
        i + 2 < cols ? row[i + 2] : 0.0f, i + 3 < cols ? row[i + 3] : 0.0f);
}

/* A block a row of one of the weights. */
template <typename T>
static __global__ void
prepare_weights(const __grid_constant__ struct prepare_job j)
{
    __shared__ float room[WARP];
    int k = 0, row = blockIdx.x, first = 4 * threadIdx.x, step = 4 * blockDim.x;
    while (row >= j.weights[k].rows)
        row -= j.weights[k++].rows;
    int cols = j.weights[k].cols, ld = j.weights[k].ld;
    const float *from = j.weights[k].from + (size_t)row * cols;
    T *q = (T *)j.weights[k].q + (size_t)row * ld;
    T *seen = (T *)j.weights[k].seen + (size_t)row * ld;
    uint32_t amax = 0;
    for (int i = first; i < cols; i += step)
        amax = max(amax, magnitude4(weight4(from, i, cols)));
    struct exact_scale s = exact_scale_of(block_max(amax, room));
    for (int i = first; i < ld; i += step) {
        float4 x = weight4(from, i, cols);
        if (j.imitates) {
            x = quantise4(x, s);
            put4(seen + i, scaled(x, s.scale));
        }
        put4(q + i, x);
    }
    if (threadIdx.x == 0 && j.imitates)
        j.weights[k].scale[row] = s.scale;
}

void launch_prepare_weights(const struct replica *r,
                            const struct train_weight *weights, int n)
{
    enum { THREADS = 128 };
    struct prepare_job job = {};
    int rows = 0;
    job.imitates = r->imitates;
    for (int i = 0; i < n; i++) {
        const struct train_weight *w = &weights[i];
        job.weights[i] = {r->weights + w->offset,
                          w->q,
                          w->seen,
                          w->scale,
                          w->rows,
                          w->cols,
                          w->ld};
        rows += w->rows;
    }
    START_BY_NUMBER(r, prepare_weights, rows, THREADS, job);
}

static __global__ void fill(float *x, size_t n, float value)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        x[i] = value;
}

void launch_fill(const struct replica *r, float *x, size_t n, float value)
{
    fill<<<(unsigned)((n + 255) / 256), 256, 0, r->stream>>>(x, n, value);
}

/* ---- sums down the columns ----------------------------------------------- */

struct sum_job {
    struct column_sums to[SUMS_MAX];
    const float *partial;
    int n_partial, ld, n; /* n: columns of all */
};

/* Of the threads of a column, number k sums the rows k, k + SUM_THREADS, ..;
 * then a tree.  There are few threads, so each has many loads under way. */
static __global__ void sum_partial(const __grid_constant__ struct sum_job j)
{
    __shared__ float sums[SUM_THREADS][SUM_COLUMNS];
    int part = threadIdx.x / SUM_COLUMNS, column = threadIdx.x % SUM_COLUMNS;
    int i = blockIdx.x * SUM_COLUMNS + column, k = 0;
    const float *from = j.partial + min(i, j.n - 1);
    float sum = 0.0f;
    for (int p = part; p < j.n_partial; p += SUM_LOADS * SUM_THREADS) {
        float x[SUM_LOADS];
#pragma unroll
        for (int l = 0; l < SUM_LOADS; l++) {
            int row = p + l * SUM_THREADS;
            x[l] = row < j.n_partial ? from[(size_t)row * j.ld] : 0.0f;
        }
#pragma unroll
        for (int l = 0; l < SUM_LOADS; l++)
            sum += x[l];
    }
    sums[part][column] = sum;
    for (int s = SUM_THREADS / 2; s > 0; s /= 2) {
        __syncthreads();
        if (part < s)
            sums[part][column] += sums[part + s][column];
    }
    if (part > 0 || i >= j.n)
        return;
    while (i >= j.to[k].n)
        i -= j.to[k++].n;
    j.to[k].out[i] = sums[0][column];
}

void launch_column_sums(const struct replica *r, const struct column_sums *to,
                        int n, const float *partial, int n_partial, int ld)
{
    struct sum_job job = {};
    for (int i = 0; i < n; i++) {
        job.to[i] = to[i];
        job.n += to[i].n;
    }
    job.partial = partial;
    job.n_partial = n_partial;
    job.ld = ld;
    sum_partial<<<ceil_div(job.n, SUM_COLUMNS), SUM_COLUMNS * SUM_THREADS, 0,
                  r->stream>>>(job);
}

/* ---- quantisation -------------------------------------------------------- */

struct quantise_job {
    void *y; /* [t][d], in place */
    const uint32_t *amax;
    struct row_scale scale;
    int d, n_rows;
};

/* Four channels of n rows. */
template <typename T>
static __device__ __forceinline__ void
load_some(four<T> y[SOME_ROWS], const T *rows, int n, int c, int d)
{
#pragma unroll
    for (int i = 0; i < SOME_ROWS; i++)
        if (i < n && c < d)
            y[i] = load_four<T>(rows, (size_t)i * d + c);
}

/* A block has some rows; a thread asks for its part of all of them before it
 * looks at one. */
template <typename T>
static __global__ void __launch_bounds__(ROW_THREADS)
    quantise_rows(struct quantise_job j)
{
    __shared__ struct exact_scale scales[SOME_ROWS];
    int row = blockIdx.x * SOME_ROWS, n = min(j.n_rows - row, SOME_ROWS);
    int c = 4 * threadIdx.x;
    T *rows = (T *)j.y + (size_t)row * j.d;
    four<T> y[SOME_ROWS];
    load_some<T>(y, rows, n, c, j.d);
    if ((int)threadIdx.x < n) {
        struct exact_scale s = exact_scale_of(j.amax[row + threadIdx.x]);
        scales[threadIdx.x] = s;
        put_scale(j.scale, row + threadIdx.x, s);
    }
    __syncthreads();
    while (c < j.d) {
#pragma unroll
        for (int i = 0; i < SOME_ROWS; i++)
            if (i < n)
                put4(rows + (size_t)i * j.d + c,
                     quantise4(get4(y[i]), scales[i]));
        c += 4 * blockDim.x;
        load_some<T>(y, rows, n, c, j.d);
    }
}

void launch_quantise_rows(const struct replica *r, void *y,
                          struct row_scale scale, int d)
{
    struct quantise_job job = {y, r->amax, scale, d, r->n_rows};
    int blocks = ceil_div(r->n_rows, SOME_ROWS);
    int threads = round_up(ceil_div(job.d, 4), WARP);
    threads = threads < ROW_THREADS ? threads : ROW_THREADS;
    if (!r->imitates)
        return;
    START_BY_NUMBER(r, quantise_rows, blocks, threads, job);
}
