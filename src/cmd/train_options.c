/* train_options.c -- the command line of mambyte-train, understood.
 * Every option is a row of the table (option_table.h).
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/train_options.h"

#include <stddef.h>
#include <string.h>

#include "cmd/machine_options.h"
#include "cmd/option_table.h"
#include "cmd/options.h"
#include "model/model.h"

#define ANY        OPTION_ANY
#define AT(member) offsetof(struct train_command, member)

/* ---- taking values in --------------------------------------------------- */

static enum status take_d_state(void *into, const struct option_row *row,
                                const char *value)
{
    struct train_options *options = &((struct train_command *)into)->train;
    TRY(option_take_integer(into, row, value));
    if (options->d_state & (options->d_state - 1))
        return fail(E_USAGE, "--%s: %s is not a power of two", row->name,
                    value);
    return OK;
}

static enum status take_d_model(void *into, const struct option_row *row,
                                const char *value)
{
    struct train_options *options = &((struct train_command *)into)->train;
    TRY(option_take_integer(into, row, value));
    if (options->d_model % 4 != 0)
        return fail(E_USAGE, "--%s: %s is not a multiple of 4", row->name,
                    value);
    return OK;
}

static enum status take_imitate(void *into, const struct option_row *row,
                                const char *value)
{
    struct train_options *options = &((struct train_command *)into)->train;
    options->imitates_int8 = strcmp(value, "int8") == 0;
    if (options->imitates_int8 || strcmp(value, "none") == 0)
        return OK;
    return fail(E_USAGE, "--%s: '%s' is neither 'int8' nor 'none'", row->name,
                value);
}

/* ---- the table ---------------------------------------------------------- */

