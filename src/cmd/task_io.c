/* task_io.c -- what tasks share: streams, and reading files through them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/task_io.h"

#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "base/message.h"
#include "base/signals.h"
#include "engine/snapshot.h"

/* How long the engine should take for a piece.  An asynchronous engine is
 * quick: long pieces keep it busier. */
#define READ_SECONDS              0.1
#define READ_SECONDS_ASYNCHRONOUS 0.5

enum {
    PIECE_FIRST = 64,
    STATES_BYTES_MAX = 1 << 27 /* of streams that are read together */
};

void task_report(struct task *task)
{
    message_error("%s", status_message());
    task->has_failed = true;
}

enum status task_settle(struct task *task, enum status status)
{
    switch (status) {
    case E_SKIPPED:
        if (task->options->verbosity > SILENT)
            message_error("%s", status_message());
        task->has_skipped = true;
        return OK;
    case E_IO:
    case E_FORMAT:
    case E_MODEL:
    case E_LIMIT:
        task_report(task);
        return OK;
    default:
        return status;
    }
}

/* ---- records ------------------------------------------------------------ */

enum status task_end_record(struct task *task)
{
    uint8_t end = task_record_end(task);
    return sink_write(task->out, &end, 1);
}

enum status task_put_file(struct task *task, const char *file)
{
    if (task->options->n_files == 1)
        return OK;
    TRY(escape_column(task->out, file));
    return sink_text(task->out, "\t");
}

enum status record_text_open(struct record_text *text)
{
    *text = (struct record_text){.bytes = malloc(RECORD_TEXT_MAX)};
    return text->bytes ? OK : fail_memory("a record");
}

void record_text_close(struct record_text *text)
{
    free(text->bytes);
    *text = (struct record_text){0};
}

void record_text_add(struct record_text *text, const uint8_t *bytes, size_t n)
{
    size_t room = RECORD_TEXT_MAX - text->n;
    n = n < room ? n : room;
    memcpy(text->bytes + text->n, bytes, n);
    text->n += n;
}

/* ---- streams ------------------------------------------------------------ */

static enum status load(struct stream *stream, struct task *task)
{
    struct fingerprint fingerprint;
    struct snapshot snapshot;
    model_fingerprint(task->model, &fingerprint);
    TRY(snapshot_load(&snapshot, task->options->load_state, &fingerprint,
                      model_state_floats(&task->model->config),
                      model_state_int8s(&task->model->config)));
    stream->position = snapshot.n_bytes;
    enum status status =
        engine_state_set(task->engine, stream->state, snapshot.floats);
    snapshot_free(&snapshot);
    return status;
}

enum status stream_open(struct stream *stream, struct task *task)
{
    *stream = (struct stream){0};
    if (!task->engine)
        return OK;
    enum status status = engine_state_new(task->engine, &stream->state);
    if (status == OK && task->options->load_state)
        status = load(stream, task);
    if (status != OK)
        stream_close(stream, task);
    return status;
}

void stream_close(struct stream *stream, struct task *task)
{
    engine_state_free(task->engine, stream->state);
    stream->state = NULL;
}

enum status stream_copy(struct stream *to, const struct stream *from,
                        struct task *task)
{
    to->position = from->position;
    if (!task->engine)
        return OK;
    return engine_state_copy(task->engine, to->state, from->state);
}

enum status stream_open_copy(struct stream *stream, const struct stream *from,
                             struct task *task)
{
    *stream = (struct stream){0};
    if (task->engine)
        TRY(engine_state_new(task->engine, &stream->state));
    enum status status = stream_copy(stream, from, task);
    if (status != OK)
        stream_close(stream, task);
    return status;
}

int task_count_streams(const struct task *task, int most)
{
    size_t n_bytes = model_state_size(&task->model->config);
    size_t n = STATES_BYTES_MAX / n_bytes;
    return n < 1 ? 1 : n < (size_t)most ? (int)n : most;
}

