/* scorer.c -- sums of bits, and what is reported of them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/scorer.h"

#include <math.h>
#include <string.h>

void tally_add(struct tally *tally, const float *bits, size_t n)
{
    for (size_t t = 0; t < n; t++)
        tally->bits += (double)bits[t];
    tally->n_bytes += n;
}

void tally_join(struct tally *tally, const struct tally *other)
{
    tally->bits += other->bits;
    tally->n_bytes += other->n_bytes;
}

double tally_bits_per_byte(const struct tally *tally)
{
    return tally->n_bytes > 0 ? tally->bits / (double)tally->n_bytes : 0;
}

/* 2^x = 2^i e^(f ln 2) with |f| <= 1/2, the exponential by its series: the
 * terms beyond the 18th are below 2^-60. */
double score_exp2(double x)
{
    if (!(x < 1024))
        return INFINITY;
    int i = (int)(x + 0.5);
    double y = (x - i) * 0x1.62e42fefa39efp-1;
    double sum = 1;
    for (int k = 18; k >= 1; k--)
        sum = 1 + y * sum / k;
    return ldexp(sum, i);
}

/* ---- words -------------------------------------------------------------- */

/* The white space of Unicode beyond ASCII, in UTF-8: first bytes, then the
 * range of the last one. */
static const struct {
    uint8_t n, lead[2], first, last;
} spaces[] = {
    {2, {0xc2}, 0x85, 0x85},       /* U+0085 */
    {2, {0xc2}, 0xa0, 0xa0},       /* U+00A0 */
    {3, {0xe1, 0x9a}, 0x80, 0x80}, /* U+1680 */
    {3, {0xe2, 0x80}, 0x80, 0x8a}, /* U+2000 to U+200A */
    {3, {0xe2, 0x80}, 0xa8, 0xa9}, /* U+2028, U+2029 */
    {3, {0xe2, 0x80}, 0xaf, 0xaf}, /* U+202F */
    {3, {0xe2, 0x81}, 0x9f, 0x9f}, /* U+205F */
    {3, {0xe3, 0x80}, 0x80, 0x80}, /* U+3000 */
};

enum space { NO_SPACE, PART_OF_SPACE, SPACE };

static enum space find_space(const uint8_t *held, int n_held, uint8_t byte)
{
    enum space best = NO_SPACE;
    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++) {
        int n_lead = spaces[i].n - 1;
        if (memcmp(held, spaces[i].lead, (size_t)n_held) != 0)
            continue;
        if (n_held < n_lead && byte == spaces[i].lead[n_held])
            best = PART_OF_SPACE;
        if (n_held == n_lead && byte >= spaces[i].first &&
            byte <= spaces[i].last)
            return SPACE;
    }
    return best;
}

static void end_word(struct words *words)
{
    words->n_done += words->is_inside;
    words->is_inside = false;
}

static bool is_ascii_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r') ||
           (byte >= 0x1c && byte <= 0x1f);
}

static void add_byte(struct words *words, uint8_t byte)
{
    enum space space = find_space(words->held, words->n_held, byte);
    if (space == NO_SPACE && words->n_held > 0) {
        words->n_held = 0;
        words->is_inside = true;
        space = find_space(words->held, 0, byte);
    }
    if (space == PART_OF_SPACE) {
        words->held[words->n_held++] = byte;
        return;
    }
    words->n_held = 0;
    if (space == SPACE || is_ascii_space(byte))
        end_word(words);
    else
        words->is_inside = true;
}

void words_add(struct words *words, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add_byte(words, bytes[i]);
}

uint64_t words_count(const struct words *words)
{
    return words->n_done + (words->is_inside || words->n_held > 0);
}
