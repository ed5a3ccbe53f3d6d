/* array.c -- arrays that grow by an item at a time.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/array.h"

#include <stdlib.h>

enum { FIRST_ROOM = 16 };

/* The product holds: no array takes more than half of what size_t counts. */
void *array_grow(void *items, size_t n, size_t *room, size_t size)
{
    if (n < *room)
        return items;
    size_t more = *room > 0 ? 2 * *room : FIRST_ROOM;
    void *grown = realloc(items, more * size);
    if (grown)
        *room = more;
    return grown;
}
