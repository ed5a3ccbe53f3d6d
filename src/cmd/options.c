/* options.c -- the command line, understood: every option is a row of the
 * table (option_table.h).
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/options.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/machine_options.h"
#include "cmd/option_table.h"
#include "compress/block.h"

#define BIT(mode)  (1u << (mode))
#define ANY        OPTION_ANY
#define GENERATE   BIT(MODE_GENERATE)
#define SCORE      BIT(MODE_SCORE)
#define PERPLEXITY BIT(MODE_PERPLEXITY)
#define TABLES     (PERPLEXITY | SCORE | BIT(MODE_SURPRISAL))
#define CLASSIFY   BIT(MODE_CLASSIFY)
#define RECORDS    (CLASSIFY | BIT(MODE_EMBED))
#define READERS    (GENERATE | TABLES | BIT(MODE_COLOR))
#define COMPRESS   BIT(MODE_COMPRESS)
#define DECOMPRESS BIT(MODE_DECOMPRESS)
#define UNPACKERS  (DECOMPRESS | BIT(MODE_TEST) | BIT(MODE_LIST))
#define CONVERTERS (COMPRESS | DECOMPRESS | BIT(MODE_TEST))
#define AT(member) offsetof(struct options, member)

/* ---- taking values in --------------------------------------------------- */

static enum status take_mode(void *into, const struct option_row *row,
                             const char *value)
{
    struct options *options = into;
    (void)value;
    options->mode = (enum mode)row->where;
    return OK;
}

/* A mode that has an argument. */
static enum status take_classify(void *into, const struct option_row *row,
                                 const char *value)
{
    struct options *options = into;
    TRY(option_take_text(options, row, value));
    options->mode = MODE_CLASSIFY;
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
    if (options->is_seed_random || option_parse_integer(value, &options->seed))
        return OK;
    return fail(E_USAGE, "--%s: '%s' is neither a whole number nor 'random'",
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
            option_parse_integer(offset, &options->range_offset) &&
            option_parse_integer(value + n + 1, &options->range_length);
        if (options->has_range)
            return OK;
    }
    return fail(E_USAGE, "--%s: '%s' is not OFFSET:LENGTH in bytes", row->name,
                value);
}

/* ---- the table ---------------------------------------------------------- */

