/* checkpoint.h -- a run that was interrupted, to and from a file.
 *
 * A safetensors file: the float32 weights under their published names, the
 * moments as moment_1.NAME and moment_2.NAME, and the states of the streams.
 * Its metadata have the progress of the run, what identifies the run, what a
 * model has there (begin_byte, norm_epsilon), and a checksum over everything. A
 * resumed run has the losses that it would have had without the interruption.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CHECKPOINT_H
#define MAMBYTE_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "model/safetensors.h"
#include "train/trainer.h"

/* What a run has done so far. */
struct progress {
    uint64_t step;        /* steps done */
    uint64_t n_bytes;     /* bytes learnt from */
    double seconds;       /* of work */
    double bits_per_byte; /* smoothed over steps */
};

enum { RUN_CHARS = 256 };

/* run: what has to be the same when the run is resumed (data, windows, seed),
 * in less than RUN_CHARS characters.  Writes path as atomic_file.h promises. */
enum status checkpoint_save(const char *path, struct trainer *trainer,
                            const struct progress *progress, const char *run);

/* E_FORMAT when path is damaged, or of another shape or run. */
enum status checkpoint_load(const char *path, struct trainer *trainer,
                            struct progress *progress, const char *run);

/* Whether a file is a checkpoint of any run, by its metadata; and whether a
 * tensor of one is a weight, rather than a moment or the states. */
bool is_checkpoint(const struct safetensors *file);
bool is_checkpoint_weight(const char *name);

#endif
