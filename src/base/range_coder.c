/* range_coder.c -- codes bits whose probability both sides know.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/range_coder.h"

#include <stdlib.h>

enum { FIRST_SIZE = 256, MARGIN = 8 };

static uint8_t next_byte(struct range_coder *coder)
{
    return coder->n < coder->size ? coder->source[coder->n++] : 0;
}

static uint64_t next_bytes(struct range_coder *coder, uint64_t value, int n)
{
    while (n-- > 0)
        value = value << 8 | next_byte(coder);
    return value;
}

struct range_coder range_encoder(void)
{
    return (struct range_coder){.range = UINT64_MAX};
}

struct range_coder range_decoder(const uint8_t *code, size_t size)
{
    struct range_coder coder = {
        .is_decoder = true,
        .range = UINT64_MAX,
        .source = code,
        .size = size,
    };
    coder.value = next_bytes(&coder, 0, 8);
    return coder;
}

/* Makes room for MARGIN more bytes. */
static bool make_room(struct range_coder *coder)
{
    if (coder->size - coder->n >= MARGIN)
        return true;
    size_t size = coder->size ? 2 * coder->size : FIRST_SIZE;
    uint8_t *code = coder->has_failed ? NULL : realloc(coder->code, size);
    if (!code) {
        coder->has_failed = true;
        return false;
    }
    coder->code = code;
    coder->size = size;
    return true;
}

/* low passed 2^64.  The code as a whole stays below 1, so that an earlier byte
 * is below 255. */
static void carry(struct range_coder *coder)
{
    size_t i = coder->n;
    while (i > 0 && ++coder->code[--i] == 0)
        ;
}

/* Writes the upper n bytes of low. */
static void put(struct range_coder *coder, int n)
{
    if (!make_room(coder))
        return;
    for (int i = 0; i < n; i++)
        coder->code[coder->n++] = (uint8_t)(coder->low >> (56 - 8 * i));
}

void range_renew(struct range_coder *coder)
{
    coder->range <<= 32;
    if (coder->is_decoder) {
        coder->value = next_bytes(coder, coder->value, 4);
    } else {
        put(coder, 4);
        coder->low <<= 32;
    }
}

int range_code(struct range_coder *coder, int bit, uint32_t p)
{
    uint64_t cut = (coder->range >> PROBABILITY_BITS) * p;
    if (coder->is_decoder)
        bit = coder->value < cut;
    if (bit) {
        coder->range = cut;
    } else {
        coder->range -= cut;
        coder->value -= cut;
        coder->low += cut;
        if (!coder->is_decoder && coder->low < cut)
            carry(coder);
    }
    if (coder->range >> 32 == 0)
        range_renew(coder);
    return bit;
}

uint32_t range_code_even(struct range_coder *coder, int n_bits, uint32_t value)
{
    uint32_t last = (1u << n_bits) - 1;
    coder->range >>= n_bits;
    if (coder->is_decoder) {
        uint64_t place = coder->value / coder->range;
        value = place < last ? (uint32_t)place : last;
        coder->value -= value * coder->range;
    } else {
        uint64_t before = coder->low;
        coder->low += value * coder->range;
        if (coder->low < before)
            carry(coder);
    }
    if (coder->range >> 32 == 0)
        range_renew(coder);
    return value;
}

/* Writes the fewest upper bytes of low that, rounded up, stay in range; with
 * any bytes after them, if any_may_follow. */
static void finish(struct range_coder *coder, bool any_may_follow)
{
    uint64_t below = UINT64_MAX, rounded = 0;
    int n = 0;
    for (;; n++) {
        rounded = (coder->low + below) & ~below;
        uint64_t most = coder->range - 1, above = any_may_follow ? below : 0;
        if (rounded - coder->low <= most &&
            above <= most - (rounded - coder->low))
            break;
        below = n < 7 ? below >> 8 : 0;
    }
    if (rounded < coder->low)
        carry(coder);
    coder->low = rounded;
    put(coder, n);
}

enum status range_finish_before(struct range_coder *coder)
{
    finish(coder, true);
    return coder->has_failed ? fail_memory("the code") : OK;
}

enum status range_finish(struct range_coder *coder)
{
    finish(coder, false);
    while (coder->n > 0 && coder->code[coder->n - 1] == 0)
        coder->n--;
    return coder->has_failed ? fail_memory("the code") : OK;
}

void range_free(struct range_coder *coder)
{
    free(coder->code);
    coder->code = NULL;
    coder->n = coder->size = 0;
}
