/* train_options.h -- what the command line of mambyte-train asks for.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_OPTIONS_H
#define MAMBYTE_TRAIN_OPTIONS_H

#include <stdbool.h>

#include "base/byteio.h"
#include "base/message.h"
#include "base/status.h"
#include "classify/train_classifier.h"
#include "train/train.h"

struct train_command {
    struct train_options train;
    struct classifier_options classifier; /* with examples: train it */
    uint64_t memlimit;                    /* bytes; 0: the default */
    enum verbosity verbosity;
    bool force; /* replaces whatever is there */
    bool progress;
    bool wants_help, wants_version;
    char checkpoint[4096]; /* its name, where that follows from the output */
};

/* E_USAGE with the sentence when the command line is wrong.  The command points
 * into argv, whose operands may be reordered. */
enum status train_options_parse(struct train_command *command, int argc,
                                char **argv);

enum status train_options_print_help(struct sink *sink);
enum status train_options_print_version(struct sink *sink);

#endif
