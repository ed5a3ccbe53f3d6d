/* outlet.c -- writes what is generated.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/outlet.h"

#include <string.h>

void outlet_after(struct outlet *outlet, const uint8_t *bytes, size_t n)
{
    enum { TAIL_MAX = UTF8_MAX - 1 };
    uint8_t *held = outlet->held;
    size_t part = n < TAIL_MAX ? n : TAIL_MAX;
    memcpy(held + outlet->n_held, bytes + n - part, part);
    n = outlet->n_held + part;
    size_t tail = outlet->is_utf8 ? utf8_incomplete_tail(held, n) : 0;
    memmove(held, held + n - tail, tail);
    outlet->n_held = outlet->n_before = tail;
}

/* Writes the first n held bytes, or text in their place, and drops them. */
static enum status let_go(struct outlet *outlet, const char *text, size_t n)
{
    size_t before = n < outlet->n_before ? n : outlet->n_before;
    if (n > before) {
        if (text)
            TRY(sink_text(outlet->sink, text));
        else
            TRY(sink_write(outlet->sink, outlet->held + before, n - before));
    }
    outlet->n_before -= before;
    outlet->n_out += n - before;
    outlet->n_held -= n;
    memmove(outlet->held, outlet->held + n, outlet->n_held);
    return OK;
}

/* Writes the first n held bytes, as far as they are whole characters. */
static enum status let_go_characters(struct outlet *outlet, size_t n)
{
    while (n > 0) {
        int length = utf8_length(outlet->held, n);
        if (length == UTF8_INCOMPLETE)
            return OK;
        bool is_valid = length != UTF8_INVALID;
        size_t part = is_valid ? (size_t)length : 1;
        TRY(let_go(outlet, is_valid ? NULL : UTF8_REPLACEMENT, part));
        n -= part;
    }
    return OK;
}

static enum status release(struct outlet *outlet, size_t n)
{
    return outlet->is_utf8 ? let_go_characters(outlet, n)
                           : let_go(outlet, NULL, n);
}

static bool ends_with(const struct outlet *outlet, const char *text, size_t n)
{
    return n <= outlet->n_held - outlet->n_before &&
           memcmp(outlet->held + outlet->n_held - n, text, n) == 0;
}

/* The length of the longest stop string that ends here; 0 when none does. */
static size_t matched(const struct outlet *outlet)
{
    size_t longest = 0;
    for (int i = 0; i < outlet->n_stops; i++) {
        size_t n = strlen(outlet->stops[i]);
        if (n > longest && ends_with(outlet, outlet->stops[i], n))
            longest = n;
    }
    return longest;
}

/* How many of the last bytes may become a stop string. */
static size_t undecided(const struct outlet *outlet)
{
    size_t longest = 0;
    for (int i = 0; i < outlet->n_stops; i++) {
        for (size_t n = strlen(outlet->stops[i]) - 1; n > longest; n--) {
            if (ends_with(outlet, outlet->stops[i], n))
                longest = n;
        }
    }
    return longest;
}

enum status outlet_add(struct outlet *outlet, uint8_t byte)
{
    outlet->held[outlet->n_held++] = byte;
    size_t n_stop = matched(outlet);
    outlet->is_stopped = n_stop > 0;
    if (n_stop > 0)
        return release(outlet, outlet->n_held - n_stop);
    return release(outlet, outlet->n_held - undecided(outlet));
}

enum status outlet_finish(struct outlet *outlet)
{
    return outlet->is_stopped ? OK : release(outlet, outlet->n_held);
}
