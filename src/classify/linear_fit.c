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
#include "base/text.h"
#include "classify/regression.h"

/* The first penalty.  The search lowers it by this factor for as long as that
 * is better, or else raises it; at most so many times. */
#define PENALTY_FIRST 0.1
#define PENALTY_STEP  0.3

enum { PENALTY_STEPS = 3 };

/* The factor of the evidence of the grams.  The search raises it by
 * this factor for as long as that is better, or else lowers it. */
#define EASE_FIRST 0.4
#define EASE_STEP  1.4

enum { EASE_STEPS = 6 };

static size_t n_features(const struct linear_fit *f)
{
    return (size_t)f->classifier->n_features;
}

static size_t n_labels(const struct linear_fit *f)
{
    return (size_t)f->classifier->n_labels;
}

static size_t n_weights(const struct linear_fit *f)
{
    return (n_features(f) + 1) * n_labels(f);
}

/* All are zero. */
static enum status open_weights(struct linear_fit *f)
{
    free(f->w);
    free(f->best_w);
    f->w = calloc(n_weights(f), sizeof(double));
    f->best_w = calloc(n_weights(f), sizeof(double));
    return f->w && f->best_w ? OK : fail_memory("a head");
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
        .offset = f->table->evidence,
        .ease = f->ease,
    };
    message_status("%s: fitting, penalty %g", f->path, f->penalty);
    TRY(regression_fit(&regression, f->w, &n_steps));
    message_note("penalty %g, ease %g: %d step%s", f->penalty, f->ease, n_steps,
                 text_plural((uint64_t)n_steps));
    return OK;
}

/* w as the floats of the classifier, divided by the temperature. */
static void take_weights(struct linear_fit *f)
{
    struct linear_classifier *c = f->classifier;
    for (size_t i = 0; i < n_weights(f); i++)
        c->w[i] = (float)(f->w[i] / c->temperature);
    c->ease = (float)(f->ease / c->temperature);
}

/* The logits of the held-out examples by w, and the bits that they cost. */
static void measure_held_out(struct linear_fit *f)
{
    const struct linear_classifier *c = f->classifier;
    const struct feature_table *table = f->table;
    take_weights(f);
    regression_logits(f->logits, table->x + f->n_fit * n_features(f), c->w,
                      table->evidence + f->n_fit * n_labels(f), c->ease,
                      f->n_held, c->n_features, c->n_labels);
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

/* Changes the best *choice by a factor for as long as that is better. */
static enum status move(struct linear_fit *f, double *choice, double factor,
                        int n_steps)
{
    bool is_better = true;
    double best = *choice;
    for (int i = 0; i < n_steps && is_better; i++) {
        *choice = best * factor;
        TRY(try_fit(f, &is_better));
        best = is_better ? *choice : best;
    }
    *choice = best;
    memcpy(f->w, f->best_w, n_weights(f) * sizeof *f->w);
    return OK;
}

/* Raises it, or else lowers it. */
static enum status tune(struct linear_fit *f, double *choice, double factor,
                        int n_steps)
{
    double first = *choice;
    TRY(move(f, choice, factor, n_steps));
    return *choice == first ? move(f, choice, 1 / factor, n_steps) : OK;
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
    bool is_better;
    f->best_bits = INFINITY;
    TRY(try_fit(f, &is_better));
    if (n_features(f) > 0)
        TRY(tune(f, &f->penalty, PENALTY_STEP, PENALTY_STEPS));
    TRY(tune(f, &f->ease, EASE_STEP, EASE_STEPS));
    choose_temperature(f);
    return OK;
}

enum status linear_fit_choose(struct linear_fit *fit)
{
    fit->penalty = PENALTY_FIRST;
    fit->ease = EASE_FIRST;
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
