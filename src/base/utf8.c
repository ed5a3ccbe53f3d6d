/* utf8.c -- finds characters in bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/utf8.h"

#include <string.h>

/* RFC 3629, section 4: by its first byte, the length of a character and the
 * range of its second byte; the others are 80 to BF. */
static const struct {
    uint8_t first, last, length, low, high;
} forms[] = {
    {0x00, 0x7f, 1, 0, 0},       {0xc2, 0xdf, 2, 0x80, 0xbf},
    {0xe0, 0xe0, 3, 0xa0, 0xbf}, {0xe1, 0xec, 3, 0x80, 0xbf},
    {0xed, 0xed, 3, 0x80, 0x9f}, {0xee, 0xef, 3, 0x80, 0xbf},
    {0xf0, 0xf0, 4, 0x90, 0xbf}, {0xf1, 0xf3, 4, 0x80, 0xbf},
    {0xf4, 0xf4, 4, 0x80, 0x8f},
};

int utf8_length(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (bytes[0] < forms[i].first || bytes[0] > forms[i].last)
            continue;
        int length = forms[i].length;
        for (int k = 1; k < length; k++) {
            uint8_t low = k == 1 ? forms[i].low : 0x80;
            uint8_t high = k == 1 ? forms[i].high : 0xbf;
            if ((size_t)k == n)
                return UTF8_INCOMPLETE;
            if (bytes[k] < low || bytes[k] > high)
                return UTF8_INVALID;
        }
        return length;
    }
    return UTF8_INVALID;
}

size_t utf8_incomplete_tail(const uint8_t *bytes, size_t n)
{
    for (size_t tail = 1; tail < UTF8_MAX && tail <= n; tail++) {
        if (utf8_length(bytes + n - tail, tail) == UTF8_INCOMPLETE)
            return tail;
    }
    return 0;
}

size_t utf8_mark_length(const uint8_t *bytes, size_t n)
{
    static const uint8_t mark[] = {0xef, 0xbb, 0xbf};
    return n >= sizeof mark && memcmp(bytes, mark, sizeof mark) == 0
               ? sizeof mark
               : 0;
}
