/* escape.c -- text from outside, made safe to show.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/escape.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum { FIRST_C1 = 0x80, LAST_C1 = 0x9f, C1_LEAD = 0xc2 };

/* C0, DEL, and C1 in UTF-8. */
static bool is_control(const uint8_t *character, size_t n)
{
    uint8_t c = character[0];
    return (n == 1 && (c < 0x20 || c == 0x7f)) ||
           (n == 2 && c == C1_LEAD && character[1] >= FIRST_C1 &&
            character[1] <= LAST_C1);
}

size_t escape_character(char shown[ESCAPED_CHARS], const void *text, size_t n)
{
    const uint8_t *bytes = text;
    int length = utf8_length(bytes, n);
    size_t part = length > 0 ? (size_t)length : 1;
    if (length > 0 && !is_control(bytes, part)) {
        memcpy(shown, bytes, part);
        shown[part] = '\0';
        return part;
    }
    for (size_t i = 0; i < part; i++)
        snprintf(shown + 4 * i, 5, "\\x%02X", bytes[i]);
    return part;
}

const char *escape_into(char *shown, size_t room, const char *text)
{
    char character[ESCAPED_CHARS];
    size_t n = strlen(text), used = 0;
    for (size_t i = 0; i < n;) {
        i += escape_character(character, text + i, n - i);
        size_t more = strlen(character);
        if (used + more >= room)
            break;
        memcpy(shown + used, character, more);
        used += more;
    }
    shown[used] = '\0';
    return shown;
}

static enum status write_escaped(struct sink *sink, const char *text,
                                 bool is_column)
{
    char shown[ESCAPED_CHARS];
    size_t n = strlen(text);
    for (size_t i = 0; i < n;) {
        bool is_backslash = text[i] == '\\';
        i += escape_character(shown, text + i, n - i);
        TRY(sink_text(sink, is_backslash && is_column ? "\\\\" : shown));
    }
    return OK;
}

enum status escape_text(struct sink *sink, const char *text)
{
    return write_escaped(sink, text, false);
}

enum status escape_column(struct sink *sink, const char *text)
{
    return write_escaped(sink, text, true);
}
