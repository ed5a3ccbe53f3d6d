/* train_log.h -- the course of a run, as tab-separated values.
 *
 * A header, then a line a step: step, bytes, bits_per_byte, gradient_norm,
 * learning_rate, seconds, and for each validated source a column that is
 * filled where it was validated.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_LOG_H
#define MAMBYTE_TRAIN_LOG_H

#include <stdint.h>
#include <stdio.h>

#include "base/status.h"
#include "train/dataset.h"

struct train_log {
    FILE *file; /* NULL: nothing is logged                            */
    const char *path;
    int n_valid; /* sources that are validated                         */
};

struct train_log_row {
    uint64_t step, n_bytes; /* done, this step included                     */
    double bits_per_byte, gradient_norm, learning_rate, seconds;
    const double *valid; /* [n_valid], or NULL                           */
};

/* path NULL: no log.  first_step: lines beyond it, of a run that went on from
 * there, are dropped; 0 begins anew.  Names of columns come from valid. */
enum status train_log_open(struct train_log *log, const char *path,
                           uint64_t first_step, const struct dataset *valid);
enum status train_log_write(struct train_log *log,
                            const struct train_log_row *row);
enum status train_log_close(struct train_log *log);

#endif
