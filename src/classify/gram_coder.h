/* gram_coder.h -- bits of a table of grams, through a range coder.
 *
 * What a bit depends on is its context, a number.  The probability of each
 * context stands in the file, so that any part of a table can be decoded
 * without the parts before it.
 *
 * One function counts, encodes and decodes, as in range_coder.h: a coder that
 * counts or encodes takes the value, one that decodes returns it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_CODER_H
#define MAMBYTE_GRAM_CODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/range_coder.h"
#include "base/status.h"

/* The probabilities of 1 of all contexts, of PROBABILITY_BITS; and how often
 * each bit was counted, if they are to be learnt. */
struct gram_contexts {
    uint32_t *p;         /* [n] */
    uint32_t (*seen)[2]; /* [n], or NULL */
    size_t n;
};

struct gram_coder {
    struct range_coder range;
    const struct gram_contexts *contexts;
    bool is_decoder, is_counting;
};

/* p of all contexts is a half.  has_seen: with room for counts. */
enum status gram_contexts_open(struct gram_contexts *contexts, size_t n,
                               bool has_seen);
void gram_contexts_close(struct gram_contexts *contexts);

/* Takes those probabilities that fit best what was counted, of all that a byte
 * can stand for; bytes: [n]. */
void gram_contexts_learn(struct gram_contexts *contexts, uint8_t *bytes);

/* Takes those that bytes stand for; false if one stands for none. */
bool gram_contexts_read(struct gram_contexts *contexts, const uint8_t *bytes);

/* A decoder of a code that is to stay. */
static inline struct gram_coder
gram_decoder(const struct gram_contexts *contexts, const uint8_t *code,
             size_t size)
{
    return (struct gram_coder){.range = range_decoder(code, size),
                               .contexts = contexts,
                               .is_decoder = true};
}

static inline int gram_bit(struct gram_coder *coder, size_t context, int value)
{
    const struct gram_contexts *contexts = coder->contexts;
    if (coder->is_decoder)
        return range_decode(&coder->range, contexts->p[context]);
    if (coder->is_counting) {
        contexts->seen[context][value]++;
        return value;
    }
    return range_code(&coder->range, value, contexts->p[context]);
}

/* A number below limit: as many ones, then a zero, which limit - 1 does
 * without.  contexts: [limit - 1]. */
static inline unsigned gram_unary(struct gram_coder *coder, size_t contexts,
                                  unsigned limit, unsigned value)
{
    unsigned n = 0;
    while (n + 1 < limit && gram_bit(coder, contexts + n, value > n))
        n++;
    return n;
}

/* A number of so many bits, from the upper bit down: contexts: [1 << n_bits].
 */
static inline unsigned gram_bits(struct gram_coder *coder, size_t contexts,
                                 int n_bits, unsigned value)
{
    unsigned node = 1;
    for (int i = n_bits - 1; i >= 0; i--)
        node = 2 * node +
               (unsigned)gram_bit(coder, contexts + node, value >> i & 1);
    return node - (1u << n_bits);
}

/* A number up to GRAM_NUMBER_MAX: the length of what is one more, and the bits
 * below its leading one, of which the first two have contexts.  A decoder that
 * finds a larger one, in a damaged file, returns GRAM_NUMBER_MAX. */
enum { GRAM_NUMBER_MAX = INT32_MAX - 1 };
enum { GRAM_NUMBER_CONTEXTS = (1 << 5) * (1 + (1 << 2)) };
uint32_t gram_number(struct gram_coder *coder, size_t contexts, uint32_t value);

/* The same without contexts. */
uint32_t gram_even_number(struct gram_coder *coder, uint32_t value);

#endif
