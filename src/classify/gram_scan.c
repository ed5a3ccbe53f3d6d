/* gram_scan.c -- which words and short sequences of characters a record has.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_scan.h"

#include <string.h>

#include "base/utf8.h"
#include "classify/lower_case.h"

/* FNV-1a, and the finish of splitmix64: the upper bits are well mixed. */
#define BASIS  0xcbf29ce484222325u
#define PRIME  0x00000100000001b3u
#define FINISH 0xbf58476d1ce4e5b9u
#define KIND   0x9e3779b97f4a7c15u

#define NO_CHARACTER 0x110000u /* plus a byte that is not of UTF-8 */

enum { WORD = GRAM_CHARACTERS + 1, PAIR }; /* kinds, after the lengths */

static uint64_t extend(uint64_t hash, uint32_t x)
{
    return (hash ^ ((uint64_t)x + 1)) * PRIME;
}

static uint32_t key_of(uint64_t hash, int kind)
{
    hash += (uint64_t)kind * KIND;
    hash = (hash ^ hash >> 30) * FINISH;
    hash ^= hash >> 27;
    hash *= KIND;
    uint32_t half = (uint32_t)(hash >> 37);
    return kind >= WORD ? half + GRAM_FIRST_WORD : half;
}

static bool is_space(uint32_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* ---- sequences ---------------------------------------------------------- */

void gram_scan_begin(struct gram_scan *scan)
{
    *scan = (struct gram_scan){
        .ends = {BASIS, extend(BASIS, ' ')}, .n_ends = 1, .spaces = 1};
}

/* Whether the last n characters are a gram. */
static bool is_gram(const struct gram_scan *s, int n)
{
    if (n == 1)
        return (s->spaces & 1) == 0;
    unsigned inside = (1u << (n - 1)) - 2; /* without the last and the first */
    return n <= GRAM_ACROSS || (s->spaces & inside) == 0;
}

static void read_character(struct gram_scan *s, uint32_t c, gram_found *found,
                           void *context)
{
    c = is_space(c) ? ' ' : lower_case(c);
    if (c == ' ' && (s->spaces & 1))
        return;
    s->spaces = s->spaces << 1 | (c == ' ');
    s->n_ends += s->n_ends < GRAM_CHARACTERS;
    for (int k = s->n_ends; k > 0; k--) {
        s->ends[k] = extend(s->ends[k - 1], c);
        if (is_gram(s, k))
            found(context, key_of(s->ends[k], k));
    }
}

/* The character in n bytes of UTF-8. */
static uint32_t decode(const uint8_t *bytes, int n)
{
    uint32_t c = n == 1 ? bytes[0] : bytes[0] & (0x7fu >> n);
    for (int i = 1; i < n; i++)
        c = c << 6 | (bytes[i] & 0x3fu);
    return c;
}

/* Reads pending bytes; those that may start a character stay, unless the record
 * is at its end. */
static void read_pending(struct gram_scan *s, bool is_end, gram_found *found,
                         void *context)
{
    while (s->n_pending > 0) {
        int n = utf8_length(s->pending, s->n_pending);
        if (n == UTF8_INCOMPLETE && !is_end)
            return;
        read_character(
            s, n > 0 ? decode(s->pending, n) : NO_CHARACTER + s->pending[0],
            found, context);
        size_t n_read = n > 0 ? (size_t)n : 1;
        s->n_pending -= n_read;
        memmove(s->pending, s->pending + n_read, s->n_pending);
    }
}

/* ---- words -------------------------------------------------------------- */

static bool is_of_word(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '_' || byte >= 0x80;
}

static void add_word(struct gram_scan *s, uint64_t word, gram_found *found,
                     void *context)
{
    found(context, key_of(word, WORD));
    if (s->before)
        found(context, key_of(s->before * FINISH + word, PAIR));
    s->before = word;
}

static void end_word(struct gram_scan *s, gram_found *found, void *context)
{
    if (s->is_in_word)
        add_word(s, s->word, found, context);
    s->is_in_word = false;
}

static void read_word(struct gram_scan *s, uint8_t byte, gram_found *found,
                      void *context)
{
    if (is_of_word(byte)) {
        s->word = extend(s->is_in_word ? s->word : BASIS, byte);
        s->is_in_word = true;
        return;
    }
    end_word(s, found, context);
    if (!is_space(byte))
        add_word(s, extend(BASIS, byte), found, context);
}

/* ---- both --------------------------------------------------------------- */

void gram_scan_feed(struct gram_scan *scan, const uint8_t *bytes, size_t n,
                    gram_found *found, void *context)
{
    struct gram_scan *s = scan;
    for (size_t i = 0; i < n; i++) {
        s->pending[s->n_pending++] = bytes[i];
        read_pending(s, false, found, context);
        read_word(s, bytes[i], found, context);
    }
}

void gram_scan_end(struct gram_scan *scan, gram_found *found, void *context)
{
    read_pending(scan, true, found, context);
    read_character(scan, ' ', found, context);
    end_word(scan, found, context);
}
