/* lbfgs.c -- finds the least value of a smooth function: limited-memory BFGS.
 *
 * The last PAIRS steps, with the changes of the gradient, stand for the
 * curvature (Nocedal 1980).  A step is tried at full length, and halved until
 * the value falls enough (Armijo).  The functions here are convex, so that a
 * pair has a positive product unless rounding loses it.
 *
 * The team shares the blocks of a vector.  A sum is that of the sums of its
 * blocks, in their order.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/lbfgs.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/signals.h"

enum { PAIRS = 8, HALVINGS_MAX = 20, BLOCK = 4096 };

#define ENOUGH 1e-4 /* of the fall that the slope predicts */

struct pair {
    double *step, *change; /* [n]: of x, of the gradient */
    double inverse;        /* of their product */
};

struct search {
    const struct lbfgs *problem;
    double *memory; /* owned: the vectors below but x */
    double *x, *gradient;
    double *direction, *next_gradient, *next;
    double value;
    struct pair pairs[PAIRS]; /* the newest is at (n_pairs - 1) % PAIRS */
    int n_pairs;
    int n_blocks;
    double *sums; /* owned: [n_blocks] */
};

/* ---- vectors ------------------------------------------------------------ */

/* An operation on n elements, from the same place in each vector. */
typedef void block_work(double *to, const double *a, const double *b,
                        double factor, size_t n);

struct vector_job {
    struct search *search;
    block_work *work;
    double *to; /* [n], or NULL: the sum of a block goes to sums */
    const double *a, *b;
    double factor;
};

static void work_on_blocks(void *context, int index)
{
    const struct vector_job *job = context;
    struct search *s = job->search;
    int n_members = s->problem->team ? threads_count(s->problem->team) : 1;
    struct range mine = threads_split(s->n_blocks, index, n_members);
    for (int i = mine.begin; i < mine.end; i++) {
        size_t at = (size_t)i * BLOCK, left = s->problem->n - at;
        double *to = job->to ? job->to + at : &s->sums[i];
        job->work(to, job->a + at, job->b + at, job->factor,
                  left < BLOCK ? left : BLOCK);
    }
}

static void run(struct vector_job *job)
{
    if (job->search->problem->team)
        threads_run(job->search->problem->team, work_on_blocks, job);
    else
        work_on_blocks(job, 0);
}

static void dot_block(double *to, const double *a, const double *b,
                      double factor, size_t n)
{
    double sum = 0;
    (void)factor;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    *to = sum;
}

static double dot(struct search *s, const double *a, const double *b)
{
    struct vector_job job = {s, dot_block, NULL, a, b, 0};
    double sum = 0;
    run(&job);
    for (int i = 0; i < s->n_blocks; i++)
        sum += s->sums[i];
    return sum;
}

static void combine_block(double *to, const double *a, const double *b,
                          double factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = a[i] + factor * b[i];
}

/* to = a + factor b; to may be either. */
static void combine(struct search *s, double *to, const double *a,
                    double factor, const double *b)
{
    struct vector_job job = {s, combine_block, to, a, b, factor};
    run(&job);
}

static void scale_block(double *to, const double *a, const double *b,
                        double factor, size_t n)
{
    (void)b;
    for (size_t i = 0; i < n; i++)
        to[i] = factor * a[i];
}

/* to = factor a; to may be a. */
static void scale(struct search *s, double *to, double factor, const double *a)
{
    struct vector_job job = {s, scale_block, to, a, a, factor};
    run(&job);
}

/* ---- the search --------------------------------------------------------- */

static void close_search(struct search *s)
{
    free(s->memory);
    free(s->sums);
}

