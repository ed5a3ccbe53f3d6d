/* json.c -- writes JSON Lines: one object on each line, its keys in the order
 * given.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/utf8.h"

enum status json_begin(struct sink *sink)
{
    return sink_text(sink, "{");
}

static enum status write_escaped(struct sink *sink, uint8_t byte)
{
    switch (byte) {
    case '"':
        return sink_text(sink, "\\\"");
    case '\\':
        return sink_text(sink, "\\\\");
    case '\n':
        return sink_text(sink, "\\n");
    case '\r':
        return sink_text(sink, "\\r");
    case '\t':
        return sink_text(sink, "\\t");
    }
    if (byte < 0x20 || byte == 0x7f)
        return sink_format(sink, "\\u%04x", byte);
    return sink_write(sink, &byte, 1);
}

static enum status write_string(struct sink *sink, const uint8_t *b, size_t n)
{
    TRY(sink_text(sink, "\""));
    for (size_t i = 0; i < n;) {
        int length = utf8_length(b + i, n - i);
        if (length == 1)
            TRY(write_escaped(sink, b[i]));
        else if (length == 2 && b[i] == 0xc2 && b[i + 1] < 0xa0)
            TRY(sink_format(sink, "\\u%04x", b[i + 1])); /* C1 */
        else if (length > 1)
            TRY(sink_write(sink, b + i, (size_t)length));
        else
            TRY(sink_text(sink, UTF8_REPLACEMENT));
        i += length > 1 ? (size_t)length : 1;
    }
    return sink_text(sink, "\"");
}

/* A comma stands before every key but the first. */
static enum status write_key(struct sink *sink, const char *key)
{
    bool is_first = sink->n > 0 && sink->bytes[sink->n - 1] == '{';
    TRY(sink_text(sink, is_first ? "" : ","));
    TRY(write_string(sink, (const uint8_t *)key, strlen(key)));
    return sink_text(sink, ":");
}

enum status json_put_string(struct sink *sink, const char *key,
                            const void *bytes, size_t n)
{
    TRY(write_key(sink, key));
    return write_string(sink, bytes, n);
}

enum status json_put_integer(struct sink *sink, const char *key, uint64_t value)
{
    TRY(write_key(sink, key));
    return sink_format(sink, "%" PRIu64, value);
}

enum status json_put_number(struct sink *sink, const char *key, double value)
{
    TRY(write_key(sink, key));
    if (!isfinite(value))
        return sink_text(sink, "null");
    return sink_number(sink, value);
}

enum status json_put_float(struct sink *sink, const char *key, float value)
{
    TRY(write_key(sink, key));
    if (!isfinite(value))
        return sink_text(sink, "null");
    return sink_format(sink, "%.7g", (double)value);
}

enum status json_end(struct sink *sink)
{
    return sink_text(sink, "}\n");
}

enum status json_open(struct sink *sink, const char *key)
{
    TRY(write_key(sink, key));
    return sink_text(sink, "{");
}

enum status json_close(struct sink *sink)
{
    return sink_text(sink, "}");
}
