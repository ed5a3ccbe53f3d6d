/* import_options.h -- what the command line of mambyte-import asks for.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_IMPORT_OPTIONS_H
#define MAMBYTE_IMPORT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/byteio.h"
#include "base/message.h"
#include "base/status.h"
#include "import/import.h"

struct import_command {
    struct import_options import;
    uint64_t memlimit; /* bytes; 0: the default */
    enum verbosity verbosity;
    bool force; /* replaces whatever is there */
    bool progress;
    bool wants_help, wants_version;
};

/* E_USAGE with the sentence when the command line is wrong.  The command points
 * into argv, whose operands may be reordered. */
enum status import_options_parse(struct import_command *command, int argc,
                                 char **argv);

enum status import_options_print_help(struct sink *sink);
enum status import_options_print_version(struct sink *sink);

#endif
