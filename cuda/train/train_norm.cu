/* train_norm.cu -- RMSNorm and LayerNorm of training, forward and backward.
 *
 * The forward kernel also adds the output of the layer before, or looks bytes
 * up in the embedding, and quantises.  The backward one changes dh in place,
 * and the scale that it is kept with: replica.cuh.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_norm.cuh"

#include "cuda/common/reduce.cuh"
#include "cuda/train/train_rows.cuh"

/* Fours of a row that a thread keeps in registers. */
enum { FOURS = 4 };

/* Threads for a row of d numbers. */
static int norm_threads(int d)
{
    return WARP * ceil_div(d, WARP * 4 * FOURS);
}

struct norm_job {
    const float *embedding; /* [256][d], for the first layer; else NULL     */
    const uint8_t *bytes;
    int n_t;
    const float *before;        /* [t][d]                                  */
    const void *o;              /* [t][d] sums, added to before; or NULL   */
    const float *o_row, *o_col; /* their scales                            */
    float *h;                   /* [t][d], may be before                   */
    void *x;                    /* [t][d]                                  */
    struct row_scale scale;     /* of x                                    */
    float *mean, *r;            /* [t]                                     */
    const float *weight, *bias; /* [d], bias may be NULL                   */
    float epsilon;
    int d;
    bool imitates;
};

template <typename T>
static __device__ __forceinline__ float4 read_h(const struct norm_job &j,
                                                int row, int i)
{
    size_t at = (size_t)row * j.d + i;
    if (j.embedding)
        return get4(j.embedding + (size_t)*byte_of(j.bytes, row, j.n_t) * j.d +
                    i);
    float4 h = get4(j.before + at);
    if (!j.o)
        return h;
    float4 o = get4((const T *)j.o + at);
    float s = j.o_row[row];
    h.x = fmaf(o.x, s * j.o_col[i], h.x);
    h.y = fmaf(o.y, s * j.o_col[i + 1], h.y);
    h.z = fmaf(o.z, s * j.o_col[i + 2], h.z);
    h.w = fmaf(o.w, s * j.o_col[i + 3], h.w);
    return h;
}

static __device__ __forceinline__ float sum4(float4 x)
{
    return (x.x + x.y) + (x.z + x.w);
}

/* (x - mean) r */
static __device__ __forceinline__ float4 centred(float4 x, float mean, float r)
{
    return make_float4((x.x - mean) * r, (x.y - mean) * r, (x.z - mean) * r,
                       (x.w - mean) * r);
}

/* Makes h of a row, and stores it; thread i has the fours i, i + threads, ..
 * Returns the sum of this thread's. */
template <typename T>
static __device__ __forceinline__ float
load_row(float4 h[FOURS], const struct norm_job &j, int row)
{
    int step = 4 * blockDim.x, first = 4 * threadIdx.x;
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        int i = first + k * step;
        h[k] = zero4();
        if (i < j.d) {
            h[k] = read_h<T>(j, row, i);
            put4(j.h + (size_t)row * j.d + i, h[k]);
        }
        sum += sum4(h[k]);
    }
    return sum;
}

/* A block a row. */
template <typename T> static __global__ void norm(struct norm_job j)
{
    __shared__ float room[WARP];
    int row = blockIdx.x, step = 4 * blockDim.x, first = 4 * threadIdx.x;
    float4 h[FOURS];
    float sum = load_row<T>(h, j, row), squares = 0.0f, mean = 0.0f;
    uint32_t amax = 0;
    if (j.bias)
        mean = block_sum(sum, room) / j.d;
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        float4 c = centred(h[k], mean, 1.0f);
        if (first + k * step < j.d)
            squares += dot4(c, c);
    }
    float r = 1.0f / sqrtf(block_sum(squares, room) / j.d + j.epsilon);
    if (threadIdx.x == 0) {
        j.mean[row] = mean;
        j.r[row] = r;
    }
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        int i = first + k * step;
        if (i >= j.d)
            continue;
        float4 c = centred(h[k], mean, r), w = get4(j.weight + i);
        float4 b = zero4();
        if (j.bias)
            b = get4(j.bias + i);
        h[k] = fused(c, w, b);
        amax = max(amax, magnitude4(h[k]));
    }
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
            put4((T *)j.x + (size_t)row * j.d + i,
                 j.imitates ? quantise4(h[k], s) : h[k]);
    }
}

static bool is_head(const struct replica *r, int l)
{
    return l == r->config.n_layer;
}

static const struct parameter *norm_weight(const struct replica *r, int l)
{
    return is_head(r, l) ? parameters_norm_f(r->parameters)
                         : parameters_at(r->parameters, l, P_NORM);
}

static const struct parameter *norm_bias(const struct replica *r, int l)
{
    return is_head(r, l) ? parameters_norm_f_bias(r->parameters)
                         : parameters_at(r->parameters, l, P_NORM_BIAS);
}

void launch_norm(const struct replica *r, int l, bool again)
{
    const struct train_tape *tape = &r->tapes[l];
    const struct parameter *bias = norm_bias(r, l);
    struct norm_job job = {};
    job.h = tape->h;
    job.before = tape->h;
    if (!again && l == 0) {
        job.embedding =
            r->weights + parameters_embedding(r->parameters)->offset;
    } else if (!again) {
        const struct train_tape *last = tape - 1;
        job.before = last->h;
        job.o = r->o;
        job.o_row = last->y_scale.scale;
        job.o_col = last->weights[W_OUT].scale;
    }
    job.bytes = r->bytes;
    job.n_t = r->n_t;
    job.x = tape->x;
    job.scale = tape->x_scale;
    job.mean = tape->mean;
    job.r = tape->r;
    job.weight = r->weights + norm_weight(r, l)->offset;
    job.bias = bias->n > 0 ? r->weights + bias->offset : NULL;
    job.epsilon = r->config.norm_epsilon;
    job.d = r->config.d_model;
    job.imitates = r->imitates;
    int threads = norm_threads(job.d);
    START_BY_NUMBER(r, norm, r->n_rows, threads, job);
}

