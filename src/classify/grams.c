/* grams.c -- which words and short sequences of bytes a record has.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/grams.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"

/* FNV-1a, and the finish of splitmix64: the upper bits are well mixed. */
#define BASIS  0xcbf29ce484222325u
#define PRIME  0x00000100000001b3u
#define FINISH 0xbf58476d1ce4e5b9u
#define KIND   0x9e3779b97f4a7c15u

#define LN2 0x1.62e42fefa39efp-1

enum { WORD = GRAM_BYTES + 1, PAIR }; /* kinds, after the lengths */

enum { BUCKETS = 1 << 16, BUCKET_SHIFT = 8 }; /* of slots */

/* ---- finding them ------------------------------------------------------- */

static uint64_t extend(uint64_t hash, uint8_t byte)
{
    return (hash ^ ((uint64_t)byte + 1)) * PRIME;
}

static uint32_t slot_of(uint64_t hash, int kind)
{
    hash += (uint64_t)kind * KIND;
    hash = (hash ^ hash >> 30) * FINISH;
    hash ^= hash >> 27;
    hash *= KIND;
    uint32_t half = (uint32_t)(hash >> 41);
    return kind >= WORD ? half + GRAM_FIRST_WORD : half;
}

static bool is_of_word(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '_' || byte >= 0x80;
}

void gram_scan_begin(struct gram_scan *scan)
{
    *scan = (struct gram_scan){.ends = {BASIS}};
}

static void end_word(struct gram_scan *s, uint64_t word, gram_found *found,
                     void *context)
{
    found(context, slot_of(word, WORD));
    if (s->before)
        found(context, slot_of(s->before * FINISH + word, PAIR));
    s->before = word;
}

static void read_word(struct gram_scan *s, uint8_t byte, gram_found *found,
                      void *context)
{
    if (is_of_word(byte)) {
        s->word = extend(s->is_in_word ? s->word : BASIS, byte);
        s->is_in_word = true;
        return;
    }
    gram_scan_end(s, found, context);
    if (byte != ' ' && byte != '\t' && byte != '\r')
        end_word(s, extend(BASIS, byte), found, context);
}

void gram_scan_feed(struct gram_scan *scan, const uint8_t *bytes, size_t n,
                    gram_found *found, void *context)
{
    struct gram_scan *s = scan;
    for (size_t i = 0; i < n; i++) {
        s->n_ends += s->n_ends < GRAM_BYTES;
        for (int k = s->n_ends; k > 0; k--) {
            s->ends[k] = extend(s->ends[k - 1], bytes[i]);
            found(context, slot_of(s->ends[k], k));
        }
        read_word(s, bytes[i], found, context);
    }
}

void gram_scan_end(struct gram_scan *scan, gram_found *found, void *context)
{
    if (scan->is_in_word)
        end_word(scan, scan->word, found, context);
    scan->is_in_word = false;
}

/* ---- those that are used ---------------------------------------------------
 */

enum status grams_open(struct grams *grams, int n)
{
    size_t size = (size_t)n + 1;
    *grams = (struct grams){.n = n};
    grams->slots = calloc(size, sizeof *grams->slots);
    grams->rarity = calloc(size, sizeof *grams->rarity);
    grams->places = calloc(size, sizeof *grams->places);
    grams->starts = calloc(BUCKETS + 1, sizeof *grams->starts);
    if (grams->slots && grams->rarity && grams->places && grams->starts)
        return OK;
    grams_close(grams);
    return fail_memory("the grams");
}

void grams_close(struct grams *grams)
{
    free(grams->slots);
    free(grams->rarity);
    free(grams->places);
    free(grams->starts);
    *grams = (struct grams){0};
}

void grams_index(struct grams *grams)
{
    uint32_t i = 0;
    for (uint32_t bucket = 0; bucket <= BUCKETS; bucket++) {
        while (i < (uint32_t)grams->n &&
               grams->slots[i] >> BUCKET_SHIFT < bucket)
            i++;
        grams->starts[bucket] = i;
    }
}

/* The index of a slot; -1 when it is not used. */
static int64_t find(const struct grams *grams, uint32_t slot)
{
    const uint32_t *begin = grams->starts + (slot >> BUCKET_SHIFT);
    for (uint32_t i = begin[0]; i < begin[1]; i++) {
        if (grams->slots[i] == slot)
            return i;
    }
    return -1;
}

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
    size_t need = (size_t)grams->n; /* no gram is in a bag twice */
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

static void put(void *context, uint32_t slot)
{
    const struct filling *filling = context;
    struct gram_bag *bag = filling->bag;
    int64_t column = find(filling->grams, slot);
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

void grams_values(const struct grams *grams, const struct gram_bag *bag,
                  float *values)
{
    double squares[2] = {0, 0}; /* of sequences, of words */
    for (size_t i = 0; i < bag->n; i++) {
        uint32_t column = bag->columns[i];
        double count = 1 + LN2 * (double)exact_log2((float)bag->counts[i]);
        double value = count * (double)grams->rarity[column];
        values[i] = (float)value;
        squares[grams->slots[column] >= GRAM_FIRST_WORD] += value * value;
    }
    for (size_t i = 0; i < bag->n; i++) {
        double square =
            squares[grams->slots[bag->columns[i]] >= GRAM_FIRST_WORD];
        if (square > 0)
            values[i] = (float)((double)values[i] / sqrt(square));
    }
}

enum status grams_weigh(const struct grams *grams, const struct gram_bag *bag,
                        struct sparse *rows)
{
    float *values;
    TRY(sparse_add_row(rows, bag->columns, bag->n, &values));
    grams_values(grams, bag, values);
    return OK;
}
