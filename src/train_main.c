/* train_main.c -- the trainer: understands the command, runs it, and turns
 * what came of it into a sentence and an exit status.
 *
 * SPDX-License-Identifier: MIT
 */
#include "byteio.h"
#include "message.h"
#include "program.h"
#include "train.h"
#include "train_head.h"
#include "train_options.h"

static struct sink output;

static enum status run(int argc, char **argv)
{
    static struct train_options options;
    TRY(train_options_parse(&options, argc, argv));
    if (options.wants_help)
        return train_options_print_help(&output);
    if (options.wants_version)
        return train_options_print_version(&output);
    message_set(options.verbosity, options.progress);
    return options.head ? train_head(&options, &output)
                        : train(&options, &output);
}

int main(int argc, char **argv)
{
    return program_run(&output, argc, argv, run);
}
