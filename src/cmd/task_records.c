/* task_records.c -- the records of files, read many together.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/task_records.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/task_io.h"

enum {
    OPEN_MAX = PIECE_BYTES, /* bytes of an open record that wait for its end */
    BATCH_BYTES = OPEN_MAX + PIECE_BYTES
};

/* The parts of records that are read together: those of a set of records. */
struct record_batch {
    uint8_t *bytes; /* [BATCH_BYTES] */
    size_t n_bytes;
    struct record_part *parts; /* [records->n], in bytes */
    int n, n_ended;            /* parts; those that end a record */
    struct record_text before; /* of the first record: from earlier batches */
};

struct record_stream {
    struct task *task;
    struct record_reader *reader;
    const struct record_use *use;
    int end; /* of a record; -1: that of the file */
    const char *file;
    uint64_t offset; /* of the next record that is shown, in the file */
    bool is_open;    /* item 0 has read the start of a record */
    bool has_aside;  /* records that were not shown yet */
    struct record_batch batches[RECORD_SETS];
};

/* ---- batches ------------------------------------------------------------ */

static enum status open_batch(struct record_batch *b, size_t n)
{
    b->bytes = malloc(BATCH_BYTES);
    b->parts = calloc(n, sizeof *b->parts);
    if (!b->bytes || !b->parts)
        return fail_memory("a record");
    return record_text_open(&b->before);
}

static void close_batch(struct record_batch *b)
{
    free(b->bytes);
    free(b->parts);
    record_text_close(&b->before);
}

static struct record_batch *next_batch(struct record_stream *s)
{
    return &s->batches[s->reader->records.next];
}

static void empty_batch(struct record_batch *b)
{
    b->n_bytes = 0;
    b->n = b->n_ended = 0;
}

/* Adds bytes to the next batch, up to the end of a record or all; returns how
 * many, that end included. */
static size_t add_part(struct record_stream *s, const uint8_t *bytes, size_t n)
{
    struct record_batch *b = next_batch(s);
    const uint8_t *end = s->end >= 0 ? memchr(bytes, s->end, n) : NULL;
    size_t length = end ? (size_t)(end - bytes) : n;
    if (b->n == b->n_ended)
        b->parts[b->n++] = (struct record_part){b->bytes + b->n_bytes, 0};
    memcpy(b->bytes + b->n_bytes, bytes, length);
    b->n_bytes += length;
    b->parts[b->n - 1].n += length;
    b->n_ended += end != NULL;
    return length + (end != NULL);
}

/* ---- showing ------------------------------------------------------------ */

/* Finds the text to show of record i of a batch. */
static void find_text(struct ended_record *ended, struct record_batch *b, int i)
{
    const struct record_part *part = &b->parts[i];
    ended->text = part->bytes;
    ended->n_text = part->n < RECORD_TEXT_MAX ? part->n : RECORD_TEXT_MAX;
    if (i == 0 && b->before.n > 0) {
        record_text_add(&b->before, part->bytes, part->n);
        ended->text = b->before.bytes;
        ended->n_text = b->before.n;
    }
}

static enum status show_aside(void *context)
{
    struct record_stream *s = context;
    const struct record_set *set = record_reader_aside(s->reader);
    struct record_batch *b = &s->batches[s->reader->records.aside];
    if (!s->has_aside)
        return OK;
    s->has_aside = false;
    TRY(s->use->prepare(s->use->context));
    for (int i = 0; i < set->n; i++) {
        struct ended_record ended = {.record = &set->items[i],
                                     .index = i,
                                     .file = s->file,
                                     .offset = s->offset};
        find_text(&ended, b, i);
        TRY(s->use->show(s->use->context, &ended));
        s->offset += ended.record->n_bytes + (s->end >= 0);
    }
    return sink_flush(s->task->out);
}

/* Shows all records that were started. */
static enum status show_all(struct record_stream *s)
{
    TRY(show_aside(s));
    TRY(records_finish(&s->reader->records));
    s->has_aside = true;
    return show_aside(s);
}

/* ---- reading ------------------------------------------------------------ */

/* Reads all of the next batch, and sets aside the records that ended. */
static enum status read_batch(struct record_stream *s)
{
    struct record_batch *b = next_batch(s);
    struct record_parts all = {b->parts, b->n, b->n_ended, s->is_open};
    TRY(record_reader_feed(s->reader, &all, show_aside, s));
    s->is_open = b->n_ended < b->n;
    if (b->n_ended > 0) {
        TRY(record_reader_set_aside(s->reader, b->n_ended, s->is_open));
        s->has_aside = true;
        next_batch(s)->before.n = 0;
    }
    if (s->is_open) {
        const struct record_part *open = &b->parts[b->n - 1];
        record_text_add(&next_batch(s)->before, open->bytes, open->n);
    }
    empty_batch(next_batch(s));
    return OK;
}

