/* train_dtbc.cu -- what is between the projections of a Mamba-1 mixer: takes
 * dt, B and C apart, and joins their gradients; and A.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_mamba1.cuh"

enum { ROW_THREADS = 256 }; /* each row has a warp */

/* ---- A ------------------------------------------------------------------- */

static __global__ void prepare_a(float *a_log2e, const float *a_log, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        a_log2e[i] = -exact_exp(a_log[i]) * EXACT_LOG2E;
}

void launch_prepare_a(const struct replica *r, int l)
{
    int n = r->config.d_inner * r->config.d_state;
    prepare_a<<<ceil_div(n, 256), 256, 0, r->stream>>>(
        r->mamba1->tapes[l].a_log2e, weight_at(r, l, P_A_LOG), n);
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

void launch_split_dtbc(const struct replica *r, int l)
{
    const struct train_weight *w = &r->tapes[l].weights[W_X];
    const struct mamba1 *m = r->mamba1;
    const struct mamba1_tape *tape = &m->tapes[l];
    struct dtbc_job job = {m->dtbc,        m->ld_dtbc, r->config.dt_rank,
                           w->rows,        tape->bc,   tape->u_scale.scale,
                           w->scale,       tape->dt,   m->ld_dt,
                           tape->dt_scale, r->n_rows,  r->imitates};
    int blocks = ceil_div(r->n_rows, ROW_THREADS / WARP);
    START_BY_NUMBER(r, split_dtbc, blocks, ROW_THREADS, job);
}

struct join_job {
    const float *ddt; /* [t][ld_dt], times the scale of dt                */
    const float *dt_inverse;
    const float *dbc;   /* [t][blocks][n_bc]                                */
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

void launch_join_dtbc(const struct replica *r, int l)
{
    const struct mamba1 *m = r->mamba1;
    const struct mamba1_tape *tape = &m->tapes[l];
    struct join_job job = {m->ddt,
                           tape->dt_scale.inverse,
                           m->dbc,
                           tape->u_scale.scale,
                           m->ddtbc,
                           m->ld_dt,
                           m->ld_ddtbc,
                           r->config.dt_rank,
                           2 * r->config.d_state,
                           m->scan_blocks,
                           r->n_rows};
    int blocks = ceil_div(r->n_rows, ROW_THREADS / WARP);
    START_BY_NUMBER(r, join_dtbc, blocks, ROW_THREADS, job);
}
