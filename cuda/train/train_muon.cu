/* train_muon.cu -- Muon: muon.c says what it computes.
 *
 * All matrices of one shape are updated together.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/train/train_muon.cuh"

#include <assert.h>
#include <math.h>

#include "cuda/common/reduce.cuh"
#include "cuda/train/products.cuh"
#include "cuda/train/replica.cuh"
extern "C" {
#include "train/muon.h"
}

enum {
    THREADS = 256,
    MUON_PARTS = 64 /* partial sums of squares of a matrix */
};

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
struct matrix_part {
    int start, end;
};

static __device__ __forceinline__ struct matrix_part part_of(int area)
{
    int each = round_up(ceil_div(area, MUON_PARTS), 4);
    int start = blockIdx.x * each;
    return {start, min(start + each, area)};
}

/* X = G = g + momentum m, m being the new momentum; parts of |G|^2. */
template <typename T> static __global__ void muon_momentum(struct muon_job j)
{
    __shared__ float room[WARP];
    const float4 keep = splat(MUON_MOMENTUM);
    struct matrix_part s = part_of(j.area);
    const float *gradient = j.gradient + j.offsets[blockIdx.y];
    float *momentum = j.momentum + j.offsets[blockIdx.y], sum = 0.0f;
    T *x = (T *)j.x + (size_t)blockIdx.y * j.area;
    for (int i = s.start + 4 * threadIdx.x; i < s.end; i += 4 * THREADS) {
        float4 g = scaled(get4(gradient + i), j.scale);
        float4 m = fused(keep, get4(momentum + i), g);
        put4(momentum + i, m);
        g = fused(keep, m, g);
        put4(x + i, g);
        sum += dot4(g, g);
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        j.parts[blockIdx.y * MUON_PARTS + blockIdx.x] = sum;
}

/* X = G / |G| */
template <typename T> static __global__ void muon_begin(struct muon_job j)
{
    __shared__ float room[WARP];
    struct matrix_part s = part_of(j.area);
    float square = threadIdx.x < MUON_PARTS
                       ? j.parts[blockIdx.y * MUON_PARTS + threadIdx.x]
                       : 0.0f;
    float factor = 1.0f / (sqrtf(block_sum(square, room)) + 1e-7f);
    T *x = (T *)j.x + (size_t)blockIdx.y * j.area;
    for (int i = s.start + 4 * threadIdx.x; i < s.end; i += 4 * THREADS)
        put4(x + i, scaled(get4(x + i), factor));
}

/* w -= rate (weight_decay w + 0.2 sqrt(larger side) O) */
template <typename T> static __global__ void muon_apply(struct muon_job j)
{
    struct matrix_part s = part_of(j.area);
    float *w = j.weights + j.offsets[blockIdx.y];
    const T *x = (const T *)j.x + (size_t)blockIdx.y * j.area;
    for (int i = s.start + 4 * threadIdx.x; i < s.end; i += 4 * THREADS) {
        float4 o = scaled(get4(x + i), -j.factor);
        put4(w + i, plus(scaled(get4(w + i), j.keep), o));
    }
}

/* ---- an update ----------------------------------------------------------- */

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
    size_t area = (size_t)group->rows * group->cols, size = number_size(r);
    struct carver carver = {r->muon_room, 0};
    struct muon_room room = {};
    room.step.rows = group->rows;
    room.step.cols = group->cols;
    room.step.n = n;
    room.step.x = carve(&carver, n * area, size);
    room.step.next = carve(&carver, n * area, size);
    room.step.gram = carve(&carver, n * m * m, size);
    room.step.square = carve(&carver, n * m * m, size);
    room.parts = carve_floats(&carver, n, MUON_PARTS);
    room.n_bytes = carver.n_bytes;
    return room;
}

size_t muon_least_bytes(const struct replica *r)
{
    size_t least = 0;
    for (int g = 0; g < r->muon.n; g++) {
        size_t n = room_for(r, &r->muon.groups[g], 1).n_bytes;
        least = n > least ? n : least;
    }
    return least;
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
    for (int i = 0; i < MUON_ITERATIONS; i++) {
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
    for (int g = 0; g < r->muon.n; g++) {
        const struct muon_group *group = &r->muon.groups[g];
        int most = group->n;
        while (most > 1 && room_for(r, group, most).n_bytes > r->muon_bytes)
            most = (most + 1) / 2;
        for (int i = 0; i < group->n; i += most)
            update_some(r, group, i, group->n - i < most ? group->n - i : most,
                        update);
    }
}

/* ---- its table ----------------------------------------------------------- */

static bool is_of_shape(const struct parameter *p,
                        const struct muon_group *group)
{
    return p->muon_parts > 0 && p->muon_rows == group->rows &&
           p->shape[1] == group->cols;
}

void muon_count(struct muon_table *table, const struct parameters *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct parameter *p = &list->list[i];
        int g = 0;
        if (p->muon_parts == 0)
            continue;
        while (g < table->n && !is_of_shape(p, &table->groups[g]))
            g++;
        assert(g < MUON_GROUPS_MAX);
        table->n = g < table->n ? table->n : g + 1;
        table->groups[g].rows = p->muon_rows;
        table->groups[g].cols = p->shape[1];
        table->groups[g].n += p->muon_parts;
    }
}

void muon_carve(struct muon_table *table, struct carver *carver)
{
    for (int g = 0; g < table->n; g++)
        table->groups[g].offsets = (const unsigned long long *)carve(
            carver, table->groups[g].n, sizeof *table->groups[g].offsets);
}

static void list_offsets(unsigned long long *to, const struct muon_group *group,
                         const struct parameters *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct parameter *p = &list->list[i];
        for (int k = 0; is_of_shape(p, group) && k < p->muon_parts; k++)
            *to++ = p->offset + (size_t)k * group->rows * (size_t)group->cols;
    }
}

static enum status fill_group(const struct replica *r,
                              const struct muon_group *group)
{
    unsigned long long *offsets =
        (unsigned long long *)calloc(group->n, sizeof *offsets);
    if (!offsets)
        return fail_memory("the tables of the optimiser");
    list_offsets(offsets, group, r->parameters);
    enum status status =
        replica_send(r, group->offsets, offsets, group->n * sizeof *offsets);
    free(offsets);
    return status;
}

enum status muon_fill(const struct replica *r)
{
    for (int g = 0; g < r->muon.n; g++)
        TRY(fill_group(r, &r->muon.groups[g]));
    return OK;
}
