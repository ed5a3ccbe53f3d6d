/* options.c -- reads the command line: every option is a row of the table
 * (option_table.h).
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/options.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "cmd/machine_options.h"
#include "compress/block.h"

#define BIT(mode)  (1u << (mode))
#define GENERATE   BIT(MODE_GENERATE)
#define SCORE      BIT(MODE_SCORE)
#define PERPLEXITY BIT(MODE_PERPLEXITY)
#define NEXT       BIT(MODE_NEXT)
#define TABLES     (PERPLEXITY | SCORE | BIT(MODE_SURPRISAL) | NEXT)
#define CLASSIFY   BIT(MODE_CLASSIFY)
#define RECORDS    (CLASSIFY | BIT(MODE_EMBED))
#define READERS    (GENERATE | TABLES | BIT(MODE_COLOR))
#define COMPRESS   BIT(MODE_COMPRESS)
#define DECOMPRESS BIT(MODE_DECOMPRESS)
#define UNPACKERS  (DECOMPRESS | BIT(MODE_TEST) | BIT(MODE_LIST))
#define CONVERTERS (COMPRESS | DECOMPRESS | BIT(MODE_TEST))
#define AT(member) offsetof(struct options, member)

/* ---- taking values ------------------------------------------------------ */

/* The two modes that have an argument. */
static enum status take_classify(void *into, const struct option_row *row,
                                 const char *value)
{
    struct options *options = into;
    TRY(option_take_text(options, row, value));
    options->mode = MODE_CLASSIFY;
    return OK;
}

static enum status take_next(void *into, const struct option_row *row,
                             const char *value)
{
    struct options *options = into;
    if (value)
        TRY(option_take_int(options, row, value));
    options->mode = MODE_NEXT;
    return OK;
}

static enum status take_top_p(void *into, const struct option_row *row,
                              const char *value)
{
    struct options *options = into;
    TRY(option_take_real(options, row, value));
    if (options->top_p == 0)
        return fail(E_USAGE, "--%s: 0 leaves no byte to choose", row->name);
    return OK;
}

static enum status take_stop(void *into, const struct option_row *row,
                             const char *value)
{
    struct options *options = into;
    if (*value == '\0')
        return fail(E_USAGE, "--%s needs a string that is not empty",
                    row->name);
    if (strlen(value) > STOP_BYTES_MAX)
        return fail(E_USAGE, "--%s: the string is longer than %d bytes",
                    row->name, STOP_BYTES_MAX);
    if (options->n_stops == STOPS_MAX)
        return fail(E_USAGE, "--%s: more than %d strings", row->name,
                    STOPS_MAX);
    options->stops[options->n_stops++] = value;
    return OK;
}

static enum status take_seed(void *into, const struct option_row *row,
                             const char *value)
{
    struct options *options = into;
    options->is_seed_random = strcmp(value, "random") == 0;
    if (options->is_seed_random || number_parse(value, &options->seed))
        return OK;
    return fail(E_USAGE,
                "--%s: '%s' is neither a whole number below 2^64 nor 'random'",
                row->name, value);
}

static enum status take_context(void *into, const struct option_row *row,
                                const char *value)
{
    struct options *options = into;
    options->resets_context = strcmp(value, "reset") == 0;
    if (options->resets_context || strcmp(value, "carry") == 0)
        return OK;
    return fail(E_USAGE, "--%s: '%s' is neither 'carry' nor 'reset'", row->name,
                value);
}

static enum status take_range(void *into, const struct option_row *row,
                              const char *value)
{
    struct options *options = into;
    char offset[32];
    size_t n = strcspn(value, ":");
    if (value[n] == ':' && n < sizeof offset) {
        memcpy(offset, value, n);
        offset[n] = '\0';
        options->has_range =
            number_parse(offset, &options->range_offset) &&
            number_parse(value + n + 1, &options->range_length);
        if (options->has_range)
            return OK;
    }
    return fail(E_USAGE, "--%s: '%s' is not OFFSET:LENGTH in bytes", row->name,
                value);
}

/* ---- the table ---------------------------------------------------------- */

