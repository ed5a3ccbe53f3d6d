/* gram_pairs.c -- the labels and levels of a gram, through a range coder.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_pairs.h"

#include <stdlib.h>

#include "classify/gram_contexts.h"

enum {
    EXPECTED_MIN = -6,
    EXPECTED = CONTEXT_EXPECTED,
    LOWER = CONTEXT_LOWER,
    SHARES = CONTEXT_SHARES,
    SEEN = CONTEXT_SEEN,
    COUNTS = CONTEXT_COUNTS,
    LEFT = CONTEXT_LEFT
};

static int at_most(int x, int most)
{
    return x < most ? x : most;
}

/* ---- both --------------------------------------------------------------- */

struct pair_list pairs_of(const struct grams *grams, uint32_t gram)
{
    uint32_t start = grams->starts[gram];
    return (struct pair_list){grams->pairs + start,
                              grams->starts[gram + 1] - start};
}

/* That of a gram that has corrections. */
static enum status code_correction(struct gram_coder *c, struct grams *g,
                                   uint32_t pair)
{
    size_t contexts = CONTEXTS_CORRECTION + 2 * (size_t)g->pairs[pair].level;
    int correction = g->pairs[pair].correction;
    if (gram_bit(c, contexts, correction == 0)) {
        g->pairs[pair].correction = 0;
        return OK;
    }
    bool is_below = gram_bit(c, contexts + 1, correction < 0);
    int size = is_below ? -correction - 1 : correction - 1;
    size = (int)gram_number(c, CONTEXTS_SIZE, (uint32_t)size);
    if (size > INT8_MAX - !is_below)
        return E_MODEL;
    g->pairs[pair].correction = (int8_t)(is_below ? -1 - size : size + 1);
    return OK;
}

/* Most grams have none. */
static enum status code_corrections(struct gram_coder *c, struct grams *g,
                                    uint32_t gram)
{
    uint32_t start = g->starts[gram], end = g->starts[gram + 1];
    int n = at_most((int)(end - start), COUNTS), has_none = 1;
    for (uint32_t i = start; i < end && !c->is_decoder; i++)
        has_none &= g->pairs[i].correction == 0;
    if (gram_bit(c, CONTEXTS_UNCORRECTED + (size_t)n, has_none))
        return OK;
    for (uint32_t i = start; i < end; i++)
        TRY(code_correction(c, g, i));
    return OK;
}

/* ---- alone -------------------------------------------------------------- */

/* left: of the pairs of the gram, this one included; before: the label of the
 * last one, or n_labels. */
static unsigned code_label(struct gram_coder *c, int n_bits, uint32_t left,
                           unsigned before, unsigned label)
{
    size_t list = before * LEFT + (size_t)at_most((int)left, LEFT) - 1;
    return gram_bits(c, CONTEXTS_ALONE + (list << n_bits), n_bits, label);
}

static unsigned code_level(struct gram_coder *c, uint32_t n, unsigned before,
                           unsigned level)
{
    size_t list = (size_t)at_most((int)n, COUNTS) - 1;
    list = (list * (GRAM_LEVELS + 1) + before) * GRAM_LEVELS;
    return gram_unary(c, CONTEXTS_LEVEL + list, GRAM_LEVELS, level);
}

/* Most grams have few pairs. */
static uint32_t code_count(struct gram_coder *c, size_t is_word, uint32_t n)
{
    uint32_t few = gram_unary(c, CONTEXTS_COUNT + is_word * COUNTS, COUNTS,
                              (unsigned)at_most((int)n, COUNTS - 1));
    if (few < COUNTS - 1)
        return few;
    return COUNTS - 1 +
           gram_number(c, CONTEXTS_MORE + is_word * GRAM_NUMBER_CONTEXTS,
                       n - few);
}

enum status pairs_code_alone(struct gram_coder *coder, struct grams *grams,
                             uint32_t gram, uint32_t limit, bool is_word)
{
    struct gram_coder *c = coder;
    uint32_t start = grams->starts[gram], n = grams->starts[gram + 1] - start;
    unsigned n_labels = (unsigned)grams->n_labels;
    unsigned label = n_labels, level = GRAM_LEVELS;
    int n_bits = context_label_bits(grams->n_labels);
    n = code_count(c, is_word, n);
    if (n > n_labels || n > limit - start)
        return E_MODEL;
    for (uint32_t i = 0; i < n; i++) {
        unsigned before = label, own = grams->pairs[start + i].label;
        label = code_label(c, n_bits, n - i, before, own);
        if (label >= n_labels || (i > 0 && label <= before))
            return E_MODEL;
        level = code_level(c, n, level, grams->pairs[start + i].level);
        grams->pairs[start + i].label = (uint16_t)label;
        grams->pairs[start + i].level = (uint8_t)level;
    }
    grams->starts[gram + 1] = start + n;
    return code_corrections(c, grams, gram);
}

/* ---- shared ------------------------------------------------------------- */

