/* text.h -- how a text starts and ends, whether it is blank, and plurals.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TEXT_H
#define MAMBYTE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool text_starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* The end of text that is tail; NULL when text ends in another way. */
static inline const char *text_find_tail(const char *text, const char *tail)
{
    size_t n = strlen(text), n_tail = strlen(tail);
    const char *end = text + n - (n_tail < n ? n_tail : n);
    return strcmp(end, tail) == 0 ? end : NULL;
}

/* The ending of a noun in a sentence: 1 byte, 2 bytes. */
static inline const char *text_plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* Whether bytes, [n], are a blank record: only spaces, tabs and ends of lines,
 * or nothing at all. */
static inline bool text_is_blank(const uint8_t *bytes, size_t n)
{
    size_t i = 0;
    while (i < n && (bytes[i] == ' ' || bytes[i] == '\t' || bytes[i] == '\n' ||
                     bytes[i] == '\r'))
        i++;
    return i == n;
}

#endif
