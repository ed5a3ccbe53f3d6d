/* grams.c -- a table of grams, and the evidence that a record gets from it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/grams.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "base/large_pages.h"
#include "classify/gram_tree.h"
#include "classify/gram_words.h"

#define LN2        0x1.62e42fefa39efp-1
#define WORD_VALUE 3.0f /* of a word, pair or shape; a sequence has 1 */

enum {
    BUCKET_SHIFT = 28,
    BUCKETS = GRAM_KEYS >> BUCKET_SHIFT,
    PART_BYTES = 1 << 12, /* a bag gets room for so many at a time */
    LATE = 16,            /* grams whose places are on their way */
    AHEAD = 8,            /* grams whose weights are on their way */
    LINE = 16             /* weights that the memory sends at once */
};

double gram_log(double x)
{
    return LN2 * (double)exact_log2((float)x);
}

/* ---- the table ---------------------------------------------------------- */

static void find_level_weights(struct grams *grams)
{
    for (int level = 0; level < GRAM_LEVELS; level++)
        grams->level_weights[level] =
            (float)gram_log(1 + (double)(1 << level) / GRAM_SMOOTHING);
}

enum status grams_open_packed(struct grams *grams, size_t n, size_t n_pairs,
                              int n_labels)
{
    struct grams *g = grams;
    *g = (struct grams){.n = n, .n_pairs = n_pairs, .n_labels = n_labels};
    g->starts = large_pages_calloc(n + 1, sizeof *g->starts);
    g->pairs = large_pages_calloc(n_pairs + 1, sizeof *g->pairs);
    g->shifts = calloc((size_t)n_labels, sizeof *g->shifts);
    g->places = large_pages_calloc(n + 1, sizeof *g->places);
    find_level_weights(g);
    if (g->starts && g->pairs && g->shifts && g->places)
        return OK;
    grams_close(g);
    return fail_memory("the grams");
}

enum status grams_open(struct grams *grams, size_t n, size_t n_pairs,
                       int n_labels)
{
    struct grams *g = grams;
    TRY(grams_open_packed(g, n, n_pairs, n_labels));
    g->keys = calloc(n + 1, sizeof *g->keys);
    g->buckets = calloc(BUCKETS + 1, sizeof *g->buckets);
    g->weights = calloc(n_pairs + 1, sizeof *g->weights);
    g->times = calloc(n_pairs + 1, sizeof *g->times);
    if (g->keys && g->buckets && g->weights && g->times)
        return OK;
    grams_close(g);
    return fail_memory("the grams");
}

void grams_close(struct grams *grams)
{
    free(grams->keys);
    free(grams->starts);
    free(grams->pairs);
    free(grams->weights);
    free(grams->times);
    free(grams->shifts);
    free(grams->buckets);
    free(grams->places);
    free(grams->characters);
    free(grams->bytes);
    gram_contexts_close(&grams->contexts);
    gram_tree_close(grams->tree);
    gram_words_close(grams->words);
    *grams = (struct grams){0};
}

/* The weight of a pair, of its level and correction. */
static float weight_of(const struct grams *grams, size_t pair)
{
    return grams->level_weights[grams->pairs[pair].level] +
           GRAM_CORRECTION * (float)grams->pairs[pair].correction;
}

void grams_index(struct grams *grams)
{
    uint32_t i = 0;
    for (uint32_t bucket = 0; bucket <= BUCKETS; bucket++) {
        while (i < grams->n && grams->keys[i] >> BUCKET_SHIFT < bucket)
            i++;
        grams->buckets[bucket] = i;
    }
    grams->first_word = grams->buckets[GRAM_FIRST_WORD >> BUCKET_SHIFT];
    for (size_t j = 0; j < grams->n_pairs; j++)
        grams->weights[j] = weight_of(grams, j);
}

uint8_t gram_level(uint32_t times)
{
    int level = (int)(exact_log2((float)times) + 0.5f);
    return (uint8_t)(level < GRAM_LEVELS ? level : GRAM_LEVELS - 1);
}

int64_t grams_find(const struct grams *grams, uint64_t key)
{
    const uint32_t *starts = grams->buckets + (key >> BUCKET_SHIFT);
    for (uint32_t i = starts[0]; i < starts[1]; i++) {
        if (grams->keys[i] == key)
            return i;
    }
    return -1;
}

/* ---- bags --------------------------------------------------------------- */

void gram_bag_begin(struct gram_bag *bag)
{
    bag->n = 0;
    gram_scan_begin(&bag->scan);
    for (int i = 0; i < GRAM_CHARACTERS; i++)
        bag->ends[i] = GRAM_NONE;
    bag->ends[0] = GRAM_ROOT;
    bag->ends[1] = GRAM_SPACE;
}

