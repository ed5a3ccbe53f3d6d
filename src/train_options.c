/* train_options.c -- the command line of mambyte-train, understood.
 *
 * As in options.c every option is a row of a table, from which come the
 * parser and --help.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train_options.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "exact.h"
#include "model.h"

struct row {
    int letter;       /* of the short option, or 0                         */
    const char *name; /* NULL: a heading                                   */
    const char *argument;
    enum status (*take)(struct train_options *, const struct row *,
                        const char *value);
    size_t where;     /* in struct train_options                           */
    double low, high; /* bounds of a number                                */
    const char *help; /* lines                                             */
};

#define AT(member) offsetof(struct train_options, member)

/* ---- taking values in --------------------------------------------------- */

static void *member(struct train_options *options, const struct row *row)
{
    return (char *)options + row->where;
}

static enum status take_true(struct train_options *options,
                             const struct row *row, const char *value)
{
    (void)value;
    *(bool *)member(options, row) = true;
    return OK;
}

static enum status take_text(struct train_options *options,
                             const struct row *row, const char *value)
{
    if (*value == '\0')
        return fail(E_USAGE, "--%s needs a %s that is not empty", row->name,
                    row->argument);
    *(const char **)member(options, row) = value;
    return OK;
}

/* Factors of 1024: the letter, alone or followed by "iB". */
static bool parse_suffix(const char *text, uint64_t *factor)
{
    static const char letters[] = "KMGT";
    *factor = 1;
    if (*text == '\0')
        return true;
    const char *letter = strchr(letters, *text == 'k' ? 'K' : *text);
    if (!letter || (text[1] != '\0' && strcmp(text + 1, "iB") != 0))
        return false;
    *factor <<= 10 * (letter - letters + 1);
    return true;
}

static enum status take_integer(struct train_options *options,
                                const struct row *row, const char *value)
{
    char *end = NULL;
    uint64_t factor;
    errno = 0;
    unsigned long long v = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || errno != 0 ||
        !parse_suffix(end, &factor) || v > UINT64_MAX / factor)
        return fail(E_USAGE, "--%s: '%s' is not a whole number", row->name,
                    value);
    v *= factor;
    if ((double)v < row->low || (double)v > row->high)
        return fail(E_USAGE, "--%s: %s is not between %.0f and %.0f", row->name,
                    value, row->low, row->high);
    *(uint64_t *)member(options, row) = v;
    return OK;
}

static enum status take_real(struct train_options *options,
                             const struct row *row, const char *value)
{
    char *end;
    double v = strtod(value, &end);
    bool is_decimal = strspn(value, "0123456789.eE+-") == strlen(value);
    if (end == value || *end != '\0' || !is_decimal)
        return fail(E_USAGE, "--%s: '%s' is not a number", row->name, value);
    if (!(v >= row->low && v <= row->high))
        return fail(E_USAGE, "--%s: %s is not between %g and %g", row->name,
                    value, row->low, row->high);
    *(double *)member(options, row) = v;
    return OK;
}

static enum status take_d_state(struct train_options *options,
                                const struct row *row, const char *value)
{
    TRY(take_integer(options, row, value));
    if (options->d_state & (options->d_state - 1))
        return fail(E_USAGE, "--%s: %s is not a power of two", row->name,
                    value);
    return OK;
}

static enum status take_d_model(struct train_options *options,
                                const struct row *row, const char *value)
{
    TRY(take_integer(options, row, value));
    if (options->d_model % 4 != 0)
        return fail(E_USAGE, "--%s: %s is not a multiple of 4", row->name,
                    value);
    return OK;
}

static enum status take_imitate(struct train_options *options,
                                const struct row *row, const char *value)
{
    options->imitates_int8 = strcmp(value, "int8") == 0;
    if (options->imitates_int8 || strcmp(value, "none") == 0)
        return OK;
    return fail(E_USAGE, "--%s: '%s' is neither 'int8' nor 'none'", row->name,
                value);
}

