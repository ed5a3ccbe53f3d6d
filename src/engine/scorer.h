/* scorer.h -- sums of bits, and what is reported of them.
 *
 * The engine gives the bits of each byte.  They are added up in double, in the
 * order of the bytes, and all else here is + - * / in a stated order: so the
 * digits that are printed are the same on every machine.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SCORER_H
#define MAMBYTE_SCORER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The sum over a file or a record. */
struct tally {
    uint64_t n_bytes;
    double bits;
};

/* bits: [n], of a byte each */
void tally_add(struct tally *tally, const float *bits, size_t n);
void tally_join(struct tally *tally, const struct tally *other);

/* 0 when there are no bytes. */
double tally_bits_per_byte(const struct tally *tally);

/* 2^x for x >= 0, exact for integers; +infinity from 1024 up. */
double score_exp2(double x);

/* Counts words as Python's str.split() does: a word is what stands between
 * white space, of ASCII (0x1c to 0x1f included) or of Unicode in UTF-8.  Start
 * with all zero. */
struct words {
    uint64_t n_done; /* words that ended */
    bool is_inside;  /* of a word */
    uint8_t held[2]; /* the start of what may become white space */
    int n_held;
};

void words_add(struct words *words, const uint8_t *bytes, size_t n);
uint64_t words_count(const struct words *words);

#endif
