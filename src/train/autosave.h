/* autosave.h -- keeps a run in its checkpoint: now and then, when it is
 * interrupted, and at its end.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_AUTOSAVE_H
#define MAMBYTE_AUTOSAVE_H

#include <stdint.h>

#include "base/status.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

struct autosave {
    const char *path;          /* the caller's */
    char run[RUN_CHARS];       /* what has to be the same when it is resumed */
    char named_run[RUN_CHARS]; /* the same, with the names of the data: some
                                * checkpoints have that */
    struct trainer *trainer;   /* the caller's */
    double minutes;            /* between two of them */
    uint64_t saved_step;       /* of the last one; 0: none */
    double saved;              /* when that was, on the clock */
};

/* Saves now, unless this step is saved already. */
enum status autosave_now(struct autosave *autosave, const struct progress *now);

/* Saves when it is time to.  A failure is only reported: a full disk may have
 * room again later. */
void autosave_by_timer(struct autosave *autosave, const struct progress *now);

/* Saves, says how to go on, and returns E_INTERRUPTED; or the failure. */
enum status autosave_interrupted(struct autosave *autosave,
                                 const struct progress *now);

/* After a failure that leaves the run as good as it was: prints its sentence,
 * saves, says how to go on, and returns E_REPORTED; or the failure to save. */
enum status autosave_failed(struct autosave *autosave,
                            const struct progress *now);

/* Takes trainer and progress back to the checkpoint. */
enum status autosave_resume(struct autosave *autosave,
                            struct progress *progress);

#endif
