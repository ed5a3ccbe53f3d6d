/* train_main.c -- mambyte-train: reads the command line and runs it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "base/byteio.h"
#include "base/file_place.h"
#include "base/threads.h"
#include "classify/train_classifier.h"
#include "cmd/outputs.h"
#include "cmd/own_file.h"
#include "cmd/program.h"
#include "cmd/train_options.h"
#include "model/catalog.h"
#include "train/dataset.h"
#include "train/train.h"

static struct sink output;

/* Two readers of standard input would get a part of it each. */
static enum status check_standard_input(const char *name, bool *is_taken)
{
    if (strcmp(name, "-") != 0)
        return OK;
    if (*is_taken)
        return fail(E_USAGE, "standard input can be read only once");
    *is_taken = true;
    return OK;
}

/* An operand without its weight. */
static enum status check_operand(const struct outputs *outputs,
                                 const char *operand, bool *takes_input)
{
    double weight;
    char *name = strdup(operand);
    if (!name)
        return fail_memory("a name");
    enum status status = dataset_parse_weight(name, &weight);
    if (status == OK)
        status = outputs_check_input(outputs, name);
    if (status == OK)
        status = check_standard_input(name, takes_input);
    free(name);
    return status;
}

/* A checkpoint that nobody named does not go to /dev, beside a device.  "-" is
 * refused elsewhere: its place is that of standard input. */
static enum status check_default_checkpoint(const struct train_command *command)
{
    const struct train_options *o = &command->train;
    struct file_place model = file_place_of(o->output);
    bool is_file = !model.is_there || S_ISREG(model.mode);
    if (o->checkpoint != command->checkpoint || is_file ||
        S_ISDIR(model.mode) || strcmp(o->output, "-") == 0)
        return OK;
    return fail(E_USAGE,
                "%s: is not a regular file, so the run needs a "
                "--checkpoint=FILE",
                o->output);
}

static enum status check_checkpoint(const struct train_command *command)
{
    const struct train_options *o = &command->train;
    if (o->resumes || command->machine.force ||
        own_file_of(o->checkpoint) != OWN_CHECKPOINT)
        return OK;
    return fail(E_USAGE,
                "%s: a run is kept there: --resume goes on with it, --force "
                "starts anew",
                o->checkpoint);
}

/* Checks the outputs of a run before any work. */
static enum status check_run(const struct train_command *command)
{
    const struct train_options *o = &command->train;
    struct outputs outputs = {.is_forced = command->machine.force};
    bool takes_input = false;
    TRY(check_default_checkpoint(command));
    outputs_add(&outputs, "output", o->output, OWN_MODEL);
    outputs_add(&outputs, "checkpoint", o->checkpoint,
                o->resumes ? OWN_NONE : OWN_CHECKPOINT);
    outputs_add(&outputs, "log", o->log, OWN_LOG);
    outputs_add(&outputs, "plot", o->plot, OWN_PLOT);
    TRY(outputs_check_input(&outputs, o->init));
    for (int i = 0; i < o->n_operands; i++)
        TRY(check_operand(&outputs, o->operands[i], &takes_input));
    for (int i = 0; i < o->valids.n; i++)
        TRY(check_operand(&outputs, o->valids.items[i], &takes_input));
    TRY(outputs_check(&outputs));
    TRY(outputs_claim(&outputs));
    return check_checkpoint(command);
}

static enum status check_head(const struct train_command *command)
{
    const struct classifier_options *o = &command->classifier;
    struct outputs outputs = {.is_forced = command->machine.force};
    bool takes_input = false;
    outputs_add(&outputs, "output", o->output, OWN_HEAD);
    TRY(outputs_check_input(&outputs, o->examples));
    TRY(outputs_check_input(&outputs, o->test));
    TRY(check_standard_input(o->examples, &takes_input));
    if (o->test)
        TRY(check_standard_input(o->test, &takes_input));
    TRY(outputs_check_input(&outputs, o->model));
    TRY(outputs_check(&outputs));
    return outputs_claim(&outputs);
}

/* --init: a file, or else a name that --list-models shows. */
static enum status find_init(struct train_options *o, char **path)
{
    struct file_place place = file_place_of(o->init);
    if (!place.is_there) {
        TRY(catalog_find(path, o->init));
        o->init = *path;
    }
    return own_file_check_model(o->init);
}

static enum status run_training(struct train_command *command)
{
    char *path = NULL;
    enum status status = OK;
    if (command->train.init)
        status = find_init(&command->train, &path);
    if (status == OK)
        status = check_run(command);
    if (status == OK)
        status = train(&command->train, &output);
    free(path);
    return status;
}

static enum status run(int argc, char **argv)
{
    static struct train_command command;
    TRY(train_options_parse(&command, argc, argv));
    if (machine_wants_text(&command.machine))
        return machine_print_text(&command.machine, &train_options_table,
                                  &output);
    machine_apply(&command.machine);
    command.train.engine.n_threads =
        threads_cut(command.train.engine.n_threads);
    command.classifier.engine = command.train.engine;
    if (!command.classifier.examples)
        return run_training(&command);
    TRY(check_head(&command));
    return train_classifier(&command.classifier, &output);
}

int main(int argc, char **argv)
{
    return program_run(&output, argc, argv, run);
}