/* Starts the records of the next batch that have ended; an open one moves to
 * the batch after it. */
static enum status start_batch(struct record_stream *s)
{
    struct record_batch *b = next_batch(s);
    const struct record_part *open = &b->parts[b->n_ended];
    bool has_open = b->n_ended < b->n;
    struct record_parts ended = {b->parts, b->n_ended, b->n_ended, s->is_open};
    TRY(record_reader_start(s->reader, &ended, show_aside, s));
    TRY(records_turn(&s->reader->records));
    s->has_aside = true;
    s->is_open = false;
    next_batch(s)->before.n = 0;
    empty_batch(next_batch(s));
    if (has_open)
        add_part(s, open->bytes, open->n);
    return OK;
}

/* How many records a batch of the piece should have: all that bytes [n] hold,
 * or, where those are too many, equal parts of them. */
static int batch_size(const struct record_stream *s, const uint8_t *bytes,
                      size_t n)
{
    const uint8_t *end = bytes + n;
    size_t n_records = 1, most = (size_t)s->reader->records.n;
    while (s->end >= 0 &&
           (bytes = memchr(bytes, s->end, (size_t)(end - bytes))))
        n_records += ++bytes < end;
    size_t n_batches = (n_records + most - 1) / most;
    return (int)((n_records + n_batches - 1) / n_batches);
}

static bool is_asynchronous(const struct record_stream *s)
{
    return engine_is_asynchronous(s->task->engine);
}

static enum status take_batch(struct record_stream *s)
{
    return is_asynchronous(s) ? start_batch(s) : read_batch(s);
}

/* Reads what the piece leaves in the next batch, but not an open record that
 * is to wait for its end. */
static enum status take_rest(struct record_stream *s)
{
    const struct record_batch *b = next_batch(s);
    bool is_long = b->n > b->n_ended && b->parts[b->n_ended].n > OPEN_MAX;
    if (is_asynchronous(s) && is_long) {
        TRY(show_all(s));
        return read_batch(s);
    }
    bool reads_open = b->n > 0 && !is_asynchronous(s);
    return b->n_ended > 0 || reads_open ? take_batch(s) : OK;
}

static enum status read_piece(struct record_stream *s, struct reader *reader,
                              size_t n)
{
    const uint8_t *bytes = reader->bytes;
    int size = batch_size(s, bytes, n);
    pace_begin(&reader->pace);
    for (size_t i = 0; i < n;) {
        i += add_part(s, bytes + i, n - i);
        if (next_batch(s)->n_ended == size)
            TRY(take_batch(s));
    }
    TRY(take_rest(s));
    pace_end(&reader->pace, n);
    s->task->n_read += n;
    bool goes_on = is_asynchronous(s) && source_is_ready(&reader->source);
    return goes_on ? OK : show_all(s);
}

/* ---- files -------------------------------------------------------------- */

/* The last record need not have an end.  A whole file is a record, even
 * without a byte. */
static enum status end_file(struct record_stream *s)
{
    struct record_batch *b = next_batch(s);
    if (b->n == 0 && (s->is_open || s->end < 0))
        b->parts[b->n++] = (struct record_part){b->bytes, 0};
    b->n_ended = b->n;
    if (b->n > 0)
        TRY(take_batch(s));
    return show_all(s);
}

/* Of a file that cannot be read to its end, the records before the failure are
 * shown. */
static enum status give_up(struct record_stream *s, struct reader *reader,
                           enum status status)
{
    enum status shown = show_all(s);
    reader->has_failed &= shown == OK;
    return shown == OK ? status : shown;
}

static enum status read_file(void *context, struct reader *reader,
                             struct stream *stream)
{
    struct record_stream *s = context;
    (void)stream;
    s->file = reader->source.path;
    s->offset = 0;
    s->is_open = false;
    empty_batch(next_batch(s));
    next_batch(s)->before.n = 0;
    for (size_t n;;) {
        enum status status = reader_next(reader, &n);
        if (status != OK)
            return give_up(s, reader, status);
        if (n == 0)
            return end_file(s);
        TRY(read_piece(s, reader, n));
    }
}

enum status task_each_record(struct task *task, struct record_reader *reader,
                             const struct record_use *use)
{
    struct record_stream stream = {
        .task = task,
        .reader = reader,
        .use = use,
        .end = task->options->whole_files ? -1 : task_record_end(task),
    };
    enum status status = OK;
    for (int i = 0; i < RECORD_SETS && status == OK; i++)
        status = open_batch(&stream.batches[i], (size_t)reader->records.n);
    if (status == OK)
        status = task_each_file(task, read_file, &stream);
    engine_feed_finish(task->engine); /* it may still have a batch */
    for (int i = 0; i < RECORD_SETS; i++)
        close_batch(&stream.batches[i]);
    return status;
}