static enum status open_search(struct search *s, const struct lbfgs *problem,
                               double *x)
{
    size_t n = problem->n;
    *s = (struct search){.problem = problem, .x = x};
    s->n_blocks = (int)((n + BLOCK - 1) / BLOCK);
    s->memory = calloc((4 + 2 * PAIRS) * n, sizeof(double));
    s->sums = calloc((size_t)s->n_blocks + 1, sizeof(double));
    if (!s->memory || !s->sums) {
        close_search(s);
        return fail_memory("the fit");
    }
    double *next = s->memory;
    double **parts[] = {&s->gradient, &s->direction, &s->next_gradient,
                        &s->next};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++, next += n)
        *parts[i] = next;
    for (int i = 0; i < PAIRS; i++, next += 2 * n) {
        s->pairs[i].step = next;
        s->pairs[i].change = next + n;
    }
    return OK;
}

/* direction = -(inverse curvature) gradient, by Nocedal's two loops. */
static void find_direction(struct search *s)
{
    double a[PAIRS];
    double *d = s->direction;
    int oldest = s->n_pairs > PAIRS ? s->n_pairs - PAIRS : 0;
    scale(s, d, -1, s->gradient);
    for (int i = s->n_pairs - 1; i >= oldest; i--) {
        const struct pair *p = &s->pairs[i % PAIRS];
        a[i % PAIRS] = p->inverse * dot(s, p->step, d);
        combine(s, d, d, -a[i % PAIRS], p->change);
    }
    double factor = 1 / sqrt(dot(s, s->gradient, s->gradient));
    if (s->n_pairs > 0) {
        const struct pair *p = &s->pairs[(s->n_pairs - 1) % PAIRS];
        factor = 1 / (p->inverse * dot(s, p->change, p->change));
    }
    scale(s, d, factor, d);
    for (int i = oldest; i < s->n_pairs; i++) {
        const struct pair *p = &s->pairs[i % PAIRS];
        double b = p->inverse * dot(s, p->change, d);
        combine(s, d, d, a[i % PAIRS] - b, p->step);
    }
}

/* Goes to next, and keeps the pair of that step. */
static void take_step(struct search *s, double value)
{
    struct pair *p = &s->pairs[s->n_pairs % PAIRS];
    combine(s, p->step, s->next, -1, s->x);
    combine(s, p->change, s->next_gradient, -1, s->gradient);
    double product = dot(s, p->step, p->change);
    if (product > 0) {
        p->inverse = 1 / product;
        s->n_pairs++;
    }
    scale(s, s->x, 1, s->next);
    scale(s, s->gradient, 1, s->next_gradient);
    s->value = value;
}

/* Steps along the direction; false when no step there gains, or when a signal
 * came. */
static bool try_direction(struct search *s)
{
    const struct lbfgs *problem = s->problem;
    double slope = dot(s, s->direction, s->gradient);
    double length = 1;
    for (int i = 0; i < HALVINGS_MAX && slope < 0; i++, length /= 2) {
        if (signals_check() != OK)
            return false;
        combine(s, s->next, s->x, length, s->direction);
        double value =
            problem->value(problem->context, s->next, s->next_gradient);
        if (value <= s->value + ENOUGH * length * slope) {
            take_step(s, value);
            return true;
        }
    }
    return false;
}

static enum status search_least(struct search *s, int *n_steps)
{
    const struct lbfgs *problem = s->problem;
    s->value = problem->value(problem->context, s->x, s->gradient);
    while (*n_steps < problem->max_steps) {
        if (sqrt(dot(s, s->gradient, s->gradient)) <= problem->tolerance)
            return OK;
        find_direction(s);
        if (!try_direction(s)) {
            TRY(signals_check());
            if (s->n_pairs == 0)
                return OK;
            s->n_pairs = 0; /* try again, down the gradient */
            continue;
        }
        ++*n_steps;
    }
    return OK;
}

enum status lbfgs_minimise(const struct lbfgs *problem, double *x, int *n_steps)
{
    struct search s;
    *n_steps = 0;
    TRY(open_search(&s, problem, x));
    enum status status = search_least(&s, n_steps);
    close_search(&s);
    return status;
}
