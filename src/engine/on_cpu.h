/* on_cpu.h -- whether an engine is on the CPU: for a caller that gives up
 * rights, of which the driver of a GPU needs more.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ON_CPU_H
#define MAMBYTE_ON_CPU_H

#include <stdbool.h>

#include "engine/engine.h"

/* Of any engine that these options open. */
bool engine_will_be_on_cpu(const struct engine_options *options);

bool engine_is_on_cpu(const struct engine *engine);

#endif
