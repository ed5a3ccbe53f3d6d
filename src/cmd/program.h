/* program.h -- what the programs have in common: a begin and an end.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PROGRAM_H
#define MAMBYTE_PROGRAM_H

#include "base/byteio.h"
#include "base/status.h"

/* Makes output the standard output, runs what main is for, and turns what
 * came of it into a sentence on stderr and the exit status: 0, 1 when
 * something failed, 2 for a wrong command and for files left out. */
int program_run(struct sink *output, int argc, char **argv,
                enum status (*run)(int argc, char **argv));

#endif
