/* task_io.h -- what tasks share: streams, and reading files through them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TASK_IO_H
#define MAMBYTE_TASK_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmd/task.h"
#include "engine/pace.h"

/* Reports the last failure, that of a file, and remembers that there was one.
 */
void task_report(struct task *task);

/* The status of work on one file: reports a failure that concerns this file
 * alone, and returns OK; any other is to end the task. */
enum status task_settle(struct task *task, enum status status);

/* ---- records ------------------------------------------------------------ */

/* The byte that ends a record, in and out. */
static inline uint8_t task_record_end(const struct task *task)
{
    return task->options->is_null_terminated ? '\0' : '\n';
}

/* Writes it. */
enum status task_end_record(struct task *task);

/* Writes the column in front: the name of the file, when there are several. */
enum status task_put_file(struct task *task, const char *file);

enum { RECORD_TEXT_MAX = 1 << 18 };

/* The first bytes of a record, RECORD_TEXT_MAX at most, which are shown. */
struct record_text {
    uint8_t *bytes;
    size_t n;
};

enum status record_text_open(struct record_text *text);
void record_text_close(struct record_text *text);
void record_text_add(struct record_text *text, const uint8_t *bytes, size_t n);

/* ---- streams ------------------------------------------------------------ */

/* A sequence of bytes that the engine reads: its state, and how far it is. */
struct stream {
    struct state *state; /* NULL where no engine is needed */
    uint64_t position;   /* bytes read, those of a loaded state included */
};

/* A stream at its start, or where --load-state says; once in a task, since the
 * state may come from a pipe. */
enum status stream_open(struct stream *stream, struct task *task);
void stream_close(struct stream *stream, struct task *task);

/* A new stream that is where another is; and the same of an open one. */
enum status stream_open_copy(struct stream *stream, const struct stream *from,
                             struct task *task);
enum status stream_copy(struct stream *to, const struct stream *from,
                        struct task *task);

/* How many streams are read together: most, or fewer when their states would
 * take too much memory; at least 1. */
int task_count_streams(const struct task *task, int most);

/* Saves the state where --save-state says, if it was given; says that it does
 * not when a file has failed. */
enum status stream_save(const struct stream *stream, struct task *task);

/* ---- reading ------------------------------------------------------------ */

enum { PIECE_BYTES = 1 << 20 };

/* Reads a source in pieces, each as large as the engine reads in a moment; from
 * a live pipe, whatever is there. */
struct reader {
    struct task *task;
    struct source source;
    bool has_failed; /* it was the source that failed */
    bool is_quiet;   /* no progress: it would spoil what is written */
    struct pace pace;
    uint8_t *bytes; /* [PIECE_BYTES], the piece */
    float *bits;    /* [PIECE_BYTES], what each byte cost: see engine.h */
};

/* On failure the reader is closed.  A closed one is accepted. */
enum status reader_open(struct reader *reader, struct task *task);
void reader_close(struct reader *reader);

/* Reads the next piece into bytes; *n is 0 at the end. */
enum status reader_next(struct reader *reader, size_t *n);

/* Lets the engine read segments, n bytes in all. */
enum status reader_feed(struct reader *reader, const struct segment *segments,
                        size_t n_segments, size_t n);

/* Lets stream read the piece.  bits: NULL, which is quicker, or reader->bits,
 * for what each byte cost. */
enum status reader_feed_piece(struct reader *reader, struct stream *stream,
                              size_t n, float *bits);

/* Calls visit for each file of the options, with reader->source open and a
 * stream of its own; then saves the state of the last stream.  A file that
 * cannot be read is reported and left out. */
typedef enum status visit_file(void *context, struct reader *reader,
                               struct stream *stream);
enum status task_each_file(struct task *task, visit_file *visit, void *context);

#endif
