/* number.c -- numbers as users write them, and as text files have them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/number.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Digits that tell all floats apart. */
enum { FLOAT_DIGITS = 9 };

/* Factors of 1024: the letter, alone or followed by "iB". */
static bool parse_suffix(const char *text, uint64_t *factor)
{
    static const char letters[] = "KMGT";
    *factor = 1;
    if (*text == '\0')
        return true;
    const char *letter = strchr(letters, *text == 'k' ? 'K' : *text);
    if (!letter || (text[1] != '\0' && strcmp(text + 1, "iB") != 0))
        return false;
    *factor <<= 10 * (letter - letters + 1);
    return true;
}

/* Whether text is a number at all; and whether 64 bits hold its value. */
static bool parse(const char *text, uint64_t *value, bool *fits)
{
    char *end;
    uint64_t factor;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (!parse_suffix(end, &factor))
        return false;
    *fits = errno == 0 && v <= UINT64_MAX / factor;
    *value = v * factor;
    return true;
}

bool number_parse(const char *text, uint64_t *value)
{
    uint64_t v;
    bool fits;
    if (!parse(text, &v, &fits) || !fits)
        return false;
    *value = v;
    return true;
}

bool number_is_too_large(const char *text)
{
    uint64_t v;
    bool fits;
    return parse(text, &v, &fits) && !fits;
}

const char *number_parse_real(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    size_t n = (size_t)(end - text);
    return n > 0 && strspn(text, "0123456789.eE+-") >= n ? end : NULL;
}

const char *number_print(char text[32], float x)
{
    int digits = 0;
    do
        snprintf(text, 32, "%.*g", ++digits, (double)x);
    while (digits < FLOAT_DIGITS && (float)strtod(text, NULL) != x);
    return text;
}
