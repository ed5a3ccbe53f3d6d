/* gram_file.c -- a table of grams as bytes: those of a tensor in a file.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"
#include "base/lzma2.h"
#include "base/memlimit.h"

enum {
    SIZES = 12,       /* bytes before the packed text */
    NUMBER_BYTES = 5, /* of the largest number in groups of 7 bits */
    LABEL_BYTES = 2   /* of the largest label */
};

/* The longest text of a table. */
static uint64_t most_text(uint64_t n, uint64_t n_pairs)
{
    return n * (NUMBER_BYTES + LABEL_BYTES) + n_pairs * (LABEL_BYTES + 2);
}

/* ---- packing ------------------------------------------------------------ */

static uint8_t *put_number(uint8_t *to, uint32_t x)
{
    for (; x > 0x7f; x >>= 7)
        *to++ = (uint8_t)(0x80 | (x & 0x7f));
    *to++ = (uint8_t)x;
    return to;
}

/* Returns the length. */
static size_t print_text(const struct grams *g, uint8_t *text)
{
    uint8_t *to = text;
    for (size_t i = 0; i < g->n; i++)
        to = put_number(to, g->keys[i] - (i > 0 ? g->keys[i - 1] : 0));
    for (size_t i = 0; i < g->n; i++)
        to = put_number(to, g->starts[i + 1] - g->starts[i]);
    for (size_t i = 0; i < g->n; i++) {
        uint32_t next = 0;
        for (size_t j = g->starts[i]; j < g->starts[i + 1]; j++) {
            to = put_number(to, g->labels[j] - next);
            next = g->labels[j] + 1u;
        }
    }
    for (size_t j = 0; j < g->n_pairs; j++)
        *to++ = g->levels[j];
    for (size_t j = 0; j < g->n_pairs; j++)
        *to++ = (uint8_t)g->corrections[j];
    return (size_t)(to - text);
}

enum status grams_pack(const struct grams *grams, uint8_t **bytes, size_t *n)
{
    size_t most = most_text(grams->n, grams->n_pairs);
    size_t room = lzma2_room(most), n_packed = 0;
    uint8_t *text = malloc(most + 1);
    *bytes = malloc(SIZES + room);
    enum status status = text && *bytes ? OK : fail_memory("the grams");
    if (status == OK) {
        size_t n_text = print_text(grams, text);
        store_le(*bytes, grams->n, 4);
        store_le(*bytes + 4, grams->n_pairs, 4);
        store_le(*bytes + 8, n_text, 4);
        status = lzma2_pack(LZMA2_NUMBERS, text, n_text, *bytes + SIZES, room,
                            &n_packed);
    }
    *n = SIZES + n_packed;
    free(text);
    if (status != OK) {
        free(*bytes);
        *bytes = NULL;
    }
    return status;
}

/* ---- unpacking ---------------------------------------------------------- */

static enum status is_no_table(void)
{
    return fail(E_MODEL, "grams is not a table of grams");
}

/* Text that is being read. */
struct gram_text {
    const uint8_t *next, *end;
};

/* A number up to most. */
static enum status take_number(struct gram_text *text, uint32_t most,
                               uint32_t *x)
{
    uint64_t sum = 0;
    for (int shift = 0; shift < 7 * NUMBER_BYTES; shift += 7) {
        if (text->next == text->end)
            return is_no_table();
        uint8_t byte = *text->next++;
        sum |= (uint64_t)(byte & 0x7f) << shift;
        if (byte <= 0x7f) {
            *x = (uint32_t)sum;
            return sum <= most ? OK : is_no_table();
        }
    }
    return is_no_table();
}

static enum status take_keys(struct grams *g, struct gram_text *text)
{
    uint32_t last = 0, step = 0;
    for (size_t i = 0; i < g->n; i++) {
        TRY(take_number(text, GRAM_KEYS - 1 - last, &step));
        if (i > 0 && step == 0)
            return is_no_table();
        last += step;
        g->keys[i] = last;
    }
    return OK;
}

static enum status take_starts(struct grams *g, struct gram_text *text)
{
    uint32_t n = 0;
    for (size_t i = 0; i < g->n; i++) {
        uint32_t left = (uint32_t)g->n_pairs - g->starts[i];
        TRY(take_number(text, left, &n));
        g->starts[i + 1] = g->starts[i] + n;
    }
    return g->starts[g->n] == g->n_pairs ? OK : is_no_table();
}

static enum status take_labels(struct grams *g, struct gram_text *text)
{
    uint32_t n_labels = (uint32_t)g->n_labels, step = 0;
    for (size_t i = 0; i < g->n; i++) {
        uint32_t next = 0;
        for (size_t j = g->starts[i]; j < g->starts[i + 1]; j++) {
            if (next == n_labels)
                return is_no_table();
            TRY(take_number(text, n_labels - 1 - next, &step));
            g->labels[j] = (uint16_t)(next + step);
            next += step + 1;
        }
    }
    return OK;
}

/* And the corrections. */
static enum status take_levels(struct grams *g, struct gram_text *text)
{
    if ((size_t)(text->end - text->next) != 2 * g->n_pairs)
        return is_no_table();
    for (size_t j = 0; j < g->n_pairs; j++) {
        g->levels[j] = *text->next++;
        if (g->levels[j] >= GRAM_LEVELS)
            return is_no_table();
    }
    memcpy(g->corrections, text->next, g->n_pairs);
    return OK;
}

/* text: [n_text], room for it. */
static enum status read_text(struct grams *g, uint8_t *text, size_t n_text,
                             const uint8_t *packed, size_t n_packed)
{
    struct gram_text reading = {text, text + n_text};
    bool is_whole;
    TRY(lzma2_unpack(LZMA2_NUMBERS, text, n_text, packed, n_packed, &is_whole));
    if (!is_whole)
        return is_no_table();
    TRY(take_keys(g, &reading));
    TRY(take_starts(g, &reading));
    TRY(take_labels(g, &reading));
    TRY(take_levels(g, &reading));
    grams_index(g);
    return OK;
}

enum status grams_unpack(struct grams *grams, const uint8_t *bytes, size_t n,
                         int n_labels)
{
    if (n < SIZES)
        return is_no_table();
    uint64_t n_grams = load_le(bytes, 4), n_pairs = load_le(bytes + 4, 4);
    uint64_t n_text = load_le(bytes + 8, 4);
    if (n_grams > GRAMS_MAX || n_pairs > GRAM_PAIRS_MAX ||
        n_text > most_text(n_grams, n_pairs))
        return is_no_table();
    TRY(memlimit_check(n_text + 12 * n_grams + 8 * n_pairs, "a head"));
    TRY(grams_open(grams, n_grams, n_pairs, n_labels, false));
    uint8_t *text = malloc(n_text + 1);
    enum status status =
        text ? read_text(grams, text, n_text, bytes + SIZES, n - SIZES)
             : fail_memory("the grams");
    free(text);
    if (status != OK)
        grams_close(grams);
    return status;
}
