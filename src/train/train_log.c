/* train_log.c -- the course of a run, as tab-separated values.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/train_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/escape.h"
#include "base/memory_stream.h"
#include "base/message.h"
#include "base/signals.h"

enum { NAME_CHARS = 4096 };

/* ---- opening ------------------------------------------------------------- */

static enum status log_error(const struct train_log *log)
{
    return fail(E_IO, "%s: %s", log->path, strerror(errno));
}

static enum status write_header(struct train_log *log,
                                const struct dataset *valid)
{
    fputs(TRAIN_LOG_START "gradient_norm\tlearning_rate\tseconds", log->file);
    for (int i = 0; i < valid->n; i++) {
        char shown[NAME_CHARS];
        fprintf(log->file, "\tvalid:%s",
                escape_into(shown, sizeof shown, valid->sources[i].name));
    }
    fputc('\n', log->file);
    return fflush(log->file) == 0 ? OK : log_error(log);
}

/* Cuts the log after the last line of a step up to first_step; a line without
 * an end was not written to its end.  *end: where the log ends now. */
static enum status cut_lines(struct train_log *log, uint64_t first_step,
                             long *end)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    bool is_header = true, is_cut = false;
    *end = 0;
    while (!is_cut && (n = getline(&line, &room, log->file)) > 0) {
        is_cut = line[n - 1] != '\n' ||
                 (!is_header && strtoull(line, NULL, 10) > first_step);
        is_header = false;
        *end = is_cut ? *end : ftell(log->file);
    }
    free(line);
    bool is_read = is_cut || feof(log->file);
    int fd = fileno(log->file);
    if (!is_read || ftruncate(fd, *end) != 0 ||
        lseek(fd, *end, SEEK_SET) != *end)
        return log_error(log);
    return OK;
}

/* A log that is there goes on; an empty one starts anew. */
static enum status go_on(struct train_log *log, uint64_t first_step,
                         const struct dataset *valid)
{
    long end = 0;
    TRY(cut_lines(log, first_step, &end));
    return end > 0 ? OK : write_header(log, valid);
}

enum status train_log_open(struct train_log *log, const char *path,
                           uint64_t first_step, const struct dataset *valid)
{
    *log = (struct train_log){.path = path, .n_valid = valid->n};
    if (!path)
        return OK;
    if (first_step > 0)
        log->file = fopen(path, "r+");
    bool is_kept = log->file != NULL;
    while (!log->file) { /* a pipe opens once somebody reads from it */
        TRY(signals_check());
        log->file = fopen(path, "w");
        if (!log->file && errno != EINTR)
            return log_error(log);
    }
    enum status status =
        is_kept ? go_on(log, first_step, valid) : write_header(log, valid);
    if (status != OK) {
        fclose(log->file);
        log->file = NULL;
    }
    return status;
}

/* ---- lines --------------------------------------------------------------- */

static void print_row(FILE *out, const struct train_log_row *row, int n_valid)
{
    fprintf(out, "%" PRIu64 "\t%" PRIu64 "\t%.8f\t%.8f\t%.8g\t%.3f", row->step,
            row->n_bytes, row->bits_per_byte, row->gradient_norm,
            row->learning_rate, row->seconds);
    for (int i = 0; i < n_valid; i++) {
        fputc('\t', out);
        if (row->valid)
            fprintf(out, "%.6f", row->valid[i]);
    }
    fputc('\n', out);
}

/* *line is to be freed. */
static enum status make_line(char **line, size_t *n,
                             const struct train_log *log,
                             const struct train_log_row *row)
{
    FILE *out = memory_stream_open(line, n);
    if (!out)
        return fail_memory(log->path);
    print_row(out, row, log->n_valid);
    return memory_stream_close(out, line, log->path);
}

/* The whole line, or nothing where the file can be cut. */
static enum status add_line(const struct train_log *log, const char *line,
                            size_t n)
{
    int fd = fileno(log->file);
    off_t begin = lseek(fd, 0, SEEK_CUR);
    while (n > 0) {
        ssize_t w = write(fd, line, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0) {
            enum status status = log_error(log);
            if (begin >= 0 && ftruncate(fd, begin) == 0)
                lseek(fd, begin, SEEK_SET);
            return status;
        }
        line += w;
        n -= (size_t)w;
    }
    return OK;
}

void train_log_write(struct train_log *log, const struct train_log_row *row)
{
    char *line = NULL;
    size_t n = 0;
    if (!log->file)
        return;
    enum status status = make_line(&line, &n, log, row);
    if (status == OK)
        status = add_line(log, line, n);
    free(line);
    if (status != OK && !log->has_failed)
        message_warning("%s: the log lacks step %" PRIu64, status_message(),
                        row->step);
    log->has_failed = status != OK;
}

void train_log_close(struct train_log *log)
{
    FILE *file = log->file;
    log->file = NULL;
    if (file && fclose(file) != 0) {
        log_error(log);
        message_warning("%s", status_message());
    }
}
