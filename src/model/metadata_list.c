/* metadata_list.c -- the metadata of a file that is being made, key by key.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/metadata_list.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

void metadata_list_add(struct metadata_list *list, const char *key,
                       const char *value)
{
    if (!value)
        return;
    assert(list->n < METADATA_LIST_MAX);
    list->items[list->n++] = (struct metadata){key, value};
}

void metadata_list_print(struct metadata_list *list, const char *key,
                         const char *format, ...)
{
    assert(list->n < METADATA_LIST_MAX);
    char *text = list->texts[list->n];
    va_list args;
    va_start(args, format);
    vsnprintf(text, METADATA_TEXT_CHARS, format, args);
    va_end(args);
    metadata_list_add(list, key, text);
}
