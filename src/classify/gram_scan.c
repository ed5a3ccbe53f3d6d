/* gram_scan.c -- which words, shapes and sequences of characters a record has.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_scan.h"

#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"
#include "classify/lower_case.h"

/* FNV-1a, and the finish of splitmix64: the upper bits are well mixed. */
#define BASIS  GRAM_SEQUENCE_START
#define PRIME  0x00000100000001b3u
#define FINISH 0xbf58476d1ce4e5b9u
#define KIND   0x9e3779b97f4a7c15u

#define NO_CHARACTER 0x110000u /* plus a byte that is not of UTF-8 */

/* Tokens, after the bytes that are one. */
enum { NUMBER = 0x100, SNAKE, SNAKE_CAPITALS, SMALL, CAPITALS, TITLE, CAMEL };

/* Keys are the upper bits of hashes. */
enum {
    SEQUENCE_SHIFT = 64 - (GRAM_KEY_BITS - 1),
    WORD_SHIFT = 64 - GRAM_WORD_BITS
};

/* The looks of bytes in words. */
enum { IS_SMALL = 1, IS_CAPITAL = 2, IS_DIGIT = 4, IS_UNDERSCORE = 8 };

static uint64_t extend(uint64_t hash, uint32_t x)
{
    return (hash ^ ((uint64_t)x + 1)) * PRIME;
}

static uint64_t key_of(uint64_t hash, int kind)
{
    hash += (uint64_t)kind * KIND;
    hash = (hash ^ hash >> 30) * FINISH;
    hash ^= hash >> 27;
    hash *= KIND;
    return kind >= GRAM_WORD ? gram_word_key((uint32_t)(hash >> WORD_SHIFT))
                             : hash >> SEQUENCE_SHIFT;
}

static bool is_space(uint32_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

uint64_t gram_sequence_extend(uint64_t hash, uint32_t c)
{
    return extend(hash, c);
}

uint64_t gram_sequence_key(uint64_t hash, int length)
{
    return key_of(hash, length);
}

/* Tells of a gram. */
static void tell(gram_found *found, void *context, uint64_t hash, int kind)
{
    found(context, key_of(hash, kind), kind);
}

static void extend_run(struct gram_run *run, uint32_t x, bool is_marked)
{
    run->last = x;
    run->marks = run->marks << 1 | is_marked;
    run->n += run->n < GRAM_CHARACTERS;
    for (int k = run->n; k > 0; k--)
        run->ends[k] = extend(run->ends[k - 1], x);
}

/* ---- sequences ---------------------------------------------------------- */

void gram_scan_begin(struct gram_scan *scan)
{
    struct gram_run run = {
        .ends = {BASIS, extend(BASIS, ' ')}, .n = 1, .last = ' '};
    *scan = (struct gram_scan){.characters = run, .tokens = run};
    scan->characters.marks = 1;
}

/* Whether the last n characters, of which spaces are marked, are a gram. */
static bool is_gram(const struct gram_run *characters, int n)
{
    if (n == 1)
        return characters->last != ' ';
    unsigned inside = (1u << (n - 1)) - 2; /* without the last and the first */
    return n <= GRAM_ACROSS || (characters->marks & inside) == 0;
}

static void read_character(struct gram_scan *s, uint32_t c, gram_found *found,
                           void *context)
{
    struct gram_run *run = &s->characters;
    c = is_space(c) ? ' ' : lower_case(c);
    if (c == ' ' && run->last == ' ')
        return;
    extend_run(run, c, c == ' ');
    for (int k = run->n; k > 0; k--) {
        if (is_gram(run, k))
            tell(found, context, run->ends[k], k);
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

/* ---- words and shapes --------------------------------------------------- */

/* The look of a byte; 0: it is of no word. */
static unsigned look_of(uint8_t byte)
{
    if ((byte >= 'a' && byte <= 'z') || byte >= 0x80)
        return IS_SMALL;
    if (byte >= 'A' && byte <= 'Z')
        return IS_CAPITAL;
    if (byte >= '0' && byte <= '9')
        return IS_DIGIT;
    return byte == '_' ? IS_UNDERSCORE : 0;
}

/* first: the look of the first byte of a word; all: those of all its bytes. */
static uint32_t token_of(unsigned first, unsigned all)
{
    if (first == IS_DIGIT)
        return NUMBER;
    if (all & IS_UNDERSCORE)
        return all & IS_SMALL ? SNAKE : SNAKE_CAPITALS;
    if (!(all & IS_CAPITAL))
        return SMALL;
    if (!(all & IS_SMALL))
        return CAPITALS;
    return first == IS_CAPITAL ? TITLE : CAMEL;
}

static void add_token(struct gram_scan *s, uint32_t token, gram_found *found,
                      void *context)
{
    struct gram_run *run = &s->tokens;
    extend_run(run, token, token != ' ' && token < NUMBER);
    for (int k = run->n; k >= GRAM_TOKENS_MIN; k--) {
        if (run->marks & ((1u << k) - 1))
            tell(found, context, run->ends[k], GRAM_SHAPE);
    }
}

static void add_word(struct gram_scan *s, uint64_t word, uint32_t token,
                     gram_found *found, void *context)
{
    tell(found, context, word, GRAM_WORD);
    if (s->before)
        tell(found, context, s->before * FINISH + word, GRAM_PAIR);
    s->before = word;
    add_token(s, token, found, context);
}

static void end_word(struct gram_scan *s, gram_found *found, void *context)
{
    if (s->all)
        add_word(s, s->word, token_of(s->first, s->all), found, context);
    s->all = 0;
}

static void read_word(struct gram_scan *s, uint8_t byte, gram_found *found,
                      void *context)
{
    unsigned look = look_of(byte);
    if (look) {
        s->word = extend(s->all ? s->word : BASIS, byte);
        s->first = s->all ? s->first : look;
        s->all |= look;
        return;
    }
    end_word(s, found, context);
    if (!is_space(byte))
        add_word(s, extend(BASIS, byte), byte, found, context);
    else if (s->tokens.last != ' ')
        add_token(s, ' ', found, context);
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
    read_word(scan, ' ', found, context);
}
