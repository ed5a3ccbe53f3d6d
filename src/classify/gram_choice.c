/* gram_choice.c -- which grams tell labels apart.
 *
 * The records are read twice: first to count how many have a gram, then to list
 * the labels of those, gram after gram.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_choice.h"

#include <stdlib.h>
#include <string.h>

#include "base/exact.h"

#define LN2 0x1.62e42fefa39efp-1

enum { RECORDS_MIN = 2 };

/* A gram that enough records have. */
struct gram_candidate {
    uint32_t slot;
    uint32_t n_records;
    float score;
};

struct choice {
    const struct examples *examples;
    size_t n;          /* records */
    uint32_t *counts;  /* [GRAM_SLOTS]: records; then where holders go */
    uint32_t *last;    /* [GRAM_SLOTS]: 1 + the last record that has it */
    size_t record;     /* that is being read */
    uint16_t *holders; /* labels of the records of each candidate */
    struct gram_candidate *candidates; /* [n_candidates], by slots */
    size_t n_candidates;
    uint32_t *n_of_label; /* [n_labels]: records */
    uint32_t *n_held;     /* [n_labels]: those that have this candidate */
};

/* ---- counting ----------------------------------------------------------- */

static void read_all(struct choice *c, gram_found *found)
{
    struct gram_scan scan;
    memset(c->last, 0, GRAM_SLOTS * sizeof *c->last);
    for (c->record = 0; c->record < c->n; c->record++) {
        const struct example *example = &c->examples->items[c->record];
        gram_scan_begin(&scan);
        gram_scan_feed(&scan, example->text, example->n, found, c);
        gram_scan_end(&scan, found, c);
    }
}

static bool is_new(struct choice *c, uint32_t slot)
{
    uint32_t now = (uint32_t)c->record + 1;
    bool is_first = c->last[slot] != now;
    c->last[slot] = now;
    return is_first;
}

static void count(void *context, uint32_t slot)
{
    struct choice *c = context;
    c->counts[slot] += is_new(c, slot);
}

/* counts[slot] is where the next holder of a candidate goes. */
static void hold(void *context, uint32_t slot)
{
    struct choice *c = context;
    if (c->counts[slot] == UINT32_MAX || !is_new(c, slot))
        return;
    int label = c->examples->items[c->record].label;
    c->holders[c->counts[slot]++] = (uint16_t)label;
}

static enum status list_candidates(struct choice *c)
{
    size_t n_holders = 0;
    for (size_t slot = 0; slot < GRAM_SLOTS; slot++)
        c->n_candidates += c->counts[slot] >= RECORDS_MIN;
    c->candidates = calloc(c->n_candidates + 1, sizeof *c->candidates);
    if (!c->candidates)
        return fail_memory("the grams");
    struct gram_candidate *next = c->candidates;
    for (uint32_t slot = 0; slot < GRAM_SLOTS; slot++) {
        uint32_t n = c->counts[slot];
        c->counts[slot] = UINT32_MAX;
        if (n < RECORDS_MIN)
            continue;
        if (n_holders + n >= UINT32_MAX)
            return fail(E_FORMAT, "too many examples: they have %zu grams",
                        n_holders);
        *next++ = (struct gram_candidate){.slot = slot, .n_records = n};
        c->counts[slot] = (uint32_t)n_holders;
        n_holders += n;
    }
    c->holders = malloc((n_holders + 1) * sizeof *c->holders);
    return c->holders ? OK : fail_memory("the grams");
}

/* ---- scores ------------------------------------------------------------- */

/* n log2(n / expected) */
static double surprise(double n, double expected)
{
    return n > 0 ? n * (double)exact_log2((float)(n / expected)) : 0;
}

/* Adds up the labels that have the candidate one by one, and all others
 * together: none of their records has it. */
static float score(struct choice *c, const struct gram_candidate *candidate,
                   const uint16_t *holders)
{
    double all = (double)c->n, with = candidate->n_records;
    double without = all - with, others = all, sum = 0;
    for (uint32_t i = 0; i < candidate->n_records; i++)
        c->n_held[holders[i]]++;
    for (uint32_t i = 0; i < candidate->n_records; i++) {
        double held = c->n_held[holders[i]];
        double of_label = c->n_of_label[holders[i]];
        if (held == 0)
            continue; /* was added at the first of the label */
        c->n_held[holders[i]] = 0;
        sum += surprise(held, of_label * with / all);
        sum += surprise(of_label - held, of_label * without / all);
        others -= of_label;
    }
    return (float)(sum + surprise(others, others * without / all));
}

static void score_all(struct choice *c)
{
    const uint16_t *holders = c->holders;
    for (size_t i = 0; i < c->n; i++)
        c->n_of_label[c->examples->items[i].label]++;
    for (size_t i = 0; i < c->n_candidates; i++) {
        c->candidates[i].score = score(c, &c->candidates[i], holders);
        holders += c->candidates[i].n_records;
    }
}

/* The best first; of equals the lower slot. */
static int compare_scores(const void *a, const void *b)
{
    const struct gram_candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->slot < y->slot ? -1 : 1;
}

static int compare_slots(const void *a, const void *b)
{
    const struct gram_candidate *x = a, *y = b;
    return x->slot < y->slot ? -1 : 1;
}

/* ---- all of it ---------------------------------------------------------- */

static enum status take_best(struct choice *c, struct grams *grams, int n_most)
{
    size_t most = (size_t)n_most;
    int n = c->n_candidates < most ? (int)c->n_candidates : n_most;
    qsort(c->candidates, c->n_candidates, sizeof *c->candidates,
          compare_scores);
    qsort(c->candidates, (size_t)n, sizeof *c->candidates, compare_slots);
    TRY(grams_open(grams, n));
    for (int i = 0; i < n; i++) {
        double share =
            ((double)c->n + 1) / ((double)c->candidates[i].n_records + 1);
        grams->slots[i] = c->candidates[i].slot;
        grams->rarity[i] = (float)(1 + LN2 * (double)exact_log2((float)share));
    }
    grams_index(grams);
    return OK;
}

static enum status choose(struct choice *c, struct grams *grams, int n_most)
{
    size_t n_labels = (size_t)c->examples->n_labels;
    c->counts = calloc(GRAM_SLOTS, sizeof *c->counts);
    c->last = malloc(GRAM_SLOTS * sizeof *c->last);
    c->n_of_label = calloc(n_labels, sizeof *c->n_of_label);
    c->n_held = calloc(n_labels, sizeof *c->n_held);
    if (!c->counts || !c->last || !c->n_of_label || !c->n_held)
        return fail_memory("the grams");
    read_all(c, count);
    TRY(list_candidates(c));
    read_all(c, hold);
    score_all(c);
    return take_best(c, grams, n_most);
}

enum status gram_choice_make(struct grams *grams,
                             const struct examples *examples, size_t n,
                             int n_most)
{
    struct choice choice = {.examples = examples, .n = n};
    enum status status = choose(&choice, grams, n_most);
    free(choice.counts);
    free(choice.last);
    free(choice.holders);
    free(choice.candidates);
    free(choice.n_of_label);
    free(choice.n_held);
    return status;
}
