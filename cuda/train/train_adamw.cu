/* train_adamw.cu -- the size of a gradient, and AdamW: adamw.c says what it
 * computes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_adamw.cuh"

#include <math.h>

#include "cuda/common/reduce.cuh"
#include "cuda/train/replica.cuh"
extern "C" {
#include "train/adamw.h"
}

enum { THREADS = 256 };

/* ---- the size of the gradient -------------------------------------------- */

static __global__ void square_parts(double *parts, const float *x, size_t n)
{
    __shared__ double lanes[THREADS];
    size_t each = (n + NORM_PARTS - 1) / NORM_PARTS;
    size_t start = blockIdx.x * each, end = start + each < n ? start + each : n;
    double sum = 0;
    for (size_t i = start + threadIdx.x; i < end; i += THREADS)
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
    const struct adamw_range *ranges;
    float *weights, *m, *v;
    const float *gradient;
    struct adamw_factors factors;
};

static __global__ void adamw(struct adamw_job j)
{
    struct adamw_range range = j.ranges[blockIdx.x];
    struct adamw_factors s = j.factors;
    float keep = 1.0f - s.rate * s.weight_decay * range.decays;
    for (int k = threadIdx.x; k < range.n; k += THREADS) {
        size_t i = range.start + k;
        float g = j.gradient[i] * s.scale;
        float m = fmaf(s.beta_1, j.m[i], s.rest_1 * g);
        float v = fmaf(s.beta_2, j.v[i], s.rest_2 * g * g);
        j.m[i] = m;
        j.v[i] = v;
        j.weights[i] = j.weights[i] * keep -
                       s.rate_1 * m / (sqrtf(v * s.unbias_2) + s.epsilon);
    }
}

void launch_adamw(const struct replica *r, const struct update *update)
{
    struct adamw_job job = {r->adamw.ranges, r->weights,
                            r->moment_1,     r->moment_2,
                            r->gradient,     adamw_factors_of(update)};
    if (r->adamw.n > 0)
        adamw<<<r->adamw.n, THREADS, 0, r->stream>>>(job);
}

/* ---- its table ----------------------------------------------------------- */

static int ranges_of(const struct parameter *p)
{
    size_t n = p->n - parameter_muon_floats(p);
    return (int)((n + ADAMW_FLOATS - 1) / ADAMW_FLOATS);
}

void adamw_count(struct adamw_table *table, const struct parameters *p)
{
    for (size_t i = 0; i < p->n; i++)
        table->n += ranges_of(&p->list[i]);
}

void adamw_carve(struct adamw_table *table, struct carver *carver)
{
    table->ranges = (const struct adamw_range *)carve(carver, table->n,
                                                      sizeof *table->ranges);
}

static void list_ranges(struct adamw_range *to, const struct parameters *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct parameter *p = &list->list[i];
        for (int k = 0; k < ranges_of(p); k++) {
            size_t at = parameter_muon_floats(p) + (size_t)k * ADAMW_FLOATS;
            size_t left = p->n - at;
            to->start = p->offset + at;
            to->n = left < ADAMW_FLOATS ? (int)left : ADAMW_FLOATS;
            to->decays = p->decays ? 1.0f : 0.0f;
            to++;
        }
    }
}

enum status adamw_fill(const struct replica *r)
{
    struct adamw_range *ranges =
        (struct adamw_range *)calloc(r->adamw.n + 1, sizeof *ranges);
    if (!ranges)
        return fail_memory("the tables of the optimiser");
    list_ranges(ranges, r->parameters);
    enum status status =
        replica_send(r, r->adamw.ranges, ranges, r->adamw.n * sizeof *ranges);
    free(ranges);
    return status;
}
