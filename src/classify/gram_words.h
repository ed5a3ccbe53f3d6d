/* gram_words.h -- the words, pairs and shapes of a table of grams, packed in
 * blocks.
 *
 * Keys are hashes: those with the same upper bits are a block, a code of its
 * own.  A decoder decodes it when it is first asked for: a record needs few of
 * them.  In which order that happens makes no difference.
 *
 *     sizes    of the codes, in bytes: groups of 7 bits, the lowest first, all
 *              groups of a size but the last with the upper bit set
 *     codes    for each word the distance of its key from the one before, and
 *              its pairs (gram_pairs.h); at the end 0
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_WORDS_H
#define MAMBYTE_GRAM_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "classify/gram_coder.h"
#include "classify/gram_tree.h"
#include "classify/grams.h"

enum {
    GRAM_BLOCK_WORDS = 24, /* in a block, on the mean, at most */
    GRAM_BLOCK_BITS_MAX = 20
};

/* What is in a block: words [first, end) of the table; or, while first is
 * GRAM_NONE, where its code is. */
struct gram_block {
    uint32_t first, end, at, size;
};

struct gram_words {
    struct grams *grams;
    const struct gram_contexts *contexts;
    const uint8_t *bytes;
    struct gram_block *blocks; /* [1 << block_bits] */
    int block_bits;
    uint32_t first;        /* gram: the first word */
    struct gram_list list; /* the words that are decoded end here */
    uint32_t *words;       /* [list.end - first]: keys, as of gram_word_of() */
    enum status status;    /* if it failed, it does no more */
};

/* The upper bits of a key that tell its block, for n words. */
int gram_words_block_bits(size_t n);

/* list: the grams and the pairs that the words may have; the start of its first
 * gram is set.  The n bytes are to stay.  E_MODEL, without a sentence, when
 * they cannot be what was packed.  *words is to be closed after a failure too.
 */
enum status gram_words_open(struct gram_words **words, struct grams *grams,
                            const struct gram_contexts *contexts,
                            struct gram_list list, const uint8_t *bytes,
                            size_t n);
void gram_words_close(struct gram_words *words); /* NULL is accepted */

/* The gram of a key, or GRAM_NONE.  Decodes what is needed; a failure stays in
 * words->status. */
uint32_t gram_words_find(struct gram_words *words, uint32_t word);

/* Codes how far a word is from the one before it in its block; for the first
 * one, 1 plus its key without the bits that tell the block.  0 ends a block. */
uint32_t gram_words_code_distance(struct gram_coder *coder, uint32_t distance);

#endif
