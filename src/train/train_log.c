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

enum { NAME_CHARS = 4096 };

static enum status log_error(const struct train_log *log)
{
    return fail(E_IO, "%s: %s", log->path, strerror(errno));
}

static enum status write_header(struct train_log *log,
                                const struct dataset *valid)
{
    fputs("step\tbytes\tbits_per_byte\tgradient_norm\tlearning_rate\tseconds",
          log->file);
    for (int i = 0; i < valid->n; i++) {
        char shown[NAME_CHARS];
        fprintf(log->file, "\tvalid:%s",
                escape_into(shown, sizeof shown, valid->sources[i].name));
    }
    fputc('\n', log->file);
    return fflush(log->file) == 0 ? OK : log_error(log);
}

/* Cuts the log after the last line of a step up to first_step. */
static enum status cut_lines(struct train_log *log, uint64_t first_step)
{
    char *line = NULL;
    size_t room = 0;
    long end = 0;
    bool is_header = true;
    while (getline(&line, &room, log->file) > 0) {
        if (!is_header && strtoull(line, NULL, 10) > first_step)
            break;
        is_header = false;
        end = ftell(log->file);
    }
    free(line);
    if (fseek(log->file, end, SEEK_SET) != 0 ||
        ftruncate(fileno(log->file), end) != 0)
        return log_error(log);
    return OK;
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
    if (!log->file)
        log->file = fopen(path, "w");
    if (!log->file)
        return log_error(log);
    enum status status =
        is_kept ? cut_lines(log, first_step) : write_header(log, valid);
    if (status != OK) {
        fclose(log->file);
        log->file = NULL;
    }
    return status;
}

enum status train_log_write(struct train_log *log,
                            const struct train_log_row *row)
{
    if (!log->file)
        return OK;
    fprintf(log->file, "%" PRIu64 "\t%" PRIu64 "\t%.8f\t%.8f\t%.8g\t%.3f",
            row->step, row->n_bytes, row->bits_per_byte, row->gradient_norm,
            row->learning_rate, row->seconds);
    for (int i = 0; i < log->n_valid; i++) {
        fputc('\t', log->file);
        if (row->valid)
            fprintf(log->file, "%.6f", row->valid[i]);
    }
    fputc('\n', log->file);
    return fflush(log->file) == 0 ? OK : log_error(log);
}

enum status train_log_close(struct train_log *log)
{
    FILE *file = log->file;
    log->file = NULL;
    return !file || fclose(file) == 0 ? OK : log_error(log);
}
