/* regression.h -- multinomial logistic regression, fitted to convergence.
 *
 * P(class k | x, s) is the softmax over k of bias[k] + sum over i of x[i]
 * w[i][k] + ease times sum over j of s[j] w[n_inputs + j][k].  The fit makes
 * the mean of -log P of the examples' classes, and penalty / 2 times the sum
 * of the squares of w, as small as can be: an ease above 1 makes it easier
 * for the sparse inputs s to have a say.
 *
 * Products are those of train_kernels.h and sums have one order, so that the
 * result does not depend on the machine nor on the number of threads.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_REGRESSION_H
#define MAMBYTE_REGRESSION_H

#include <stddef.h>

#include "base/status.h"
#include "base/threads.h"
#include "classify/sparse.h"

struct regression {
    const float *x;    /* [n][n_inputs] */
    const int *labels; /* [n], below n_classes */
    size_t n;
    int n_inputs, n_classes;
    double penalty;
    struct threads *team;
    const struct sparse *sparse; /* [n][n_sparse], or NULL */
    int n_sparse;
    double ease;          /* of those */
    const float *weights; /* [n] of the examples in the mean, or NULL: all 1 */
};

/* Improves w, [n_inputs + n_sparse + 1][n_classes], the last row the biases,
 * from what it is.  Steps of the search are added to *n_steps. */
enum status regression_fit(const struct regression *regression, double *w,
                           int *n_steps);

/* logits[i][k] of n rows of x by w as floats, the last row the biases. */
void regression_logits(float *logits, const float *x, const float *w, size_t n,
                       int n_inputs, int n_classes);

/* The mean of -log2 P of the labels, logits being divided by a temperature. */
double regression_bits(const float *logits, const int *labels, size_t n,
                       int n_classes, double temperature);

/* The temperature from 0.5 to 10 at which that is least. */
double regression_temperature(const float *logits, const int *labels, size_t n,
                              int n_classes);

/* softmax(logits / temperature) of one row; bit for bit the same everywhere.
 */
void softmax(double *probabilities, const float *logits, int n,
             double temperature);

#endif
