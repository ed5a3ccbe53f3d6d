/* options.c -- the command line, understood.
 *
 * Every option is a row of the table: its names, its argument, the modes it
 * goes with, the function that takes it in, where the value goes and between
 * which bounds, and its line of --help.  The array that getopt_long wants is
 * made from it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "config.h"

struct row {
    int letter;       /* of the short option, or 0 */
    const char *name; /* NULL: a heading */
    const char *argument;
    unsigned modes; /* a bit for each mode that the option goes with */
    enum status (*take)(struct options *, const struct row *,
                        const char *value);
    size_t where;     /* in struct options */
    double low, high; /* bounds of a number */
    const char *help; /* lines */
};

#define BIT(mode)  (1u << (mode))
#define ANY        UINT_MAX
#define GENERATE   BIT(MODE_GENERATE)
#define SCORE      BIT(MODE_SCORE)
#define PERPLEXITY BIT(MODE_PERPLEXITY)
#define TABLES     (PERPLEXITY | SCORE | BIT(MODE_SURPRISAL))
#define READERS    (GENERATE | TABLES | BIT(MODE_COLOR))
#define COMPRESS   BIT(MODE_COMPRESS)
#define DECOMPRESS BIT(MODE_DECOMPRESS)
#define UNPACKERS  (DECOMPRESS | BIT(MODE_TEST) | BIT(MODE_LIST))
#define CONVERTERS (COMPRESS | DECOMPRESS | BIT(MODE_TEST))
#define AT(member) offsetof(struct options, member)

/* ---- taking values in --------------------------------------------------- */

static void *member(struct options *options, const struct row *row)
{
    return (char *)options + row->where;
}

static enum status take_mode(struct options *options, const struct row *row,
                             const char *value)
{
    (void)value;
    options->mode = (enum mode)row->where;
    return OK;
}

static enum status take_true(struct options *options, const struct row *row,
                             const char *value)
{
    (void)value;
    *(bool *)member(options, row) = true;
    return OK;
}

static enum status take_text(struct options *options, const struct row *row,
                             const char *value)
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

static bool parse_integer(const char *text, uint64_t *value)
{
    char *end;
    uint64_t factor;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0 || !parse_suffix(end, &factor) || v > UINT64_MAX / factor)
        return false;
    *value = v * factor;
    return true;
}

static enum status take_integer(struct options *options, const struct row *row,
                                const char *value)
{
    uint64_t v;
    if (!parse_integer(value, &v))
        return fail(E_USAGE, "--%s: '%s' is not a whole number", row->name,
                    value);
    if ((double)v < row->low || (double)v > row->high)
        return fail(E_USAGE, "--%s: %s is not between %.0f and %.0f", row->name,
                    value, row->low, row->high);
    *(uint64_t *)member(options, row) = v;
    return OK;
}

static enum status take_real(struct options *options, const struct row *row,
                             const char *value)
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

static enum status take_top_p(struct options *options, const struct row *row,
                              const char *value)
{
    TRY(take_real(options, row, value));
    if (options->top_p == 0)
        return fail(E_USAGE, "--%s: 0 leaves no byte to choose", row->name);
    return OK;
}