static const struct option_row rows[] = {
    {.help = "The model"},
    {'o', "output", "FILE", ANY, option_take_text, AT(train.output), 0, 0,
     "the int8 model to write"},
    {0, "init", "MODEL", ANY, option_take_text, AT(train.init), 0, 0,
     "go on from a model, int8 or floats (fine-tuning)"},
    {0, "d-model", "N", ANY, take_d_model, AT(train.d_model), 4, D_MODEL_MAX,
     "width of a new model (256)"},
    {0, "n-layer", "N", ANY, option_take_integer, AT(train.n_layer), 1,
     N_LAYER_MAX, "its layers (6)"},
    {0, "expand", "N", ANY, option_take_integer, AT(train.expand), 1, 16,
     "its inner width, in widths (2)"},
    {0, "d-state", "N", ANY, take_d_state, AT(train.d_state), 4, D_STATE_MAX,
     "states a channel, a power of two (16)"},
    {0, "d-conv", "N", ANY, option_take_integer, AT(train.d_conv), 2,
     D_CONV_MAX, "taps of the convolution (4)"},
    {0, "dt-rank", "N", ANY, option_take_integer, AT(train.dt_rank), 1,
     D_MODEL_MAX, "inputs of the step (a 16th of the width)"},
    {0, "tied", NULL, ANY, option_take_true, AT(train.is_tied), 0, 0,
     "the head is the embedding"},

    {.help = "A classifier, in place of a model"},
    {0, "head", "LABELS", ANY, option_take_text, AT(head.examples), 0, 0,
     "train a head for mambyte --classify from lines of\n"
     "LABEL, a tab and TEXT, or __label__LABEL TEXT"},
    {0, "test", "LABELS", ANY, option_take_text, AT(head.test), 0, 0,
     "report on these, not on a tenth held out"},
    {'m', "model", "FILE|NAME", ANY, option_take_text, AT(head.model), 0, 0,
     "what the head is for; also MAMBYTE_MODEL"},

    {.help = "How long (without any of these: every byte once)"},
    {0, "steps", "N", ANY, option_take_integer, AT(train.n_steps), 1, 0x1p40,
     "so many steps"},
    {0, "bytes", "N", ANY, option_take_integer, AT(train.n_bytes), 1, 0x1p60,
     "so many bytes"},
    {0, "minutes", "M", ANY, option_take_real, AT(train.minutes), 0.001, 1e6,
     "so long"},

    {.help = "A step"},
    {0, "windows", "N", ANY, option_take_integer, AT(train.n_windows), 1, 4096,
     "windows, each of a stream of its own (8)"},
    {0, "length", "N", ANY, option_take_integer, AT(train.n_t), 1, 1 << 20,
     "bytes of a window (512)"},
    {0, "carry", "N", ANY, option_take_integer, AT(train.carry), 1, 1 << 20,
     "windows through which a state is carried (16)"},
    {0, "rate", "R", ANY, option_take_real, AT(train.learning_rate), 0, 10,
     "the largest learning rate (0.0025)"},
    {0, "warmup", "N", ANY, option_take_integer, AT(train.warmup), 0, 0x1p40,
     "steps over which the rate rises (100, at most a\ntenth of the run)"},
    {0, "decay", "SHARE", ANY, option_take_real, AT(train.decay_share), 0, 1,
     "of the run, over which it falls to 0 (0.35)"},
    {0, "weight-decay", "D", ANY, option_take_real, AT(train.weight_decay), 0,
     10, "of the matrices (0.05)"},
    {0, "clip", "NORM", ANY, option_take_real, AT(train.clip), 1e-6, 1e6,
     "the largest gradient (1)"},
    {0, "seed", "N", ANY, option_take_integer, AT(train.seed), 0, 0x1p63,
     "of all random choices (0)"},
    {0, "imitate", "int8|none", ANY, take_imitate, 0, 0, 0,
     "compute as the finished model will (int8)"},

    {.help = "Validation"},
    {0, "valid", "FILE|DIR", ANY, option_take_list, AT(train.valids), 0, 0,
     "validate on these, hold nothing out; may be given\n"
     "several times"},
    {0, "valid-bytes", "N", ANY, option_take_integer, AT(train.valid_bytes), 1,
     0x1p60, "of each source, at most (256K)"},
    {0, "valid-every", "STEPS", ANY, option_take_integer, AT(train.valid_every),
     0, 0x1p40, "how often; 0 is at the end only (500)"},

    {.help = "What is kept"},
    {0, "log", "FILE", ANY, option_take_text, AT(train.log), 0, 0,
     "a line a step, as tab-separated values"},
    {0, "plot", "FILE", ANY, option_take_text, AT(train.plot), 0, 0,
     "draw the log as SVG or PNG at the end, by gnuplot"},
    {0, "checkpoint", "FILE", ANY, option_take_text, AT(train.checkpoint), 0, 0,
     "where to keep the run (the output, .checkpoint\nadded)"},
    {0, "checkpoint-minutes", "M", ANY, option_take_real,
     AT(train.checkpoint_minutes), 0, 1e6,
     "how often, besides at the end and on signals (10)"},
    {0, "resume", NULL, ANY, option_take_true, AT(train.resumes), 0, 0,
     "go on from the checkpoint"},

    {.help = "The machine"},
    ROW_DEVICE(AT(train.engine), "where to compute"),
    {0, "gpus", "N", ANY, option_take_integer, AT(train.n_gpus), 1, 1024,
     "GPUs that divide the windows of a step (1)"},
    ROW_THREADS(AT(train.engine.n_threads)),
    ROW_QUIET(AT(verbosity)),
    ROW_VERBOSE(AT(verbosity), "say what is trained, where and on what"),
    ROW_PROGRESS(ANY, AT(progress)),
    ROW_HELP(AT(wants_help)),
    ROW_VERSION(AT(wants_version)),
};

enum { N_ROWS = sizeof rows / sizeof rows[0] };

