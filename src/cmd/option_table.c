/* option_table.c -- a command line, read by a table of options.
 *
 * getopt_long reads the words; what it wants is made from the table.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/option_table.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/exact.h"
#include "base/message.h"
#include "base/names.h"
#include "base/number.h"
#include "config.h"

enum { FIRST_LONG = 1000, HELP_COLUMN = 30 };

/* The arguments of getopt_long. */
struct getopt_words {
    struct option longs[OPTION_ROWS_MAX + 1];
    char shorts[2 * OPTION_ROWS_MAX + 2];
};

/* ---- taking values ------------------------------------------------------ */

enum status option_take_true(void *options, const struct option_row *row,
                             const char *value)
{
    (void)value;
    *(bool *)option_place(options, row) = true;
    return OK;
}

enum status option_take_text(void *options, const struct option_row *row,
                             const char *value)
{
    if (*value == '\0')
        return fail(E_USAGE, "--%s needs a %s that is not empty", row->name,
                    row->argument);
    *(const char **)option_place(options, row) = value;
    return OK;
}

enum status option_take_list(void *options, const struct option_row *row,
                             const char *value)
{
    enum { MOST = sizeof((struct name_list *)0)->items / sizeof value };
    struct name_list *list = option_place(options, row);
    if (*value == '\0')
        return fail(E_USAGE, "--%s needs a name that is not empty", row->name);
    if (list->n == MOST)
        return fail(E_USAGE, "--%s: more than %d of them", row->name, MOST);
    list->items[list->n++] = value;
    return OK;
}

static enum status read_integer(uint64_t *v, const struct option_row *row,
                                const char *value)
{
    bool is_too_large = number_is_too_large(value);
    if (!is_too_large && !number_parse(value, v))
        return fail(E_USAGE, "--%s: '%s' is not a whole number", row->name,
                    value);
    if (is_too_large || (double)*v < row->low || (double)*v > row->high)
        return fail(E_USAGE, "--%s: %s is not between %.0f and %.0f", row->name,
                    value, row->low, row->high);
    return OK;
}

enum status option_take_integer(void *options, const struct option_row *row,
                                const char *value)
{
    uint64_t v = 0;
    TRY(read_integer(&v, row, value));
    *(uint64_t *)option_place(options, row) = v;
    return OK;
}

enum status option_take_int(void *options, const struct option_row *row,
                            const char *value)
{
    uint64_t v = 0;
    TRY(read_integer(&v, row, value));
    *(int *)option_place(options, row) = (int)v;
    return OK;
}

enum status option_take_real(void *options, const struct option_row *row,
                             const char *value)
{
    double v;
    const char *end = number_parse_real(value, &v);
    if (!end || *end != '\0')
        return fail(E_USAGE, "--%s: '%s' is not a number", row->name, value);
    if (!(v >= row->low && v <= row->high))
        return fail(E_USAGE, "--%s: %s is not between %g and %g", row->name,
                    value, row->low, row->high);
    *(double *)option_place(options, row) = v;
    return OK;
}

enum status option_take_choice(void *options, const struct option_row *row,
                               const char *value)
{
    (void)value;
    *(int *)option_place(options, row) = row->choice;
    return OK;
}

/* ---- reading ------------------------------------------------------------ */

/* As getopt_long has it. */
static int argument_kind(const struct option_row *row)
{
    if (!row->argument)
        return no_argument;
    return row->may_lack ? optional_argument : required_argument;
}

/* Only rows with a name are options, and only long ones have an argument that
 * may lack.  getopt_long returns FIRST_LONG + row for a long one. */
static void make_getopt(struct getopt_words *words,
                        const struct option_table *table)
{
    struct option *next = words->longs;
    char *letter = words->shorts;
    *letter++ = ':';
    for (int i = 0; i < table->n; i++) {
        const struct option_row *row = &table->rows[i];
        if (!row->name)
            continue;
        *next++ = (struct option){row->name, argument_kind(row), NULL,
                                  FIRST_LONG + i};
        if (row->letter)
            *letter++ = (char)row->letter;
        if (row->letter && row->argument)
            *letter++ = ':';
    }
    *next = (struct option){0};
    *letter = '\0';
}