/* The level of a label in a list, from *i on; -1 if the list has it not. */
static int level_in(struct pair_list list, uint32_t *i, uint16_t label)
{
    while (*i < list.n && list.pairs[*i].label < label)
        ++*i;
    return *i < list.n && list.pairs[*i].label == label ? list.pairs[*i].level
                                                        : -1;
}

void pairs_part(struct parted_pairs *parted, struct pair_list prefix,
                struct pair_list middle)
{
    uint32_t in_middle = 0;
    for (uint32_t i = 0; i < parted->prefix.n; i++)
        parted->has[parted->prefix.pairs[i].label] = false;
    parted->prefix = prefix;
    for (uint32_t i = 0; i < prefix.n; i++) {
        uint16_t label = prefix.pairs[i].label;
        parted->has[label] = true;
        parted->level[label] = prefix.pairs[i].level;
        parted->rise[label] = (int8_t)(prefix.pairs[i].level -
                                       level_in(middle, &in_middle, label));
    }
}

void pairs_share(struct shared_pairs *shared, const struct parted_pairs *parted,
                 struct pair_list suffix)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < suffix.n; i++) { /* without a branch */
        uint16_t label = suffix.pairs[i].label;
        uint8_t level = suffix.pairs[i].level;
        shared->labels[n] = label;
        shared->most[n] = (uint8_t)at_most(parted->level[label], level);
        shared->expected[n] = (int8_t)(parted->rise[label] + level);
        n += parted->has[label];
    }
    shared->n = n;
}

bool pairs_are_shared(struct pair_list gram, const struct shared_pairs *shared)
{
    uint32_t j = 0;
    for (uint32_t i = 0; i < gram.n; i++) {
        while (j < shared->n && shared->labels[j] < gram.pairs[i].label)
            j++;
        if (j == shared->n || shared->labels[j] != gram.pairs[i].label ||
            gram.pairs[i].level > shared->most[j])
            return false;
    }
    return gram.n > 0;
}

static int log2_of(uint64_t x)
{
    return 63 - __builtin_clzll(x);
}

/* What is known of a shared label before it is coded. */
struct shared_context {
    size_t expected, most, share;
};

/* total: the sum of 2^(expected + 16) of all labels. */
static struct shared_context find_context(const struct shared_pairs *shared,
                                          uint32_t i, uint64_t total)
{
    int expected = shared->expected[i];
    int share = log2_of(total) - (expected + 16);
    if (expected < EXPECTED_MIN)
        expected = EXPECTED_MIN;
    expected = at_most(expected - EXPECTED_MIN, EXPECTED - 1);
    return (struct shared_context){(size_t)expected, shared->most[i],
                                   (size_t)at_most(share, SHARES - 1)};
}

static int code_shared_label(struct gram_coder *c, struct shared_context in,
                             uint32_t n_seen, bool is_last, int is_there)
{
    size_t i = in.expected * LOWER + (size_t)at_most((int)in.most, LOWER - 1);
    i = (i * SHARES + in.share) * SEEN + (size_t)at_most((int)n_seen, SEEN - 1);
    return gram_bit(c, CONTEXTS_SHARED_LABEL + 2 * i + is_last, is_there);
}

static unsigned code_shared_level(struct gram_coder *c,
                                  struct shared_context in, bool is_only,
                                  unsigned level)
{
    size_t i = in.expected * GRAM_LEVELS + in.most;
    i = (i * (SHARES + 1) + (is_only ? SHARES : in.share)) * GRAM_LEVELS;
    unsigned most = (unsigned)in.most;
    return most -
           gram_unary(c, CONTEXTS_SHARED_LEVEL + i, most + 1, most - level);
}

enum status pairs_code_shared(struct gram_coder *coder, struct grams *grams,
                              uint32_t gram, uint32_t limit,
                              const struct shared_pairs *shared)
{
    struct gram_coder *c = coder;
    uint32_t start = grams->starts[gram], n = 0;
    uint64_t total = 0;
    for (uint32_t i = 0; i < shared->n; i++)
        total += (uint64_t)1 << (shared->expected[i] + 16);
    for (uint32_t i = 0; i < shared->n; i++) {
        uint32_t pair = start + n;
        bool is_last = i + 1 == shared->n;
        struct shared_context in = find_context(shared, i, total);
        int is_there = !c->is_decoder && pair < grams->starts[gram + 1] &&
                       grams->pairs[pair].label == shared->labels[i];
        if (!(is_last && n == 0) &&
            !code_shared_label(c, in, n, is_last, is_there))
            continue;
        if (pair == limit)
            return E_MODEL;
        grams->pairs[pair].label = shared->labels[i];
        grams->pairs[pair].level = (uint8_t)code_shared_level(
            c, in, shared->n == 1, grams->pairs[pair].level);
        n++;
    }
    grams->starts[gram + 1] = start + n;
    return n > 0 ? code_corrections(c, grams, gram) : E_MODEL;
}
