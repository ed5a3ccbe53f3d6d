/* byteio.c -- buffered reading and writing of descriptors.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/byteio.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/signals.h"

enum {
    READ_BYTES = 1 << 16, /* at a time, where all is read */
    LOOK_AGAIN_MS = 50    /* for somebody who reads from a pipe */
};

void byteio_guard_standard(void)
{
    /* Opened for the other direction, so that using them still fails. */
    static const int flags[3] = {O_WRONLY, O_RDONLY, O_WRONLY};
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", flags[fd]) < 0)
            return;
    }
}

bool byteio_is_terminal(int fd)
{
    return isatty(fd);
}

/* Waits until fd is ready or a signal asks us to stop.  The descriptor of
 * signals.c closes the gap between looking at the flag and going to sleep. */
static enum status wait_ready(int fd, short events)
{
    struct pollfd p[2] = {
        {.fd = fd, .events = events},
        {.fd = signals_fd(), .events = POLLIN},
    };
    while (poll(p, 2, -1) < 0 && errno == EINTR)
        TRY(signals_check());
    return signals_check();
}

/* ---- source ------------------------------------------------------------- */

static enum status read_failed(const struct source *source)
{
    return fail(E_IO, "%s: %s", source->name, strerror(errno));
}

static enum status is_folder(const struct source *source)
{
    return fail(E_IO, "%s: is a directory, not a file", source->name);
}

/* A sandbox does not open a folder, but lets it be looked at. */
static enum status open_failed(const struct source *source)
{
    struct stat st;
    int error = errno;
    if (error == EACCES && stat(source->path, &st) == 0 && S_ISDIR(st.st_mode))
        return is_folder(source);
    errno = error;
    return read_failed(source);
}

/* Does not wait for whoever writes to a pipe: a signal that came just before
 * would not end that.  source_read() waits. */
static enum status open_path(struct source *source)
{
    const int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    source->fd = open(source->path, flags);
    return source->fd < 0 ? open_failed(source) : OK;
}

static enum status look_at(struct source *source)
{
    struct stat st;
    if (fstat(source->fd, &st) < 0)
        return read_failed(source);
    if (S_ISDIR(st.st_mode))
        return is_folder(source);
    source->is_regular = S_ISREG(st.st_mode);
    if (source->is_regular)
        source->size = (uint64_t)st.st_size;
    return OK;
}

enum status source_open(struct source *source, const char *path)
{
    bool is_stdin = strcmp(path, "-") == 0;
    *source = (struct source){
        .path = path,
        .name = is_stdin ? "standard input" : path,
        .fd = STDIN_FILENO,
    };
    if (!is_stdin)
        TRY(open_path(source));
    enum status status = look_at(source);
    if (status != OK)
        source_close(source);
    return status;
}

enum status source_read(struct source *source, uint8_t *bytes, size_t n,
                        size_t *got)
{
    *got = 0;
    for (;;) {
        TRY(wait_ready(source->fd, POLLIN));
        ssize_t r = read(source->fd, bytes, n);
        if (r >= 0) {
            *got = (size_t)r;
            source->n_read += (uint64_t)r;
            return OK;
        }
        if (errno != EINTR && errno != EAGAIN)
            return read_failed(source);
    }
}

enum status source_read_full(struct source *source, uint8_t *bytes, size_t n,
                             size_t *got)
{
    size_t part = 1;
    for (*got = 0; *got < n && part > 0; *got += part)
        TRY(source_read(source, bytes + *got, n - *got, &part));
    return OK;
}

enum status source_read_all(struct source *source, uint8_t **bytes, size_t *n)
{
    size_t room = 0, got = 1;
    *bytes = NULL;
    for (*n = 0; got > 0; *n += got) {
        if (room - *n < READ_BYTES) {
            room = 2 * room + READ_BYTES;
            uint8_t *more = realloc(*bytes, room);
            if (!more)
                return fail_memory(source->name);
            *bytes = more;
        }
        TRY(source_read(source, *bytes + *n, room - *n - 1, &got));
    }
    return OK;
}

enum status source_read_file(const char *path, uint8_t **bytes, size_t *n)
{
    struct source source;
    TRY(source_open(&source, path));
    enum status status = source_read_all(&source, bytes, n);
    source_close(&source);
    if (status != OK)
        free(*bytes);
    return status;
}

