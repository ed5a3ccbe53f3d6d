/* gram_prune.c -- makes a table of grams smaller.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_prune.h"

#include <stdlib.h>
#include <string.h>

#include "base/signals.h"

#define NONE UINT32_MAX /* no gram, or one of several labels */

enum {
    PART_MIN = 3, /* characters of a sequence that stands for a word */
    OFTEN = 16    /* times; what a label has so often stays */
};

struct pruning {
    struct grams *grams;
    bool *is_dropped; /* [n] */

    /* Of the sequences that end at this character and at the one before, by
     * their lengths: those of one label. */
    uint32_t here[GRAM_CHARACTERS + 2], before[GRAM_CHARACTERS + 2];
    int last;           /* the length of the last sequence */
    uint32_t *word_of;  /* [n_labels]: the last word with a part of only this
                         * label */
    uint32_t word;      /* counts words */
    uint32_t last_word; /* the gram, or NONE */
};

/* ---- marks -------------------------------------------------------------- */

/* The label of a gram that only one label has. */
static uint32_t label_of(const struct grams *g, uint32_t gram)
{
    return g->labels[g->starts[gram]];
}

/* A gram that says no more than a part of it. */
static void mark(struct pruning *p, uint32_t gram)
{
    p->is_dropped[gram] = p->grams->times[p->grams->starts[gram]] < OFTEN;
}

/* Whether a gram of one label has a part of the same label. */
static bool is_same(const struct grams *g, uint32_t gram, uint32_t part)
{
    return gram != NONE && part != NONE &&
           label_of(g, gram) == label_of(g, part);
}

/* The lengths that end at a character come from the longest down. */
static void see_sequence(struct pruning *p, uint32_t gram, int length)
{
    const struct grams *g = p->grams;
    if (length >= p->last) {
        memcpy(p->before, p->here, sizeof p->before);
        memset(p->here, 0xff, sizeof p->here);
    }
    p->last = length;
    p->here[length] = gram;
    if (is_same(g, gram, p->before[length - 1]))
        mark(p, gram);
    if (is_same(g, p->here[length + 1], gram))
        mark(p, p->here[length + 1]);
    if (gram != NONE && length >= PART_MIN)
        p->word_of[label_of(g, gram)] = p->word;
}

static void see_word(struct pruning *p, uint32_t gram)
{
    if (gram != NONE && p->word_of[label_of(p->grams, gram)] == p->word)
        mark(p, gram);
    p->last_word = gram;
    p->word++;
}

static void see(void *context, uint32_t key, int kind)
{
    struct pruning *p = context;
    const struct grams *g = p->grams;
    int64_t i = grams_find(g, key);
    bool is_one = i >= 0 && g->starts[i + 1] - g->starts[i] == 1;
    uint32_t gram = is_one ? (uint32_t)i : NONE;
    if (kind <= GRAM_CHARACTERS)
        see_sequence(p, gram, kind);
    else if (kind == GRAM_WORD)
        see_word(p, gram);
    else if (kind == GRAM_PAIR && is_same(g, gram, p->last_word))
        mark(p, gram);
}

static enum status mark_examples(struct pruning *p,
                                 const struct examples *examples, size_t n)
{
    struct gram_scan scan;
    for (size_t i = 0; i < n; i++) {
        memset(p->here, 0xff, sizeof p->here);
        p->last = 0;
        p->last_word = NONE;
        p->word++;
        gram_scan_begin(&scan);
        gram_scan_feed(&scan, examples->items[i].text, examples->items[i].n,
                       see, p);
        gram_scan_end(&scan, see, p);
        if (i % 1024 == 0)
            TRY(signals_check());
    }
    return OK;
}

static void mark_rare(struct pruning *p)
{
    const struct grams *g = p->grams;
    for (uint32_t i = 0; i < g->n; i++)
        p->is_dropped[i] = !grams_has_without(g, i, -1, 0);
}

/* ---- leaving out -------------------------------------------------------- */

static void drop(struct pruning *p)
{
    struct grams *g = p->grams;
    uint32_t n = 0, n_pairs = 0;
    for (uint32_t i = 0; i < g->n; i++) {
        uint32_t begin = g->starts[i], end = g->starts[i + 1];
        if (p->is_dropped[i])
            continue;
        g->keys[n] = g->keys[i];
        g->starts[n++] = n_pairs;
        for (uint32_t j = begin; j < end; j++, n_pairs++) {
            g->labels[n_pairs] = g->labels[j];
            g->times[n_pairs] = g->times[j];
            g->levels[n_pairs] = g->levels[j];
        }
    }
    g->starts[n] = n_pairs;
    g->n = n;
    g->n_pairs = n_pairs;
    grams_index(g);
}

static enum status prune(struct pruning *p, const struct examples *examples,
                         size_t n, size_t n_most)
{
    TRY(mark_examples(p, examples, n));
    drop(p);
    while (p->grams->n_pairs > n_most) {
        p->grams->least++;
        mark_rare(p);
        drop(p);
    }
    return OK;
}

enum status gram_prune(struct grams *grams, const struct examples *examples,
                       size_t n, size_t n_most)
{
    if (grams->n_pairs <= n_most)
        return OK;
    struct pruning p = {
        .grams = grams,
        .is_dropped = calloc(grams->n, sizeof(bool)),
        .word_of = calloc((size_t)grams->n_labels, sizeof(uint32_t)),
    };
    enum status status = p.is_dropped && p.word_of
                             ? prune(&p, examples, n, n_most)
                             : fail_memory("the grams");
    free(p.is_dropped);
    free(p.word_of);
    return status;
}
