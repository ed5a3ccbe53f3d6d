/* train_options.c -- reads the command line of mambyte-train.
 *
 * Every option is a row of the table (option_table.h).
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/train_options.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cmd/options.h"
#include "model/model.h"

#define AT(member) offsetof(struct train_command, member)

/* ---- taking values ------------------------------------------------------ */

static enum status take_architecture(void *into, const struct option_row *row,
                                     const char *value)
{
    struct train_options *options = &((struct train_command *)into)->train;
    options->mixer = strcmp(value, "mamba2") == 0 ? MIXER_MAMBA2 : MIXER_MAMBA1;
    if (options->mixer == MIXER_MAMBA2 || strcmp(value, "mamba1") == 0)
        return OK;
    return fail(E_USAGE, "--%s: '%s' is neither 'mamba1' nor 'mamba2'",
                row->name, value);
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
    {.letter = 'o',
     .name = "output",
     .argument = "FILE",
     INTO_TEXT(AT(train.output)),
     .help = "the int8 model to write"},
    {.name = "init",
     .argument = "FILE|NAME",
     INTO_TEXT(AT(train.init)),
     .help = "start from a model, int8 or floats (fine-tuning)"},
    {.name = "architecture",
     .argument = "mamba1|mamba2",
     .take = take_architecture,
     .help = "the mixer of a new model (mamba2)"},
    {.name = "d-model",
     .argument = "N",
     .take = take_d_model,
     .where = AT(train.d_model),
     .low = 4,
     .high = D_MODEL_MAX,
     .help = "width of a new model (256)"},
    {.name = "n-layer",
     .argument = "N",
     INTO_INTEGER(AT(train.n_layer), 1, N_LAYER_MAX),
     .help = "layers of a new model (6)"},
    {.name = "expand",
     .argument = "N",
     INTO_INTEGER(AT(train.expand), 1, 16),
     .help = "inner width, as a multiple of the width (2)"},
    {.name = "d-state",
     .argument = "N",
     INTO_INTEGER(AT(train.d_state), 4, MAMBA2_D_STATE_MAX),
     .help = "size of a channel's state: a multiple of 16 (64);\n"
             "of Mamba-1 a power of two up to 64 (16)"},
    {.name = "d-conv",
     .argument = "N",
     INTO_INTEGER(AT(train.d_conv), 2, D_CONV_MAX),
     .help = "taps of the convolution (4)"},
    {.name = "dt-rank",
     .argument = "N",
     INTO_INTEGER(AT(train.dt_rank), 1, D_MODEL_MAX),
     .help = "inputs of dt_proj (a 16th of the width); Mamba-1"},
    {.name = "head-dim",
     .argument = "N",
     INTO_INTEGER(AT(train.headdim), 8, HEADDIM_MAX),
     .help = "channels of a head (the most up to 64); Mamba-2"},
    {.name = "groups",
     .argument = "N",
     INTO_INTEGER(AT(train.n_groups), 1, MAMBA2_GROUPS_MAX),
     .help = "groups of heads that share B and C (1); Mamba-2"},
    {.name = "tied",
     INTO_BOOL(AT(train.is_tied)),
     .help = "the embedding serves as lm_head too"},

    {.help = "A classifier, in place of a model"},
    {.name = "head",
     .argument = "LABELS",
     INTO_TEXT(AT(classifier.examples)),
     .help = "train a head for mambyte --classify from lines of\n"
             "LABEL, a tab and TEXT, or __label__LABEL TEXT"},
    {.name = "test",
     .argument = "LABELS",
     INTO_TEXT(AT(classifier.test)),
     .help = "report on these records, not on a tenth held out"},
    {.letter = 'm',
     .name = "model",
     .argument = "FILE|NAME",
     INTO_TEXT(AT(classifier.model)),
     .help = "the model of the head; also MAMBYTE_MODEL"},
    {.name = "no-features",
     INTO_BOOL(AT(classifier.has_no_features)),
     .help = "a head without the model's features: it needs no\n"
             "model, and is far faster"},

    {.help = "Length of the run (by default as many bytes as there are)"},
    {.name = "steps",
     .argument = "N",
     INTO_INTEGER(AT(train.n_steps), 1, 0x1p40),
     .help = "train for N steps"},
    {.name = "bytes",
     .argument = "N",
     INTO_INTEGER(AT(train.n_bytes), 1, 0x1p60),
     .help = "train on N bytes"},
    {.name = "minutes",
     .argument = "M",
     INTO_REAL(AT(train.minutes), 0.001, 1e6),
     .help = "train for M minutes"},

    {.help = "A step"},
    {.name = "windows",
     .argument = "N",
     INTO_INTEGER(AT(train.n_windows), 1, 4096),
     .help = "windows, each of a stream of its own (8)"},
    {.name = "length",
     .argument = "N",
     INTO_INTEGER(AT(train.n_t), 1, 1 << 20),
     .help = "bytes of a window (512)"},
    {.name = "carry",
     .argument = "N",
     INTO_INTEGER(AT(train.carry), 1, 1 << 20),
     .help = "windows through which the state is carried (16)"},
    {.name = "rate",
     .argument = "R",
     INTO_REAL(AT(train.learning_rate), 0, 10),
     .help = "largest learning rate (0.0025)"},
    {.name = "warmup",
     .argument = "N",
     INTO_INTEGER(AT(train.warmup), 0, 0x1p40),
     .help =
         "steps over which the rate rises (100, at most a\ntenth of the run)"},
    {.name = "decay",
     .argument = "SHARE",
     INTO_REAL(AT(train.decay_share), 0, 1),
     .help = "share of the run over which it falls to 0 (0.35)"},
    {.name = "weight-decay",
     .argument = "D",
     INTO_REAL(AT(train.weight_decay), 0, 10),
     .help = "weight decay of the matrices (0.05)"},
    {.name = "clip",
     .argument = "NORM",
     INTO_REAL(AT(train.clip), 1e-6, 1e6),
     .help = "largest norm of the gradient (1)"},
    {.name = "seed",
     .argument = "N",
     INTO_INTEGER(AT(train.seed), 0, 0x1p63),
     .help = "seed of all random choices (0)"},
    {.name = "imitate",
     .argument = "int8|none",
     .take = take_imitate,
     .help = "round as the finished model does, or not (int8)"},

    {.help = "Validation"},
    {.name = "valid",
     .argument = "FILE|DIR",
     INTO_LIST(AT(train.valids)),
     .help = "validate on these, hold nothing out; may be given\n"
             "several times"},
    {.name = "valid-bytes",
     .argument = "N",
     INTO_INTEGER(AT(train.valid_bytes), 1, 0x1p60),
     .help = "validate on at most N bytes of each source (256K)"},
    {.name = "valid-every",
     .argument = "STEPS",
     INTO_INTEGER(AT(train.valid_every), 0, 0x1p40),
     .help = "validate this often; 0: only at the end (500)"},

    {.help = "Files of the run"},
    {.name = "log",
     .argument = "FILE",
     INTO_TEXT(AT(train.log)),
     .help = "write a line for each step, columns by tabs"},
    {.name = "plot",
     .argument = "FILE",
     INTO_TEXT(AT(train.plot)),
     .help = "at the end, draw the log as SVG or PNG (gnuplot)"},
    {.name = "checkpoint",
     .argument = "FILE",
     INTO_TEXT(AT(train.checkpoint)),
     .help = "where to keep the run (the output, with\n"
             ".checkpoint added)"},
    {.name = "checkpoint-minutes",
     .argument = "M",
     INTO_REAL(AT(train.checkpoint_minutes), 0, 1e6),
     .help = "write it this often, besides at the end (10)"},
    {.name = "resume",
     INTO_BOOL(AT(train.resumes)),
     .help = "go on from the checkpoint"},
    ROW_FORCE(AT(machine.force),
              "replace files of another kind, and the checkpoint\n"
              "of another run"),

    {.help = "The machine"},
    ROW_DEVICE(AT(train.engine),
               "where to compute (auto: a GPU if there is one)"),
    {.name = "gpus",
     .argument = "N",
     INTO_INTEGER(AT(train.n_gpus), 1, 1024),
     .help = "divide the windows of a step among N GPUs (1)"},
    ROW_THREADS(AT(train.engine.n_threads)),
    ROWS_MACHINE(AT(machine), "say what is trained, where and on what"),
};

