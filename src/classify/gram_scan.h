/* gram_scan.h -- which words and short sequences of characters a record has.
 *
 * A gram is a sequence of 1 to 5 characters, or a word, or a word and the one
 * before it.
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
 * Only the key of a gram is kept, which is a hash; half of the keys are for
 * words and pairs of words.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_SCAN_H
#define MAMBYTE_GRAM_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GRAM_CHARACTERS = 5, /* of the longest sequences */
    GRAM_ACROSS = 4,     /* of the longest with a space inside */
    GRAM_KEYS = 1 << 28,
    GRAM_FIRST_WORD = GRAM_KEYS / 2 /* the first key of words */
};

/* A record that is being read. */
struct gram_scan {
    uint8_t pending[4]; /* [n_pending]: the start of a character */
    size_t n_pending;
    uint64_t ends[GRAM_CHARACTERS + 1]; /* ends[i]: hash of the last i
                                         * characters */
    int n_ends;                         /* those that are known */
    unsigned spaces; /* bit i: whether the character i before is a space */
    bool is_in_word;
    uint64_t word, before; /* hashes: of this word, of the one before, or 0 */
};

typedef void gram_found(void *context, uint32_t key);

void gram_scan_begin(struct gram_scan *scan);
void gram_scan_feed(struct gram_scan *scan, const uint8_t *bytes, size_t n,
                    gram_found *found, void *context);
void gram_scan_end(struct gram_scan *scan, gram_found *found, void *context);

/* The most grams that n bytes and the end of a record can give: each byte a
 * character, two words and two pairs; and what was pending before. */
static inline size_t gram_scan_most(size_t n)
{
    return (GRAM_CHARACTERS + 4) * n + 5 * GRAM_CHARACTERS + 2;
}

#endif