static enum status take_valid(struct train_options *options,
                              const struct row *row, const char *value)
{
    if (*value == '\0')
        return fail(E_USAGE, "--%s needs a name that is not empty", row->name);
    if (options->n_valids == VALIDS_MAX)
        return fail(E_USAGE, "--%s: more than %d of them", row->name,
                    VALIDS_MAX);
    options->valids[options->n_valids++] = value;
    return OK;
}

static enum status take_device(struct train_options *options,
                               const struct row *row, const char *value)
{
    (void)options;
    if (strcmp(value, "auto") == 0 || strcmp(value, "cpu") == 0)
        return OK;
    if (strncmp(value, "cuda", 4) == 0)
        return fail(E_DEVICE, "--%s=%s: this version trains on the CPU only",
                    row->name, value);
    return fail(E_USAGE, "--%s: '%s' is not auto, cpu, cuda or cuda:N",
                row->name, value);
}

static enum status take_verbosity(struct train_options *options,
                                  const struct row *row, const char *value)
{
    (void)value;
    options->verbosity = (enum verbosity)row->where;
    return OK;
}

/* ---- the table ---------------------------------------------------------- */

static const struct row table[] = {
    {.help = "The model"},
    {'o', "output", "FILE", take_text, AT(output), 0, 0,
     "the int8 model to write"},
    {0, "init", "MODEL", take_text, AT(init), 0, 0,
     "go on from an int8 model (fine-tuning)"},
    {0, "d-model", "N", take_d_model, AT(d_model), 4, D_MODEL_MAX,
     "width of a new model (256)"},
    {0, "n-layer", "N", take_integer, AT(n_layer), 1, N_LAYER_MAX,
     "its layers (6)"},
    {0, "expand", "N", take_integer, AT(expand), 1, 16,
     "its inner width, in widths (2)"},
    {0, "d-state", "N", take_d_state, AT(d_state), 4, D_STATE_MAX,
     "states a channel, a power of two (16)"},
    {0, "d-conv", "N", take_integer, AT(d_conv), 2, D_CONV_MAX,
     "taps of the convolution (4)"},
    {0, "dt-rank", "N", take_integer, AT(dt_rank), 1, D_MODEL_MAX,
     "inputs of the step (a 16th of the width)"},
    {0, "tied", NULL, take_true, AT(is_tied), 0, 0,
     "the head is the embedding"},

    {.help = "How long (without any of these: every byte once)"},
    {0, "steps", "N", take_integer, AT(n_steps), 1, 0x1p40, "so many steps"},
    {0, "bytes", "N", take_integer, AT(n_bytes), 1, 0x1p60, "so many bytes"},
    {0, "minutes", "M", take_real, AT(minutes), 0.001, 1e6, "so long"},

    {.help = "A step"},
    {0, "windows", "N", take_integer, AT(n_windows), 1, 4096,
     "windows, each of a stream of its own (8)"},
    {0, "length", "N", take_integer, AT(n_t), 1, 1 << 20,
     "bytes of a window (512)"},
    {0, "carry", "N", take_integer, AT(carry), 1, 1 << 20,
     "windows through which a state is carried (16)"},
    {0, "rate", "R", take_real, AT(learning_rate), 0, 10,
     "the largest learning rate (0.0025)"},
    {0, "warmup", "N", take_integer, AT(warmup), 0, 0x1p40,
     "steps over which the rate rises (100, at most a\ntenth of the run)"},
    {0, "decay", "SHARE", take_real, AT(decay_share), 0, 1,
     "of the run, over which it falls to 0 (0.35)"},
    {0, "weight-decay", "D", take_real, AT(weight_decay), 0, 10,
     "of the matrices (0.05)"},
    {0, "clip", "NORM", take_real, AT(clip), 1e-6, 1e6,
     "the largest gradient (1)"},
    {0, "seed", "N", take_integer, AT(seed), 0, 0x1p63,
     "of all random choices (0)"},
    {0, "imitate", "int8|none", take_imitate, 0, 0, 0,
     "compute as the finished model will (int8)"},

    {.help = "Validation"},
    {0, "valid", "FILE|DIR", take_valid, 0, 0, 0,
     "validate on these, hold nothing out; may be given\n"
     "several times"},
    {0, "valid-bytes", "N", take_integer, AT(valid_bytes), 1, 0x1p60,
     "of each source, at most (256K)"},
    {0, "valid-every", "STEPS", take_integer, AT(valid_every), 0, 0x1p40,
     "how often; 0 is at the end only (500)"},

    {.help = "What is kept"},
    {0, "log", "FILE", take_text, AT(log), 0, 0,
     "a line a step, as tab-separated values"},
    {0, "plot", "FILE", take_text, AT(plot), 0, 0,
     "draw the log as SVG or PNG at the end, by gnuplot"},
    {0, "checkpoint", "FILE", take_text, AT(checkpoint), 0, 0,
     "where to keep the run (the output, .checkpoint\nadded)"},
    {0, "checkpoint-minutes", "M", take_real, AT(checkpoint_minutes), 0, 1e6,
     "how often, besides at the end and on signals (10)"},
    {0, "resume", NULL, take_true, AT(resumes), 0, 0,
     "go on from the checkpoint"},

    {.help = "The machine"},
    {0, "device", "auto|cpu|cuda[:N]", take_device, 0, 0, 0,
     "where to compute"},
    {'T', "threads", "N", take_integer, AT(n_threads), 0, 1024,
     "of the CPU; 0 is one a core (0)"},
    {'q', "quiet", NULL, take_verbosity, SILENT, 0, 0, "no progress, no notes"},
    {'v', "verbose", NULL, take_verbosity, VERBOSE, 0, 0,
     "say what is trained, where and on what"},
    {0, "progress", NULL, take_true, AT(progress), 0, 0,
     "show progress even if stderr is no terminal"},
    {0, "help", NULL, take_true, AT(wants_help), 0, 0, "this text"},
    {0, "version", NULL, take_true, AT(wants_version), 0, 0, "the version"},
};

