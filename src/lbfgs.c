/* lbfgs.c -- finds the least value of a smooth function: limited-memory BFGS.
 *
 * The last PAIRS steps and changes of the gradient stand for the curvature
 * (Nocedal 1980).  A step is tried at full length and halved until the value
 * falls enough (Armijo); for a convex function, as all here are, a pair then
 * has a positive product unless both are lost in rounding.
 *
 * SPDX-License-Identifier: MIT
 */
#include "lbfgs.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "signals.h"

enum { PAIRS = 8, HALVINGS_MAX = 20 };

#define ENOUGH 1e-4 /* of the fall that the slope promises */

struct pair {
    double *step, *change; /* [n]: of x, of the gradient */
    double inverse;        /* of their product */
};

struct search {
    const struct lbfgs *problem;
    double *memory; /* owned: what follows */
    double *x, *gradient;
    double *direction, *next_gradient, *next;
    double value;
    struct pair pairs[PAIRS]; /* the newest is at (n_pairs - 1) % PAIRS */
    int n_pairs;
};

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* y += a x */
static void add_scaled(double *y, double a, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static enum status open_search(struct search *s, const struct lbfgs *problem,
                               double *x)
{
    size_t n = problem->n;
    *s = (struct search){.problem = problem, .x = x};
    s->memory = calloc((4 + 2 * PAIRS) * n, sizeof(double));
    if (!s->memory)
        return fail_memory("the fit");
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

/* direction = -(inverse curvature) gradient, by the two loops. */
static void find_direction(struct search *s)
{
    size_t n = s->problem->n;
    double a[PAIRS];
    double *d = s->direction;
    int oldest = s->n_pairs > PAIRS ? s->n_pairs - PAIRS : 0;
    for (size_t i = 0; i < n; i++)
        d[i] = -s->gradient[i];
    for (int i = s->n_pairs - 1; i >= oldest; i--) {
        const struct pair *p = &s->pairs[i % PAIRS];
        a[i % PAIRS] = p->inverse * dot(p->step, d, n);
        add_scaled(d, -a[i % PAIRS], p->change, n);
    }
    double scale = 1 / sqrt(dot(s->gradient, s->gradient, n));
    if (s->n_pairs > 0) {
        const struct pair *p = &s->pairs[(s->n_pairs - 1) % PAIRS];
        scale = 1 / (p->inverse * dot(p->change, p->change, n));
    }
    for (size_t i = 0; i < n; i++)
        d[i] *= scale;
    for (int i = oldest; i < s->n_pairs; i++) {
        const struct pair *p = &s->pairs[i % PAIRS];
        double b = p->inverse * dot(p->change, d, n);
        add_scaled(d, a[i % PAIRS] - b, p->step, n);
    }
}

/* Keeps what the step to next taught, and goes there. */
static void take_step(struct search *s, double value)
{
    size_t n = s->problem->n;
    struct pair *p = &s->pairs[s->n_pairs % PAIRS];
    for (size_t i = 0; i < n; i++) {
        p->step[i] = s->next[i] - s->x[i];
        p->change[i] = s->next_gradient[i] - s->gradient[i];
    }
    double product = dot(p->step, p->change, n);
    if (product > 0) {
        p->inverse = 1 / product;
        s->n_pairs++;
    }
    memcpy(s->x, s->next, n * sizeof *s->x);
    memcpy(s->gradient, s->next_gradient, n * sizeof *s->gradient);
    s->value = value;
}

/* Along the direction; false when nothing is gained there. */
static bool try_direction(struct search *s)
{
    const struct lbfgs *problem = s->problem;
    double slope = dot(s->direction, s->gradient, problem->n);
    double length = 1;
    for (int i = 0; i < HALVINGS_MAX && slope < 0; i++, length /= 2) {
        memcpy(s->next, s->x, problem->n * sizeof *s->x);
        add_scaled(s->next, length, s->direction, problem->n);
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
        if (sqrt(dot(s->gradient, s->gradient, problem->n)) <=
            problem->tolerance)
            return OK;
        TRY(signals_check());
        find_direction(s);
        if (!try_direction(s)) {
            if (s->n_pairs == 0)
                return OK;
            s->n_pairs = 0; /* once more, straight down */
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
    free(s.memory);
    return status;
}
