/* gram_tree.h -- the sequences of a table of grams, packed in groups.
 *
 * Sequences grow by a character at their end, from those of one character on.
 * Each sequence in the table has two parts that are in the table too: the one
 * without its last character (the prefix), and the one without its first (the
 * suffix).  So a prefix can grow only by characters that follow its own suffix,
 * and only these are coded; the labels and levels of the two parts tell how
 * likely the longer sequence is (gram_pairs.h).  The characters give all
 * sequences: neither their text nor their keys are written.
 *
 * Neighbouring sequences form a group.  The sequences that grow from a group,
 * by one character, are one code.  A decoder decodes a code when it is first
 * asked for, in any order: a record needs few of them.
 *
 *     group    its code, then the groups of the sequences that grow from it
 *     code     for each sequence of the group, the characters it grows by; then
 *              for each group of the grown ones how many bytes it takes, with
 *              all groups that grow from it.  The longest sequences form no
 *              groups.
 *
 * The first code has the characters.  The grams of a tree have numbers: first
 * the empty sequence and the space, which are no grams and have all labels,
 * then those of up to 4 characters in the order in which they came, a number
 * that is left out, and the longest.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_TREE_H
#define MAMBYTE_GRAM_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "classify/gram_coder.h"
#include "classify/gram_pairs.h"
#include "classify/grams.h"

enum {
    GRAM_ROOT,  /* the empty sequence */
    GRAM_SPACE, /* alone */
    GRAM_TREE_FIRST,
    GRAM_ALPHABET_MAX = 1 << 17, /* characters */
    GRAM_GROUP_PAIRS = 16        /* that a group has, or a few more */
};

/* No sequence. */
#define GRAM_NONE UINT32_MAX

/* A sequence that may grow. */
struct gram_node {
    uint64_t labels[2]; /* a bit for each, modulo 128 */
    uint32_t suffix;    /* the node without the first character */
    uint32_t first;     /* [first, end) grew from it; before that, its group */
    uint32_t end;
    uint8_t n_labels;      /* that labels has */
    uint8_t total;         /* twice the logarithm of the sum of 2^level */
    uint8_t most;          /* the highest level */
    uint8_t length : 3;    /* characters */
    uint8_t is_spaced : 1; /* one other than the first is a space */
    uint8_t has_grown : 1;
};

/* Nodes [first, end), and where the code of what grows from them is. */
struct gram_group {
    uint32_t first, end, at, size;
};

/* Grams and pairs that are being added. */
struct gram_list {
    uint32_t n, end;    /* the next gram; the first one that is too many */
    uint32_t pairs_end; /* the first pair that is too many */
};

struct gram_tree {
    struct grams *grams; /* whose first grams are the sequences */
    const struct gram_contexts *contexts;
    const uint8_t *bytes;    /* of a decoder */
    struct gram_node *nodes; /* [list.end] */
    uint32_t *characters;    /* [leaves.end]: the last one of each, as in
                              * gram_tree_character() */
    struct gram_list list, leaves;
    struct gram_group *groups; /* [list.end] */
    uint32_t n_groups;
    enum status status; /* of a decoder; if it failed, it does no more */
    struct parted_pairs parted; /* of node parted_is_of */
    uint32_t parted_is_of;
    struct shared_pairs shared;
};

/* A tree for n grams, and n_leaves of the longest; it may have so many pairs,
 * those of the first two grams not counted, which come before all others. */
struct gram_tree_size {
    uint32_t n, n_pairs, n_leaves, n_leaf_pairs;
};

/* How many grams, or pairs, there are room for. */
static inline uint64_t gram_tree_grams(struct gram_tree_size size)
{
    return (uint64_t)GRAM_TREE_FIRST + size.n + 1 + size.n_leaves + 1;
}

static inline uint64_t gram_tree_pairs(struct gram_tree_size size, int n_labels)
{
    return 2 * (uint64_t)n_labels + size.n_pairs + size.n_leaf_pairs;
}

/* The place of x among rising numbers, [n]; or n. */
static inline uint32_t gram_find_rising(const uint32_t *numbers, uint32_t n,
                                        uint32_t x)
{
    uint32_t first = 0;
    for (uint32_t left = n; left > 1;) {
        uint32_t half = left / 2;
        first += numbers[first + half] <= x ? half : 0;
        left -= half;
    }
    return n > 0 && numbers[first] == x ? first : n;
}

/* The number of a character.  The grams that grow from a node are in the order
 * of these. */
static inline uint32_t gram_tree_character(uint32_t c)
{
    return c == ' ' ? 0 : c + 1;
}

/* Needs a table with room for it, from its first gram on.  *tree is to be
 * closed after a failure too. */
enum status gram_tree_open(struct gram_tree **tree, struct grams *grams,
                           const struct gram_contexts *contexts,
                           struct gram_tree_size size);
void gram_tree_close(struct gram_tree *tree); /* NULL is accepted */

/* Decodes the characters, from n bytes that are to stay.  E_MODEL, without a
 * sentence, when they cannot be what was packed; also below. */
enum status gram_tree_start(struct gram_tree *tree, const uint8_t *bytes,
                            size_t n);

/* The sequence that a node grows into by a character, or GRAM_NONE.  Decodes
 * what is needed; a failure stays in tree->status. */
uint32_t gram_tree_find(struct gram_tree *tree, uint32_t node, uint32_t c);

/* ---- what an encoder needs ---------------------------------------------- */

/* Adds a node, or one of the longest sequences, whose pairs are in the table.
 */
void gram_tree_add(struct gram_tree *tree, uint32_t prefix, uint32_t suffix);

/* Gives the empty sequence and the space the pairs of all characters. */
void gram_tree_end_characters(struct gram_tree *tree);

/* Whether a node may grow: [*first, *first + *n) are those that extend its
 * suffix by a character. */
bool gram_tree_may_grow(const struct gram_tree *tree, uint32_t prefix,
                        uint32_t *first, uint32_t *n);

/* Whether two nodes that overlap have a label in common. */
bool gram_tree_may_meet(const struct gram_tree *tree, uint32_t prefix,
                        uint32_t suffix);

/* The labels that two overlapping nodes have in common, and the levels to
 * expect; NULL if they have none. */
const struct shared_pairs *gram_tree_share(struct gram_tree *tree,
                                           uint32_t prefix, uint32_t suffix);

/* The end of the group that starts at a node, of those below end. */
uint32_t gram_tree_cut(const struct gram_tree *tree, uint32_t first,
                       uint32_t end);

/* Code what grows from a group, and the characters. */
enum status gram_tree_code(struct gram_tree *tree, struct gram_coder *coder,
                           uint32_t first, uint32_t end);
enum status gram_tree_code_characters(struct gram_tree *tree,
                                      struct gram_coder *coder);

#endif
