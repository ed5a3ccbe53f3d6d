/* json_text.c -- JSON as text, all or none.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/json_text.h"

#include <stdlib.h>

/* Into a buffer that is large enough nothing can get lost. */
char *json_text(const json_t *json, size_t flags)
{
    size_t n = json ? json_dumpb(json, NULL, 0, flags) : 0;
    char *text = n > 0 ? malloc(n + 1) : NULL;
    if (!text)
        return NULL;
    if (json_dumpb(json, text, n, flags) == n) {
        text[n] = '\0';
        return text;
    }
    free(text);
    return NULL;
}
