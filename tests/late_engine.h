/* late_engine.h -- an engine whose started calls take as long as they may.
 *
 * What engine_feed_start() began is read when the next call is started or all
 * are finished, no sooner.  Who looks at results too early finds none, who
 * gives memory back too early is caught by what looks after memory.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LATE_ENGINE_H
#define MAMBYTE_LATE_ENGINE_H

#include "engine/engine.h"

/* Makes an engine late and, as a GPU is, apart.  One at a time. */
void late_engine_make(struct engine *engine);

#endif