enum status stream_save(const struct stream *stream, struct task *task)
{
    const char *path = task->options->save_state;
    if (!path)
        return OK;
    if (task->has_failed) {
        message_error("%s: not written, since a file could not be read", path);
        return OK;
    }
    struct snapshot snapshot = {
        .n_bytes = stream->position,
        .n_floats = model_state_floats(&task->model->config),
        .n_int8s = model_state_int8s(&task->model->config),
    };
    model_fingerprint(task->model, &snapshot.model);
    snapshot.floats = malloc(model_state_size(&task->model->config));
    if (!snapshot.floats)
        return fail_memory("a state");
    enum status status =
        engine_state_get(task->engine, stream->state, snapshot.floats);
    if (status == OK)
        status = snapshot_save(path, &snapshot);
    snapshot_free(&snapshot);
    return status;
}

/* ---- reading ------------------------------------------------------------ */

/* Whether output goes to a terminal while the input is being read. */
static bool writes_to_terminal(const struct task *task)
{
    bool writes = task->options->mode != MODE_GENERATE || task->options->echo;
    return writes && byteio_is_terminal(task->out->fd);
}

enum status reader_open(struct reader *reader, struct task *task)
{
    *reader = (struct reader){
        .task = task,
        .source.fd = -1,
        .is_quiet = writes_to_terminal(task),
        .pace = pace_make(PIECE_FIRST, PIECE_BYTES,
                          engine_is_asynchronous(task->engine)
                              ? READ_SECONDS_ASYNCHRONOUS
                              : READ_SECONDS),
        .bytes = malloc(PIECE_BYTES),
        .bits = malloc(PIECE_BYTES * sizeof *reader->bits),
    };
    if (reader->bytes && reader->bits)
        return OK;
    reader_close(reader);
    return fail_memory("reading");
}

void reader_close(struct reader *reader)
{
    source_close(&reader->source);
    free(reader->bytes);
    free(reader->bits);
    reader->bytes = NULL;
    reader->bits = NULL;
}

enum status reader_next(struct reader *reader, size_t *n)
{
    struct source *source = &reader->source;
    TRY(signals_check());
    enum status status = source_read(source, reader->bytes, reader->pace.n, n);
    reader->has_failed = status == E_IO;
    if (status == OK && *n > 0 && !reader->is_quiet)
        message_progress(source->name, source->n_read - *n, source->size);
    else
        message_progress_end();
    return status;
}

enum status reader_feed(struct reader *reader, const struct segment *segments,
                        size_t n_segments, size_t n)
{
    pace_begin(&reader->pace);
    TRY(engine_feed(reader->task->engine, segments, n_segments));
    pace_end(&reader->pace, n);
    reader->task->n_read += n;
    return OK;
}

enum status reader_feed_piece(struct reader *reader, struct stream *stream,
                              size_t n, float *bits)
{
    struct segment segment = {
        .state = stream->state,
        .bytes = reader->bytes,
        .n = n,
        .bits = bits,
    };
    stream->position += n;
    return reader_feed(reader, &segment, 1, n);
}

static enum status visit_path(struct reader *reader, const char *path,
                              struct stream *stream, visit_file *visit,
                              void *context)
{
    reader->has_failed = true;
    TRY(source_open(&reader->source, path));
    reader->has_failed = false;
    enum status status = visit(context, reader, stream);
    source_close(&reader->source);
    return status;
}

static enum status visit_all(struct reader *reader, const struct stream *first,
                             struct stream *stream, visit_file *visit,
                             void *context)
{
    struct task *task = reader->task;
    for (int i = 0; i < task->options->n_files; i++) {
        TRY(stream_copy(stream, first, task));
        enum status status =
            visit_path(reader, task->options->files[i], stream, visit, context);
        if (status == E_IO && reader->has_failed)
            task_report(task);
        else if (status != OK)
            return status;
    }
    return OK;
}

enum status task_each_file(struct task *task, visit_file *visit, void *context)
{
    struct reader reader;
    struct stream first = {0}, stream = {0};
    TRY(reader_open(&reader, task));
    enum status status = stream_open(&first, task);
    if (status == OK)
        status = stream_open_copy(&stream, &first, task);
    if (status == OK)
        status = visit_all(&reader, &first, &stream, visit, context);
    if (status == OK)
        status = sink_flush(task->out);
    if (status == OK)
        status = stream_save(&stream, task);
    stream_close(&stream, task);
    stream_close(&first, task);
    reader_close(&reader);
    return status;
}
