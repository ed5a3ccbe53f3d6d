/* model_choice.h -- the model of a command.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MODEL_CHOICE_H
#define MAMBYTE_MODEL_CHOICE_H

#include "base/status.h"
#include "cmd/options.h"

/* The path of the model that the command names, for the caller to free.  Where
 * it names none: of the installed model that made what it reads (the first file
 * to decompress, the head or the first of the states to classify with, the
 * state to load), else of the default. */
enum status model_choose(char **path, const struct options *options);

#endif
