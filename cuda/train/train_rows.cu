/* train_rows.cu -- what training does row by row: quantisation, and the ends
 * of x_proj; and sums down the columns.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/trainer.cuh"

enum {
    ROW_THREADS = 256, /* of kernels that give each row a warp */
    SOME_ROWS = 4,     /* of a block that quantises y */
    SUM_COLUMNS = 32,
    SUM_LANES = 32
};

/* ---- weights, made ready ------------------------------------------------ */

struct prepare_job {
    struct {
        const float *from; /* [rows][cols] */
        void *q, *seen;    /* [rows][ld]   */
        float *scale;
        int rows, cols, ld;
    } weights[N_WEIGHTS];
    bool imitates;
};

/* Four numbers of a row, zeros after it. */
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

static __global__ void prepare_a(float *a_log2e, const float *a_log, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        a_log2e[i] = -exact_exp(a_log[i]) * EXACT_LOG2E;
}

void launch_prepare_a(const struct replica *r, struct train_tape *tape, int l)
{
    int n = r->config.d_inner * r->config.d_state;
    prepare_a<<<ceil_div(n, 256), 256, 0, r->stream>>>(
        tape->a_log2e, weight_at(r, l, P_A_LOG), n);
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
    float *out;
    const float *partial;
    int n_partial, ld, n;
    bool adds;
};

/* Lane k of a column sums the rows k, k + lanes, ..; then a tree. */
static __global__ void sum_partial(struct sum_job j)
{
    __shared__ float lanes[SUM_LANES][SUM_COLUMNS];
    int lane = threadIdx.x / SUM_COLUMNS, column = threadIdx.x % SUM_COLUMNS;
    int i = blockIdx.x * SUM_COLUMNS + column;
    float sum = 0.0f;
    for (int p = lane; p < j.n_partial && i < j.n; p += SUM_LANES)
        sum += j.partial[(size_t)p * j.ld + i];
    lanes[lane][column] = sum;
    for (int s = SUM_LANES / 2; s > 0; s /= 2) {
        __syncthreads();
        if (lane < s)
            lanes[lane][column] += lanes[lane + s][column];
    }
    if (lane > 0 || i >= j.n)
        return;
    sum = lanes[0][column];
    j.out[i] = j.adds ? j.out[i] + sum : sum;
}

void launch_sum_partial(const struct replica *r, float *out,
                        const float *partial, int n_partial, int ld, int n,
                        bool adds)
{
    struct sum_job job = {out, partial, n_partial, ld, n, adds};
    sum_partial<<<ceil_div(n, SUM_COLUMNS), SUM_COLUMNS * SUM_LANES, 0,
                  r->stream>>>(job);
}

/* ---- dt, B, C ------------------------------------------------------------ */

struct dtbc_job {
    const float *dtbc;  /* [t][ld] sums                                     */
    int ld, dt_rank, n; /* n: dt_rank + 2 d_state                           */
    float *bc;          /* [t][2 d_state]                                   */
    const float *row_scale, *col_scale;
    void *dt; /* [t][ld_dt] */
    int ld_dt;
    struct row_scale scale; /* of dt */
    int n_rows;
    bool imitates;
};

/* A warp a row. */
template <typename T> static __global__ void split_dtbc(struct dtbc_job j)
{
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    int lane = threadIdx.x % WARP;
    if (row >= j.n_rows)
        return;
    const float *dtbc = j.dtbc + (size_t)row * j.ld;
    float *bc = j.bc + (size_t)row * (j.n - j.dt_rank) - j.dt_rank;
    float row_scale = j.row_scale[row];
    uint32_t amax = 0;
    for (int i = lane; i < j.n; i += WARP) {
        float x = dtbc[i] * (row_scale * j.col_scale[i]);
        if (i < j.dt_rank)
            amax = max(amax, magnitude_bits(x));
        else
            bc[i] = x;
    }
    struct exact_scale s = {1.0f, 1.0f};
    if (j.imitates) {
        s = exact_scale_of(warp_max(amax));
        if (lane == 0)
            put_scale(j.scale, row, s);
    }
    T *dt = (T *)j.dt + (size_t)row * j.ld_dt;
    for (int i = lane; i < j.ld_dt; i += WARP) {
        float x = 0.0f;
        if (i < j.dt_rank)
            x = dtbc[i] * (row_scale * j.col_scale[i]);
        if (j.imitates)
            x = s.scale > 0.0f ? (float)exact_quantise(x, s.inverse) : 0.0f;
        put(dt + i, x);
    }
}