static const struct option_row rows[] = {
    {.help = "Modes (the last one wins; without one, the input is continued)"},
    {0, "perplexity", NULL, ANY, take_mode, MODE_PERPLEXITY, 0, 0,
     "a line a FILE: name, bytes, bits, bits per byte,\n"
     "perplexity a byte; and a total"},
    {0, "score", NULL, ANY, take_mode, MODE_SCORE, 0, 0,
     "a line a record, as soon as it ends: bits, bytes,\n"
     "bits per byte, record"},
    {0, "surprisal", NULL, ANY, take_mode, MODE_SURPRISAL, 0, 0,
     "a line a byte: offset, byte, bits"},
    {0, "color", NULL, ANY, take_mode, MODE_COLOR, 0, 0,
     "the text itself, coloured by surprisal"},
    {0, "classify", "HEAD", ANY, take_classify, AT(classify), 0, 0,
     "a line a record, as soon as it ends: label,\n"
     "probability, record.  HEAD is a file, a name, or\n"
     "STATE,STATE,..: a saved state for each label"},
    {0, "embed", NULL, ANY, take_mode, MODE_EMBED, 0, 0,
     "a line a record: what the model says of it, as\n"
     "numbers"},
    {'z', "compress", NULL, ANY, take_mode, MODE_COMPRESS, 0, 0,
     "FILE to FILE.mbz, or standard input to output"},
    {'d', "decompress", NULL, ANY, take_mode, MODE_DECOMPRESS, 0, 0,
     "FILE.mbz to FILE, or standard input to output"},
    {'t', "test", NULL, ANY, take_mode, MODE_TEST, 0, 0,
     "decompress to nowhere"},
    {'l', "list", NULL, ANY, take_mode, MODE_LIST, 0, 0,
     "sizes of compressed files"},
    {0, "info", NULL, ANY, take_mode, MODE_INFO, 0, 0,
     "shape, size and provenance of the model"},
    {0, "list-models", NULL, ANY, take_mode, MODE_LIST_MODELS, 0, 0,
     "the models that --model finds by name"},
    {0, "help", NULL, ANY, take_mode, MODE_HELP, 0, 0, "this text"},
    {0, "version", NULL, ANY, take_mode, MODE_VERSION, 0, 0,
     "the version, and that of the arithmetic"},

    {.help = "Continuing the input"},
    {'n', "bytes", "N", GENERATE, option_take_integer, AT(n_bytes), 0, 0x1p62,
     "write N bytes at most (256)"},
    {0, "temp", "T", GENERATE, option_take_real, AT(temperature), 0, 100,
     "temperature; 0 is the most likely byte (0.8)"},
    {0, "top-k", "K", GENERATE, option_take_integer, AT(top_k), 1, 256,
     "choose among the K most likely bytes (256)"},
    {0, "top-p", "P", GENERATE, take_top_p, AT(top_p), 0, 1,
     "among the fewest that have probability P (1)"},
    {0, "min-p", "P", GENERATE, option_take_real, AT(min_p), 0, 1,
     "among those at least P times as likely as the\n"
     "most likely one (0)"},
    {0, "seed", "N|random", GENERATE, take_seed, 0, 0, 0,
     "of the random numbers (0)"},
    {0, "stop", "STRING", GENERATE, take_stop, 0, 0, 0,
     "end before STRING; may be given several times"},
    {0, "echo", NULL, GENERATE, option_take_true, AT(echo), 0, 0,
     "write the input first"},
    {0, "utf8", NULL, GENERATE, option_take_true, AT(utf8), 0, 0,
     "write whole UTF-8 characters only"},

    {.help = "Scores"},
    {'0', "null", NULL, SCORE | RECORDS, option_take_true,
     AT(is_null_terminated), 0, 0, "records end with NUL, not with a newline"},
    {0, "context", "carry|reset", SCORE, take_context, 0, 0, 0,
     "what a record may be predicted from: all before\n"
     "it (carry, the default) or itself alone"},
    {0, "threshold", "BITS|P", SCORE | CLASSIFY, option_take_real,
     AT(threshold), 0, 1e300,
     "only records of at least BITS bits; no label, but\n"
     "-, where its probability is below P"},
    {0, "words", NULL, PERPLEXITY, option_take_true, AT(words), 0, 0,
     "add words and perplexity a word"},
    {0, "json", NULL, TABLES | CLASSIFY, option_take_true, AT(json), 0, 0,
     "JSON Lines in place of columns"},

    {.help = "Labels"},
    {0, "top", "K", CLASSIFY, option_take_integer, AT(top), 1, 1024,
     "the K likeliest labels of a record (1)"},
    {0, "no-text", NULL, CLASSIFY, option_take_true, AT(hides_text), 0, 0,
     "without the record"},
    {0, "whole", NULL, RECORDS, option_take_true, AT(whole_files), 0, 0,
     "a record is a whole FILE; its name stands for it"},
    {0, "prior", "P,P,...", CLASSIFY, option_take_text, AT(prior), 0, 0,
     "how likely the labels of STATE,STATE,... are\n"
     "before anything is read (all alike)"},
    {0, "eval", NULL, CLASSIFY, option_take_true, AT(eval), 0, 0,
     "FILE has lines of LABEL, a tab and TEXT: say how\n"
     "often labels are right, and the confusion matrix"},
    {0, "binary", NULL, BIT(MODE_EMBED), option_take_true, AT(binary), 0, 0,
     "float32, little-endian, in place of columns"},

    {.help = "Compression"},
    {'c', "stdout", NULL, COMPRESS | UNPACKERS, option_take_true, AT(to_stdout),
     0, 0, "write to standard output, keep FILE"},
    {'k', "keep", NULL, COMPRESS | UNPACKERS, option_take_true, AT(keep), 0, 0,
     "keep FILE"},
    {'f', "force", NULL, COMPRESS | UNPACKERS, option_take_true, AT(force), 0,
     0, "replace files, follow links, use the terminal"},
    {'B', "blocks", "SIZE", COMPRESS | UNPACKERS, option_take_integer,
     AT(block_bytes), BLOCK_MIN, BLOCK_MAX,
     "bytes of an independent block (16M)"},
    {0, "range", "OFFSET:LENGTH", DECOMPRESS, take_range, 0, 0, 0,
     "only these bytes, to standard output"},

    {.help = "State"},
    {0, "load-state", "FILE", READERS, option_take_text, AT(load_state), 0, 0,
     "begin where FILE was saved"},
    {0, "save-state", "FILE", READERS, option_take_text, AT(save_state), 0, 0,
     "save what was read and written, at the end"},

    {.help = "Model and machine"},
    {'m', "model", "FILE|NAME", ANY, option_take_text, AT(model), 0, 0,
     "the weights; also MAMBYTE_MODEL"},
    ROW_DEVICE(AT(engine), "where to compute; the results are the same"),
    ROW_THREADS(AT(engine.n_threads)),
    ROW_QUIET(AT(verbosity)),
    ROW_VERBOSE(AT(verbosity), "say model, device, seed and speed on stderr"),
    ROW_PROGRESS(READERS | RECORDS | CONVERTERS, AT(progress)),
};

