/* task_score.c -- a line for each record, as soon as the record ends.
 *
 * When context is carried, the engine reads a piece of input as one segment,
 * which is cut into records afterwards.  When context is reset, every record is
 * a stream of its own: the engine reads the records of a piece together, a
 * segment each, and a record that the piece leaves open goes on in the next.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/json.h"
#include "cmd/task_io.h"
#include "engine/scorer.h"

enum {
    STREAMS_MAX = 64 /* records that are read together */
};

struct scores {
    struct task *task;
    uint8_t end; /* of a record */
    const char *file;
    uint64_t offset;    /* of the record in the file */
    struct tally tally; /* of the record so far */
    struct record_text text;

    struct state **states; /* [n_states], when the context is reset */
    size_t n_states;
    bool is_open; /* states[0] has read the start of a record */
};

/* ---- records ------------------------------------------------------------ */

static enum status print_columns(const struct scores *s)
{
    struct sink *out = s->task->out;
    TRY(task_put_file(s->task, s->file));
    TRY(sink_format(out, "%.6f\t%" PRIu64 "\t%.6f\t", s->tally.bits,
                    s->tally.n_bytes, tally_bits_per_byte(&s->tally)));
    TRY(sink_write(out, s->text.bytes, s->text.n));
    return task_end_record(s->task);
}

static enum status print_json(const struct scores *s)
{
    struct sink *out = s->task->out;
    TRY(json_begin(out));
    TRY(json_put_string(out, "file", s->file, strlen(s->file)));
    TRY(json_put_integer(out, "offset", s->offset));
    TRY(json_put_integer(out, "bytes", s->tally.n_bytes));
    TRY(json_put_number(out, "bits", s->tally.bits));
    TRY(json_put_number(out, "bits_per_byte", tally_bits_per_byte(&s->tally)));
    TRY(json_put_string(out, "record", s->text.bytes, s->text.n));
    return json_end(out);
}

static enum status end_record(struct scores *s)
{
    if (s->tally.bits >= s->task->options->threshold) {
        TRY(s->task->options->json ? print_json(s) : print_columns(s));
        TRY(sink_flush(s->task->out));
    }
    s->offset += s->tally.n_bytes;
    s->tally = (struct tally){0};
    s->text.n = 0;
    return OK;
}

/* Adds n bytes, of which only the last may be the end of the record. */
static enum status add_to_record(struct scores *s, const uint8_t *bytes,
                                 const float *bits, size_t n)
{
    bool is_ended = bytes[n - 1] == s->end;
    record_text_add(&s->text, bytes, n - is_ended);
    tally_add(&s->tally, bits, n);
    return is_ended ? end_record(s) : OK;
}

/* The length of the record that starts at bytes, its end included; n at most.
 */
static size_t record_part(const struct scores *s, const uint8_t *bytes,
                          size_t n)
{
    const uint8_t *end = memchr(bytes, s->end, n);
    return end ? (size_t)(end - bytes) + 1 : n;
}

static enum status add_piece(struct scores *s, const struct reader *reader,
                             size_t n)
{
    for (size_t i = 0, part; i < n; i += part) {
        part = record_part(s, reader->bytes + i, n - i);
        TRY(add_to_record(s, reader->bytes + i, reader->bits + i, part));
    }
    return OK;
}

/* ---- context reset ------------------------------------------------------ */

/* Feeds as many records of the piece as there are states, from offset *i on;
 * moves *i past them. */
static enum status feed_records(struct scores *s, struct reader *reader,
                                const struct stream *stream, size_t *i,
                                size_t n)
{
    struct segment segments[STREAMS_MAX];
    struct engine *engine = s->task->engine;
    size_t k = 0, begin = *i;
    for (; k < s->n_states && *i < n; k++) {
        size_t part = record_part(s, reader->bytes + *i, n - *i);
        segments[k] = (struct segment){.state = s->states[k],
                                       .bytes = reader->bytes + *i,
                                       .n = part,
                                       .bits = reader->bits + *i};
        if (k > 0 || !s->is_open)
            TRY(engine_state_copy(engine, s->states[k], stream->state));
        *i += part;
    }
    TRY(reader_feed(reader, segments, k, *i - begin));

    struct state *last = s->states[k - 1];
    s->states[k - 1] = s->states[0];
    s->states[0] = last;
    s->is_open = reader->bytes[*i - 1] != s->end;
    return OK;
}

static enum status make_states(struct scores *s)
{
    size_t n = (size_t)task_count_streams(s->task, STREAMS_MAX);
    s->states = calloc(n, sizeof(struct state *));
    if (!s->states)
        return fail_memory("records");
    return engine_states_new(s->task->engine, s->states, n, 1, &s->n_states);
}

static void free_states(struct scores *s)
{
    while (s->n_states > 0)
        engine_state_free(s->task->engine, s->states[--s->n_states]);
    free(s->states);
}

/* ---- files -------------------------------------------------------------- */

static enum status feed_piece(struct scores *s, struct reader *reader,
                              struct stream *stream, size_t n)
{
    if (!s->states)
        return reader_feed_piece(reader, stream, n, reader->bits);
    for (size_t i = 0; i < n;)
        TRY(feed_records(s, reader, stream, &i, n));
    return OK;
}

static enum status score_file(void *context, struct reader *reader,
                              struct stream *stream)
{
    struct scores *s = context;
    s->file = reader->source.path;
    s->offset = 0;
    s->tally = (struct tally){0};
    s->text.n = 0;
    s->is_open = false;
    for (size_t n;;) {
        TRY(reader_next(reader, &n));
        if (n == 0)
            return s->tally.n_bytes > 0 ? end_record(s) : OK;
        TRY(feed_piece(s, reader, stream, n));
        TRY(add_piece(s, reader, n));
    }
}

enum status task_score(struct task *task)
{
    struct scores s = {
        .task = task,
        .end = task_record_end(task),
    };
    enum status status = record_text_open(&s.text);
    if (status == OK && task->options->resets_context)
        status = make_states(&s);
    if (status == OK)
        status = task_each_file(task, score_file, &s);
    free_states(&s);
    record_text_close(&s.text);
    return status;
}
