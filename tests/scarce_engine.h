/* scarce_engine.h -- an engine whose memory ends.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SCARCE_ENGINE_H
#define MAMBYTE_SCARCE_ENGINE_H

#include "engine/engine.h"

/* From now on the engine has room for n_states states more, and E_MEMORY is
 * what the next one gets.  One at a time. */
void scarce_engine_make(struct engine *engine, int n_states);

#endif
