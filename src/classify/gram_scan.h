/* gram_scan.h -- which words, shapes and sequences of characters a record has.
 *
 * A gram is a sequence of 1 to 5 characters, or a word, or a word and the one
 * before it, or a shape.
 *
 * Sequences are in lower case (lower_case.h).  A run of spaces, tabs, newlines
 * and carriage returns counts as one space, and there is one before the record
 * and one after it: so sequences know where words start and end.  A space alone
 * is no gram, and in one of 5 characters it stands first or last only.  A byte
 * that is not of UTF-8 is a character of its own.
 *
 * A word is a run of ASCII letters, digits, underscores and bytes from 0x80 up,
 * in upper and lower case as they are; or any other byte alone, except spaces,
 * tabs, newlines and carriage returns.
 *
 * A shape is a run of 3 to 5 tokens: punctuation and the looks of the words
 * around it, as in `f(x, y);'.  A token is a space, as in sequences; or a byte
 * that is a word alone; or the look of another word: 10, an_example,
 * AN_EXAMPLE, example, EXAMPLE, AnExample or anExample.  At least one token is
 * such a byte.
 *
 * While grams are counted, only the key of each is kept, which is a hash; half
 * of the keys are for words, pairs of words and shapes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_SCAN_H
#define MAMBYTE_GRAM_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum {
    GRAM_CHARACTERS = 5, /* of the longest sequences */
    GRAM_WORD,           /* kinds, after the lengths of sequences */
    GRAM_PAIR,
    GRAM_SHAPE,
    GRAM_ACROSS = 4,     /* of the longest sequences with a space inside */
    GRAM_TOKENS_MIN = 3, /* of a shape, up to GRAM_CHARACTERS */
    GRAM_KEY_BITS = 48,
    GRAM_WORD_BITS = 27, /* of the key of a word, which tell it from others */
    GRAM_CHARACTER_END = 0x110100 /* bytes that are no UTF-8 come last */
};

#define GRAM_KEYS       ((uint64_t)1 << GRAM_KEY_BITS)
#define GRAM_FIRST_WORD (GRAM_KEYS / 2) /* the first key of words */

/* The last characters, or tokens. */
struct gram_run {
    uint64_t ends[GRAM_CHARACTERS + 1]; /* ends[i]: hash of the last i */
    int n;                              /* those that are known */
    uint32_t last;
    unsigned marks; /* bit i: whether that i before is a space, or of tokens,
                     * a byte */
};

/* A record that is being read. */
struct gram_scan {
    uint8_t pending[4]; /* [n_pending]: the start of a character */
    size_t n_pending;
    struct gram_run characters, tokens;
    unsigned first, all;   /* of this word: the look of its first byte, and
                            * those of all its bytes; all is 0 outside words */
    uint64_t word, before; /* hashes: of this word, of the one before, or 0 */
};

/* kind: how many characters a sequence has; GRAM_WORD, GRAM_PAIR or
 * GRAM_SHAPE. */
typedef void gram_found(void *context, uint64_t key, int kind);

void gram_scan_begin(struct gram_scan *scan);
void gram_scan_feed(struct gram_scan *scan, const uint8_t *bytes, size_t n,
                    gram_found *found, void *context);
void gram_scan_end(struct gram_scan *scan, gram_found *found, void *context);

/* The hash of a sequence starts so, and each character extends it; a character
 * is below GRAM_CHARACTER_END. */
#define GRAM_SEQUENCE_START 0xcbf29ce484222325u
uint64_t gram_sequence_extend(uint64_t hash, uint32_t c);
uint64_t gram_sequence_key(uint64_t hash, int length);

/* The keys of words, pairs and shapes have few bits, as a file holds them;
 * their lower bits are 0. */
static inline uint64_t gram_word_key(uint32_t word)
{
    return GRAM_FIRST_WORD +
           ((uint64_t)word << (GRAM_KEY_BITS - 1 - GRAM_WORD_BITS));
}

static inline uint32_t gram_word_of(uint64_t key)
{
    return (uint32_t)((key - GRAM_FIRST_WORD) >>
                      (GRAM_KEY_BITS - 1 - GRAM_WORD_BITS));
}

/* The most grams that n bytes and the end of a record can give: each byte a
 * character and two words, with two pairs, and their shapes; and what was
 * pending before. */
static inline size_t gram_scan_most(size_t n)
{
    size_t shapes = 2 * (GRAM_CHARACTERS + 1 - GRAM_TOKENS_MIN);
    return (GRAM_CHARACTERS + 4 + shapes) * n + 5 * GRAM_CHARACTERS + 2 +
           shapes;
}

#endif
