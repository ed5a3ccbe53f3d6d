/* regression.c -- multinomial logistic regression, fitted to convergence.
 *
 * A value takes two products: logits = x w, a row for each example, and
 * gradient = (transpose of x) (P - Y), a row for each row of w.  Members of the
 * team share the rows of each.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/regression.h"

#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "classify/lbfgs.h"
#include "kernels/train_kernels.h"

#define LN2       0x1.62e42fefa39efp-1
#define TOLERANCE 3e-4 /* inputs vary by about 1 */

/* Bounds, as few records say little about the temperature. */
#define TEMPERATURE_MIN 0.5
#define TEMPERATURE_MAX 10.0

enum { STEPS_MAX = 1000 };

/* A value, as it is computed. */
struct fit {
    const struct regression *problem;
    double share; /* of an example of weight 1 in the mean */
    const double *w;
    double *gradient;
    float *floats;   /* owned: [n_inputs][n_classes], w as floats, then
                      * [n_classes], the biases, for regression_logits */
    float *residual; /* owned: [n][n_classes], logits, then P - Y */
    float *slope;    /* owned: [n_inputs][n_classes] */
    double *bits;    /* owned: [n], of each label */
};

/* ---- rows --------------------------------------------------------------- */

/* e^x of x <= 0, at most e^0. */
static double power(float logit, float most, double temperature)
{
    return (double)exact_exp((float)((double)(logit - most) / temperature));
}

static float largest(const float *x, int n)
{
    float most = x[0];
    for (int i = 1; i < n; i++)
        most = exact_max(x[i], most);
    return most;
}

static double sum_powers(const float *logits, float most, int n,
                         double temperature)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += power(logits[i], most, temperature);
    return sum;
}

void softmax(double *probabilities, const float *logits, int n,
             double temperature)
{
    float most = largest(logits, n);
    double sum = sum_powers(logits, most, n, temperature);
    for (int i = 0; i < n; i++)
        probabilities[i] = power(logits[i], most, temperature) / sum;
}

/* -log2 of the softmax at a label. */
static double row_bits(const float *logits, int label, int n,
                       double temperature)
{
    float most = largest(logits, n);
    double sum = sum_powers(logits, most, n, temperature);
    return (double)exact_log2((float)sum) +
           (double)(most - logits[label]) / (temperature * LN2);
}

double regression_bits(const float *logits, const int *labels, size_t n,
                       int n_classes, double temperature)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += row_bits(logits + i * (size_t)n_classes, labels[i], n_classes,
                        temperature);
    return n > 0 ? sum / (double)n : 0;
}

/* The bits are convex in 1 / temperature: a ternary search finds the least. */
double regression_temperature(const float *logits, const int *labels, size_t n,
                              int n_classes)
{
    double low = 1 / TEMPERATURE_MAX, high = 1 / TEMPERATURE_MIN;
    for (int i = 0; i < 40; i++) {
        double a = low + (high - low) / 3, b = high - (high - low) / 3;
        if (regression_bits(logits, labels, n, n_classes, 1 / a) <
            regression_bits(logits, labels, n, n_classes, 1 / b))
            high = b;
        else
            low = a;
    }
    return 2 / (low + high);
}

/* ---- the fit ------------------------------------------------------------ */

static void add_biases(float *logits, const float *biases, size_t n, int k)
{
    for (size_t i = 0; i < n; i++) {
        for (int j = 0; j < k; j++)
            logits[i * (size_t)k + (size_t)j] += biases[j];
    }
}

void regression_logits(float *logits, const float *x, const float *w,
                       const float *offset, float ease, size_t n, int n_inputs,
                       int n_classes)
{
    struct product job = {
        .c = logits,
        .ld_c = (size_t)n_classes,
        .a = x,
        .a_i = (size_t)n_inputs,
        .a_k = 1,
        .b = w,
        .ld_b = (size_t)n_classes,
        .n_j = n_classes,
        .n_k = n_inputs,
    };
    if (n_inputs == 0)
        memset(logits, 0, n * (size_t)n_classes * sizeof *logits);
    train_kernels_find()->product(&job, 0, (int)n);
    add_biases(logits, w + (size_t)n_inputs * (size_t)n_classes, n, n_classes);
    for (size_t i = 0; offset && i < n * (size_t)n_classes; i++)
        logits[i] += ease * offset[i];
}

/* Weighs what an example adds to the bits and to the gradient. */
static void weigh(struct fit *fit, size_t i)
{
    const struct regression *r = fit->problem;
    size_t k = (size_t)r->n_classes;
    if (!r->weights)
        return;
    fit->bits[i] *= (double)r->weights[i];
    for (size_t j = 0; j < k; j++)
        fit->residual[i * k + j] *= r->weights[i];
}

/* The bits and P - Y of examples [begin, end). */
static void find_residuals(struct fit *fit, size_t begin, size_t end)
{
    const struct regression *r = fit->problem;
    size_t k = (size_t)r->n_classes;
    const float *x = r->x ? r->x + begin * (size_t)r->n_inputs : NULL;
    const float *offset = r->offset ? r->offset + begin * k : NULL;
    regression_logits(fit->residual + begin * k, x, fit->floats, offset,
                      (float)r->ease, end - begin, r->n_inputs, r->n_classes);
    for (size_t i = begin; i < end; i++) {
        float *row = fit->residual + i * k;
        float most = largest(row, r->n_classes);
        double sum = sum_powers(row, most, r->n_classes, 1);
        fit->bits[i] = row_bits(row, r->labels[i], r->n_classes, 1);
        for (size_t j = 0; j < k; j++)
            row[j] = (float)(power(row[j], most, 1) / sum);
        row[r->labels[i]] -= 1;
        weigh(fit, i);
    }
}