static const struct option_row rows[] = {
    {.help = "Modes (the last one wins; without one, the input is continued)"},
    {.name = "perplexity",
     INTO_ENUM(AT(mode), MODE_PERPLEXITY),
     .help = "a line for each FILE: name, bytes, bits, bits per\n"
             "byte, perplexity; and a total"},
    {.name = "score",
     INTO_ENUM(AT(mode), MODE_SCORE),
     .help = "a line for each record, as soon as it ends: bits,\n"
             "bytes, bits per byte, record"},
    {.name = "surprisal",
     INTO_ENUM(AT(mode), MODE_SURPRISAL),
     .help = "a line for each byte: offset, byte, bits"},
    {.name = "next",
     .argument = "K",
     .may_lack = true,
     .take = take_next,
     .where = AT(n_next),
     .choice = MODE_NEXT,
     .low = 1,
     .high = 256,
     .help = "a line for each of the K most likely next bytes\n"
             "after FILE: byte, probability, bits (10)"},
    {.name = "color",
     INTO_ENUM(AT(mode), MODE_COLOR),
     .help = "the text itself, coloured by surprisal"},
    {.name = "classify",
     .argument = "HEAD",
     .take = take_classify,
     .where = AT(classify),
     .choice = MODE_CLASSIFY,
     .help = "a line for each record, as soon as it ends:\n"
             "label, probability, record.  HEAD is a file, a\n"
             "name, or STATE,STATE,...: a state for each label"},
    {.name = "embed",
     INTO_ENUM(AT(mode), MODE_EMBED),
     .help = "a line for each record: its features, as numbers"},
    {.letter = 'z',
     .name = "compress",
     INTO_ENUM(AT(mode), MODE_COMPRESS),
     .help = "FILE to FILE.mbz, or standard input to output"},
    {.letter = 'd',
     .name = "decompress",
     INTO_ENUM(AT(mode), MODE_DECOMPRESS),
     .help = "FILE.mbz to FILE, or standard input to output"},
    {.letter = 't',
     .name = "test",
     INTO_ENUM(AT(mode), MODE_TEST),
     .help = "decompress and check, write nothing"},
    {.letter = 'l',
     .name = "list",
     INTO_ENUM(AT(mode), MODE_LIST),
     .help = "list the sizes of compressed files"},
    {.name = "info",
     INTO_ENUM(AT(mode), MODE_INFO),
     .help = "shape, size and origin of the model"},
    {.name = "list-models",
     INTO_ENUM(AT(mode), MODE_LIST_MODELS),
     .help = "models and heads that are found by name"},
    {.letter = 'h',
     .name = "help",
     INTO_ENUM(AT(mode), MODE_HELP),
     .help = "this text"},
    {.letter = 'V',
     .name = "version",
     INTO_ENUM(AT(mode), MODE_VERSION),
     .help = "the version, and that of the arithmetic"},

    {.help = "Continuing the input"},
    {.letter = 'n',
     .name = "bytes",
     .argument = "N",
     .modes = GENERATE,
     INTO_INTEGER(AT(n_bytes), 0, 0x1p62),
     .help = "write at most N bytes (256)"},
    {.name = "temp",
     .argument = "T",
     .modes = GENERATE | NEXT,
     INTO_REAL(AT(temperature), 0, 100),
     .help = "temperature; 0: always the most likely byte (0.8;\n"
             "with --next 1)"},
    {.name = "top-k",
     .argument = "K",
     .modes = GENERATE,
     INTO_INTEGER(AT(top_k), 1, 256),
     .help = "choose among the K most likely bytes (256)"},
    {.name = "top-p",
     .argument = "P",
     .modes = GENERATE,
     .take = take_top_p,
     .where = AT(top_p),
     .low = 0,
     .high = 1,
     .help = "among the fewest with probability P together (1)"},
    {.name = "min-p",
     .argument = "P",
     .modes = GENERATE,
     INTO_REAL(AT(min_p), 0, 1),
     .help = "among those at least P times as likely as the\n"
             "most likely one (0)"},
    {.name = "seed",
     .argument = "N|random",
     .modes = GENERATE,
     .take = take_seed,
     .help = "seed of the random numbers (0)"},
    {.name = "stop",
     .argument = "STRING",
     .modes = GENERATE,
     .take = take_stop,
     .help = "end before STRING; may be given several times"},
    {.name = "echo",
     .modes = GENERATE,
     INTO_BOOL(AT(echo)),
     .help = "write the input first"},
    {.name = "utf8",
     .modes = GENERATE,
     INTO_BOOL(AT(utf8)),
     .help = "write whole UTF-8 characters only"},

    {.help = "Scores"},
    {.letter = '0',
     .name = "null",
     .modes = SCORE | RECORDS,
     INTO_BOOL(AT(is_null_terminated)),
     .help = "records end with NUL, not with a newline"},
    {.name = "context",
     .argument = "carry|reset",
     .modes = SCORE,
     .take = take_context,
     .help = "predict a record from all before it (carry, the\n"
             "default), or from itself alone (reset)"},
    {.name = "threshold",
     .argument = "BITS|P",
     .modes = SCORE | CLASSIFY,
     INTO_REAL(AT(threshold), 0, 1e300),
     .help = "only records that cost at least BITS; - in place\n"
             "of a label whose probability is below P"},
    {.name = "words",
     .modes = PERPLEXITY,
     INTO_BOOL(AT(words)),
     .help = "add words, and perplexity of a word"},
    {.name = "json",
     .modes = TABLES | CLASSIFY | BIT(MODE_LIST) | BIT(MODE_INFO),
     INTO_BOOL(AT(json)),
     .help = "JSON Lines in place of columns"},

    {.help = "Labels"},
    {.name = "top",
     .argument = "K",
     .modes = CLASSIFY,
     INTO_INTEGER(AT(top), 1, 1024),
     .help = "the K likeliest labels of each record (1)"},
    {.name = "no-text",
     .modes = CLASSIFY,
     INTO_BOOL(AT(hides_text)),
     .help = "leave out the record"},
    {.name = "whole",
     .modes = RECORDS,
     INTO_BOOL(AT(whole_files)),
     .help = "each FILE is one record, shown by its name"},
    {.name = "prior",
     .argument = "P,P,...",
     .modes = CLASSIFY,
     INTO_TEXT(AT(prior)),
     .help = "how likely the labels of STATE,STATE,... are\n"
             "before anything is read (equally)"},
    {.name = "eval",
     .modes = CLASSIFY,
     INTO_BOOL(AT(eval)),
     .help = "FILE has lines of LABEL, a tab and TEXT: say how\n"
             "often labels are right, and show the confusion\n"
             "matrix"},
    {.name = "binary",
     .modes = BIT(MODE_EMBED),
     INTO_BOOL(AT(binary)),
     .help = "float32, little-endian, in place of columns"},

    {.help = "Compression"},
    {.letter = 'c',
     .name = "stdout",
     .modes = COMPRESS | UNPACKERS,
     INTO_BOOL(AT(to_stdout)),
     .help = "write to standard output and keep FILE"},
    {.letter = 'k',
     .name = "keep",
     .modes = COMPRESS | UNPACKERS,
     INTO_BOOL(AT(keep)),
     .help = "keep FILE"},
    {.letter = 'f',
     .name = "force",
     .modes = READERS | COMPRESS | UNPACKERS,
     INTO_BOOL(AT(force)),
     .help = "replace files, follow links, use a terminal;\n"
             "of --save-state: replace a file of any kind"},
    {.letter = 'B',
     .name = "blocks",
     .argument = "SIZE",
     .modes = COMPRESS | UNPACKERS,
     INTO_INTEGER(AT(block_bytes), BLOCK_MIN, BLOCK_MAX),
     .help = "compress in blocks of SIZE bytes (16M)"},
    {.name = "range",
     .argument = "OFFSET:LENGTH",
     .modes = DECOMPRESS,
     .take = take_range,
     .help = "write only these bytes, to standard output"},

    {.help = "State"},
    {.name = "load-state",
     .argument = "STATE",
     .modes = READERS,
     INTO_TEXT(AT(load_state)),
     .help = "start where STATE was saved"},
    {.name = "save-state",
     .argument = "STATE",
     .modes = READERS,
     INTO_TEXT(AT(save_state)),
     .help = "at the end, save what was read and written"},

    {.help = "Model and machine"},
    {.letter = 'm',
     .name = "model",
     .argument = "FILE|NAME",
     INTO_TEXT(AT(model)),
     .help = "the weights; also MAMBYTE_MODEL"},
    ROW_DEVICE(AT(engine), "where to compute (auto: a GPU if there is one)"),
    ROW_THREADS(AT(engine.n_threads)),
    ROW_MEMLIMIT(AT(memlimit)),
    ROW_QUIET(AT(verbosity)),
    ROW_VERBOSE(AT(verbosity),
                "report model, device, seed and speed on stderr"),
    ROW_PROGRESS(READERS | RECORDS | CONVERTERS, AT(progress)),
};

