/* integer_coder.c -- codes integers, by a range coder.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/integer_coder.h"

enum { HALF = PROBABILITY_ONE / 2, ADAPT_SHIFT = 4 };

void integer_coder_init(struct integer_coder *integers)
{
    for (int i = 0; i < 1 << INTEGER_LENGTH_BITS; i++)
        integers->p[i] = HALF;
}

/* p stays between 2^ADAPT_SHIFT and that much below one. */
static int code_adaptive(uint32_t *p, struct range_coder *coder, int bit)
{
    bit = range_code(coder, bit, *p);
    if (bit)
        *p += (PROBABILITY_ONE - *p) >> ADAPT_SHIFT;
    else
        *p -= *p >> ADAPT_SHIFT;
    return bit;
}

static int length_of(uint64_t value)
{
    int length = 0;
    while (value >> length)
        length++;
    return length;
}

uint64_t integer_coder_code(struct integer_coder *integers,
                            struct range_coder *coder, uint64_t value)
{
    int length = length_of(value), node = 1;
    for (int i = INTEGER_LENGTH_BITS - 1; i >= 0; i--)
        node = 2 * node +
               code_adaptive(&integers->p[node], coder, length >> i & 1);
    length = node - (1 << INTEGER_LENGTH_BITS);
    if (length == 0)
        return 0;
    uint64_t coded = 1;
    for (int i = length - 2; i >= 0; i--)
        coded = 2 * coded + (uint64_t)range_code(coder, value >> i & 1, HALF);
    return coded;
}
