/* utf8.h -- finds characters in bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_UTF8_H
#define MAMBYTE_UTF8_H

#include <stddef.h>
#include <stdint.h>

enum { UTF8_MAX = 4, UTF8_INVALID = 0, UTF8_INCOMPLETE = -1 };

/* The length (1 to 4) of the character at bytes, of which there are n > 0;
 * UTF8_INVALID when none starts here (RFC 3629: no overlong forms, no
 * surrogates, nothing beyond U+10FFFF); UTF8_INCOMPLETE when all n bytes are
 * the start of one. */
int utf8_length(const uint8_t *bytes, size_t n);

/* How many bytes at the end of n (0 to 3) start a character that is not yet
 * complete. */
size_t utf8_incomplete_tail(const uint8_t *bytes, size_t n);

/* The bytes of a byte-order mark, if one starts bytes [n]; else 0. */
size_t utf8_mark_length(const uint8_t *bytes, size_t n);

/* U+FFFD */
#define UTF8_REPLACEMENT "\xef\xbf\xbd"

#endif
