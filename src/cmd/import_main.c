/* import_main.c -- mambyte-import: reads the command line and runs it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/byteio.h"
#include "base/memlimit.h"
#include "base/message.h"
#include "cmd/import_options.h"
#include "cmd/program.h"
#include "import/import.h"

static struct sink output;

static enum status run(int argc, char **argv)
{
    static struct import_command command;
    TRY(import_options_parse(&command, argc, argv));
    if (command.wants_help)
        return import_options_print_help(&output);
    if (command.wants_version)
        return import_options_print_version(&output);
    message_set(command.verbosity, command.progress);
    memlimit_set(command.memlimit);
    return import(&command.import, &output);
}

int main(int argc, char **argv)
{
    return program_run(&output, argc, argv, run);
}
