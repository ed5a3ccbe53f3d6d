/* main.c -- the filter: reads the command line, opens what the command needs,
 * and runs one task.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteio.h"
#include "base/clock.h"
#include "base/file_place.h"
#include "base/memlimit.h"
#include "base/message.h"
#include "base/sandbox.h"
#include "base/signals.h"
#include "base/threads.h"
#include "classify/classifier.h"
#include "cmd/model_choice.h"
#include "cmd/options.h"
#include "cmd/own_file.h"
#include "cmd/outputs.h"
#include "cmd/program.h"
#include "cmd/task.h"
#include "engine/engine.h"
#include "engine/on_cpu.h"
#include "model/model.h"

static struct sink output;

static enum status run_task(struct task *task)
{
    switch (task->options->mode) {
    case MODE_PERPLEXITY:
        return task_perplexity(task);
    case MODE_SCORE:
        return task_score(task);
    case MODE_SURPRISAL:
        return task_surprisal(task);
    case MODE_NEXT:
        return task_next(task);
    case MODE_COLOR:
        return task_color(task);
    case MODE_CLASSIFY:
        return task->options->eval ? task_evaluate(task) : task_classify(task);
    case MODE_EMBED:
        return task_embed(task);
    case MODE_COMPRESS:
    case MODE_DECOMPRESS:
    case MODE_TEST:
        return task_compress(task);
    default:
        return task_generate(task);
    }
}

static void note_engine(const struct task *task)
{
    char text[160];
    engine_describe(task->engine, text);
    message_note("model %s, %.1f M parameters",
                 safetensors_path(task->model->file),
                 1e-6 * (double)task->model->n_parameters);
    message_note("device %s", text);
}

static void note_speed(const struct task *task, double seconds)
{
    char speed[16];
    uint64_t n = task->n_read + task->n_written;
    message_size(speed, seconds > 0 ? (double)n / seconds : 0);
    message_note("%llu bytes read, %llu generated in %.2f s, %s/s",
                 (unsigned long long)task->n_read,
                 (unsigned long long)task->n_written, seconds, speed);
}

/* The status of all files together; each failure was reported. */
static enum status verdict(const struct task *task)
{
    if (task->has_failed)
        return E_REPORTED;
    return task->has_skipped ? E_SKIPPED : OK;
}

/* Whether the mode reports sizes and speeds itself, file by file. */
static bool converts(const struct options *o)
{
    return o->mode == MODE_COMPRESS || o->mode == MODE_DECOMPRESS ||
           o->mode == MODE_TEST;
}

/* A result that another machine may read must not depend on this one. */
static enum status check_model(const struct task *task)
{
    const struct options *o = task->options;
    if (o->load_state || o->save_state)
        return model_needs_int8(task->model, "a saved state");
    if (o->mode == MODE_CLASSIFY)
        return model_needs_int8(task->model, "classification");
    if (converts(o))
        return model_needs_int8(task->model, "compression");
    return OK;
}

/* A command that unpacks files from outside reads only these, and writes only
 * beside them. */
static enum status enter_sandbox(const struct options *o)
{
    struct sandbox sandbox;
    bool writes = o->mode == MODE_DECOMPRESS && !o->to_stdout && !o->has_range;
    sandbox_open(&sandbox, SANDBOX_READS);
    for (int i = 0; i < o->n_files; i++) {
        sandbox_allow_reading(&sandbox, o->files[i]);
        if (writes && strcmp(o->files[i], "-") != 0)
            sandbox_allow_writing(&sandbox, o->files[i]);
    }
    return sandbox_enter(&sandbox);
}

/* A GPU needs files that its driver opens when it likes. */
static enum status open_engine(struct task *task)
{
    const struct options *o = task->options;
    bool unpacks = o->mode == MODE_DECOMPRESS || o->mode == MODE_TEST;
    bool is_cpu = engine_will_be_on_cpu(&o->engine);
    if (unpacks && is_cpu)
        TRY(enter_sandbox(o));
    TRY(engine_open(&task->engine, task->model, &o->engine));
    if (unpacks && !is_cpu && engine_is_on_cpu(task->engine))
        TRY(enter_sandbox(o));
    return OK;
}