struct norm_backward_job {
    const void *dx;         /* [t][d], times the scale of x                 */
    const float *x_inverse; /* [t]                                          */
    const float *h, *mean, *r;
    const float *weight;
    void *dh;                /* [t][d]                                  */
    const float *dh_inverse; /* [t], of the dh that is there; NULL: none */
    const float *dh_scale;   /* [t], of the new one; NULL: 1            */
    float *partial;          /* [blocks][2][d]: dweight, dbias          */
    bool has_bias;
    int d, n_rows;
};

/* The parts of a block in the gradients of weight and bias. */
static __device__ __forceinline__ void
put_partial(const struct norm_backward_job &j, const float4 dweight[FOURS],
            const float4 dbias[FOURS])
{
    int step = 4 * blockDim.x, first = 4 * threadIdx.x;
    float *out = j.partial + (size_t)blockIdx.x * 2 * j.d;
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        int i = first + k * step;
        if (i >= j.d)
            continue;
        put4(out + i, dweight[k]);
        if (j.has_bias)
            put4(out + j.d + i, dbias[k]);
    }
}

/* dh of a row of zeros, whose scale is 0, is kept as it is. */
static __device__ __forceinline__ float scale_of_dh(const float *scales,
                                                    int row)
{
    float s = scales ? scales[row] : 1.0f;
    return s == 0.0f ? 1.0f : s;
}

/* With c = (h - mean) r and e = dx weight:
 * dh += r (e - mean of e - c * mean of e c); without mean in RMSNorm.
 * A block takes every gridDim-th row. */
template <typename T>
static __global__ void norm_backward(struct norm_backward_job j)
{
    __shared__ float room[WARP];
    int step = 4 * blockDim.x, first = 4 * threadIdx.x;
    float4 zero = zero4();
    float4 dweight[FOURS] = {zero, zero, zero, zero};
    float4 dbias[FOURS] = {zero, zero, zero, zero};
    for (int row = blockIdx.x; row < j.n_rows; row += gridDim.x) {
        float4 c[FOURS], e[FOURS], dh[FOURS];
        float along_1 = 0.0f, along_c = 0.0f;
        float mean = j.mean[row], r = j.r[row], inverse = j.x_inverse[row];
        float from = scale_of_dh(j.dh_inverse, row);
        float to = scale_of_dh(j.dh_scale, row);
#pragma unroll
        for (int k = 0; k < FOURS; k++) {
            int i = first + k * step;
            c[k] = e[k] = dh[k] = zero;
            if (i >= j.d)
                continue;
            size_t at = (size_t)row * j.d + i;
            if (j.dh_inverse)
                dh[k] = scaled(get4((const T *)j.dh + at), from);
            float4 dx = scaled(get4((const T *)j.dx + at), inverse);
            float4 w = get4(j.weight + i);
            c[k] = centred(get4(j.h + at), mean, r);
            e[k] = product(dx, w);
            dweight[k] = fused(dx, c[k], dweight[k]);
            dbias[k] = plus(dbias[k], dx);
            along_1 += sum4(e[k]);
            along_c += dot4(e[k], c[k]);
        }
        float ec = block_sum(along_c, room) / j.d;
        float e_mean = j.has_bias ? block_sum(along_1, room) / j.d : 0.0f;
#pragma unroll
        for (int k = 0; k < FOURS; k++) {
            int i = first + k * step;
            if (i >= j.d)
                continue;
            size_t at = (size_t)row * j.d + i;
            dh[k].x = fmaf(r, fmaf(-c[k].x, ec, e[k].x - e_mean), dh[k].x);
            dh[k].y = fmaf(r, fmaf(-c[k].y, ec, e[k].y - e_mean), dh[k].y);
            dh[k].z = fmaf(r, fmaf(-c[k].z, ec, e[k].z - e_mean), dh[k].z);
            dh[k].w = fmaf(r, fmaf(-c[k].w, ec, e[k].w - e_mean), dh[k].w);
            put4((T *)j.dh + at, scaled(dh[k], to));
        }
    }
    put_partial(j, dweight, dbias);
}

void launch_norm_backward(const struct replica *r, int l)
{
    const struct train_tape *tape = &r->tapes[l];
    const struct parameter *bias = norm_bias(r, l);
    struct norm_backward_job job = {};
    job.dx = r->dx;
    job.x_inverse = tape->x_scale.inverse;
    job.h = tape->h;
    job.mean = tape->mean;
    job.r = tape->r;
    job.weight = r->weights + norm_weight(r, l)->offset;
    job.dh = r->dh;
    job.dh_inverse = is_head(r, l) ? NULL : tape->y_scale.inverse;
    job.dh_scale = l > 0 ? tape[-1].y_scale.scale : NULL;
    job.partial = r->partial;
    job.has_bias = bias->n > 0;
    job.d = r->config.d_model;
    job.n_rows = r->n_rows;
    int threads = norm_threads(job.d);
    int blocks = r->n_rows < NORM_BLOCKS ? r->n_rows : NORM_BLOCKS;
    START_BY_NUMBER(r, norm_backward, blocks, threads, job);
    const struct column_sums to[] = {
        {r->gradient + norm_weight(r, l)->offset, job.d},
        {r->gradient + bias->offset, job.d}};
    launch_column_sums(r, to, job.has_bias ? 2 : 1, r->partial, blocks,
                       2 * job.d);
}
