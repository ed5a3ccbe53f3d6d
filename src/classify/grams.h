/* grams.h -- which words and short sequences of bytes a record has.
 *
 * A gram is a sequence of 1 to 4 bytes, or a word, or a word and the one
 * before it.  A word is a run of ASCII letters, digits, underscores and bytes
 * from 0x80 up, or any other byte alone but for spaces, tabs and carriage
 * returns.  A gram is known by its slot alone, a hash; those of words have
 * their half of the slots.
 *
 * What a gram is worth in a record is (1 + ln of how often it is there) times
 * its rarity, divided by the root of the sum of the squares of these numbers:
 * of the words for words, of the sequences for sequences.
 *
 * The same bits everywhere: sums have the order in which the grams come first
 * in the record.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAMS_H
#define MAMBYTE_GRAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "classify/sparse.h"

enum {
    GRAM_BYTES = 4,
    GRAM_SLOTS = 1 << 24,
    GRAM_FIRST_WORD = GRAM_SLOTS / 2, /* the first slot of words */
    GRAMS_MAX = 1 << 16
};

/* ---- finding them ------------------------------------------------------- */

/* Where the reading of a record is. */
struct gram_scan {
    uint64_t ends[GRAM_BYTES + 1]; /* ends[i]: hash of the last i bytes */
    int n_ends;                    /* so many bytes were there */
    bool is_in_word;
    uint64_t word, before; /* this one so far, and the one before it, or 0 */
};

typedef void gram_found(void *context, uint32_t slot);

void gram_scan_begin(struct gram_scan *scan);
void gram_scan_feed(struct gram_scan *scan, const uint8_t *bytes, size_t n,
                    gram_found *found, void *context);
void gram_scan_end(struct gram_scan *scan, gram_found *found, void *context);

/* At most so many are found in n bytes and the end. */
static inline size_t gram_scan_most(size_t n)
{
    return (GRAM_BYTES + 4) * n + 2;
}

/* ---- those that count --------------------------------------------------- */

struct grams {
    uint32_t *slots; /* [n], rising */
    float *rarity;   /* [n] */
    int n;
    uint32_t *begins; /* of slots, by their upper 16 bits */
    uint32_t *places; /* [n], 1 + the place in the bag that is being filled;
                       * else 0 */
};

/* Of one record: [n] each, in the order in which they came first. */
struct gram_bag {
    struct gram_scan scan;
    uint32_t *columns; /* of slots */
    uint32_t *counts;
    size_t n, room;
};

/* Room for n <= GRAMS_MAX grams, which the caller fills in and sorts before
 * grams_index. */
enum status grams_open(struct grams *grams, int n);
void grams_close(struct grams *grams);
void grams_index(struct grams *grams);

void gram_bag_begin(struct gram_bag *bag);
void gram_bag_free(struct gram_bag *bag);

/* Any split of a record into parts fills the bag alike; the end comes once. */
enum status grams_feed(struct grams *grams, struct gram_bag *bag,
                       const uint8_t *bytes, size_t n);
enum status grams_end(struct grams *grams, struct gram_bag *bag);

/* The values of what is in a bag, [bag->n]. */
void grams_values(const struct grams *grams, const struct gram_bag *bag,
                  float *values);

/* Adds what is in a bag, with its values, as a row to a matrix. */
enum status grams_weigh(const struct grams *grams, const struct gram_bag *bag,
                        struct sparse *rows);

#endif
