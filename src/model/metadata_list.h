/* metadata_list.h -- the metadata of a file that is being made, key by key.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_METADATA_LIST_H
#define MAMBYTE_METADATA_LIST_H

#include <stddef.h>

#include "model/safetensors.h"

enum { METADATA_LIST_MAX = 16, METADATA_TEXT_CHARS = 80 };

/* Start with all zero.  A list must not move: items point into it. */
struct metadata_list {
    struct metadata items[METADATA_LIST_MAX]; /* [n] */
    char texts[METADATA_LIST_MAX][METADATA_TEXT_CHARS];
    size_t n;
};

/* key and value must stay.  value NULL adds nothing. */
void metadata_list_add(struct metadata_list *list, const char *key,
                       const char *value);

/* Adds what printf would print, in less than METADATA_TEXT_CHARS characters. */
void metadata_list_print(struct metadata_list *list, const char *key,
                         const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