size_t source_peek(const struct source *source, uint8_t *bytes, size_t n)
{
    off_t at = source->is_regular ? lseek(source->fd, 0, SEEK_CUR) : -1;
    ssize_t r = at >= 0 ? pread(source->fd, bytes, n, at) : 0;
    return r > 0 ? (size_t)r : 0;
}

bool source_is_ready(const struct source *source)
{
    struct pollfd p = {.fd = source->fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

enum status source_seek(struct source *source, uint64_t offset)
{
    if (lseek(source->fd, (off_t)offset, SEEK_SET) < 0)
        return read_failed(source);
    source->n_read = offset;
    return OK;
}

void source_close(struct source *source)
{
    if (source->fd > STDIN_FILENO)
        close(source->fd);
    source->fd = -1;
}

/* ---- sink --------------------------------------------------------------- */

void sink_init(struct sink *sink, int fd)
{
    sink->name = NULL;
    sink->fd = fd;
    sink->is_sparse = sink->ends_in_hole = false;
    sink->n = 0;
}

static enum status write_failed(const struct sink *sink)
{
    return fail(errno == EPIPE ? E_CLOSED : E_IO, "%s%swrite error: %s",
                sink->name ? sink->name : "", sink->name ? ": " : "",
                strerror(errno));
}

/* A named pipe that nobody reads cannot be opened without waiting. */
static bool lacks_reader(const char *path)
{
    struct stat st;
    return errno == ENXIO && stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
}

enum status sink_open(struct sink *sink, const char *path)
{
    const int flags = O_WRONLY | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    int fd;
    while ((fd = open(path, flags, 0666)) < 0 && lacks_reader(path)) {
        struct pollfd p = {.fd = signals_fd(), .events = POLLIN};
        poll(&p, 1, LOOK_AGAIN_MS);
        TRY(signals_check());
    }
    if (fd < 0)
        return fail(E_IO, "%s: %s", path, strerror(errno));
    sink_init(sink, fd);
    sink->name = path;
    return OK;
}

/* A signal does not stop a write that can proceed: what follows an
 * interruption (a reset of colours) still reaches the terminal. */
static enum status write_all(const struct sink *sink, const uint8_t *bytes,
                             size_t n)
{
    while (n > 0) {
        ssize_t w = write(sink->fd, bytes, n);
        if (w >= 0) {
            bytes += w;
            n -= (size_t)w;
        } else if (errno == EINTR) {
            TRY(signals_check());
        } else if (errno == EAGAIN) {
            TRY(wait_ready(sink->fd, POLLOUT));
        } else {
            return write_failed(sink);
        }
    }
    return OK;
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

enum status sink_flush(struct sink *sink)
{
    size_t n = sink->n;
    sink->n = 0;
    if (sink->is_sparse && n == SINK_BYTES && is_zero(sink->bytes, n) &&
        lseek(sink->fd, (off_t)n, SEEK_CUR) >= 0) {
        sink->ends_in_hole = true;
        return OK;
    }
    if (n > 0)
        sink->ends_in_hole = false;
    return write_all(sink, sink->bytes, n);
}

enum status sink_finish(struct sink *sink)
{
    TRY(sink_flush(sink));
    if (!sink->ends_in_hole)
        return OK;
    off_t end = lseek(sink->fd, 0, SEEK_CUR);
    return end >= 0 && ftruncate(sink->fd, end) == 0 ? OK : write_failed(sink);
}

enum status sink_write(struct sink *sink, const void *bytes, size_t n)
{
    const uint8_t *from = bytes;
    while (n > 0) {
        if (sink->n == SINK_BYTES)
            TRY(sink_flush(sink));
        size_t room = SINK_BYTES - sink->n;
        size_t part = n < room ? n : room;
        memcpy(sink->bytes + sink->n, from, part);
        sink->n += part;
        from += part;
        n -= part;
    }
    return OK;
}

enum status sink_text(struct sink *sink, const char *text)
{
    return sink_write(sink, text, strlen(text));
}

enum status sink_format(struct sink *sink, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return sink_text(sink, text);
}

enum status sink_number(struct sink *sink, double value)
{
    return sink_format(sink, value < 1e15 ? "%.6f" : "%.6e", value);
}

enum status sink_close(struct sink *sink)
{
    enum status status = sink_flush(sink);
    if (close(sink->fd) < 0 && status == OK)
        status = write_failed(sink);
    sink->fd = -1;
    return status;
}
