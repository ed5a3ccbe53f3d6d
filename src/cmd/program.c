/* program.c -- what the programs have in common: a begin and an end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/program.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/message.h"
#include "base/signals.h"

enum { EXIT_USAGE = 2, EXIT_SKIPPED = 2 };

/* The exit status; the sentence is on stderr then. */
static int conclude(enum status status)
{
    message_progress_end();
    signals_exit();
    if (status == OK)
        return EXIT_SUCCESS;
    if (status != E_CLOSED && *status_message())
        message_error("%s", status_message());
    if (status == E_SKIPPED)
        return EXIT_SKIPPED;
    if (status != E_USAGE)
        return EXIT_FAILURE;
    message_try_help();
    return EXIT_USAGE;
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
    return conclude(status == OK ? closed : status);
}
