/* printable.h -- the start of a text from outside, in printable ASCII.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PRINTABLE_H
#define MAMBYTE_PRINTABLE_H

#include <stdbool.h>
#include <stddef.h>

enum { PRINTABLE_CHARS = 64 };

static inline bool is_printable(char c)
{
    return c >= ' ' && c <= '~';
}

/* The start of text: [n], with '?' for all that is not printable ASCII.
 * Returns shown. */
static inline const char *printable_start(char shown[PRINTABLE_CHARS],
                                          const char *text, size_t n)
{
    size_t i = 0;
    for (; i < PRINTABLE_CHARS - 1 && i < n; i++)
        shown[i] = is_printable(text[i]) ? text[i] : '?';
    shown[i] = '\0';
    return shown;
}

#endif
