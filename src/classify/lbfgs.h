/* lbfgs.h -- finds the least value of a smooth function: limited-memory BFGS.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LBFGS_H
#define MAMBYTE_LBFGS_H

#include <stddef.h>

#include "base/status.h"
#include "base/threads.h"

/* The value at x, and its gradient; both: [n]. */
typedef double lbfgs_value(void *context, const double *x, double *gradient);

struct lbfgs {
    lbfgs_value *value;
    void *context;
    size_t n;
    double tolerance; /* done when the gradient's norm is at most this */
    int max_steps;
    struct threads *team; /* or NULL: the caller alone; the same result */
};

/* Moves x to where the function is least.  Ends at the tolerance, after
 * max_steps, or when no step makes the value smaller.  *n_steps: the number of
 * steps.  E_INTERRUPTED when a signal came. */
enum status lbfgs_minimise(const struct lbfgs *problem, double *x,
                           int *n_steps);

#endif
