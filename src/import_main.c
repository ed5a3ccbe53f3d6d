/* import_main.c -- the importer: understands the command and runs it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "byteio.h"
#include "import.h"
#include "import_options.h"
#include "message.h"
#include "program.h"

static struct sink output;

static enum status run(int argc, char **argv)
{
    static struct import_options options;
    TRY(import_options_parse(&options, argc, argv));
    if (options.wants_help)
        return import_options_print_help(&output);
    if (options.wants_version)
        return import_options_print_version(&output);
    message_set(options.verbosity, options.progress);
    return import(&options, &output);
}

int main(int argc, char **argv)
{
    return program_run(&output, argc, argv, run);
}
