/* task_color.c -- the text itself, coloured by surprisal, for a terminal.
 *
 * A character is coloured by the sum of the bits of its bytes.  Whatever
 * could command the terminal is shown as \xHH: control characters other than
 * newline and tab, and bytes that are not UTF-8.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "base/utf8.h"
#include "cmd/task_io.h"
#include "engine/scorer.h"

struct painter {
    struct sink *out;
    int color;              /* of the terminal now; 0: its own */
    uint8_t held[UTF8_MAX]; /* [n_held], a character that is not complete */
    float bits[UTF8_MAX];   /* of each */
    size_t n_held;
};

/* From expected to surprising: grey, blue, green, yellow, orange, red, of
 * the 256 colours, readable on dark and on light. */
static const struct {
    float bits; /* below which */
    int color;
} colors[] = {
    {0.5f, 245}, {1, 67},  {2, 72},  {3, 71},
    {4, 106},    {6, 178}, {8, 172}, {12, 202},
};
enum { COLOR_MOST = 196 };

static int color_of(float bits)
{
    for (size_t i = 0; i < sizeof colors / sizeof colors[0]; i++) {
        if (bits < colors[i].bits)
            return colors[i].color;
    }
    return COLOR_MOST;
}

static enum status set_color(struct painter *painter, int color)
{
    if (painter->color == color)
        return OK;
    painter->color = color;
    if (color == 0)
        return sink_text(painter->out, "\033[0m");
    return sink_format(painter->out, "\033[38;5;%dm", color);
}

/* C0 without newline and tab, DEL, and C1 in UTF-8. */
static bool is_control(const uint8_t *character, size_t n)
{
    uint8_t c = character[0];
    return (n == 1 && (c < 0x20 || c == 0x7f) && c != '\n' && c != '\t') ||
           (n == 2 && c == 0xc2 && character[1] < 0xa0);
}

/* Paints the first n held bytes and drops them. */
static enum status paint(struct painter *painter, size_t n, bool is_safe)
{
    float bits = 0;
    for (size_t i = 0; i < n; i++)
        bits += painter->bits[i];
    TRY(set_color(painter, color_of(bits)));
    if (is_safe)
        TRY(sink_write(painter->out, painter->held, n));
    for (size_t i = 0; !is_safe && i < n; i++)
        TRY(sink_format(painter->out, "\\x%02X", painter->held[i]));
    painter->n_held -= n;
    memmove(painter->held, painter->held + n, painter->n_held);
    memmove(painter->bits, painter->bits + n,
            painter->n_held * sizeof *painter->bits);
    return OK;
}

/* Paints the characters that are held, and at the end also half of one. */
static enum status paint_held(struct painter *painter, bool is_end)
{
    while (painter->n_held > 0) {
        int length = utf8_length(painter->held, painter->n_held);
        if (length == UTF8_INCOMPLETE && !is_end)
            return OK;
        size_t n = length > 0 ? (size_t)length : 1;
        bool is_safe = length > 0 && !is_control(painter->held, n);
        TRY(paint(painter, n, is_safe));
    }
    return OK;
}

static enum status paint_file(void *context, struct reader *reader,
                              struct stream *stream)
{
    struct painter *painter = context;
    for (size_t n;;) {
        TRY(reader_next(reader, &n));
        if (n == 0)
            return paint_held(painter, true);
        TRY(reader_feed_piece(reader, stream, n));
        for (size_t t = 0; t < n; t++) {
            painter->bits[painter->n_held] = reader->bits[t];
            painter->held[painter->n_held++] = reader->bytes[t];
            TRY(paint_held(painter, false));
        }
        TRY(sink_flush(painter->out));
    }
}

/* However it ends, the terminal gets its own colour back. */
enum status task_color(struct task *task)
{
    struct painter painter = {.out = task->out};
    enum status status = task_each_file(task, paint_file, &painter);
    enum status reset = set_color(&painter, 0);
    if (reset == OK)
        reset = sink_flush(task->out);
    return status != OK ? status : reset;
}
