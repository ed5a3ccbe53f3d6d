/* array.h -- arrays that grow by an item at a time.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ARRAY_H
#define MAMBYTE_ARRAY_H

#include <stddef.h>

/* Makes room for one more of the n items, each of size bytes: an array that is
 * full, of *room items, becomes twice as large.  Returns the array, which takes
 * the place of items.  NULL when there is no memory: then items and *room are
 * as they were. */
void *array_grow(void *items, size_t n, size_t *room, size_t size);

#endif