static enum status with_engine(struct task *task)
{
    TRY(check_model(task));
    TRY(open_engine(task));
    note_engine(task);
    signals_be_hasty(false);
    double started = clock_now();
    enum status status = run_task(task);
    if (status == OK && !converts(task->options))
        note_speed(task, clock_now() - started);
    engine_close(task->engine);
    return status;
}

/* Checks the outputs before any work.  A state may replace the one that was
 * loaded. */
static enum status check_outputs(const struct options *options,
                                 const char *model)
{
    struct outputs outputs = {.is_forced = options->force};
    struct file_place out = file_place_of_fd(output.fd);
    outputs_add(&outputs, "save-state", options->save_state, OWN_STATE);
    TRY(outputs_check_input(&outputs, model));
    for (int i = 0; i < options->n_files; i++) {
        struct file_place file = file_place_of(options->files[i]);
        if (file_place_is_same(&file, &out))
            return fail(E_USAGE, "%s: is an input, and standard output too",
                        options->files[i]);
        TRY(outputs_check_input(&outputs, options->files[i]));
    }
    return outputs_check(&outputs);
}

/* Says what a file is that could not be opened as a model. */
static enum status refuse_kind(enum status status, const char *path)
{
    char sentence[STATUS_CHARS];
    snprintf(sentence, sizeof sentence, "%s", status_message());
    TRY(own_file_check_model(path));
    return fail(status, "%s", sentence);
}

static enum status with_model(const struct options *options, const char *path)
{
    struct model *model;
    struct task task = {.options = options, .out = &output};
    signals_guard_mapping(path);
    signals_be_hasty(true); /* a large model takes a while to open */
    enum own_file kind =
        options->mode == MODE_INFO ? own_file_of(path) : OWN_NONE;
    if (kind == OWN_HEAD || kind == OWN_CHECKPOINT)
        return task_info_other(&task, path, kind);
    enum status opened = model_open(&model, path);
    if (opened == E_MODEL)
        return refuse_kind(opened, path);
    TRY(opened);
    task.model = model;
    enum status status =
        options->mode == MODE_INFO ? task_info(&task) : with_engine(&task);
    model_close(model);
    return status == OK ? verdict(&task) : status;
}

/* No model is opened, whichever is named. */
static enum status without_model(const struct options *options)
{
    struct task task = {.options = options, .out = &output};
    TRY(check_outputs(options, NULL));
    message_note("no model is needed");
    double started = clock_now();
    TRY(run_task(&task));
    note_speed(&task, clock_now() - started);
    return verdict(&task);
}

static enum status with_model_file(const struct options *options)
{
    char *path;
    TRY(model_choose(&path, options));
    enum status status = check_outputs(options, path);
    if (status == OK)
        status = with_model(options, path);
    free(path);
    return status;
}

static enum status list(const struct options *options)
{
    struct task task = {.options = options, .out = &output};
    TRY(enter_sandbox(options));
    TRY(task_list(&task));
    return verdict(&task);
}

static enum status run(int argc, char **argv)
{
    static struct options options;
    TRY(options_parse(&options, argc, argv));
    message_set(options.verbosity, options.progress);
    memlimit_set(options.memlimit);
    options.engine.n_threads = threads_cut(options.engine.n_threads);
    switch (options.mode) {
    case MODE_HELP:
        return option_table_print_help(&options_table, &output);
    case MODE_VERSION:
        return option_table_print_version(&options_table, &output);
    case MODE_LIST_MODELS:
        return task_list_models(&output);
    case MODE_LIST:
        return list(&options);
    default:
        break;
    }
    bool needs_model = true;
    if (options.mode == MODE_CLASSIFY)
        TRY(classifier_needs_engine(options.classify, &needs_model));
    return needs_model ? with_model_file(&options) : without_model(&options);
}

int main(int argc, char **argv)
{
    return program_run(&output, argc, argv, run);
}
