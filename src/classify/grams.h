/* grams.h -- a table of grams, and the evidence that a record gets from it.
 *
 * A table has, for each gram (gram_scan.h), the labels whose examples had it,
 * and how many times.  The weight of a gram for a label is
 * ln(1 + 2^level / 0.01) + correction / 4, where level is the logarithm of base
 * 2 of the times, rounded; it is 0 for a label that never had the gram.  The
 * first part is naive Bayes, with 0.01 added to each count; the corrections are
 * learnt (gram_refine.h).  The shift of a label makes up for the length of all
 * its examples together.
 *
 * The evidence of a record for a label is the sum, over the grams of the record
 * that the table has, of value times (weight + shift), divided by the root of
 * the sum of the strengths.  The strength of a gram is 1 + ln of its count in
 * the record; its value is its strength, three times as much for a word, a pair
 * or a shape.
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
#include "classify/gram_coder.h"
#include "classify/gram_scan.h"

#define GRAMS_DAMAGED   "the head is damaged: its grams cannot be decoded"
#define GRAM_SMOOTHING  0.01  /* added to each count */
#define GRAM_CORRECTION 0.25f /* what a correction of 1 adds to a weight */

enum { GRAM_LEVELS = 16, GRAMS_MAX = 1 << 23, GRAM_PAIRS_MAX = 1 << 25 };

/* A label that has a gram. */
struct gram_pair {
    uint16_t label; /* rising within a gram */
    uint8_t level;  /* below GRAM_LEVELS */
    int8_t correction;
};

/* Pairs of a gram and a label; those of gram i are starts[i] up to
 * starts[i + 1]. */
struct grams {
    uint64_t *keys;          /* [n], rising; NULL in a table from a file */
    uint32_t *starts;        /* [n + 1] */
    struct gram_pair *pairs; /* [n_pairs] */
    float *weights;  /* [n_pairs], of level and correction; NULL in a table
                      * from a file */
    uint32_t *times; /* [n_pairs]: exact; NULL in a table from a file */
    float *shifts;   /* [n_labels] */
    size_t n, n_pairs;
    int n_labels;
    uint32_t *characters; /* [n_characters], rising: those of one-character
                           * sequences; NULL in a table from a file */
    size_t n_characters;
    uint32_t least; /* times that some label has each gram; 0 in a table from a
                     * file */

    /* A table from a file finds grams otherwise, and decodes pairs when they
     * are needed. */
    uint8_t *bytes;                /* packed */
    struct gram_contexts contexts; /* of them */
    struct gram_tree *tree;        /* its grams are the first ones */
    struct gram_words *words;
    uint32_t first_word; /* the first gram that is no sequence */

    uint32_t *buckets; /* where keys start, by their upper bits */
    uint32_t *places;  /* [n]: 1 + the place in the bag that is being filled,
                        * or 0 */
    float level_weights[GRAM_LEVELS];
};

/* The grams of one record: [n], in the order in which they first came. */
struct gram_bag {
    struct gram_scan scan;
    uint32_t *columns; /* indices of grams */
    uint32_t *counts;
    size_t n, room;
    uint32_t ends[GRAM_CHARACTERS]; /* in the tree of a table from a file:
                                     * ends[i]: the last i characters */
};

/* Room for n grams and n_pairs, which the caller fills in before
 * grams_index. */
enum status grams_open(struct grams *grams, size_t n, size_t n_pairs,
                       int n_labels);
void grams_close(struct grams *grams);

/* Room for a table from a file. */
enum status grams_open_packed(struct grams *grams, size_t n, size_t n_pairs,
                              int n_labels);

/* Makes what follows from keys, levels and corrections. */
void grams_index(struct grams *grams);

/* The index of a key; -1 when the table, which is not from a file, does not
 * have it. */
int64_t grams_find(const struct grams *grams, uint64_t key);

/* The level of a number of times, above 0. */
uint8_t gram_level(uint32_t times);

/* The natural logarithm; bit for bit the same everywhere. */
double gram_log(double x);

void gram_bag_begin(struct gram_bag *bag);
void gram_bag_free(struct gram_bag *bag);

/* Fill a bag.  How a record is split into parts makes no difference; call
 * grams_end once, after them.  E_MODEL when a table from a file is damaged.
 * One thread at a time fills bags of a table: it decodes what it needs.  Others
 * may meanwhile take the evidence of bags that were filled before, as what is
 * decoded stays as it is. */
enum status grams_feed(struct grams *grams, struct gram_bag *bag,
                       const uint8_t *bytes, size_t n);
enum status grams_end(struct grams *grams, struct gram_bag *bag);

/* Whether the table would have gram [i] without the n times of a record of the
 * label own; if not, the record must not see it, as a new one would not. */
bool grams_has_without(const struct grams *grams, uint32_t i, int own,
                       uint32_t n);

/* The strength of a gram that a record has n times. */
double gram_strength(uint32_t n);

/* The evidence of a bag for each label, [n_labels].  own: the label of a record
 * that is counted in the table, or -1; such a record is left out, as if it had
 * not been counted.  Returns what the sums were divided by, or 0 where the
 * table has no gram of the bag. */
double grams_evidence(const struct grams *grams, const struct gram_bag *bag,
                      int own, float *evidence);

#endif