enum { N_ROWS = sizeof rows / sizeof rows[0] };

static const struct option_table table = {
    .rows = rows,
    .n = N_ROWS,
    .program = "mambyte",
    .usage = "[OPTION]... [FILE]...",
    .about = "Read bytes with a byte-level Mamba model: continue them, "
             "score,\n"
             "classify, compress them.\n"
             "Without FILE, or where FILE is -, standard input is read.\n",
};

/* ---- parsing ------------------------------------------------------------ */

/* A mode that a row goes with. */
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

static enum status check_modes(const struct options *options, const bool *given)
{
    const char *mode = options->mode == MODE_CLASSIFY ? "classify" : NULL;
    for (int i = 0; i < N_ROWS; i++) {
        if (rows[i].take == take_mode && rows[i].where == (size_t)options->mode)
            mode = rows[i].name;
    }
    for (int i = 0; i < N_ROWS; i++) {
        if (!given[i] || (rows[i].modes & BIT(options->mode)))
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

static enum status take_operands(struct options *options, int n, char **words)
{
    static const char *const standard_input[] = {"-"};
    bool reads =
        BIT(options->mode) & (READERS | RECORDS | COMPRESS | UNPACKERS);
    if (n > 0 && !reads)
        return fail(E_USAGE, "there is nothing to do with '%s'", words[0]);
    options->files = n > 0 ? (const char *const *)words : standard_input;
    options->n_files = n > 0 ? n : 1;
    if (options->eval && n > 1)
        return fail(E_USAGE, "--eval takes one FILE");
    return OK;
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
        .temperature = 0.8,
        .top_k = 256,
        .top_p = 1,
        .top = 1,
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
    TRY(option_table_read(&table, options, given, argc, argv, &first));
    if (options->mode == MODE_HELP || options->mode == MODE_VERSION)
        return OK;
    TRY(check_modes(options, given));
    if (options->save_state && options->resets_context)
        return fail(E_USAGE, "--save-state does not go with --context=reset");
    TRY(check_classify(options));
    return take_operands(options, argc - first, argv + first);
}

enum status options_print_help(struct sink *sink)
{
    return option_table_print_help(&table, sink);
}

enum status options_print_version(struct sink *sink)
{
    return option_table_print_version(&table, sink);
}