/* c: what getopt_long returned, not '?'. */
static int row_of(const struct option_table *table, int c)
{
    if (c >= FIRST_LONG)
        return c - FIRST_LONG;
    int i = 0;
    while (table->rows[i].letter != c)
        i++;
    return i;
}

/* getopt_long did not accept a letter, which is in optopt, or the word before
 * optind.  A long option that it knows got an argument that it does not take.
 */
static enum status bad_option(const struct option_table *table, char **argv)
{
    if (optopt > 0 && optopt < FIRST_LONG)
        return fail(E_USAGE, "unknown option '-%c'", optopt);
    const char *word = argv[optind - 1];
    int n = (int)strcspn(word, "=");
    if (optopt >= FIRST_LONG)
        return fail(E_USAGE, "%.*s takes no argument", n, word);
    for (int i = 0; n > 2 && i < table->n; i++) {
        const char *name = table->rows[i].name;
        if (name && strncmp(name, word + 2, (size_t)n - 2) == 0)
            return fail(E_USAGE, "option '%.*s' is ambiguous", n, word);
    }
    return fail(E_USAGE, "unknown option '%.*s'", n, word);
}

static enum status missing_argument(const struct option_table *table)
{
    const struct option_row *row = &table->rows[row_of(table, optopt)];
    return fail(E_USAGE, "--%s needs %s", row->name, row->argument);
}

static bool ends_reading(const struct option_row *row)
{
    return strcmp(row->name, "help") == 0 || strcmp(row->name, "version") == 0;
}

enum status option_table_read(const struct option_table *table, void *options,
                              bool *given, int argc, char **argv, int *first)
{
    struct getopt_words words = {0};
    make_getopt(&words, table);
    memset(given, 0, (size_t)table->n * sizeof *given);
    optind = 0; /* start from the first word, at every call */
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, words.shorts, words.longs,
                                 NULL)) != -1;) {
        if (c == '?')
            return bad_option(table, argv);
        if (c == ':')
            return missing_argument(table);
        int i = row_of(table, c);
        TRY(table->rows[i].take(options, &table->rows[i], optarg));
        given[i] = true;
        if (ends_reading(&table->rows[i]))
            break;
    }
    *first = optind;
    return OK;
}

bool option_table_is_given(const struct option_table *table, const bool *given,
                           const char *name)
{
    int i = 0;
    while (!table->rows[i].name || strcmp(table->rows[i].name, name) != 0)
        i++;
    return given[i];
}

/* ---- help --------------------------------------------------------------- */

static enum status print_row(struct sink *sink, const struct option_row *row)
{
    char names[80];
    const char *argument = row->argument ? row->argument : "";
    int n = snprintf(
        names, sizeof names,
        row->may_lack ? "  %c%c%c --%s[%s%s]" : "  %c%c%c --%s%s%s",
        row->letter ? '-' : ' ', row->letter ? row->letter : ' ',
        row->letter ? ',' : ' ', row->name, *argument ? "=" : "", argument);
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

enum status option_table_print_help(const struct option_table *table,
                                    struct sink *sink)
{
    TRY(sink_format(sink, "Usage: %s %s\n", message_program(), table->usage));
    TRY(sink_text(sink, table->about));
    for (int i = 0; i < table->n; i++) {
        if (table->rows[i].name)
            TRY(print_row(sink, &table->rows[i]));
        else
            TRY(sink_format(sink, "\n%s:\n", table->rows[i].help));
    }
    TRY(sink_text(sink,
                  "\nDefaults are in parentheses.  N may end in K, M, G or T "
                  "(powers of 1024).\n"
                  "The exit status is 0, 1 when something failed, 2 when "
                  "the command is wrong.\n"));
    return sink_format(sink, "'man %s' has examples.\n", table->program);
}

enum status option_table_print_version(const struct option_table *table,
                                       struct sink *sink)
{
    return sink_format(sink, "%s %s (arithmetic %d)\n", table->program,
                       PACKAGE_VERSION, EXACT_VERSION);
}
