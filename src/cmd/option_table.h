/* option_table.h -- a command line, read by a table of options.
 *
 * Each program has one table; the parser and --help come from it.  A row is
 * an option: its names, its argument, the function that takes its value, the
 * place and the bounds of the value, and the lines of help.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_OPTION_TABLE_H
#define MAMBYTE_OPTION_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/byteio.h"
#include "base/status.h"

enum { OPTION_ROWS_MAX = 128 };

struct option_row {
    int letter;           /* of the short option, or 0 */
    const char *name;     /* NULL: a heading */
    const char *argument; /* NULL: it takes none */
    bool may_lack;        /* the argument, which then is NULL for take */
    unsigned modes;       /* a bit for each mode it goes with; 0: all */
    enum status (*take)(void *options, const struct option_row *row,
                        const char *value);
    size_t where;     /* in the program's struct of options */
    int choice;       /* the value that option_take_choice stores */
    double low, high; /* bounds of a number */
    const char *help; /* lines */
};

struct option_table {
    const struct option_row *rows; /* [n], n up to OPTION_ROWS_MAX */
    int n;
    const char *program; /* the name of its manual */
    const char *usage;   /* what follows the name of the program */
    const char *about;   /* lines: what it does */
};

/* Reads the options in their order, up to --help or --version.  given:
 * [table->n], true for the rows that were there.  Moves the operands to the
 * end of argv; *first is the index of the first one.  E_USAGE with the
 * sentence when the command line is wrong. */
enum status option_table_read(const struct option_table *table, void *options,
                              bool *given, int argc, char **argv, int *first);

/* Whether the option of that name, which the table has, was given. */
bool option_table_is_given(const struct option_table *table, const bool *given,
                           const char *name);

enum status option_table_print_help(const struct option_table *table,
                                    struct sink *sink);
enum status option_table_print_version(const struct option_table *table,
                                       struct sink *sink);

/* ---- for rows ----------------------------------------------------------- */

/* How a row takes its value.  at: the offset of the member for it in the
 * program's struct of options. */
#define INTO_BOOL(at) .take = option_take_true, .where = (at)
#define INTO_TEXT(at) .take = option_take_text, .where = (at)
#define INTO_LIST(at) .take = option_take_list, .where = (at)
#define INTO_ENUM(at, value)                                                   \
    .take = option_take_choice, .where = (at), .choice = (value)
#define INTO_INT(at, least, most)                                              \
    .take = option_take_int, .where = (at), .low = (least), .high = (most)
#define INTO_INTEGER(at, least, most)                                          \
    .take = option_take_integer, .where = (at), .low = (least), .high = (most)
#define INTO_REAL(at, least, most)                                             \
    .take = option_take_real, .where = (at), .low = (least), .high = (most)

/* true into a bool */
enum status option_take_true(void *options, const struct option_row *row,
                             const char *value);

/* a text that is not empty, into a const char * that points into argv */
enum status option_take_text(void *options, const struct option_row *row,
                             const char *value);

/* a name that is not empty, added to a struct name_list */
enum status option_take_list(void *options, const struct option_row *row,
                             const char *value);

/* a whole number between the bounds, into a uint64_t */
enum status option_take_integer(void *options, const struct option_row *row,
                                const char *value);

/* the same into an int, which holds the bounds */
enum status option_take_int(void *options, const struct option_row *row,
                            const char *value);

/* a number between the bounds, into a double */
enum status option_take_real(void *options, const struct option_row *row,
                             const char *value);

/* the row's choice, into an enum */
enum status option_take_choice(void *options, const struct option_row *row,
                               const char *value);

/* The member that takes the row's value. */
static inline void *option_place(void *options, const struct option_row *row)
{
    return (char *)options + row->where;
}

#endif
