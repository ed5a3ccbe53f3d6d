/* task_color.c -- the text itself, coloured by surprisal, for a terminal.
 *
 * A character is coloured by the sum of the bits of its bytes.  Whatever
 * could control the terminal is escaped (escape.h), but newlines and tabs.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "base/escape.h"
#include "base/signals.h"
#include "base/utf8.h"
#include "cmd/task_io.h"
#include "engine/scorer.h"

struct painter {
    struct sink *out;
    int color;              /* of the terminal now; 0: its own */
    unsigned n_stops;       /* signals_count_stops() when it got it */
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

#define OWN_COLOR "\033[0m"

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
    unsigned n_stops = signals_count_stops();
    if (painter->color == color && painter->n_stops == n_stops)
        return OK;
    painter->color = color;
    painter->n_stops = n_stops;
    if (color == 0)
        return sink_text(painter->out, OWN_COLOR);
    return sink_format(painter->out, "\033[38;5;%dm", color);
}

/* Paints the first character that is held, and drops it. */
static enum status paint(struct painter *painter)
{
    float bits = 0;
    char shown[ESCAPED_CHARS];
    const uint8_t *held = painter->held;
    size_t n = escape_character(shown, held, painter->n_held);
    bool moves = held[0] == '\n' || held[0] == '\t';
    for (size_t i = 0; i < n; i++)
        bits += painter->bits[i];
    TRY(set_color(painter, color_of(bits)));
    TRY(moves ? sink_write(painter->out, held, 1)
              : sink_text(painter->out, shown));
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
        TRY(paint(painter));
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
        TRY(reader_feed_piece(reader, stream, n, reader->bits));
        for (size_t t = 0; t < n; t++) {
            painter->bits[painter->n_held] = reader->bits[t];
            painter->held[painter->n_held++] = reader->bytes[t];
            TRY(paint_held(painter, false));
        }
        TRY(sink_flush(painter->out));
    }
}

/* However it ends, and while it is stopped, the terminal has its own colour. */
enum status task_color(struct task *task)
{
    struct painter painter = {.out = task->out};
    signals_set_farewell(task->out->fd, OWN_COLOR);
    enum status status = task_each_file(task, paint_file, &painter);
    enum status reset = set_color(&painter, 0);
    if (reset == OK)
        reset = sink_flush(task->out);
    signals_set_farewell(-1, "");
    return status != OK ? status : reset;
}
