/* program.h -- what the programs share: how they start and end.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PROGRAM_H
#define MAMBYTE_PROGRAM_H

#include "base/byteio.h"
#include "base/status.h"

/* Makes output the standard output, calls run, and prints the sentence of a
 * failure on stderr.  Returns the exit status: 0; 1 when something failed; 2
 * when the command line is wrong or files were left out. */
int program_run(struct sink *output, int argc, char **argv,
                enum status (*run)(int argc, char **argv));

#endif
