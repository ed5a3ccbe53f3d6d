/* lower_case.c -- letters in lower case, the same everywhere.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/lower_case.h"

#include <stddef.h>

/* Capital letters from first to last: each, or every second one, has its small
 * letter so many places later. */
struct capitals {
    uint16_t first, last;
    int16_t every, distance;
};

/* Rising. */
static const struct capitals capitals[] = {
    {'A', 'Z', 1, 32},      {0xc0, 0xd6, 1, 32},     {0xd8, 0xde, 1, 32},
    {0x100, 0x12e, 2, 1},   {0x130, 0x130, 1, -199}, {0x132, 0x136, 2, 1},
    {0x139, 0x147, 2, 1},   {0x14a, 0x176, 2, 1},    {0x178, 0x178, 1, -121},
    {0x179, 0x17d, 2, 1},   {0x18f, 0x18f, 1, 202},  {0x1a0, 0x1a4, 2, 1},
    {0x1af, 0x1af, 1, 1},   {0x1cd, 0x1db, 2, 1},    {0x1de, 0x1ee, 2, 1},
    {0x1f8, 0x21e, 2, 1},   {0x222, 0x232, 2, 1},    {0x386, 0x386, 1, 38},
    {0x388, 0x38a, 1, 37},  {0x38c, 0x38c, 1, 64},   {0x38e, 0x38f, 1, 63},
    {0x391, 0x3a1, 1, 32},  {0x3a3, 0x3ab, 1, 32},   {0x400, 0x40f, 1, 80},
    {0x410, 0x42f, 1, 32},  {0x460, 0x480, 2, 1},    {0x48a, 0x4be, 2, 1},
    {0x4c1, 0x4cd, 2, 1},   {0x4d0, 0x52e, 2, 1},    {0x531, 0x556, 1, 48},
    {0x1e00, 0x1e94, 2, 1}, {0x1ea0, 0x1efe, 2, 1},
};

uint32_t lower_case(uint32_t c)
{
    size_t n = sizeof capitals / sizeof capitals[0];
    for (size_t i = 0; i < n && c >= capitals[i].first; i++) {
        const struct capitals *range = &capitals[i];
        if (c <= range->last)
            return (c - range->first) % (uint32_t)range->every == 0
                       ? (uint32_t)((int32_t)c + range->distance)
                       : c;
    }
    return c;
}
