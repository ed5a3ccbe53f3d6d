/* escape.h -- text from outside, made safe to show.
 *
 * Names of files, keys, labels and sentences that quote them could control a
 * terminal, or break a line of columns in two.  Control characters (C0, DEL,
 * C1) and bytes that are not UTF-8 are shown as \xHH, a byte each; everything
 * else as it is.
 *
 * A column is for programs: there a backslash is shown as \\, so that the text
 * can be restored.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ESCAPE_H
#define MAMBYTE_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/byteio.h"

enum { ESCAPED_CHARS = 9 }; /* a character of 2 bytes, each \xHH, and a NUL */

/* Puts the first character of text[0..n), n > 0, into shown, as it is to be
 * seen.  Returns how many bytes of text that is. */
size_t escape_character(char shown[ESCAPED_CHARS], const void *text, size_t n);

/* All of text, as far as there is room, and a NUL.  Returns shown. */
const char *escape_into(char *shown, size_t room, const char *text);

/* For people: names in a line of their own, and metadata. */
enum status escape_text(struct sink *sink, const char *text);

/* For programs: a column, between tabs. */
enum status escape_column(struct sink *sink, const char *text);

#endif
