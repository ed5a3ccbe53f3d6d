/* gram_counts.c -- counts the grams of examples.
 *
 * A gram with the label of its record is a number: the key, then the label.
 * The examples are read several times, each time for a part of the keys.  The
 * numbers of a part are sorted, and runs of equal ones are the counts.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_counts.h"

#include <stdlib.h>
#include <string.h>

#include "base/signals.h"
#include "classify/gram_prune.h"

enum {
    TIMES_MIN = 2,
    LABEL_BITS = 10,
    PARTS_MAX = 1 << 10,
    PART_BYTES = 1 << 21, /* of the examples for each part */
    DIGIT_BITS = 11,
    DIGITS = 1 << DIGIT_BITS,
    NUMBER_BITS = GRAM_KEY_BITS + LABEL_BITS
};
_Static_assert(LABELS_MAX <= 1 << LABEL_BITS, "labels fit");

/* A gram and a label, and how often they came together. */
struct counted_pair {
    uint64_t key;
    uint16_t label;
    uint32_t times;
};

struct counting {
    const struct examples *examples;
    size_t n;                  /* examples */
    uint64_t first, last;      /* keys of this part */
    int label;                 /* of the record that is being read */
    struct gram_scan scan;     /* of it */
    bool *has_character;       /* [GRAM_CHARACTER_END] */
    uint64_t *numbers, *other; /* [room] */
    size_t n_numbers, room;
    bool is_short_of_memory;
    struct counted_pair *pairs; /* [pairs_room] */
    size_t n_pairs, pairs_room;
    double *n_of_label; /* [n_labels]: grams */
};

/* ---- one part ----------------------------------------------------------- */

static void put(void *context, uint64_t key, int kind)
{
    struct counting *c = context;
    if (kind == 1)
        c->has_character[c->scan.characters.last] = true;
    if (key < c->first || key > c->last || c->is_short_of_memory)
        return;
    if (c->n_numbers == c->room) {
        size_t room = 2 * c->room + (1 << 16);
        uint64_t *numbers = realloc(c->numbers, room * sizeof *numbers);
        c->is_short_of_memory = !numbers;
        if (!numbers)
            return;
        c->numbers = numbers;
        c->room = room;
    }
    c->numbers[c->n_numbers++] = key << LABEL_BITS | (uint64_t)c->label;
}

static enum status read_part(struct counting *c)
{
    c->n_numbers = 0;
    for (size_t i = 0; i < c->n; i++) {
        const struct example *example = &c->examples->items[i];
        c->label = example->label;
        gram_scan_begin(&c->scan);
        gram_scan_feed(&c->scan, example->text, example->n, put, c);
        gram_scan_end(&c->scan, put, c);
    }
    TRY(signals_check());
    return c->is_short_of_memory ? fail_memory("the grams") : OK;
}

/* Sorts by one digit, from numbers into other, and swaps the two. */
static void sort_digit(struct counting *c, int shift)
{
    size_t starts[DIGITS + 1] = {0};
    for (size_t i = 0; i < c->n_numbers; i++)
        starts[(c->numbers[i] >> shift & (DIGITS - 1)) + 1]++;
    for (int i = 0; i < DIGITS; i++)
        starts[i + 1] += starts[i];
    for (size_t i = 0; i < c->n_numbers; i++)
        c->other[starts[c->numbers[i] >> shift & (DIGITS - 1)]++] =
            c->numbers[i];
    uint64_t *numbers = c->numbers;
    c->numbers = c->other;
    c->other = numbers;
}

static enum status sort(struct counting *c)
{
    free(c->other);
    c->other = malloc((c->room + 1) * sizeof *c->other);
    if (!c->other)
        return fail_memory("the grams");
    for (int shift = 0; shift < NUMBER_BITS; shift += DIGIT_BITS)
        sort_digit(c, shift);
    return OK;
}

static enum status need_pairs(struct counting *c, size_t n)
{
    if (c->n_pairs + n <= c->pairs_room)
        return OK;
    size_t room = 2 * c->pairs_room + n;
    struct counted_pair *pairs = realloc(c->pairs, room * sizeof *pairs);
    if (!pairs)
        return fail_memory("the grams");
    c->pairs = pairs;
    c->pairs_room = room;
    return OK;
}

/* The most times that a label has the gram whose pairs, of [n], go from start
 * to *end. */
static uint32_t find_most(const struct counted_pair *pairs, size_t n,
                          size_t start, size_t *end)
{
    uint32_t most = 0;
    size_t i = start;
    for (; i < n && pairs[i].key == pairs[start].key; i++)
        most = pairs[i].times > most ? pairs[i].times : most;
    *end = i;
    return most;
}

/* Drops the grams after the first n_kept pairs that no label has often enough;
 * returns how many pairs there are then. */