enum { N_ROWS = sizeof rows / sizeof rows[0] };

const struct option_table train_options_table = {
    .rows = rows,
    .n = N_ROWS,
    .program = "mambyte-train",
    .usage = "[OPTION]... -o MODEL FILE|DIR[=WEIGHT]...",
    .about = "Train a byte-level Mamba model on files, or improve one; or "
             "train a\n"
             "classifier on one: --head=LABELS -o HEAD.\n",
};

/* ---- parsing ------------------------------------------------------------ */

/* The options that train a model do not go with --head. */
static enum status check_classifier(const struct train_command *command,
                                    const bool *given)
{
    static const char *const known[] = {
        "output",   "head",  "test",    "model",    "device", "threads",
        "memlimit", "quiet", "verbose", "progress", "force",  "no-features",
    };
    for (int i = 0; i < N_ROWS; i++) {
        size_t j = 0, n = sizeof known / sizeof known[0];
        while (given[i] && j < n && strcmp(rows[i].name, known[j]) != 0)
            j++;
        if (j == n)
            return fail(E_USAGE, "--%s does not go with --head", rows[i].name);
    }
    if (!command->classifier.output)
        return fail(E_USAGE, "--output needs a FILE for the head");
    if (command->classifier.has_no_features && command->classifier.model)
        return fail(E_USAGE, "--model and --no-features do not go together");
    if (command->train.n_operands > 0)
        return fail(E_USAGE, "there is nothing to do with '%s'",
                    command->train.operands[0]);
    return OK;
}

