/* train_main.c -- the trainer: understands the command, runs it, and turns
 * what came of it into a sentence and an exit status.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <unistd.h>

#include "byteio.h"
#include "message.h"
#include "signals.h"
#include "train.h"
#include "train_options.h"

enum { EXIT_USAGE = 2 };

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
    return train(&options, &output);
}

/* The exit status; the sentence is on stderr then. */
static int conclude(enum status status)
{
    message_progress_end();
    signals_exit();
    if (status == OK)
        return EXIT_SUCCESS;
    if (status != E_CLOSED && *status_message())
        message_error("%s", status_message());
    if (status != E_USAGE)
        return EXIT_FAILURE;
    message_try_help();
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    byteio_guard_standard();
    message_init(argv[0]);
    sink_init(&output, STDOUT_FILENO);
    enum status status = signals_init();
    if (status == OK)
        status = run(argc, argv);
    enum status closed = sink_close(&output);
    return conclude(status == OK ? closed : status);
}