static enum status take_stop(struct options *options, const struct row *row,
                             const char *value)
{
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

static enum status take_seed(struct options *options, const struct row *row,
                             const char *value)
{
    options->is_seed_random = strcmp(value, "random") == 0;
    if (options->is_seed_random || parse_integer(value, &options->seed))
        return OK;
    return fail(E_USAGE, "--%s: '%s' is neither a whole number nor 'random'",
                row->name, value);
}

static enum status take_context(struct options *options, const struct row *row,
                                const char *value)
{
    options->resets_context = strcmp(value, "reset") == 0;
    if (options->resets_context || strcmp(value, "carry") == 0)
        return OK;
    return fail(E_USAGE, "--%s: '%s' is neither 'carry' nor 'reset'", row->name,
                value);
}

static enum status take_device(struct options *options, const struct row *row,
                               const char *value)
{
    uint64_t index = 0;
    if (strcmp(value, "auto") == 0)
        options->engine.device = DEVICE_AUTO;
    else if (strcmp(value, "cpu") == 0)
        options->engine.device = DEVICE_CPU;
    else if (strcmp(value, "cuda") == 0 ||
             (strncmp(value, "cuda:", 5) == 0 &&
              parse_integer(value + 5, &index) && index <= 1023))
        options->engine.device = DEVICE_CUDA;
    else
        return fail(E_USAGE, "--%s: '%s' is not auto, cpu, cuda or cuda:N",
                    row->name, value);
    options->engine.cuda_index = (int)index;
    return OK;
}

static enum status take_threads(struct options *options, const struct row *row,
                                const char *value)
{
    struct options taken = {0};
    struct row into = *row;
    into.where = AT(top_k);
    TRY(take_integer(&taken, &into, value));
    options->engine.n_threads = (int)taken.top_k;
    return OK;
}

static enum status take_range(struct options *options, const struct row *row,
                              const char *value)
{
    char offset[32];
    size_t n = strcspn(value, ":");
    if (value[n] == ':' && n < sizeof offset) {
        memcpy(offset, value, n);
        offset[n] = '\0';
        options->has_range =
            parse_integer(offset, &options->range_offset) &&
            parse_integer(value + n + 1, &options->range_length);
        if (options->has_range)
            return OK;
    }
    return fail(E_USAGE, "--%s: '%s' is not OFFSET:LENGTH in bytes", row->name,
                value);
}

static enum status take_verbosity(struct options *options,
                                  const struct row *row, const char *value)
{
    (void)value;
    options->verbosity = (enum verbosity)row->where;
    return OK;
}

/* ---- the table ---------------------------------------------------------- */

static const struct row table[] = {
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
    {'n', "bytes", "N", GENERATE, take_integer, AT(n_bytes), 0, 0x1p62,
     "write N bytes at most (256)"},
    {0, "temp", "T", GENERATE, take_real, AT(temperature), 0, 100,
     "temperature; 0 is the most likely byte (0.8)"},
    {0, "top-k", "K", GENERATE, take_integer, AT(top_k), 1, 256,
     "choose among the K most likely bytes (256)"},
    {0, "top-p", "P", GENERATE, take_top_p, AT(top_p), 0, 1,
     "among the fewest that have probability P (1)"},
    {0, "min-p", "P", GENERATE, take_real, AT(min_p), 0, 1,
     "among those at least P times as likely as the\n"
     "most likely one (0)"},
    {0, "seed", "N|random", GENERATE, take_seed, 0, 0, 0,
     "of the random numbers (0)"},
    {0, "stop", "STRING", GENERATE, take_stop, 0, 0, 0,
     "end before STRING; may be given several times"},
    {0, "echo", NULL, GENERATE, take_true, AT(echo), 0, 0,
     "write the input first"},
    {0, "utf8", NULL, GENERATE, take_true, AT(utf8), 0, 0,
     "write whole UTF-8 characters only"},

    {.help = "Scores"},
    {'0', "null", NULL, SCORE, take_true, AT(is_null_terminated), 0, 0,
     "records end with NUL, not with a newline"},
    {0, "context", "carry|reset", SCORE, take_context, 0, 0, 0,
     "what a record may be predicted from: all before\n"
     "it (carry, the default) or itself alone"},
    {0, "threshold", "BITS", SCORE, take_real, AT(threshold), 0, 1e300,
     "only records of at least BITS bits"},
    {0, "words", NULL, PERPLEXITY, take_true, AT(words), 0, 0,
     "add words and perplexity a word"},
    {0, "json", NULL, TABLES, take_true, AT(json), 0, 0,
     "JSON Lines in place of columns"},

    {.help = "Compression"},
    {'c', "stdout", NULL, COMPRESS | UNPACKERS, take_true, AT(to_stdout), 0, 0,
     "write to standard output, keep FILE"},
    {'k', "keep", NULL, COMPRESS | UNPACKERS, take_true, AT(keep), 0, 0,
     "keep FILE"},
    {'f', "force", NULL, COMPRESS | UNPACKERS, take_true, AT(force), 0, 0,
     "replace files, follow links, use the terminal"},
    {'B', "blocks", "SIZE", COMPRESS | UNPACKERS, take_integer, AT(block_bytes),
     BLOCK_MIN, BLOCK_MAX, "bytes of an independent block (16M)"},
    {0, "range", "OFFSET:LENGTH", DECOMPRESS, take_range, 0, 0, 0,
     "only these bytes, to standard output"},

    {.help = "State"},
    {0, "load-state", "FILE", READERS, take_text, AT(load_state), 0, 0,
     "begin where FILE was saved"},
    {0, "save-state", "FILE", READERS, take_text, AT(save_state), 0, 0,
     "save what was read and written, at the end"},

    {.help = "Model and machine"},
    {'m', "model", "FILE|NAME", ANY, take_text, AT(model), 0, 0,
     "the weights; also MAMBYTE_MODEL"},
    {0, "device", "auto|cpu|cuda[:N]", ANY, take_device, 0, 0, 0,
     "where to compute; the results are the same"},
    {'T', "threads", "N", ANY, take_threads, 0, 0, 1024,
     "of the CPU; 0 is one a core (0)"},
    {'q', "quiet", NULL, ANY, take_verbosity, SILENT, 0, 0,
     "no progress, no notes"},
    {'v', "verbose", NULL, ANY, take_verbosity, VERBOSE, 0, 0,
     "say model, device, seed and speed on stderr"},
    {0, "progress", NULL, READERS | CONVERTERS, take_true, AT(progress), 0, 0,
     "show progress even if stderr is no terminal"},
};

enum { N_ROWS = sizeof table / sizeof table[0], FIRST_LONG = 1000 };

/* ---- parsing ------------------------------------------------------------ */

/* What getopt_long wants: rows with a name, and the letters.  A long option
 * is known by FIRST_LONG + row. */
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
static int row_of(int c)
{
    if (c >= FIRST_LONG)
        return c - FIRST_LONG;
    int i = 0;
    while (table[i].letter != c)
        i++;
    return i;
}

/* What getopt_long did not accept: a letter in optopt, or the word before
 * optind.  A long option that is known got an argument it does not take. */
static enum status bad_option(char **argv)
{
    if (optopt > 0 && optopt < FIRST_LONG)
        return fail(E_USAGE, "unknown option '-%c'", optopt);
    const char *word = argv[optind - 1];
    int n = (int)strcspn(word, "=");
    if (optopt >= FIRST_LONG)
        return fail(E_USAGE, "%.*s takes no argument", n, word);
    for (int i = 0; n > 2 && i < N_ROWS; i++) {
        if (table[i].name &&
            strncmp(table[i].name, word + 2, (size_t)n - 2) == 0)
            return fail(E_USAGE, "option '%.*s' is ambiguous", n, word);
    }
    return fail(E_USAGE, "unknown option '%.*s'", n, word);
}

static enum status missing_argument(void)
{
    const struct row *row = &table[row_of(optopt)];
    return fail(E_USAGE, "--%s needs %s", row->name, row->argument);
}

/* A mode that a row goes with. */
static const char *needed_mode(const struct row *row)
{
    if (row->modes & COMPRESS)
        return "compress";
    if (row->modes & DECOMPRESS)
        return "decompress";
    return row->modes & PERPLEXITY ? "perplexity" : "score";
}

/* given: a bit for each row. */
static enum status check_modes(const struct options *options, uint64_t given)
{
    const char *mode = NULL;
    for (int i = 0; i < N_ROWS; i++) {
        if (table[i].take == take_mode &&
            table[i].where == (size_t)options->mode)
            mode = table[i].name;
    }
    for (int i = 0; i < N_ROWS; i++) {
        if (!(given >> i & 1) || (table[i].modes & BIT(options->mode)))
            continue;
        if (mode)
            return fail(E_USAGE, "--%s does not go with --%s", table[i].name,
                        mode);
        return fail(E_USAGE, "--%s needs a mode such as --%s", table[i].name,
                    needed_mode(&table[i]));
    }
    return OK;
}

static enum status take_operands(struct options *options, int n, char **words)
{
    static const char *const standard_input[] = {"-"};
    bool reads = BIT(options->mode) & (READERS | COMPRESS | UNPACKERS);
    if (n > 0 && !reads)
        return fail(E_USAGE, "there is nothing to do with '%s'", words[0]);
    options->files = n > 0 ? (const char *const *)words : standard_input;
    options->n_files = n > 0 ? n : 1;
    return OK;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static void set_defaults(struct options *options)
{
    *options = (struct options){
        .n_bytes = 256,
        .temperature = 0.8,
        .top_k = 256,
        .top_p = 1,
        .block_bytes = 1 << 24,
        .model = environment("MAMBYTE_MODEL"),
        .engine.cpu = environment("MAMBYTE_CPU"),
        .verbosity = NORMAL,
    };
}

enum status options_parse(struct options *options, int argc, char **argv)
{
    _Static_assert(N_ROWS <= 64, "a bit of given for each row");
    struct option longs[N_ROWS + 1];
    char shorts[2 * N_ROWS + 2];
    uint64_t given = 0;

    set_defaults(options);
    make_getopt(longs, shorts);
    optind = 0; /* start anew, however often we are called */
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (c == '?')
            return bad_option(argv);
        if (c == ':')
            return missing_argument();
        int i = row_of(c);
        TRY(table[i].take(options, &table[i], optarg));
        given |= (uint64_t)1 << i;
        if (options->mode == MODE_HELP || options->mode == MODE_VERSION)
            return OK;
    }
    TRY(check_modes(options, given));
    if (options->save_state && options->resets_context)
        return fail(E_USAGE, "--save-state does not go with --context=reset");
    return take_operands(options, argc - optind, argv + optind);
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

enum status options_print_help(struct sink *sink)
{
    TRY(sink_format(sink, "Usage: %s [OPTION]... [FILE]...\n",
                    message_program()));
    TRY(sink_text(sink,
                  "Read bytes with a byte-level Mamba model: continue them, "
                  "score them,\n"
                  "compress them.\n"
                  "Without FILE, or where FILE is -, standard input is "
                  "read.\n"));
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
                     "'man mambyte' has formats and examples.\n");
}

enum status options_print_version(struct sink *sink)
{
    return sink_format(sink, "mambyte %s (arithmetic %d)\n", PACKAGE_VERSION,
                       EXACT_VERSION);
}
