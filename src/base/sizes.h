/* sizes.h -- sizes compared and divided.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SIZES_H
#define MAMBYTE_SIZES_H

#include <stddef.h>

static inline size_t size_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* a / b, rounded up; a + b fits. */
static inline size_t size_ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

#endif
