/* number.c -- whole numbers as users write them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/number.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

bool number_parse(const char *text, uint64_t *value)
{
    char *end;
    uint64_t factor;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0 || !parse_suffix(end, &factor) || v > UINT64_MAX / factor)
        return false;
    *value = v * factor;
    return true;
}
