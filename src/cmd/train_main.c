/* train_main.c -- mambyte-train: reads the command line and runs it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/byteio.h"
#include "base/memlimit.h"
#include "base/message.h"
#include "classify/train_classifier.h"
#include "cmd/program.h"
#include "cmd/train_options.h"
#include "train/train.h"

static struct sink output;

static enum status run(int argc, char **argv)
{
    static struct train_command command;
    TRY(train_options_parse(&command, argc, argv));
    if (command.wants_help)
        return train_options_print_help(&output);
    if (command.wants_version)
        return train_options_print_version(&output);
    message_set(command.verbosity, command.progress);
    memlimit_set(command.memlimit);
    return command.classifier.examples
               ? train_classifier(&command.classifier, &output)
               : train(&command.train, &output);
}

int main(int argc, char **argv)
{
    return program_run(&output, argc, argv, run);
}