void launch_split_dtbc(const struct replica *r, const struct train_tape *tape)
{
    const struct train_weight *w = &tape->weights[W_X];
    struct dtbc_job job = {r->dtbc,        r->ld_dtbc, r->config.dt_rank,
                           w->rows,        tape->bc,   tape->u_scale.scale,
                           w->scale,       tape->dt,   r->ld_dt,
                           tape->dt_scale, r->n_rows,  r->imitates};
    int blocks = ceil_div(r->n_rows, ROW_THREADS / WARP);
    START_BY_NUMBER(r, split_dtbc, blocks, ROW_THREADS, job);
}

struct join_job {
    const float *ddt; /* [t][ld_dt], times the scale of dt                  */
    const float *dt_inverse;
    const float *dbc;   /* [t][blocks][n_bc]                                  */
    const float *scale; /* [t], of u                                        */
    void *ddtbc;        /* [t][ld], times that                              */
    int ld_dt, ld, dt_rank, n_bc, n_blocks, n_rows;
};

/* A warp a row. */
template <typename T> static __global__ void join_dtbc(struct join_job j)
{
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    if (row >= j.n_rows)
        return;
    T *out = (T *)j.ddtbc + (size_t)row * j.ld;
    const float *dbc = j.dbc + (size_t)row * j.n_blocks * j.n_bc;
    for (int i = threadIdx.x % WARP; i < j.ld; i += WARP) {
        float x = 0.0f;
        if (i < j.dt_rank)
            x = j.ddt[(size_t)row * j.ld_dt + i] * j.dt_inverse[row];
        else if (i < j.dt_rank + j.n_bc)
            for (int b = 0; b < j.n_blocks; b++)
                x += dbc[b * j.n_bc + i - j.dt_rank];
        put(out + i, x * j.scale[row]);
    }
}

void launch_join_dtbc(const struct replica *r, const struct train_tape *tape)
{
    struct join_job job = {r->ddt,
                           tape->dt_scale.inverse,
                           r->dbc,
                           tape->u_scale.scale,
                           r->ddtbc,
                           r->ld_dt,
                           r->ld_ddtbc,
                           r->config.dt_rank,
                           2 * r->config.d_state,
                           r->scan_blocks,
                           r->n_rows};
    int blocks = ceil_div(r->n_rows, ROW_THREADS / WARP);
    START_BY_NUMBER(r, join_dtbc, blocks, ROW_THREADS, job);
}

/* ---- y ------------------------------------------------------------------- */

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

/* A block has some rows, of which a thread asks for all before it looks at
 * one. */
template <typename T>
static __global__ void __launch_bounds__(ROW_THREADS)
    quantise_y(struct quantise_job j)
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

void launch_quantise_y(const struct replica *r, const struct train_tape *tape)
{
    struct quantise_job job = {tape->y, r->amax, tape->y_scale,
                               r->config.d_inner, r->n_rows};
    int blocks = ceil_div(r->n_rows, SOME_ROWS);
    int threads = round_up(ceil_div(job.d, 4), WARP);
    threads = threads < ROW_THREADS ? threads : ROW_THREADS;
    if (!r->imitates)
        return;
    START_BY_NUMBER(r, quantise_y, blocks, threads, job);
}
