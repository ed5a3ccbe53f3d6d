/* loader.c -- deals out windows of a dataset to the streams of training.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/loader.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/random.h"
#include "base/text.h"

enum { LEAST_HELD_OUT = 4096 };

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t held_out(uint64_t n, uint64_t most)
{
    uint64_t part = n / 100;
    if (part < LEAST_HELD_OUT)
        part = LEAST_HELD_OUT;
    return least(least(part, n / 10), most);
}

static enum status set_sizes(struct loader *l, uint64_t most_held_out)
{
    for (int i = 0; i < l->dataset->n; i++) {
        const struct data_source *s = &l->dataset->sources[i];
        l->n_bytes[i] = s->n_bytes - held_out(s->n_bytes, most_held_out);
        if (l->n_bytes[i] < (uint64_t)l->n_t + 1)
            return fail(E_IO,
                        "%s: has %" PRIu64 " byte%s to learn from, less than a "
                        "window of %d",
                        s->name, l->n_bytes[i], text_plural(l->n_bytes[i]),
                        l->n_t);
    }
    return OK;
}

/* When no source has a weight, they count by their size; else a source without
 * one counts as 1. */
static void set_shares(struct loader *l)
{
    const struct dataset *d = l->dataset;
    bool has_weights = false;
    double sum = 0;
    for (int i = 0; i < d->n; i++)
        has_weights = has_weights || d->sources[i].weight > 0;
    for (int i = 0; i < d->n; i++) {
        double weight = has_weights ? 1 : (double)l->n_bytes[i];
        if (d->sources[i].weight > 0)
            weight = d->sources[i].weight;
        sum += weight;
        l->shares[i] = sum;
    }
    for (int i = 0; i < d->n; i++)
        l->shares[i] /= sum;
}

enum status loader_open(struct loader *loader, const struct dataset *dataset,
                        const struct loader_options *options)
{
    size_t n = (size_t)dataset->n, n_windows = (size_t)options->n_windows;
    *loader = (struct loader){
        .dataset = dataset,
        .shares = calloc(n, sizeof *loader->shares),
        .n_bytes = calloc(n, sizeof *loader->n_bytes),
        .n_windows = options->n_windows,
        .n_t = options->n_t,
        .carry = options->carry,
        .begin_byte = options->begin_byte,
        .seed = options->seed,
        .bytes = calloc(n_windows, (size_t)options->n_t + 1),
        .begins = calloc(n_windows, sizeof *loader->begins),
    };
    enum status status = OK;
    if (!loader->shares || !loader->n_bytes || !loader->bytes ||
        !loader->begins)
        status = fail_memory("the windows");
    if (status == OK)
        status = set_sizes(loader, options->most_held_out);
    if (status != OK) {
        loader_close(loader);
        return status;
    }
    set_shares(loader);
    return OK;
}

void loader_close(struct loader *loader)
{
    free(loader->shares);
    free(loader->n_bytes);
    free(loader->bytes);
    free(loader->begins);
    *loader = (struct loader){.dataset = NULL};
}

/* ---- windows ------------------------------------------------------------ */

/* Where a stream reads. */
struct cursor {
    int source;
    uint64_t begin; /* of the passage, in the source */
    uint64_t index; /* of the window, in the passage */
};

static void draw(const struct loader *l, struct cursor *cursor, uint64_t number)
{
    uint64_t which = random_at(l->seed, 2 * number);
    uint64_t where = random_at(l->seed, 2 * number + 1);
    double share = (double)(which >> 11) * 0x1p-53;
    cursor->source = 0;
    while (cursor->source < l->dataset->n - 1 &&
           share >= l->shares[cursor->source])
        cursor->source++;
    cursor->begin = where % l->n_bytes[cursor->source];
}

/* Streams are staggered: the first passage of a stream is shorter by its
 * offset, so that they do not all draw at once. */
static struct cursor find_cursor(const struct loader *l, uint64_t step, int w)
{
    struct cursor cursor;
    uint64_t n = (uint64_t)l->n_windows;
    uint64_t offset = (uint64_t)w * l->carry / n;
    uint64_t at = step + offset, passage = at / l->carry;
    draw(l, &cursor, passage * n + (uint64_t)w);
    cursor.index = passage == 0 ? step : at % l->carry;
    return cursor;
}

/* n bytes from position on; the start follows the end. */
static void read_around(const struct loader *l, int source, uint64_t position,
                        uint8_t *bytes, size_t n)
{
    uint64_t size = l->n_bytes[source];
    while (n > 0) {
        position %= size;
        size_t part = (size_t)least(size - position, n);
        data_source_read(&l->dataset->sources[source], position, bytes, part);
        position += part;
        bytes += part;
        n -= part;
    }
}

/* Byte 0 of a passage is the begin byte, byte i is byte i - 1 of the data. */
static void read_window(const struct loader *l, const struct cursor *cursor,
                        uint8_t *bytes)
{
    size_t n = (size_t)l->n_t + 1;
    uint64_t first = cursor->index * (uint64_t)l->n_t;
    if (l->begin_byte >= 0 && first == 0) {
        *bytes++ = (uint8_t)l->begin_byte;
        n--;
        first++;
    }
    uint64_t shift = l->begin_byte >= 0;
    read_around(l, cursor->source, cursor->begin + first - shift, bytes, n);
}

struct windows loader_windows(struct loader *loader, uint64_t step)
{
    for (int w = 0; w < loader->n_windows; w++) {
        struct cursor cursor = find_cursor(loader, step, w);
        size_t row = (size_t)w * ((size_t)loader->n_t + 1);
        loader->begins[w] = cursor.index == 0;
        read_window(loader, &cursor, loader->bytes + row);
    }
    return (struct windows){loader->n_windows, loader->n_t, loader->bytes,
                            loader->begins};
}
