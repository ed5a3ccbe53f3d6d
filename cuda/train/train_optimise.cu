/* train_optimise.cu -- the size of a gradient, AdamW and Muon: adamw.c and
 * muon.c say what they compute.
 *
 * Muon takes all matrices of one shape together.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/trainer.cuh"

#include <math.h>
extern "C" {
#include "train/adamw.h"
#include "train/muon.h"
}

enum { THREADS = 256 };

/* ---- the size of the gradient -------------------------------------------- */

static __global__ void square_parts(double *parts, const float *x, size_t n)
{
    __shared__ double lanes[THREADS];
    size_t each = (n + NORM_PARTS - 1) / NORM_PARTS;
    size_t begin = blockIdx.x * each, end = begin + each < n ? begin + each : n;
    double sum = 0;
    for (size_t i = begin + threadIdx.x; i < end; i += THREADS)
        sum += (double)x[i] * (double)x[i];
    sum = block_sum<THREADS>(sum, lanes);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = sum;
}

/* One block. */
static __global__ void sum_parts(double *parts)
{
    __shared__ double lanes[THREADS];
    double sum = 0;
    for (int i = threadIdx.x; i < NORM_PARTS; i += THREADS)
        sum += parts[i];
    sum = block_sum<THREADS>(sum, lanes);
    if (threadIdx.x == 0)
        parts[NORM_PARTS] = sqrt(sum);
}

void launch_gradient_norm(const struct replica *r)
{
    square_parts<<<NORM_PARTS, THREADS, 0, r->stream>>>(
        r->sums, r->gradient, r->parameters->n_floats);
    sum_parts<<<1, THREADS, 0, r->stream>>>(r->sums);
}

/* ---- AdamW --------------------------------------------------------------- */

struct adamw_job {
    const struct table_chunk *chunks;
    float *weights, *m, *v;
    const float *gradient;
    struct adamw_step step;
};

static __global__ void adamw(struct adamw_job j)
{
    struct table_chunk chunk = j.chunks[blockIdx.x];
    struct adamw_step s = j.step;
    float keep = 1.0f - s.rate * s.weight_decay * chunk.decays;
    for (int k = threadIdx.x; k < chunk.n; k += THREADS) {
        size_t i = chunk.begin + k;
        float g = j.gradient[i] * s.scale;
        float m = fmaf(s.beta_1, j.m[i], s.rest_1 * g);
        float v = fmaf(s.beta_2, j.v[i], s.rest_2 * g * g);
        j.m[i] = m;
        j.v[i] = v;
        j.weights[i] = j.weights[i] * keep -
                       s.step * m / (sqrtf(v * s.unbias) + s.epsilon);
    }
}

void launch_adamw(const struct replica *r, const struct update *update)
{
    struct adamw_job job = {r->chunks,   r->weights,  r->moment_1,
                            r->moment_2, r->gradient, adamw_step_of(update)};
    if (r->n_chunks > 0)
        adamw<<<r->n_chunks, THREADS, 0, r->stream>>>(job);
}

/* ---- Muon ---------------------------------------------------------------- */

struct muon_job {
    const unsigned long long *offsets; /* [n] in the parameters             */
    int area;                          /* of a matrix                       */
    float *weights, *momentum;
    const float *gradient;
    float *parts; /* [n][MUON_PARTS] sums of squares   */
    void *x;      /* [n][area]                         */
    float scale, keep, factor;
};

/* The floats of a matrix that a block has: block (part, matrix).  All shapes
 * are multiples of four. */
struct share {
    int begin, end;
};

static __device__ __forceinline__ struct share share_of(int area)
{
    int each = round_up(ceil_div(area, MUON_PARTS), 4);
    int begin = blockIdx.x * each;
    return {begin, min(begin + each, area)};
}

/* X = G = g + momentum m, m being the new momentum; parts of |G|^2. */
template <typename T> static __global__ void muon_momentum(struct muon_job j)
{
    __shared__ float room[WARP];
    const float4 keep = splat(MUON_MOMENTUM);
    struct share s = share_of(j.area);
    const float *gradient = j.gradient + j.offsets[blockIdx.y];
    float *momentum = j.momentum + j.offsets[blockIdx.y], sum = 0.0f;
    T *x = (T *)j.x + (size_t)blockIdx.y * j.area;
    for (int i = s.begin + 4 * threadIdx.x; i < s.end; i += 4 * THREADS) {
        float4 g = scaled(get4(gradient + i), j.scale);
        float4 m = fused(keep, get4(momentum + i), g);
        put4(momentum + i, m);
        g = fused(keep, m, g);
        put4(x + i, g);
        sum += dot4(g, g);
    }
    sum = block_total(sum, room);
    if (threadIdx.x == 0)
        j.parts[blockIdx.y * MUON_PARTS + blockIdx.x] = sum;
}

