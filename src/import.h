/* import.h -- a published checkpoint becomes a model of ours, or one of ours a
 * checkpoint.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_IMPORT_H
#define MAMBYTE_IMPORT_H

#include "byteio.h"
#include "import_options.h"
#include "status.h"

/* Writes the model, and to out what was found and measured.  On failure what
 * was at the place of the output is as before. */
enum status import(const struct import_options *options, struct sink *out);

#endif
