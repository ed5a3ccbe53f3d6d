/* regression.h -- multinomial logistic regression, fitted to convergence.
 *
 * P(class k | x, offset) is the softmax over k of bias[k] + sum over i of x[i]
 * w[i][k] + ease times offset[k].  The fit minimises the mean of -log P of the
 * examples' classes plus penalty / 2 times the sum of the squares of w.  What
 * the offset says already need not be learnt.
 *
 * Products are those of train_kernels.h, and sums have one order: the result
 * depends neither on the machine nor on the number of threads.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_REGRESSION_H
#define MAMBYTE_REGRESSION_H

#include <stddef.h>

#include "base/status.h"
#include "base/threads.h"

struct regression {
    const float *x;    /* [n][n_inputs]; may be NULL when n_inputs is 0 */
    const int *labels; /* [n], below n_classes */
    size_t n;
    int n_inputs, n_classes;
    double penalty;
    struct threads *team;
    const float *offset; /* [n][n_classes], or NULL */
    double ease;
    const float *weights; /* [n] of the examples in the mean, or NULL: all 1 */
};

/* Improves w, [n_inputs + 1][n_classes], whose last row has the biases.  Adds
 * the number of steps to *n_steps. */
enum status regression_fit(const struct regression *regression, double *w,
                           int *n_steps);

/* logits[i][k] of n rows of x, by the floats w, whose last row has the biases;
 * plus ease times the offset, [n][n_classes], or NULL. */
void regression_logits(float *logits, const float *x, const float *w,
                       const float *offset, float ease, size_t n, int n_inputs,
                       int n_classes);

/* The mean of -log2 P of the labels, for logits divided by a temperature. */
double regression_bits(const float *logits, const int *labels, size_t n,
                       int n_classes, double temperature);

/* The temperature from 0.5 to 10 at which that mean is least. */
double regression_temperature(const float *logits, const int *labels, size_t n,
                              int n_classes);

/* softmax(logits / temperature) of one row; bit for bit the same everywhere.
 */
void softmax(double *probabilities, const float *logits, int n,
             double temperature);

#endif