enum { N_ROWS = sizeof rows / sizeof rows[0] };

const struct option_table options_table = {
    .rows = rows,
    .n = N_ROWS,
    .program = "mambyte",
    .usage = "[OPTION]... [FILE]...",
    .about = "Read bytes with a byte-level Mamba model: continue, score, "
             "classify or compress\n"
             "them.  Without FILE, or where FILE is -, read standard input.\n",
};

/* ---- parsing ------------------------------------------------------------ */

/* One of the modes that a row goes with. */
static const char *needed_mode(const struct option_row *row)
{
    if (row->modes & COMPRESS)
        return "compress";
    if (row->modes & DECOMPRESS)
        return "decompress";
    if (row->modes & PERPLEXITY)
        return "perplexity";
    if (row->modes & SCORE)
        return "score";
    return row->modes & CLASSIFY ? "classify" : "embed";
}

static bool chooses_mode(const struct option_row *row)
{
    if (row->take == option_take_choice)
        return row->where == AT(mode);
    return row->take == take_classify || row->take == take_next;
}

/* The option that chooses the mode; NULL for the one without an option. */
static const char *name_of_mode(enum mode mode)
{
    for (int i = 0; i < N_ROWS; i++) {
        if (chooses_mode(&rows[i]) && rows[i].choice == (int)mode)
            return rows[i].name;
    }
    return NULL;
}

