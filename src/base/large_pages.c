/* large_pages.c -- memory in large pages, where the system has them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/large_pages.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/carver.h"

enum { LARGE_PAGE = 2 << 20 };

void *large_pages_alloc(size_t n_bytes)
{
    size_t unit = n_bytes >= LARGE_PAGE ? LARGE_PAGE : CARVER_ALIGNMENT;
    void *memory = aligned_alloc(unit, (n_bytes + unit - 1) / unit * unit);
    if (memory && unit == LARGE_PAGE)
        madvise(memory, n_bytes, MADV_HUGEPAGE); /* or its pages stay small */
    return memory;
}

void *large_pages_calloc(size_t n, size_t size)
{
    char *memory = calloc(n, size);
    if (!memory || n * size < 2 * (size_t)LARGE_PAGE)
        return memory;
    size_t before = -(uintptr_t)memory % LARGE_PAGE;
    size_t whole = (n * size - before) / LARGE_PAGE * LARGE_PAGE;
    madvise(memory + before, whole, MADV_HUGEPAGE); /* or pages stay small */
    return memory;
}
