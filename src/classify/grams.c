/* grams.c -- what the grams of a record say about its label.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/grams.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"

#define LN2        0x1.62e42fefa39efp-1
#define WORD_VALUE 3.0 /* of a word or shape, where a sequence has 1 */

enum { BUCKET_SHIFT = 8, BUCKETS = GRAM_KEYS >> BUCKET_SHIFT };

double gram_log(double x)
{
    return LN2 * (double)exact_log2((float)x);
}

/* ---- the table ---------------------------------------------------------- */

enum status grams_open(struct grams *grams, size_t n, size_t n_pairs,
                       int n_labels, bool has_times)
{
    struct grams *g = grams;
    *g = (struct grams){.n = n, .n_pairs = n_pairs, .n_labels = n_labels};
    g->keys = calloc(n + 1, sizeof *g->keys);
    g->starts = calloc(n + 1, sizeof *g->starts);
    g->labels = calloc(n_pairs + 1, sizeof *g->labels);
    g->levels = calloc(n_pairs + 1, sizeof *g->levels);
    g->shifts = calloc((size_t)n_labels, sizeof *g->shifts);
    g->buckets = calloc(BUCKETS + 1, sizeof *g->buckets);
    g->places = calloc(n + 1, sizeof *g->places);
    if (has_times)
        g->times = calloc(n_pairs + 1, sizeof *g->times);
    if (g->keys && g->starts && g->labels && g->levels && g->shifts &&
        g->buckets && g->places && (g->times || !has_times))
        return OK;
    grams_close(g);
    return fail_memory("the grams");
}

void grams_close(struct grams *grams)
{
    free(grams->keys);
    free(grams->starts);
    free(grams->labels);
    free(grams->levels);
    free(grams->times);
    free(grams->shifts);
    free(grams->buckets);
    free(grams->places);
    *grams = (struct grams){0};
}

void grams_index(struct grams *grams)
{
    uint32_t i = 0;
    for (uint32_t bucket = 0; bucket <= BUCKETS; bucket++) {
        while (i < grams->n && grams->keys[i] >> BUCKET_SHIFT < bucket)
            i++;
        grams->buckets[bucket] = i;
    }
    for (int level = 0; level < GRAM_LEVELS; level++)
        grams->weights[level] =
            (float)gram_log(1 + (double)(1 << level) / GRAM_SMOOTHING);
}

uint8_t gram_level(uint32_t times)
{
    int level = (int)(exact_log2((float)times) + 0.5f);
    return (uint8_t)(level < GRAM_LEVELS ? level : GRAM_LEVELS - 1);
}

/* The index of a key; -1 when the table does not have it. */
static int64_t find(const struct grams *grams, uint32_t key)
{
    const uint32_t *begin = grams->buckets + (key >> BUCKET_SHIFT);
    for (uint32_t i = begin[0]; i < begin[1]; i++) {
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
};

static void put(void *context, uint32_t key)
{
    const struct filling *filling = context;
    struct gram_bag *bag = filling->bag;
    int64_t column = find(filling->grams, key);
    if (column < 0)
        return;
    uint32_t *place = &filling->grams->places[column];
    if (*place == 0) {
        bag->columns[bag->n] = (uint32_t)column;
        bag->counts[bag->n++] = 0;
        *place = (uint32_t)bag->n;
    }
    bag->counts[*place - 1] += bag->counts[*place - 1] < UINT32_MAX;
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

enum status grams_feed(struct grams *grams, struct gram_bag *bag,
                       const uint8_t *bytes, size_t n)
{
    struct filling filling = {grams, bag};
    TRY(need_room(grams, bag, n));
    open_places(grams, bag);
    gram_scan_feed(&bag->scan, bytes, n, put, &filling);
    close_places(grams, bag);
    return OK;
}

enum status grams_end(struct grams *grams, struct gram_bag *bag)
{
    struct filling filling = {grams, bag};
    TRY(need_room(grams, bag, 0));
    open_places(grams, bag);
    gram_scan_end(&bag->scan, put, &filling);
    close_places(grams, bag);
    return OK;
}

/* ---- evidence ----------------------------------------------------------- */

/* The weight of a pair, without n times. */
static float weight_without(const struct grams *grams, uint32_t pair,
                            uint32_t n)
{
    uint32_t times = grams->times[pair];
    return times > n ? grams->weights[gram_level(times - n)] : 0;
}

/* Adds a gram of the bag. */
static void add_gram(const struct grams *grams, uint32_t gram, uint32_t count,
                     float value, int own, float *evidence)
{
    for (uint32_t i = grams->starts[gram]; i < grams->starts[gram + 1]; i++) {
        int label = grams->labels[i];
        float weight = label == own ? weight_without(grams, i, count)
                                    : grams->weights[grams->levels[i]];
        evidence[label] += value * weight;
    }
}

void grams_evidence(const struct grams *grams, const struct gram_bag *bag,
                    int own, float *evidence)
{
    double strengths = 0, values = 0;
    memset(evidence, 0, (size_t)grams->n_labels * sizeof *evidence);
    for (size_t i = 0; i < bag->n; i++) {
        bool is_word = grams->keys[bag->columns[i]] >= GRAM_FIRST_WORD;
        double strength = 1 + gram_log(bag->counts[i]);
        double value = is_word ? WORD_VALUE * strength : strength;
        strengths += strength;
        values += value;
        add_gram(grams, bag->columns[i], bag->counts[i], (float)value, own,
                 evidence);
    }
    for (int k = 0; k < grams->n_labels && strengths > 0; k++)
        evidence[k] =
            (float)(((double)evidence[k] + values * (double)grams->shifts[k]) /
                    sqrt(strengths));
}
