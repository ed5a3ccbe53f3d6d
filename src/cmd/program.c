/* program.c -- what the programs share: how they start and end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/program.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/message.h"
#include "base/signals.h"

enum { EXIT_USAGE = 2, EXIT_SKIPPED = 2 };

/* Prints the sentence of a failure, once. */
static void print_sentence(enum status status)
{
    switch (status) {
    case OK:
    case E_SKIPPED:
    case E_REPORTED:
    case E_CLOSED:
    case E_INTERRUPTED:
        return;
    default:
        message_error("%s", status_message());
    }
    if (status == E_USAGE)
        message_try_help();
}

static int exit_status(enum status status)
{
    switch (status) {
    case OK:
        return EXIT_SUCCESS;
    case E_SKIPPED:
        return EXIT_SKIPPED;
    case E_USAGE:
        return EXIT_USAGE;
    default:
        return EXIT_FAILURE;
    }
}

/* The sentence comes before a signal that ends the program. */
static int conclude(enum status status)
{
    message_progress_end();
    print_sentence(status);
    signals_exit();
    return exit_status(status);
}

int program_run(struct sink *output, int argc, char **argv,
                enum status (*run)(int argc, char **argv))
{
    byteio_guard_standard();
    message_init(argv[0]);
    sink_init(output, STDOUT_FILENO);
    enum status status = signals_init();
    if (status == OK)
        status = run(argc, argv);
    enum status closed = sink_close(output);
    bool is_said = status == OK || status == E_REPORTED || status == E_SKIPPED;
    return conclude(is_said && closed != OK ? closed : status);
}
