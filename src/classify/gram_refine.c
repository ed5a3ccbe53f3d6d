/* gram_refine.c -- learns the corrections of grams.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_refine.h"

#include <math.h>
#include <stdlib.h>

#include "base/exact.h"
#include "base/random.h"
#include "base/signals.h"
#include "classify/regression.h"

#define EASE  0.35f /* what the evidence is multiplied by */
#define RATE  0.3f  /* of weights */
#define START 0.1f  /* of the sum of the squares of gradients */
#define LEAST 0.003 /* a smaller residual teaches nothing */

/* Of biases in the first pass; half as much in each later one. */
#define BIAS_RATE 0.01f

enum { PASSES = 2, CORRECTION_MOST = 127 };

struct refining {
    struct grams *grams;
    struct gram_bag bag;
    float *squares;        /* [n_pairs]: sums of squares of gradients */
    float *biases;         /* [n_labels] */
    float *logits;         /* [n_labels], then residuals */
    double *probabilities; /* [n_labels] */
    uint32_t *order;       /* [n] of the examples */
    float bias_rate;
};

/* Moves a pair's weight against its gradient. */
static void move(struct refining *r, uint32_t pair, float gradient)
{
    r->squares[pair] += gradient * gradient;
    r->grams->weights[pair] -=
        RATE * gradient / sqrtf(r->squares[pair] + START);
}

/* The logits become what they have too much or too little of; returns whether
 * that is worth learning from. */
static bool find_residuals(struct refining *r, int own)
{
    bool is_wrong = false;
    int n = r->grams->n_labels;
    for (int k = 0; k < n; k++)
        r->logits[k] = EASE * r->logits[k] + r->biases[k];
    softmax(r->probabilities, r->logits, n, 1);
    for (int k = 0; k < n; k++) {
        double residual = r->probabilities[k] - (k == own);
        r->biases[k] -= r->bias_rate * (float)residual;
        r->logits[k] = fabs(residual) < LEAST ? 0 : (float)residual;
        is_wrong |= r->logits[k] != 0;
    }
    return is_wrong;
}

/* Corrects the pairs of a gram of the bag.  A pair that only this example has
 * is not there without it. */
static void correct(struct refining *r, uint32_t gram, uint32_t count, int own,
                    float factor)
{
    const struct grams *g = r->grams;
    for (uint32_t i = g->starts[gram]; i < g->starts[gram + 1]; i++) {
        float residual = r->logits[g->pairs[i].label];
        bool is_there = g->pairs[i].label != own || g->times[i] > count;
        if (residual != 0 && is_there)
            move(r, i, factor * residual);
    }
}

/* Learns from the bag of an example of the label own.  Gradients are without
 * the ease and the value of words, by which AdaGrad would divide again. */
static void learn(struct refining *r, int own)
{
    const struct grams *g = r->grams;
    double root = grams_evidence(g, &r->bag, own, r->logits);
    if (!(root > 0) || !find_residuals(r, own))
        return;
    for (size_t i = 0; i < r->bag.n; i++) {
        uint32_t gram = r->bag.columns[i], count = r->bag.counts[i];
        double strength = gram_strength(count);
        if (grams_has_without(g, gram, own, count))
            correct(r, gram, count, own, (float)(strength / root));
    }
}

static enum status read_pass(struct refining *r,
                             const struct examples *examples, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct example *item = &examples->items[r->order[i]];
        gram_bag_begin(&r->bag);
        TRY(grams_feed(r->grams, &r->bag, item->text, item->n));
        TRY(grams_end(r->grams, &r->bag));
        learn(r, item->label);
        if (i % 1024 == 0)
            TRY(signals_check());
    }
    return OK;
}

/* Draws an order for a pass. */
static void shuffle(uint32_t *order, uint32_t n, uint64_t pass)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = random_below(random_at(pass, i), i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}

/* Weights become those that a file can hold. */
static void round_weights(struct grams *g)
{
    for (size_t i = 0; i < g->n_pairs; i++) {
        float level = g->level_weights[g->pairs[i].level];
        float steps = floorf((g->weights[i] - level) / GRAM_CORRECTION + 0.5f);
        steps = exact_max(exact_min(steps, CORRECTION_MOST), -CORRECTION_MOST);
        g->pairs[i].correction = (int8_t)steps;
        g->weights[i] = level + GRAM_CORRECTION * steps;
    }
}

static enum status run_passes(struct refining *r,
                              const struct examples *examples, size_t n)
{
    r->bias_rate = BIAS_RATE;
    for (uint64_t pass = 0; pass < PASSES; pass++) {
        shuffle(r->order, (uint32_t)n, pass);
        TRY(read_pass(r, examples, n));
        r->bias_rate /= 2;
    }
    round_weights(r->grams);
    return OK;
}

enum status gram_refine(struct grams *grams, const struct examples *examples,
                        size_t n)
{
    size_t k = (size_t)grams->n_labels;
    struct refining r = {
        .grams = grams,
        .squares = calloc(grams->n_pairs + 1, sizeof(float)),
        .biases = calloc(k, sizeof(float)),
        .logits = calloc(k, sizeof(float)),
        .probabilities = calloc(k, sizeof(double)),
        .order = calloc(n + 1, sizeof(uint32_t)),
    };
    bool is_whole =
        r.squares && r.biases && r.logits && r.probabilities && r.order;
    enum status status =
        is_whole ? run_passes(&r, examples, n) : fail_memory("the grams");
    gram_bag_free(&r.bag);
    free(r.squares);
    free(r.biases);
    free(r.logits);
    free(r.probabilities);
    free(r.order);
    return status;
}