/* Rows [begin, end) of the gradient, from their slope. */
static void finish_rows(struct fit *fit, size_t begin, size_t end)
{
    const struct regression *r = fit->problem;
    size_t k = (size_t)r->n_classes;
    for (size_t i = begin * k; i < end * k; i++)
        fit->gradient[i] =
            (double)fit->slope[i] * fit->share + r->penalty * fit->w[i];
}

/* The gradient for rows [begin, end) of w. */
static void find_slope(struct fit *fit, int begin, int end)
{
    const struct regression *r = fit->problem;
    struct product job = {
        .c = fit->slope,
        .ld_c = (size_t)r->n_classes,
        .a = r->x,
        .a_i = 1,
        .a_k = (size_t)r->n_inputs,
        .b = fit->residual,
        .ld_b = (size_t)r->n_classes,
        .n_j = r->n_classes,
        .n_k = (int)r->n,
    };
    if (begin < end)
        train_kernels_find()->product(&job, begin, end);
    finish_rows(fit, (size_t)begin, (size_t)end);
}

/* Makes floats of a member's share of w. */
static void take_weights(struct fit *fit, int index, int n_members)
{
    const struct regression *r = fit->problem;
    size_t k = (size_t)r->n_classes;
    struct range mine = threads_split(r->n_inputs, index, n_members);
    for (size_t i = (size_t)mine.begin * k; i < (size_t)mine.end * k; i++)
        fit->floats[i] = (float)fit->w[i];
}

static void work(void *context, int index)
{
    struct fit *fit = context;
    const struct regression *r = fit->problem;
    int n_members = threads_count(r->team);
    struct range examples = threads_split((int)r->n, index, n_members);
    struct range inputs = threads_split(r->n_inputs, index, n_members);
    take_weights(fit, index, n_members);
    threads_barrier(r->team);
    if (examples.begin < examples.end)
        find_residuals(fit, (size_t)examples.begin, (size_t)examples.end);
    threads_barrier(r->team);
    find_slope(fit, inputs.begin, inputs.end);
}

/* The mean over the examples plus the penalty; and the gradient of biases. */
static double sum_up(const struct fit *fit)
{
    const struct regression *r = fit->problem;
    size_t k = (size_t)r->n_classes, n_weights = (size_t)r->n_inputs * k;
    double *biases = fit->gradient + n_weights;
    double bits = 0, squares = 0;
    for (size_t i = 0; i < n_weights; i++)
        squares += fit->w[i] * fit->w[i];
    for (size_t j = 0; j < k; j++)
        biases[j] = 0;
    for (size_t i = 0; i < r->n; i++) {
        bits += fit->bits[i];
        for (size_t j = 0; j < k; j++)
            biases[j] += (double)fit->residual[i * k + j];
    }
    for (size_t j = 0; j < k; j++)
        biases[j] *= fit->share;
    return bits * LN2 * fit->share + r->penalty / 2 * squares;
}

static double value(void *context, const double *w, double *gradient)
{
    struct fit *fit = context;
    const struct regression *r = fit->problem;
    size_t k = (size_t)r->n_classes;
    fit->w = w;
    fit->gradient = gradient;
    for (size_t j = 0; j < k; j++)
        fit->floats[(size_t)r->n_inputs * k + j] =
            (float)w[(size_t)r->n_inputs * k + j];
    threads_run(r->team, work, fit);
    return sum_up(fit);
}

/* 1 over the weights of all examples. */
static double find_share(const struct regression *r)
{
    double sum = 0;
    for (size_t i = 0; i < r->n; i++)
        sum += r->weights ? (double)r->weights[i] : 1;
    return 1 / sum;
}

enum status regression_fit(const struct regression *regression, double *w,
                           int *n_steps)
{
    const struct regression *r = regression;
    size_t k = (size_t)r->n_classes, n_w = ((size_t)r->n_inputs + 1) * k;
    struct fit fit = {
        .problem = r,
        .share = find_share(r),
        .floats = malloc(((size_t)r->n_inputs + 1) * k * sizeof(float)),
        .residual = malloc(r->n * k * sizeof(float)),
        .slope = malloc(n_w * sizeof(float)),
        .bits = malloc(r->n * sizeof(double)),
    };
    struct lbfgs problem = {.value = value,
                            .context = &fit,
                            .n = n_w,
                            .tolerance = TOLERANCE,
                            .max_steps = STEPS_MAX,
                            .team = r->team};
    int n = 0;
    enum status status = fit.floats && fit.residual && fit.slope && fit.bits
                             ? lbfgs_minimise(&problem, w, &n)
                             : fail_memory("the fit");
    *n_steps += n;
    free(fit.floats);
    free(fit.residual);
    free(fit.slope);
    free(fit.bits);
    return status;
}
