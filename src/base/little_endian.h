/* little_endian.h -- numbers in files: the lowest byte first.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LITTLE_ENDIAN_H
#define MAMBYTE_LITTLE_ENDIAN_H

#include <stdint.h>

/* The lower n_bytes of x. */
static inline void store_le(uint8_t *p, uint64_t x, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        p[i] = (uint8_t)(x >> 8 * i);
}

static inline uint64_t load_le(const uint8_t *p, int n_bytes)
{
    uint64_t x = 0;
    for (int i = n_bytes - 1; i >= 0; i--)
        x = x << 8 | p[i];
    return x;
}

#endif