static enum status check_mamba1(const struct train_options *o)
{
    if (o->d_state > D_STATE_MAX || (o->d_state & (o->d_state - 1)))
        return fail(E_USAGE,
                    "--d-state: %" PRIu64 " is not a power of two up to %d",
                    o->d_state, D_STATE_MAX);
    return OK;
}

/* Without --head-dim, heads are as large as they can be up to 64. */
static void set_headdim(struct train_options *o)
{
    uint64_t d_inner = o->d_model * o->expand;
    if (o->headdim > 0)
        return;
    o->headdim = 64;
    while (o->headdim > 8 && d_inner % o->headdim != 0)
        o->headdim -= 8;
}

static enum status check_mamba2(const struct train_options *o)
{
    uint64_t d_inner = o->d_model * o->expand;
    if (o->d_state % 16 != 0)
        return fail(E_USAGE, "--d-state: %" PRIu64 " is not a multiple of 16",
                    o->d_state);
    if (o->headdim % 8 != 0)
        return fail(E_USAGE, "--head-dim: %" PRIu64 " is not a multiple of 8",
                    o->headdim);
    if (d_inner % o->headdim != 0)
        return fail(E_USAGE,
                    "--d-model times --expand, %" PRIu64
                    ", is not a multiple of --head-dim, %" PRIu64,
                    d_inner, o->headdim);
    if (d_inner / o->headdim % o->n_groups != 0)
        return fail(E_USAGE,
                    "%" PRIu64
                    " heads are not a multiple of --groups, %" PRIu64,
                    d_inner / o->headdim, o->n_groups);
    return OK;
}

