/* gram_coder.c -- bits of a table of grams, through a range coder.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_coder.h"

#include <stdlib.h>

/* A byte b above 0 stands for a probability (15 - m) / 2^(4 + e) of the rarer
 * bit, where b - 1 is ((e - 1) * 8 + m) * 2, plus 1 if that bit is 1: the
 * higher the byte, the rarer. */
enum {
    HALF = PROBABILITY_ONE / 2,
    PARTS = 8,
    PART_SHIFT = PROBABILITY_BITS - 4,
    SHIFTS = 15,
    BYTE_END = 1 + SHIFTS * PARTS * 2
};

static uint32_t probability_of(unsigned byte)
{
    if (byte == 0)
        return HALF;
    unsigned x = byte - 1, shift = x / 2 / PARTS + 1;
    uint32_t p = (2 * PARTS - 1 - x / 2 % PARTS) << PART_SHIFT >> shift;
    return x % 2 ? p : PROBABILITY_ONE - p;
}

enum status gram_contexts_open(struct gram_contexts *contexts, size_t n,
                               bool has_seen)
{
    struct gram_contexts *c = contexts;
    *c = (struct gram_contexts){.n = n, .p = malloc(n * sizeof *c->p)};
    if (has_seen)
        c->seen = calloc(n, sizeof *c->seen);
    if (!c->p || (has_seen && !c->seen)) {
        gram_contexts_close(c);
        return fail_memory("the grams");
    }
    for (size_t i = 0; i < n; i++)
        c->p[i] = HALF;
    return OK;
}

void gram_contexts_close(struct gram_contexts *contexts)
{
    free(contexts->p);
    free(contexts->seen);
    *contexts = (struct gram_contexts){0};
}

/* The byte whose probability is nearest to that of the counts. */
static uint8_t find_byte(const uint32_t seen[2])
{
    uint64_t all = (uint64_t)seen[0] + seen[1];
    int rare = seen[1] <= seen[0];
    uint64_t p = all > 0 ? (((uint64_t)seen[rare] << PROBABILITY_BITS) +
                            PROBABILITY_ONE / 2) /
                               (all + 1)
                         : 0;
    unsigned x = 0;
    if (all == 0)
        return 0;
    while (x + 2 < SHIFTS * PARTS * 2 &&
           probability_of(1 + x + 2 + 1) + (uint64_t)probability_of(2 + x) >
               2 * p)
        x += 2;
    return (uint8_t)(1 + x + (unsigned)rare);
}

void gram_contexts_learn(struct gram_contexts *contexts, uint8_t *bytes)
{
    for (size_t i = 0; i < contexts->n; i++) {
        bytes[i] = find_byte(contexts->seen[i]);
        contexts->p[i] = probability_of(bytes[i]);
    }
}

bool gram_contexts_read(struct gram_contexts *contexts, const uint8_t *bytes)
{
    for (size_t i = 0; i < contexts->n; i++) {
        if (bytes[i] >= BYTE_END)
            return false;
        contexts->p[i] = probability_of(bytes[i]);
    }
    return true;
}

/* ---- numbers ------------------------------------------------------------ */

static uint32_t code_even(struct gram_coder *coder, unsigned n_bits,
                          uint32_t value)
{
    if (coder->is_counting || n_bits == 0)
        return value;
    return range_code_even(&coder->range, (int)n_bits, value);
}

/* Codes the n_bits of a number that are below upper. */
static uint32_t code_rest(struct gram_coder *coder, uint32_t upper,
                          unsigned n_bits, uint32_t value)
{
    while (n_bits > 0) {
        unsigned n = n_bits < 16 ? n_bits : 16;
        n_bits -= n;
        uint32_t part = value >> n_bits & ((1u << n) - 1);
        upper = upper << n | code_even(coder, n, part);
    }
    return upper;
}

/* x - 1, but at most GRAM_NUMBER_MAX; x is above 0. */
static uint32_t number_before(uint32_t x)
{
    return x - 1 < GRAM_NUMBER_MAX ? x - 1 : GRAM_NUMBER_MAX;
}

static unsigned length_of(uint32_t x)
{
    unsigned length = 0;
    while (length < 31 && x >> length > 1)
        length++;
    return length;
}

uint32_t gram_number(struct gram_coder *coder, size_t contexts, uint32_t value)
{
    unsigned length = gram_bits(coder, contexts, 5, length_of(++value));
    unsigned n_told = length < 2 ? length : 2, n_even = length - n_told;
    uint32_t upper = 1u << n_told;
    upper += gram_bits(coder, contexts + (1 << 5) + ((size_t)length << 2),
                       (int)n_told, value >> n_even & (upper - 1));
    return number_before(code_rest(coder, upper, n_even, value));
}

uint32_t gram_even_number(struct gram_coder *coder, uint32_t value)
{
    unsigned length = code_even(coder, 5, length_of(++value));
    return number_before(
        code_rest(coder, 1, length, value & ((1u << length) - 1)));
}