void gram_bag_free(struct gram_bag *bag)
{
    free(bag->columns);
    free(bag->counts);
    *bag = (struct gram_bag){0};
}

static enum status need_room(const struct grams *grams, struct gram_bag *bag,
                             size_t n_bytes)
{
    size_t need = grams->n + 1; /* no gram is in a bag twice */
    if (n_bytes < need && bag->n + gram_scan_most(n_bytes) < need)
        need = bag->n + gram_scan_most(n_bytes);
    if (need <= bag->room)
        return OK;
    uint32_t *columns = realloc(bag->columns, need * sizeof *columns);
    if (!columns)
        return fail_memory("a record");
    bag->columns = columns;
    uint32_t *counts = realloc(bag->counts, need * sizeof *counts);
    if (!counts)
        return fail_memory("a record");
    bag->counts = counts;
    bag->room = need;
    return OK;
}

struct filling {
    struct grams *grams;
    struct gram_bag *bag;
    uint32_t late[LATE]; /* grams found last, the n_found-th at n_found % LATE,
                          * whose places are on their way */
    size_t n_found;
};

/* The sequence of so many characters that the tree has at the end of what was
 * read: longer ones come before shorter ones, and a space alone never. */
static uint32_t find_sequence(const struct filling *filling, int length)
{
    struct gram_bag *bag = filling->bag;
    uint32_t before = bag->ends[length - 1], c = bag->scan.characters.last;
    uint32_t gram = before == GRAM_NONE
                        ? GRAM_NONE
                        : gram_tree_find(filling->grams->tree, before, c);
    if (length < GRAM_CHARACTERS)
        bag->ends[length] = gram;
    if (length < GRAM_CHARACTERS && gram != GRAM_NONE)
        __builtin_prefetch(filling->grams->tree->nodes + gram);
    if (length == 2 && c == ' ')
        bag->ends[1] = GRAM_SPACE;
    return gram;
}

static uint32_t find_gram(const struct filling *filling, uint64_t key, int kind)
{
    if (kind < GRAM_WORD && filling->grams->tree)
        return find_sequence(filling, kind);
    if (filling->grams->words)
        return gram_words_find(filling->grams->words, gram_word_of(key));
    int64_t i = grams_find(filling->grams, key);
    return i < 0 ? GRAM_NONE : (uint32_t)i;
}

/* Counts a gram. */
static void add(const struct filling *filling, uint32_t column)
{
    struct gram_bag *bag = filling->bag;
    uint32_t *place = &filling->grams->places[column];
    if (*place == 0) {
        bag->columns[bag->n] = column;
        bag->counts[bag->n++] = 0;
        *place = (uint32_t)bag->n;
    }
    bag->counts[*place - 1] += bag->counts[*place - 1] < UINT32_MAX;
}

static void put(void *context, uint64_t key, int kind)
{
    struct filling *filling = context;
    uint32_t column = find_gram(filling, key, kind);
    if (column == GRAM_NONE)
        return;
    uint32_t *late = filling->late + filling->n_found++ % LATE;
    if (filling->n_found > LATE)
        add(filling, *late);
    *late = column;
    __builtin_prefetch(filling->grams->places + column, 1);
}

/* Counts those that are late. */
static void finish(const struct filling *filling)
{
    size_t n = filling->n_found;
    for (size_t i = n < LATE ? 0 : n - LATE; i < n; i++)
        add(filling, filling->late[i % LATE]);
}

static void open_places(struct grams *grams, const struct gram_bag *bag)
{
    for (size_t i = 0; i < bag->n; i++)
        grams->places[bag->columns[i]] = (uint32_t)i + 1;
}

static void close_places(struct grams *grams, const struct gram_bag *bag)
{
    for (size_t i = 0; i < bag->n; i++)
        grams->places[bag->columns[i]] = 0;
}

/* Whether all that was needed could be decoded. */
static enum status check(const struct grams *grams)
{
    if (!grams->tree ||
        (grams->tree->status == OK && grams->words->status == OK))
        return OK;
    return fail(E_MODEL, GRAMS_DAMAGED);
}

/* Places are open. */
static enum status feed_part(struct grams *grams, struct gram_bag *bag,
                             const uint8_t *bytes, size_t n)
{
    struct filling filling = {.grams = grams, .bag = bag};
    TRY(need_room(grams, bag, n));
    gram_scan_feed(&bag->scan, bytes, n, put, &filling);
    finish(&filling);
    return OK;
}

