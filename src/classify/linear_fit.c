/* linear_fit.c -- fits a linear classifier to examples, and chooses how.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/linear_fit.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/message.h"
#include "classify/regression.h"

/* The first penalty.  The search lowers it by this factor for as long as that
 * is better, or else raises it; at most so many times. */
#define PENALTY_FIRST 0.1
#define PENALTY_STEP  0.3

enum { PENALTY_STEPS = 3 };

/* How much more influence a record's grams have than its features; at 1 both,
 * as they are scaled, have the same.  The search raises it by this factor for
 * as long as that is better, or else lowers it. */
#define EASE_FIRST 1.5
#define EASE_STEP  2.0

enum { EASE_STEPS = 2 };

static size_t n_features(const struct linear_fit *f)
{
    return (size_t)f->classifier->n_features;
}

static size_t n_labels(const struct linear_fit *f)
{
    return (size_t)f->classifier->n_labels;
}

static size_t n_grams(const struct linear_fit *f)
{
    return (size_t)f->classifier->grams.n;
}

static size_t n_weights(const struct linear_fit *f)
{
    return (n_features(f) + n_grams(f) + 1) * n_labels(f);
}

/* Room for the weights of the grams that the classifier has; all are zero. */
static enum status open_weights(struct linear_fit *f)
{
    free(f->classifier->gram_w);
    free(f->w);
    free(f->best_w);
    f->classifier->gram_w = calloc(n_grams(f) * n_labels(f) + 1, sizeof(float));
    f->w = calloc(n_weights(f), sizeof(double));
    f->best_w = calloc(n_weights(f), sizeof(double));
    return f->classifier->gram_w && f->w && f->best_w ? OK
                                                      : fail_memory("a head");
}

void linear_fit_free(struct linear_fit *fit)
{
    free(fit->w);
    free(fit->best_w);
    free(fit->logits);
    *fit = (struct linear_fit){0};
}

/* ---- one fit ------------------------------------------------------------ */

/* Improves w for the first n examples. */
static enum status improve(struct linear_fit *f, size_t n)
{
    int n_steps = 0;
    const struct regression regression = {
        .x = f->table->x,
        .labels = f->table->labels,
        .weights = f->table->weights,
        .n = n,
        .n_inputs = f->classifier->n_features,
        .n_classes = f->classifier->n_labels,
        .penalty = f->penalty,
        .team = f->team,
        .sparse = &f->table->grams,
        .n_sparse = f->classifier->grams.n,
        .ease = f->ease,
    };
    message_status("%s: fitting, penalty %g", f->path, f->penalty);
    TRY(regression_fit(&regression, f->w, &n_steps));
    message_note("penalty %g, ease %g: %d steps", f->penalty, f->ease, n_steps);
    return OK;
}

/* w as the floats of the classifier, divided by the temperature. */
static void take_weights(struct linear_fit *f)
{
    struct linear_classifier *c = f->classifier;
    size_t n = n_features(f) * n_labels(f), m = n_grams(f) * n_labels(f);
    for (size_t i = 0; i < n; i++)
        c->w[i] = (float)(f->w[i] / c->temperature);
    for (size_t i = 0; i < m; i++)
        c->gram_w[i] = (float)(f->ease * f->w[n + i] / c->temperature);
    for (size_t i = 0; i < n_labels(f); i++)
        c->w[n + i] = (float)(f->w[n + m + i] / c->temperature);
}

/* The logits of the held-out examples by w, and the bits that they cost. */
static void measure_held_out(struct linear_fit *f)
{
    const struct linear_classifier *c = f->classifier;
    const struct feature_table *table = f->table;
    take_weights(f);
    regression_logits(f->logits, table->x + f->n_fit * n_features(f), c->w,
                      f->n_held, c->n_features, c->n_labels);
    sparse_add_product(f->logits, &table->grams, f->n_fit, f->n_fit + f->n_held,
                       c->gram_w, c->n_labels);
    f->bits = regression_bits(f->logits, table->labels + f->n_fit, f->n_held,
                              c->n_labels, 1);
}

/* ---- the search --------------------------------------------------------- */

/* Fits without the held-out examples; true when that is the best so far. */
static enum status try_fit(struct linear_fit *f, bool *is_better)
{
    TRY(improve(f, f->n_fit));
    measure_held_out(f);
    message_note("held out: %.4f bits a record", f->bits);
    *is_better = f->bits < f->best_bits;
    if (*is_better) {
        f->best_bits = f->bits;
        memcpy(f->best_w, f->w, n_weights(f) * sizeof *f->w);
    }
    return OK;
}

/* Changes the best penalty by a factor for as long as that is better. */
static enum status move_penalty(struct linear_fit *f, double factor)
{
    bool is_better = true;
    double best = f->penalty;
    for (int i = 0; i < PENALTY_STEPS && is_better; i++) {
        f->penalty = best * factor;
        TRY(try_fit(f, &is_better));
        best = is_better ? f->penalty : best;
    }
    f->penalty = best;
    memcpy(f->w, f->best_w, n_weights(f) * sizeof *f->w);
    return OK;
}

/* Another ease, and w such that the logits stay. */
static void change_ease(struct linear_fit *f, double ease)
{
    size_t n = n_features(f) * n_labels(f);
    for (size_t i = 0; i < n_grams(f) * n_labels(f); i++)
        f->w[n + i] *= f->ease / ease;
    f->ease = ease;
}

static enum status move_ease(struct linear_fit *f, double factor)
{
    bool is_better = true;
    double best = f->ease;
    for (int i = 0; i < EASE_STEPS && is_better; i++) {
        change_ease(f, best * factor);
        TRY(try_fit(f, &is_better));
        best = is_better ? f->ease : best;
    }
    f->ease = best;
    memcpy(f->w, f->best_w, n_weights(f) * sizeof *f->w);
    return OK;
}

static void choose_temperature(struct linear_fit *f)
{
    measure_held_out(f);
    f->classifier->temperature =
        regression_temperature(f->logits, f->table->labels + f->n_fit,
                               f->n_held, f->classifier->n_labels);
    message_note("temperature %.3f", f->classifier->temperature);
}

static enum status search(struct linear_fit *f)
{
    double penalty = f->penalty, ease = f->ease;
    bool is_better;
    f->best_bits = INFINITY;
    TRY(try_fit(f, &is_better));
    TRY(move_penalty(f, PENALTY_STEP));
    if (f->penalty == penalty)
        TRY(move_penalty(f, 1 / PENALTY_STEP));
    TRY(move_ease(f, EASE_STEP));
    if (f->ease == ease)
        TRY(move_ease(f, 1 / EASE_STEP));
    choose_temperature(f);
    return OK;
}

enum status linear_fit_choose(struct linear_fit *fit)
{
    fit->penalty = PENALTY_FIRST;
    fit->ease = EASE_FIRST * sqrt((double)n_features(fit));
    fit->classifier->temperature = 1;
    if (fit->n_held == 0)
        return OK;
    fit->logits = calloc(fit->n_held * n_labels(fit), sizeof *fit->logits);
    if (!fit->logits)
        return fail_memory("a head");
    TRY(open_weights(fit));
    return search(fit);
}

enum status linear_fit_all(struct linear_fit *fit)
{
    TRY(open_weights(fit));
    TRY(improve(fit, fit->table->n));
    take_weights(fit);
    return OK;
}
