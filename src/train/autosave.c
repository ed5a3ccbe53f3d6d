/* autosave.c -- keeps a run in its checkpoint: now and then, when it is
 * interrupted, and at its end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/autosave.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/message.h"

enum status autosave_now(struct autosave *autosave, const struct progress *now)
{
    struct autosave *a = autosave;
    if (now->step <= a->saved_step)
        return OK;
    TRY(checkpoint_save(a->path, a->trainer, now, a->run));
    a->saved_step = now->step;
    a->saved = clock_now();
    message_note("step %" PRIu64 " is kept in %s", now->step, a->path);
    return OK;
}

void autosave_by_timer(struct autosave *autosave, const struct progress *now)
{
    if (clock_now() - autosave->saved < 60 * autosave->minutes)
        return;
    if (autosave_now(autosave, now) != OK)
        message_error("%s", status_message());
    autosave->saved = clock_now();
}

/* After a message about what happened. */
static void say_kept(const struct autosave *a, const char *what)
{
    if (a->saved_step > 0)
        message_error("%s at step %" PRIu64 ", kept in %s: --resume goes on",
                      what, a->saved_step, a->path);
}

enum status autosave_interrupted(struct autosave *autosave,
                                 const struct progress *now)
{
    TRY(autosave_now(autosave, now));
    say_kept(autosave, "interrupted");
    return fail(E_INTERRUPTED, "interrupted");
}

enum status autosave_failed(struct autosave *autosave,
                            const struct progress *now)
{
    message_error("%s", status_message());
    TRY(autosave_now(autosave, now));
    say_kept(autosave, "the run ends");
    return E_REPORTED;
}

enum status autosave_resume(struct autosave *autosave,
                            struct progress *progress)
{
    struct autosave *a = autosave;
    if (checkpoint_load(a->path, a->trainer, progress, a->named_run) != OK)
        TRY(checkpoint_load(a->path, a->trainer, progress, a->run));
    a->saved_step = progress->step;
    message_note("going on from step %" PRIu64, progress->step);
    return OK;
}