static const struct option_table table = {
    .rows = rows,
    .n = N_ROWS,
    .program = "mambyte-train",
    .usage = "[OPTION]... -o MODEL FILE|DIR[=WEIGHT]...",
    .about = "Train a byte-level Mamba model on files, or improve one; or "
             "train a\n"
             "classifier on one: --head=LABELS -o HEAD.\n",
};

/* ---- parsing ------------------------------------------------------------ */

/* Options of the training of models do not go with --head. */
static enum status check_head(const struct train_command *command,
                              const bool *given)
{
    static const char *const known[] = {
        "output",  "head",  "test",    "model",    "device",
        "threads", "quiet", "verbose", "progress",
    };
    for (int i = 0; i < N_ROWS; i++) {
        size_t j = 0, n = sizeof known / sizeof known[0];
        while (given[i] && j < n && strcmp(rows[i].name, known[j]) != 0)
            j++;
        if (j == n)
            return fail(E_USAGE, "--%s does not go with --head", rows[i].name);
    }
    if (!command->head.output)
        return fail(E_USAGE, "--output needs a FILE for the head");
    if (command->train.n_operands > 0)
        return fail(E_USAGE, "there is nothing to do with '%s'",
                    command->train.operands[0]);
    return OK;
}

static enum status check_model(const struct train_command *command)
{
    const struct train_options *o = &command->train;
    if (command->head.test || command->head.model)
        return fail(E_USAGE, "--%s needs --head",
                    command->head.test ? "test" : "model");
    if (o->n_operands == 0)
        return fail(E_USAGE, "there is no FILE to learn from");
    if (!o->output)
        return fail(E_USAGE, "--output needs a FILE for the model");
    if ((o->n_steps > 0) + (o->n_bytes > 0) + (o->minutes > 0) > 1)
        return fail(E_USAGE,
                    "--steps, --bytes and --minutes do not go together");
    if (o->n_gpus > 1 && o->engine.device == DEVICE_CPU)
        return fail(E_USAGE, "--gpus and --device=cpu do not go together");
    if (o->plot && !o->log)
        return fail(E_USAGE, "--plot needs a --log to draw");
    if (o->n_windows * o->n_t > INT32_MAX / 4)
        return fail(E_USAGE, "--windows times --length is too large");
    if (o->d_model * o->expand > D_INNER_MAX)
        return fail(E_USAGE, "--d-model times --expand is above %d",
                    D_INNER_MAX);
    return OK;
}

static void set_defaults(struct train_command *command)
{
    command->train = (struct train_options){
        .d_model = 256,
        .n_layer = 6,
        .d_state = 16,
        .d_conv = 4,
        .expand = 2,
        .n_windows = 8,
        .n_t = 512,
        .carry = 16,
        .learning_rate = 2.5e-3,
        .decay_share = 0.35,
        .weight_decay = 0.05,
        .clip = 1,
        .warmup = WARMUP_DEFAULT,
        .imitates_int8 = true,
        .n_gpus = 1,
        .valid_bytes = 1 << 18,
        .valid_every = 500,
        .checkpoint_minutes = 10,
    };
    command->verbosity = NORMAL;
}

enum status train_options_parse(struct train_command *command, int argc,
                                char **argv)
{
    bool given[N_ROWS];
    int first;
    *command = (struct train_command){0};
    set_defaults(command);
    TRY(option_table_read(&table, command, given, argc, argv, &first));
    if (command->wants_help || command->wants_version)
        return OK;
    command->train.operands = (const char *const *)argv + first;
    command->train.n_operands = argc - first;
    if (!command->head.examples)
        return check_model(command);
    command->head.output = command->train.output;
    command->head.engine = command->train.engine;
    if (!command->head.model)
        command->head.model = options_environment_model();
    return check_head(command, given);
}

enum status train_options_print_help(struct sink *sink)
{
    return option_table_print_help(&table, sink);
}

enum status train_options_print_version(struct sink *sink)
{
    return option_table_print_version(&table, sink);
}
