/* byteio.h -- buffered reading and writing of descriptors.
 *
 * A source is a file or standard input, read as it comes: a read returns
 * what is there, so that a live pipe is followed line by line.  A sink
 * collects bytes until it is full or flushed.  Interrupted and short calls
 * are dealt with here; a signal that asks us to stop ends a wait with
 * E_INTERRUPTED.
 *
 * No other file calls read(2) or write(2) on the data.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BYTEIO_H
#define MAMBYTE_BYTEIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct source {
    const char *path; /* "-" is standard input */
    const char *name; /* for messages: the path, or "standard input" */
    int fd;           /* -1 when closed */
    bool is_regular;  /* a regular file */
    uint64_t size;    /* of a regular file; 0 when it is not known */
    uint64_t n_read;  /* bytes so far */
};

/* Opens those of the descriptors 0 to 2 that the caller closed, so that no file
 * of ours gets one of them.  Reading or writing these fails. */
void byteio_guard_standard(void);

/* "-" is standard input.  path must outlive the source.  A directory is
 * refused.  On failure the source is closed. */
enum status source_open(struct source *source, const char *path);

/* Reads up to n bytes, at least one; *got is 0 at the end of input. */
enum status source_read(struct source *source, uint8_t *bytes, size_t n,
                        size_t *got);

/* Reads n bytes; fewer only at the end of input. */
enum status source_read_full(struct source *source, uint8_t *bytes, size_t n,
                             size_t *got);

/* Reads all that is left.  *bytes is for the caller to free, after a failure
 * too; it has room for one byte more than *n. */
enum status source_read_all(struct source *source, uint8_t **bytes, size_t *n);

/* The same of a file from its start; after a failure there is nothing to free.
 */
enum status source_read_file(const char *path, uint8_t **bytes, size_t *n);

/* The next bytes of a regular file, n at most, which stay unread; returns how
 * many, 0 where there is no such file. */
size_t source_peek(const struct source *source, uint8_t *bytes, size_t n);

/* Whether source_read() would not wait. */
bool source_is_ready(const struct source *source);

/* Goes to an offset of a regular file. */
enum status source_seek(struct source *source, uint64_t offset);

/* Standard input stays open.  A closed source is accepted. */
void source_close(struct source *source);

enum { SINK_BYTES = 65536 };

struct sink {
    const char *name; /* for messages; NULL: standard output needs none */
    int fd;
    bool is_sparse; /* zeros become holes: of a file that was empty */
    bool ends_in_hole;
    size_t n; /* bytes held */
    uint8_t bytes[SINK_BYTES];
};

void sink_init(struct sink *sink, int fd);

/* Opens a file to be written where it begins, and makes it if it is not there;
 * what it has stays.  Waits for somebody who reads from a named pipe.  path
 * must outlive the sink.  On failure there is nothing to close. */
enum status sink_open(struct sink *sink, const char *path);

enum status sink_write(struct sink *sink, const void *bytes, size_t n);
enum status sink_text(struct sink *sink, const char *text);

/* printf, for at most 255 bytes of text. */
enum status sink_format(struct sink *sink, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A number with six digits after the point; with an exponent from 1e15 on. */
enum status sink_number(struct sink *sink, double value);

/* Writes the bytes held.  Those that cannot be written are dropped. */
enum status sink_flush(struct sink *sink);

/* Flushes, and gives a sparse file its length. */
enum status sink_finish(struct sink *sink);

/* Flushes and closes: the last moment at which a full disk is noticed. */
enum status sink_close(struct sink *sink);

bool byteio_is_terminal(int fd);

#endif
