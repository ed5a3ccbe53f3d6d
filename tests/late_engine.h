/* late_engine.h -- an engine whose started calls take as long as they may.
 *
 * A call that engine_feed_start() started is read when the next one is started
 * or all are finished, no sooner.  A caller that looks at results too early
 * finds none; one that frees memory too early is caught by valgrind and the
 * sanitizers.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LATE_ENGINE_H
#define MAMBYTE_LATE_ENGINE_H

#include "engine/engine.h"

/* Makes an engine late and, like a GPU, asynchronous.  One at a time. */
void late_engine_make(struct engine *engine);

#endif
