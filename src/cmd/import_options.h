/* import_options.h -- what the command line of mambyte-import asks for.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_IMPORT_OPTIONS_H
#define MAMBYTE_IMPORT_OPTIONS_H

#include "base/status.h"
#include "cmd/machine_options.h"
#include "cmd/option_table.h"
#include "import/import.h"

struct import_command {
    struct import_options import;
    struct machine_options machine;
};

/* E_USAGE with the sentence when the command line is wrong.  The command points
 * into argv, whose operands may be reordered. */
enum status import_options_parse(struct import_command *command, int argc,
                                 char **argv);

extern const struct option_table import_options_table;

#endif
