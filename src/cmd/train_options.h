/* train_options.h -- what the command line of mambyte-train asks for.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAIN_OPTIONS_H
#define MAMBYTE_TRAIN_OPTIONS_H

#include "base/status.h"
#include "classify/train_classifier.h"
#include "cmd/machine_options.h"
#include "cmd/option_table.h"
#include "train/train.h"

struct train_command {
    struct train_options train;
    struct classifier_options classifier; /* with examples: train it */
    struct machine_options machine;
    char checkpoint[4096]; /* its name, where that follows from the output */
};

/* E_USAGE with the sentence when the command line is wrong.  The command points
 * into argv, whose operands may be reordered. */
enum status train_options_parse(struct train_command *command, int argc,
                                char **argv);

extern const struct option_table train_options_table;

#endif
