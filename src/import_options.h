/* import_options.h -- the command line of mambyte-import, understood.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_IMPORT_OPTIONS_H
#define MAMBYTE_IMPORT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "byteio.h"
#include "message.h"
#include "option_table.h"
#include "status.h"

/* Whose names the output has. */
enum naming { NAMING_OURS, NAMING_MAMBA_SSM, NAMING_TRANSFORMERS };

struct import_options {
    const char *input;
    struct option_list averages; /* the mean is taken with these             */
    const char *output; /* a file, or with another naming a folder           */
    enum naming naming;
    bool is_float;         /* weights stay as they are                       */
    const char *calibrate; /* NULL: nothing is measured                      */
    uint64_t calibrate_bytes;
    int begin_byte; /* -1: what the input says                               */
    int n_threads;  /* 0: one a core */
    enum verbosity verbosity;
    bool progress;
    bool wants_help, wants_version;
};

/* E_USAGE with the sentence when the line is wrong.  The options point into
 * argv, whose operands may be reordered. */
enum status import_options_parse(struct import_options *options, int argc,
                                 char **argv);

enum status import_options_print_help(struct sink *sink);
enum status import_options_print_version(struct sink *sink);

#endif