/* X = G / |G| */
template <typename T> static __global__ void muon_begin(struct muon_job j)
{
    __shared__ float room[WARP];
    struct share s = share_of(j.area);
    float square = threadIdx.x < MUON_PARTS
                       ? j.parts[blockIdx.y * MUON_PARTS + threadIdx.x]
                       : 0.0f;
    float factor = 1.0f / (sqrtf(block_total(square, room)) + 1e-7f);
    T *x = (T *)j.x + (size_t)blockIdx.y * j.area;
    for (int i = s.begin + 4 * threadIdx.x; i < s.end; i += 4 * THREADS)
        put4(x + i, scaled(get4(x + i), factor));
}

/* w -= rate (weight_decay w + 0.2 sqrt(larger side) O) */
template <typename T> static __global__ void muon_apply(struct muon_job j)
{
    struct share s = share_of(j.area);
    float *w = j.weights + j.offsets[blockIdx.y];
    const T *x = (const T *)j.x + (size_t)blockIdx.y * j.area;
    for (int i = s.begin + 4 * threadIdx.x; i < s.end; i += 4 * THREADS) {
        float4 o = scaled(get4(x + i), -j.factor);
        put4(w + i, plus(scaled(get4(w + i), j.keep), o));
    }
}

/* Room for n matrices of a group, and what a step works on. */
struct muon_room {
    struct newton_schulz step;
    float *parts;
    size_t n_bytes;
};

static struct muon_room room_for(const struct replica *r,
                                 const struct muon_group *group, int n)
{
    size_t m = group->rows < group->cols ? group->rows : group->cols;
    size_t area = (size_t)group->rows * group->cols;
    size_t x = arena_align(n * area * number_size(r));
    size_t gram = arena_align(n * m * m * number_size(r));
    char *at = r->muon_room;
    struct muon_room room = {};
    room.step.rows = group->rows;
    room.step.cols = group->cols;
    room.step.n = n;
    room.step.x = at;
    room.step.next = at + x;
    room.step.gram = at + 2 * x;
    room.step.square = at + 2 * x + gram;
    room.parts = (float *)(at + 2 * x + 2 * gram);
    room.n_bytes = 2 * x + 2 * gram + arena_align(4 * (size_t)n * MUON_PARTS);
    return room;
}

size_t muon_bytes(const struct replica *r, const struct muon_group *group)
{
    return room_for(r, group, 1).n_bytes;
}

/* n matrices of a group, from first on. */
static void update_some(const struct replica *r, const struct muon_group *group,
                        int first, int n, const struct update *update)
{
    struct muon_room room = room_for(r, group, n);
    struct newton_schulz *step = &room.step;
    float rate = (float)update->learning_rate;
    int larger = group->rows > group->cols ? group->rows : group->cols;
    struct muon_job job = {
        group->offsets + first,
        group->rows * group->cols,
        r->weights,
        r->moment_1,
        r->gradient,
        room.parts,
        step->x,
        (float)update->gradient_scale,
        1.0f - rate * (float)update->weight_decay,
        rate * 0.2f * sqrtf((float)larger),
    };
    dim3 grid(MUON_PARTS, n);
    START_BY_NUMBER(r, muon_momentum, grid, THREADS, job);
    START_BY_NUMBER(r, muon_begin, grid, THREADS, job);
    for (int i = 0; i < MUON_STEPS; i++) {
        product_newton_schulz(r->products, step);
        void *x = step->x;
        step->x = step->next;
        step->next = x;
    }
    job.x = step->x;
    START_BY_NUMBER(r, muon_apply, grid, THREADS, job);
}

void run_muon(const struct replica *r, const struct update *update)
{
    for (int g = 0; g < r->n_groups; g++) {
        const struct muon_group *group = &r->groups[g];
        int most = group->n;
        while (most > 1 && room_for(r, group, most).n_bytes > r->muon_bytes)
            most = (most + 1) / 2;
        for (int i = 0; i < group->n; i += most)
            update_some(r, group, i, group->n - i < most ? group->n - i : most,
                        update);
    }
}