enum { N_ROWS = sizeof table / sizeof table[0], FIRST_LONG = 1000 };

/* ---- parsing ------------------------------------------------------------ */

/* What getopt_long wants: rows with a name, and the letters. */
static void make_getopt(struct option longs[N_ROWS + 1],
                        char shorts[2 * N_ROWS + 2])
{
    size_t n = 0;
    *shorts++ = ':';
    for (int i = 0; i < N_ROWS; i++) {
        if (!table[i].name)
            continue;
        longs[n++] = (struct option){table[i].name, table[i].argument != NULL,
                                     NULL, FIRST_LONG + i};
        if (table[i].letter)
            *shorts++ = (char)table[i].letter;
        if (table[i].letter && table[i].argument)
            *shorts++ = ':';
    }
    longs[n] = (struct option){0};
    *shorts = '\0';
}

/* c: what getopt_long gave, not '?'. */
static const struct row *row_of(int c)
{
    if (c >= FIRST_LONG)
        return &table[c - FIRST_LONG];
    const struct row *row = table;
    while (row->letter != c)
        row++;
    return row;
}

/* What getopt_long did not accept: a letter in optopt, or the word before
 * optind. */
static enum status bad_option(char **argv)
{
    if (optopt > 0 && optopt < FIRST_LONG)
        return fail(E_USAGE, "unknown option '-%c'", optopt);
    const char *word = argv[optind - 1];
    int n = (int)strcspn(word, "=");
    if (optopt >= FIRST_LONG)
        return fail(E_USAGE, "%.*s takes no argument", n, word);
    return fail(E_USAGE, "unknown or ambiguous option '%.*s'", n, word);
}