static enum status check_modes(const struct options *options, const bool *given)
{
    const char *mode = name_of_mode(options->mode);
    for (int i = 0; i < N_ROWS; i++) {
        bool goes_with_all = rows[i].modes == 0;
        if (!given[i] || goes_with_all || (rows[i].modes & BIT(options->mode)))
            continue;
        if (mode)
            return fail(E_USAGE, "--%s does not go with --%s", rows[i].name,
                        mode);
        return fail(E_USAGE, "--%s needs a mode such as --%s", rows[i].name,
                    needed_mode(&rows[i]));
    }
    return OK;
}

static enum status check_classify(const struct options *options)
{
    if (options->mode != MODE_CLASSIFY)
        return OK;
    if (options->threshold > 1)
        return fail(E_USAGE, "--threshold: a probability is at most 1");
    if (options->eval &&
        (options->json || options->whole_files || options->is_null_terminated))
        return fail(E_USAGE, "--eval does not go with --json, --whole, --null");
    return OK;
}

/* A temperature that was not given depends on the mode. */
static enum status set_temperature(struct options *options)
{
    bool is_next = options->mode == MODE_NEXT;
    if (options->temperature < 0)
        options->temperature = is_next ? 1 : 0.8;
    if (is_next && options->temperature == 0)
        return fail(E_USAGE, "--temp=0 does not go with --next");
    return OK;
}

/* Two readers of standard input would get a part of it each. */
static enum status check_input(const struct options *options)
{
    int n = options->load_state && strcmp(options->load_state, "-") == 0;
    for (int i = 0; i < options->n_files; i++)
        n += strcmp(options->files[i], "-") == 0;
    return n <= 1 ? OK : fail(E_USAGE, "standard input can be read only once");
}

static enum status take_operands(struct options *options, int n, char **words)
{
    static const char *const standard_input[] = {"-"};
    bool reads =
        BIT(options->mode) & (READERS | RECORDS | COMPRESS | UNPACKERS);
    if (n > 0 && !reads)
        return fail(E_USAGE, "there is nothing to do with '%s'%s", words[0],
                    options->mode == MODE_INFO ? ": --info takes --model=FILE"
                                               : "");
    options->files = n > 0 ? (const char *const *)words : standard_input;
    options->n_files = n > 0 ? n : 1;
    if (options->eval && n > 1)
        return fail(E_USAGE, "--eval takes one FILE");
    return check_input(options);
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

const char *options_environment_model(void)
{
    return environment("MAMBYTE_MODEL");
}

static void set_defaults(struct options *options)
{
    *options = (struct options){
        .n_bytes = 256,
        .temperature = -1,
        .top_k = 256,
        .top_p = 1,
        .top = 1,
        .n_next = 10,
        .block_bytes = 1 << 24,
        .model = options_environment_model(),
        .engine.cpu = environment("MAMBYTE_CPU"),
        .verbosity = NORMAL,
    };
}

enum status options_parse(struct options *options, int argc, char **argv)
{
    bool given[N_ROWS];
    int first;
    set_defaults(options);
    TRY(option_table_read(&options_table, options, given, argc, argv, &first));
    if (options->mode == MODE_HELP || options->mode == MODE_VERSION)
        return OK;
    TRY(check_modes(options, given));
    if (options->save_state && options->resets_context)
        return fail(E_USAGE, "--save-state does not go with --context=reset");
    TRY(check_classify(options));
    if (options->force && !options->save_state &&
        (BIT(options->mode) & READERS))
        return fail(E_USAGE,
                    "--force needs --save-state, or a mode such as --compress");
    TRY(set_temperature(options));
    return take_operands(options, argc - first, argv + first);
}