enum status grams_feed(struct grams *grams, struct gram_bag *bag,
                       const uint8_t *bytes, size_t n)
{
    enum status status = OK;
    open_places(grams, bag);
    for (size_t i = 0, size; i < n && status == OK; i += size) {
        size = n - i < PART_BYTES ? n - i : PART_BYTES;
        status = feed_part(grams, bag, bytes + i, size);
    }
    close_places(grams, bag);
    return status == OK ? check(grams) : status;
}

enum status grams_end(struct grams *grams, struct gram_bag *bag)
{
    struct filling filling = {.grams = grams, .bag = bag};
    TRY(need_room(grams, bag, 0));
    open_places(grams, bag);
    gram_scan_end(&bag->scan, put, &filling);
    finish(&filling);
    close_places(grams, bag);
    return check(grams);
}

/* ---- evidence ----------------------------------------------------------- */

/* How many times a pair has its gram, without the n of a record of own. */
static uint32_t times_without(const struct grams *grams, uint32_t pair, int own,
                              uint32_t n)
{
    uint32_t times = grams->times[pair];
    if (grams->pairs[pair].label != own)
        return times;
    return times > n ? times - n : 0;
}

bool grams_has_without(const struct grams *grams, uint32_t i, int own,
                       uint32_t n)
{
    for (uint32_t j = grams->starts[i]; j < grams->starts[i + 1]; j++) {
        if (times_without(grams, j, own, n) >= grams->least)
            return true;
    }
    return false;
}

/* The weight of a pair of own, without n times. */
static float weight_without(const struct grams *grams, uint32_t pair, int own,
                            uint32_t n)
{
    uint32_t times = times_without(grams, pair, own, n);
    return times == 0 ? 0
                      : grams->weights[pair] -
                            grams->level_weights[grams->pairs[pair].level] +
                            grams->level_weights[gram_level(times)];
}

double gram_strength(uint32_t n)
{
    return 1 + gram_log(n);
}

/* How many times the strength is the value of gram [i]. */
static float value_of(const struct grams *grams, uint32_t i)
{
    return i >= grams->first_word ? WORD_VALUE : 1;
}

/* Adds a gram of the bag. */
static void add_gram(const struct grams *grams, uint32_t gram, float value,
                     float *evidence)
{
    uint32_t end = grams->starts[gram + 1];
    for (uint32_t i = grams->starts[gram]; i < end; i++)
        evidence[grams->pairs[i].label] +=
            value * (grams->weights ? grams->weights[i] : weight_of(grams, i));
}

/* The same, without the count that a record of own has. */
static void add_gram_without(const struct grams *grams, uint32_t gram,
                             uint32_t count, float value, int own,
                             float *evidence)
{
    for (uint32_t i = grams->starts[gram]; i < grams->starts[gram + 1]; i++) {
        int label = grams->pairs[i].label;
        float weight = label == own ? weight_without(grams, i, own, count)
                                    : grams->weights[i];
        evidence[label] += value * weight;
    }
}

/* Asks the memory for what grams of the bag after [i] need. */
static void fetch_ahead(const struct grams *grams, const struct gram_bag *bag,
                        size_t i)
{
    if (i + 2 * AHEAD < bag->n)
        __builtin_prefetch(grams->starts + bag->columns[i + 2 * AHEAD]);
    if (i + AHEAD >= bag->n)
        return;
    uint32_t gram = bag->columns[i + AHEAD], end = grams->starts[gram + 1];
    for (uint32_t j = grams->starts[gram]; j < end; j += LINE) {
        __builtin_prefetch(grams->pairs + j);
        if (grams->weights)
            __builtin_prefetch(grams->weights + j);
    }
}

double grams_evidence(const struct grams *grams, const struct gram_bag *bag,
                      int own, float *evidence)
{
    double strengths = 0, values = 0;
    memset(evidence, 0, (size_t)grams->n_labels * sizeof *evidence);
    for (size_t i = 0; i < bag->n; i++) {
        uint32_t gram = bag->columns[i], count = bag->counts[i];
        fetch_ahead(grams, bag, i);
        if (own >= 0 && !grams_has_without(grams, gram, own, count))
            continue;
        double strength = gram_strength(count);
        double value = (double)value_of(grams, gram) * strength;
        strengths += strength;
        values += value;
        if (own < 0)
            add_gram(grams, gram, (float)value, evidence);
        else
            add_gram_without(grams, gram, count, (float)value, own, evidence);
    }
    double root = sqrt(strengths);
    for (int k = 0; k < grams->n_labels && strengths > 0; k++)
        evidence[k] =
            (float)(((double)evidence[k] + values * (double)grams->shifts[k]) /
                    root);
    return root;
}
