/* train_log.h -- the course of a run, as tab-separated values.
 *
 * A header, then a line for each step: step, bytes, bits_per_byte,
 * gradient_norm, learning_rate, seconds, and a column for each validated source
 * that is filled in the steps that validated.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_LOG_H
#define MAMBYTE_TRAIN_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/byteio.h"
#include "base/status.h"
#include "train/dataset.h"

/* How the header begins. */
#define TRAIN_LOG_START "step\tbytes\tbits_per_byte\t"

struct train_log {
    struct sink sink; /* fd -1: nothing is logged */
    int n_valid;      /* sources that are validated */
    bool has_failed;  /* the last line was left out */
};

struct train_log_row {
    uint64_t step, n_bytes; /* done, this step included */
    double bits_per_byte, gradient_norm, learning_rate, seconds;
    const double *valid; /* [n_valid], or NULL */
};

/* path NULL: no log.  first_step 0 starts a new log; else lines of later steps
 * are dropped, for the run goes on from there.  Columns are named by valid. */
enum status train_log_open(struct train_log *log, const char *path,
                           uint64_t first_step, const struct dataset *valid);

/* A line that cannot be written is left out, with a warning: the run goes on
 * without its log. */
void train_log_write(struct train_log *log, const struct train_log_row *row);
void train_log_close(struct train_log *log);

#endif