static enum status check(const struct train_options *o)
{
    if (o->n_operands == 0)
        return fail(E_USAGE, "there is no FILE to learn from");
    if (!o->output)
        return fail(E_USAGE, "--output needs a FILE for the model");
    if ((o->n_steps > 0) + (o->n_bytes > 0) + (o->minutes > 0) > 1)
        return fail(E_USAGE,
                    "--steps, --bytes and --minutes do not go together");
    if (o->plot && !o->log)
        return fail(E_USAGE, "--plot needs a --log to draw");
    if (o->n_windows * o->n_t > INT32_MAX / 4)
        return fail(E_USAGE, "--windows times --length is too large");
    if (o->d_model * o->expand > D_INNER_MAX)
        return fail(E_USAGE, "--d-model times --expand is above %d",
                    D_INNER_MAX);
    return OK;
}

static void set_defaults(struct train_options *options)
{
    *options = (struct train_options){
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
        .valid_bytes = 1 << 18,
        .valid_every = 500,
        .checkpoint_minutes = 10,
        .verbosity = NORMAL,
    };
}

enum status train_options_parse(struct train_options *options, int argc,
                                char **argv)
{
    struct option longs[N_ROWS + 1];
    char shorts[2 * N_ROWS + 2];
    set_defaults(options);
    make_getopt(longs, shorts);
    optind = 0; /* start anew, however often we are called */
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (c == '?')
            return bad_option(argv);
        if (c == ':')
            return fail(E_USAGE, "--%s needs %s", row_of(optopt)->name,
                        row_of(optopt)->argument);
        const struct row *row = row_of(c);
        TRY(row->take(options, row, optarg));
        if (options->wants_help || options->wants_version)
            return OK;
    }
    options->operands = (const char *const *)argv + optind;
    options->n_operands = argc - optind;
    return check(options);
}

/* ---- help --------------------------------------------------------------- */

enum { HELP_COLUMN = 30 };

static enum status print_row(struct sink *sink, const struct row *row)
{
    char names[80];
    int n = snprintf(
        names, sizeof names, "  %c%c%c --%s%s%s", row->letter ? '-' : ' ',
        row->letter ? row->letter : ' ', row->letter ? ',' : ' ', row->name,
        row->argument ? "=" : "", row->argument ? row->argument : "");
    TRY(sink_text(sink, names));
    if (n > HELP_COLUMN - 2) {
        TRY(sink_text(sink, "\n"));
        n = 0;
    }
    for (const char *line = row->help; line; n = 0) {
        const char *next = strchr(line, '\n');
        int length = (int)(next ? (size_t)(next - line) : strlen(line));
        TRY(sink_format(sink, "%*s%.*s\n", HELP_COLUMN - n, "", length, line));
        line = next ? next + 1 : NULL;
    }
    return OK;
}

enum status train_options_print_help(struct sink *sink)
{
    TRY(sink_format(sink,
                    "Usage: %s [OPTION]... -o MODEL FILE|DIR[=WEIGHT]"
                    "...\n",
                    message_program()));
    TRY(sink_text(sink, "Train a byte-level Mamba model on files, or improve "
                        "one.\n"));
    for (int i = 0; i < N_ROWS; i++) {
        if (table[i].name)
            TRY(print_row(sink, &table[i]));
        else
            TRY(sink_format(sink, "\n%s:\n", table[i].help));
    }
    return sink_text(sink,
                     "\nIn parentheses: the default.  N may end in K, M or G "
                     "(powers of 1024).\n"
                     "The exit status is 0, 1 when something failed, 2 when "
                     "the command is wrong.\n"
                     "'man mambyte-train' has examples.\n");
}

enum status train_options_print_version(struct sink *sink)
{
    return sink_format(sink, "mambyte-train %s (arithmetic %d)\n",
                       PACKAGE_VERSION, EXACT_VERSION);
}