static enum status check_shape(const struct train_options *o)
{
    if (o->d_model * o->expand > D_INNER_MAX)
        return fail(E_USAGE, "--d-model times --expand is above %d",
                    D_INNER_MAX);
    return o->mixer == MIXER_MAMBA1 ? check_mamba1(o) : check_mamba2(o);
}

/* The sizes of a new model: which mixer has them, by a bit. */
enum { OF_MAMBA1 = 1 << MIXER_MAMBA1, OF_MAMBA2 = 1 << MIXER_MAMBA2 };

static const struct {
    const char *name;
    int mixers;
} new_model[] = {
    {"architecture", OF_MAMBA1 | OF_MAMBA2},
    {"d-model", OF_MAMBA1 | OF_MAMBA2},
    {"n-layer", OF_MAMBA1 | OF_MAMBA2},
    {"expand", OF_MAMBA1 | OF_MAMBA2},
    {"d-state", OF_MAMBA1 | OF_MAMBA2},
    {"d-conv", OF_MAMBA1 | OF_MAMBA2},
    {"dt-rank", OF_MAMBA1},
    {"head-dim", OF_MAMBA2},
    {"groups", OF_MAMBA2},
    {"tied", OF_MAMBA1 | OF_MAMBA2},
};

/* The options that would do nothing. */
static enum status check_new_model(const struct train_options *o,
                                   const bool *given)
{
    for (size_t i = 0; i < sizeof new_model / sizeof new_model[0]; i++) {
        const char *name = new_model[i].name;
        if (!option_table_is_given(&train_options_table, given, name))
            continue;
        if (o->init)
            return fail(E_USAGE,
                        "--%s does not go with --init, whose model has its "
                        "shape",
                        name);
        if (!(new_model[i].mixers & 1 << o->mixer))
            return fail(E_USAGE, "--%s does not go with --architecture=%s",
                        name, o->mixer == MIXER_MAMBA1 ? "mamba1" : "mamba2");
    }
    return OK;
}

static enum status check_model(const struct train_command *command,
                               const bool *given)
{
    const struct train_options *o = &command->train;
    TRY(check_new_model(o, given));
    TRY(check_shape(o));
    const struct classifier_options *c = &command->classifier;
    if (c->test || c->model || c->has_no_features)
        return fail(E_USAGE, "--%s needs --head",
                    c->test    ? "test"
                    : c->model ? "model"
                               : "no-features");
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
    return OK;
}

/* By default it lies beside the model. */
static enum status name_checkpoint(struct train_command *command)
{
    struct train_options *o = &command->train;
    size_t room = sizeof command->checkpoint;
    if (o->checkpoint)
        return OK;
    if ((size_t)snprintf(command->checkpoint, room, "%s.checkpoint",
                         o->output) >= room)
        return fail(E_USAGE, "--output: the name is too long");
    o->checkpoint = command->checkpoint;
    return OK;
}

static void set_defaults(struct train_command *command)
{
    command->train = (struct train_options){
        .d_model = 256,
        .n_layer = 6,
        .mixer = MIXER_MAMBA2,
        .n_groups = 1,
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
    command->machine.verbosity = NORMAL;
}

enum status train_options_parse(struct train_command *command, int argc,
                                char **argv)
{
    bool given[N_ROWS];
    int first;
    *command = (struct train_command){0};
    set_defaults(command);
    TRY(option_table_read(&train_options_table, command, given, argc, argv,
                          &first));
    if (machine_wants_text(&command->machine))
        return OK;
    command->train.operands = (const char *const *)argv + first;
    command->train.n_operands = argc - first;
    set_headdim(&command->train);
    if (!command->classifier.examples) {
        TRY(check_model(command, given));
        return name_checkpoint(command);
    }
    command->classifier.output = command->train.output;
    TRY(check_classifier(command, given));
    if (!command->classifier.model)
        command->classifier.model = options_environment_model();
    return OK;
}
