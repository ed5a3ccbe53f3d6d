/* large_pages.h -- memory in large pages, where the system has them.
 *
 * Memory that is read here and there waits for the table of its pages; large
 * pages need fewer.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LARGE_PAGES_H
#define MAMBYTE_LARGE_PAGES_H

#include <stddef.h>

/* Aligned for a carver, and to large pages from the size of one on: NULL when
 * there is no memory; to be freed by free(). */
void *large_pages_alloc(size_t n_bytes);

/* As calloc: NULL when there is no memory; to be freed by free(). */
void *large_pages_calloc(size_t n, size_t size);

#endif
