/* grams.h -- which words and short sequences of bytes a record has.
 *
 * A gram is a sequence of 1 to 4 bytes, or a word, or a word and the one
 * before it.  A word is a run of ASCII letters, digits, underscores and bytes
 * from 0x80 up, or any other byte alone, except spaces, tabs and carriage
 * returns.  Only the slot of a gram is kept, which is a hash; half of the
 * slots are for words.
 *
 * The value of a gram in a record is (1 + ln of its count) times its rarity.
 * The values are divided by the root of the sum of their squares: those of
 * words and those of sequences by their own.
 *
 * The bits are the same everywhere: sums follow the order in which the grams
 * first come in the record.
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

/* A record that is being read. */
struct gram_scan {
    uint64_t ends[GRAM_BYTES + 1]; /* ends[i]: hash of the last i bytes */
    int n_ends;                    /* those that are known        */
    bool is_in_word;
    uint64_t word, before; /* hashes: of this word, of the one before, or 0 */
};

typedef void gram_found(void *context, uint32_t slot);

void gram_scan_begin(struct gram_scan *scan);
void gram_scan_feed(struct gram_scan *scan, const uint8_t *bytes, size_t n,
                    gram_found *found, void *context);
void gram_scan_end(struct gram_scan *scan, gram_found *found, void *context);

/* The most grams that n bytes and the end of a record can give. */
static inline size_t gram_scan_most(size_t n)
{
    return (GRAM_BYTES + 4) * n + 2;
}

/* ---- those that are used ---------------------------------------------------
 */

struct grams {
    uint32_t *slots; /* [n], rising */
    float *rarity;   /* [n] */
    int n;
    uint32_t *starts; /* where slots start, by their upper 16 bits */
    uint32_t *places; /* [n]: 1 + the place in the bag that is being filled,
                       * or 0 */
};

/* The grams of one record: [n], in the order in which they first came. */
struct gram_bag {
    struct gram_scan scan;
    uint32_t *columns; /* indices of slots */
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

/* Fill a bag.  How a record is split into parts makes no difference; call
 * grams_end once, after them. */
enum status grams_feed(struct grams *grams, struct gram_bag *bag,
                       const uint8_t *bytes, size_t n);
enum status grams_end(struct grams *grams, struct gram_bag *bag);

/* The values of the grams in a bag: [bag->n]. */
void grams_values(const struct grams *grams, const struct gram_bag *bag,
                  float *values);

/* Adds the values of a bag to a matrix, as a row. */
enum status grams_weigh(const struct grams *grams, const struct gram_bag *bag,
                        struct sparse *rows);

#endif
