/* publish_place.h -- whether a folder can take a model for the programs of
 * others.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PUBLISH_PLACE_H
#define MAMBYTE_PUBLISH_PLACE_H

#include <stdbool.h>

#include "base/status.h"
#include "import/publish.h"

/* E_USAGE when folder holds weights that a reader would take in place of the
 * new ones, or, unless forced, files that the new ones would replace, or the
 * input; E_IO when it cannot be written to, or made. */
enum status publish_place_check(const char *folder, enum naming naming,
                                const char *input, bool is_forced);

#endif