static size_t drop(struct counted_pair *pairs, size_t n_kept, size_t n,
                   uint32_t least)
{
    size_t end;
    for (size_t i = n_kept; i < n; i = end) {
        if (find_most(pairs, n, i, &end) < least)
            continue;
        memmove(pairs + n_kept, pairs + i, (end - i) * sizeof *pairs);
        n_kept += end - i;
    }
    return n_kept;
}

/* Adds the pairs of the part. */
static enum status count(struct counting *c)
{
    size_t n_before = c->n_pairs, end;
    TRY(need_pairs(c, c->n_numbers));
    for (size_t i = 0; i < c->n_numbers; i = end) {
        for (end = i; end < c->n_numbers && c->numbers[end] == c->numbers[i];)
            end++;
        c->pairs[c->n_pairs++] = (struct counted_pair){
            .key = c->numbers[i] >> LABEL_BITS,
            .label = (uint16_t)(c->numbers[i] & ((1 << LABEL_BITS) - 1)),
            .times = (uint32_t)(end - i)};
    }
    c->n_pairs = drop(c->pairs, n_before, c->n_pairs, TIMES_MIN);
    return OK;
}

/* ---- all parts ---------------------------------------------------------- */

static enum status count_all(struct counting *c)
{
    size_t n_bytes = 0;
    uint32_t n_parts = 1;
    for (size_t i = 0; i < c->n; i++)
        n_bytes += c->examples->items[i].n;
    while (n_parts < PARTS_MAX && n_bytes / n_parts > PART_BYTES)
        n_parts *= 2;
    for (uint32_t i = 0; i < n_parts; i++) {
        c->first = GRAM_KEYS / n_parts * i;
        c->last = c->first + (GRAM_KEYS / n_parts - 1);
        TRY(read_part(c));
        TRY(sort(c));
        TRY(count(c));
    }
    return OK;
}

static size_t count_grams(const struct counting *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_pairs; i++)
        n += i == 0 || c->pairs[i].key != c->pairs[i - 1].key;
    return n;
}

static enum status list_characters(const struct counting *c,
                                   struct grams *grams)
{
    for (uint32_t i = 0; i < GRAM_CHARACTER_END; i++)
        grams->n_characters += c->has_character[i];
    grams->characters =
        malloc((grams->n_characters + 1) * sizeof *grams->characters);
    if (!grams->characters)
        return fail_memory("the grams");
    size_t n = 0;
    for (uint32_t i = 0; i < GRAM_CHARACTER_END; i++) {
        if (c->has_character[i])
            grams->characters[n++] = i;
    }
    return OK;
}

static void fill(const struct counting *c, struct grams *grams)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_pairs; i++) {
        const struct counted_pair *pair = &c->pairs[i];
        if (i == 0 || pair->key != c->pairs[i - 1].key) {
            grams->keys[n] = pair->key;
            grams->starts[n++] = (uint32_t)i;
        }
        grams->pairs[i].label = pair->label;
        grams->times[i] = pair->times;
        grams->pairs[i].level = gram_level(pair->times);
    }
    grams->starts[n] = (uint32_t)c->n_pairs;
    grams->least = TIMES_MIN;
}

/* ln of the mean number of grams of a label over that of this label, with all
 * smoothing. */
static void find_shifts(const struct counting *c, struct grams *grams)
{
    int n_labels = grams->n_labels;
    double all = 0, smoothing = GRAM_SMOOTHING * (double)grams->n;
    for (size_t i = 0; i < grams->n_pairs; i++)
        c->n_of_label[grams->pairs[i].label] += grams->times[i];
    for (int k = 0; k < n_labels; k++)
        all += c->n_of_label[k] + smoothing;
    for (int k = 0; k < n_labels && all > 0; k++) {
        double share = (c->n_of_label[k] + smoothing) * n_labels / all;
        grams->shifts[k] = (float)-gram_log(share);
    }
}

static enum status make(struct counting *c, struct grams *grams, size_t n_most)
{
    int n_labels = c->examples->n_labels;
    c->n_of_label = calloc((size_t)n_labels, sizeof *c->n_of_label);
    c->has_character = calloc(GRAM_CHARACTER_END, sizeof(bool));
    if (!c->n_of_label || !c->has_character)
        return fail_memory("the grams");
    TRY(count_all(c));
    TRY(grams_open(grams, count_grams(c), c->n_pairs, n_labels));
    fill(c, grams);
    TRY(list_characters(c, grams));
    gram_prune(grams, n_most);
    find_shifts(c, grams);
    return OK;
}

enum status gram_counts_make(struct grams *grams,
                             const struct examples *examples, size_t n,
                             size_t n_most)
{
    struct counting counting = {.examples = examples, .n = n};
    enum status status = make(&counting, grams, n_most);
    free(counting.numbers);
    free(counting.other);
    free(counting.pairs);
    free(counting.n_of_label);
    free(counting.has_character);
    return status;
}
