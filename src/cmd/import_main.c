/* import_main.c -- mambyte-import: reads the command line and runs it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>
#include <sys/stat.h>

#include "base/byteio.h"
#include "base/file_place.h"
#include "base/sandbox.h"
#include "base/threads.h"
#include "cmd/import_options.h"
#include "cmd/outputs.h"
#include "cmd/program.h"
#include "import/import.h"
#include "import/publish_place.h"

static struct sink output;

/* A folder is an input with all its files. */
static enum status check_folder(const struct import_options *o)
{
    struct file_place from = file_place_of(o->input);
    struct file_place to = file_place_of(o->output);
    bool is_in = S_ISDIR(from.mode) && file_place_is_in(o->output, &from);
    if (to.is_there && from.is_there && is_in)
        return fail(E_USAGE, "%s: is an input, and --output would replace it",
                    o->output);
    return OK;
}

/* Checks the output before any work. */
static enum status check_outputs(const struct import_command *command)
{
    const struct import_options *o = &command->import;
    struct outputs outputs = {.is_forced = command->machine.force};
    if (o->naming != NAMING_OURS && strcmp(o->output, "-") != 0)
        return publish_place_check(o->output, o->naming, o->input,
                                   command->machine.force);
    outputs_add(&outputs, "output", o->output, OWN_MODEL);
    TRY(outputs_check_input(&outputs, o->input));
    TRY(outputs_check_input(&outputs, o->calibrate));
    for (int i = 0; i < o->averages.n; i++)
        TRY(outputs_check_input(&outputs, o->averages.items[i]));
    TRY(check_folder(o));
    return outputs_check(&outputs);
}

/* Published checkpoints are made of links and of files in several folders: all
 * may be read, but only the output written. */
static enum status enter_sandbox(const char *path)
{
    struct sandbox sandbox;
    sandbox_open(&sandbox, SANDBOX_WRITES);
    if (strcmp(path, "-") != 0)
        sandbox_allow_writing(&sandbox, path);
    return sandbox_enter(&sandbox);
}

static enum status run(int argc, char **argv)
{
    static struct import_command command;
    TRY(import_options_parse(&command, argc, argv));
    if (machine_wants_text(&command.machine))
        return machine_print_text(&command.machine, &import_options_table,
                                  &output);
    machine_apply(&command.machine);
    command.import.n_threads = threads_cut(command.import.n_threads);
    TRY(check_outputs(&command));
    TRY(enter_sandbox(command.import.output));
    return import(&command.import, &output);
}

int main(int argc, char **argv)
{
    return program_run(&output, argc, argv, run);
}
