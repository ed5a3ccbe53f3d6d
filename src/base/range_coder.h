/* range_coder.h -- codes bits whose probability both sides know.
 *
 * One function encodes and decodes, so that the two cannot differ: an encoder
 * takes the bit, a decoder returns it.
 *
 *     interval   [low, low + range) of 64 bits; a bit cuts it in proportion
 *                to its probability, the lower part for 1
 *     renewal    by 32 bits, when range is below 2^32: probabilities of 24
 *                bits are met to a part in 2^8 at worst, 2^20 mostly
 *     carry      goes back into the bytes written, which are in memory
 *     end        the shortest string that falls into the interval; what
 *                follows the end of a code reads as zeros
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_RANGE_CODER_H
#define MAMBYTE_RANGE_CODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { PROBABILITY_BITS = 24, PROBABILITY_ONE = 1 << PROBABILITY_BITS };

struct range_coder {
    bool is_decoder;
    bool has_failed; /* an encoder got no memory */
    uint64_t low;    /* encoder */
    uint64_t value;  /* decoder: the code, relative to low */
    uint64_t range;
    uint8_t *code;         /* encoder: owned, NULL at first */
    const uint8_t *source; /* decoder */
    size_t n;              /* bytes written, or read */
    size_t size;           /* bytes of code allocated, or of source */
};

struct range_coder range_encoder(void);
struct range_coder range_decoder(const uint8_t *code, size_t size);

/* p: the probability that the bit is 1, 0 < p < PROBABILITY_ONE.  An encoder
 * returns the bit it is given; a decoder ignores it, and returns its own. */
int range_code(struct range_coder *coder, int bit, uint32_t p);

/* Shifts range, below 2^32, by 32 bits. */
void range_renew(struct range_coder *coder);

/* Decodes as range_code() does, without a branch on the bit. */
static inline int range_decode(struct range_coder *coder, uint32_t p)
{
    uint64_t cut = (coder->range >> PROBABILITY_BITS) * p;
    uint64_t upper = coder->range - cut;
    int bit = coder->value < cut;
    uint64_t is_upper = (uint64_t)bit - 1; /* all bits, or none */
    coder->value -= cut & is_upper;
    coder->range = cut ^ ((cut ^ upper) & is_upper);
    if (coder->range >> 32 == 0)
        range_renew(coder);
    return bit;
}

/* A value of n_bits, 1 to 24; all of them are equally likely. */
uint32_t range_code_even(struct range_coder *coder, int n_bits, uint32_t value);

/* Ends an encoder: code[0..n) is the whole code. */
enum status range_finish(struct range_coder *coder);

/* The same for a code that other bytes may follow: they do not matter. */
enum status range_finish_before(struct range_coder *coder);

/* Frees the code of an encoder. */
void range_free(struct range_coder *coder);

#endif
