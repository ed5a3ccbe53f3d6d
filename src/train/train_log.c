/* train_log.c -- the course of a run, as tab-separated values.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/train_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/escape.h"
#include "base/file_place.h"
#include "base/message.h"

enum { NAME_CHARS = 4096 };

/* ---- opening ------------------------------------------------------------- */

static enum status write_header(struct sink *sink, const struct dataset *valid)
{
    TRY(sink_text(sink,
                  TRAIN_LOG_START "gradient_norm\tlearning_rate\tseconds"));
    for (int i = 0; i < valid->n; i++) {
        char shown[NAME_CHARS];
        TRY(sink_text(sink, "\tvalid:"));
        TRY(sink_text(
            sink, escape_into(shown, sizeof shown, valid->sources[i].name)));
    }
    TRY(sink_text(sink, "\n"));
    return sink_flush(sink);
}

/* Where the lines of a log of n bytes and a NUL end that are of steps up to
 * last_step; a line without an end was not written to its end. */
static size_t find_end(const char *bytes, size_t n, uint64_t last_step)
{
    size_t end = 0;
    for (const char *newline; (newline = memchr(bytes + end, '\n', n - end));
         end = (size_t)(newline - bytes) + 1) {
        bool is_header = end == 0;
        if (!is_header && strtoull(bytes + end, NULL, 10) > last_step)
            break;
    }
    return end;
}

/* *end: how much of the log at path is kept. */
static enum status read_log(size_t *end, const char *path, uint64_t last_step)
{
    uint8_t *bytes;
    size_t n;
    TRY(source_read_file(path, &bytes, &n));
    bytes[n] = '\0';
    *end = find_end((const char *)bytes, n, last_step);
    free(bytes);
    return OK;
}

/* Of a regular file. */
static enum status cut(const struct sink *sink, off_t end)
{
    if (ftruncate(sink->fd, end) == 0 && lseek(sink->fd, end, SEEK_SET) == end)
        return OK;
    return fail(E_IO, "%s: %s", sink->name, strerror(errno));
}

/* A log that is there goes on; an empty one starts anew. */
static enum status start(struct train_log *log, const char *path,
                         uint64_t first_step, const struct dataset *valid)
{
    struct file_place place = file_place_of(path);
    bool is_file = place.is_there && S_ISREG(place.mode);
    size_t end = 0;
    if (is_file && first_step > 0)
        TRY(read_log(&end, path, first_step));
    TRY(sink_open(&log->sink, path));
    if (is_file)
        TRY(cut(&log->sink, (off_t)end));
    return end > 0 ? OK : write_header(&log->sink, valid);
}

enum status train_log_open(struct train_log *log, const char *path,
                           uint64_t first_step, const struct dataset *valid)
{
    log->n_valid = valid->n;
    log->has_failed = false;
    sink_init(&log->sink, -1);
    enum status status = path ? start(log, path, first_step, valid) : OK;
    if (status != OK && log->sink.fd >= 0) {
        close(log->sink.fd);
        log->sink.fd = -1;
    }
    return status;
}

/* ---- lines --------------------------------------------------------------- */

static enum status write_row(struct sink *sink, const struct train_log_row *row,
                             int n_valid)
{
    TRY(sink_format(sink, "%" PRIu64 "\t%" PRIu64 "\t%.8f\t%.8f\t%.8g\t%.3f",
                    row->step, row->n_bytes, row->bits_per_byte,
                    row->gradient_norm, row->learning_rate, row->seconds));
    for (int i = 0; i < n_valid; i++) {
        TRY(sink_text(sink, "\t"));
        if (row->valid)
            TRY(sink_format(sink, "%.6f", row->valid[i]));
    }
    TRY(sink_text(sink, "\n"));
    return sink_flush(sink);
}

void train_log_write(struct train_log *log, const struct train_log_row *row)
{
    struct sink *sink = &log->sink;
    if (sink->fd < 0)
        return;
    off_t before = lseek(sink->fd, 0, SEEK_CUR);
    enum status status = write_row(sink, row, log->n_valid);
    if (status != OK && !log->has_failed)
        message_warning("%s: the log lacks step %" PRIu64, status_message(),
                        row->step);
    if (status != OK && before >= 0)
        (void)cut(sink, before);
    log->has_failed = status != OK;
}

void train_log_close(struct train_log *log)
{
    if (log->sink.fd >= 0 && sink_close(&log->sink) != OK)
        message_warning("%s", status_message());
}
