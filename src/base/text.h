/* text.h -- how a text starts and ends.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TEXT_H
#define MAMBYTE_TEXT_H

#include <stdbool.h>
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

#endif
