/* machine_options.h -- options that several programs share: where to compute,
 * how much memory to take, and how much to say.
 *
 * Rows for their tables (option_table.h).  at: as in INTO_BOOL.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MACHINE_OPTIONS_H
#define MAMBYTE_MACHINE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/byteio.h"
#include "base/message.h"
#include "base/status.h"
#include "cmd/option_table.h"
#include "engine/engine.h"

/* into a struct engine_options */
#define ROW_DEVICE(at, lines)                                                  \
    {                                                                          \
        .name = "device", .argument = "auto|cpu|cuda[:N]",                     \
        .take = machine_take_device, .where = (at), .help = (lines)            \
    }

/* into an int */
#define ROW_THREADS(at)                                                        \
    {                                                                          \
        .letter = 'T', .name = "threads", .argument = "N",                     \
        INTO_INT(at, 0, 1024),                                                 \
        .help = "threads of the CPU; 0: one for each core (0)"                 \
    }

/* into a uint64_t */
#define ROW_MEMLIMIT(at)                                                       \
    {                                                                          \
        .letter = 'M', .name = "memlimit", .argument = "SIZE",                 \
        .take = machine_take_memlimit, .where = (at),                          \
        .help = "the most memory that a file may make us use;\n"               \
                "SIZE may end in %; 0: the default (1G)"                       \
    }

/* into an enum verbosity */
#define ROW_QUIET(at)                                                          \
    {                                                                          \
        .letter = 'q', .name = "quiet", INTO_ENUM(at, SILENT),                 \
        .help = "write only errors to stderr"                                  \
    }
#define ROW_VERBOSE(at, lines)                                                 \
    {                                                                          \
        .letter = 'v', .name = "verbose", INTO_ENUM(at, VERBOSE),              \
        .help = (lines)                                                        \
    }

/* into a bool */
#define ROW_FORCE(at, lines)                                                   \
    {                                                                          \
        .letter = 'f', .name = "force", INTO_BOOL(at), .help = (lines)         \
    }
#define ROW_PROGRESS(modes_, at)                                               \
    {                                                                          \
        .name = "progress", .modes = (modes_), INTO_BOOL(at),                  \
        .help = "show progress even if stderr is not a terminal"               \
    }
#define ROW_HELP(at)                                                           \
    {                                                                          \
        .letter = 'h', .name = "help", INTO_BOOL(at), .help = "this text"      \
    }
#define ROW_VERSION(at)                                                        \
    {                                                                          \
        .letter = 'V', .name = "version", INTO_BOOL(at),                       \
        .help = "the version, and that of the arithmetic"                      \
    }

/* The options that every program without modes has. */
struct machine_options {
    uint64_t memlimit; /* bytes; 0: the default */
    enum verbosity verbosity;
    bool force; /* replaces whatever is there */
    bool progress;
    bool wants_help, wants_version;
};

/* The last rows of such a program's table, into a struct machine_options; its
 * row for --force is ROW_FORCE.  lines: the help of --verbose. */
#define IN_MACHINE(at, member) ((at) + offsetof(struct machine_options, member))
#define ROWS_MACHINE(at, lines)                                                \
    ROW_MEMLIMIT(IN_MACHINE(at, memlimit)),                                    \
        ROW_QUIET(IN_MACHINE(at, verbosity)),                                  \
        ROW_VERBOSE(IN_MACHINE(at, verbosity), lines),                         \
        ROW_PROGRESS(0, IN_MACHINE(at, progress)),                             \
        ROW_HELP(IN_MACHINE(at, wants_help)),                                  \
        ROW_VERSION(IN_MACHINE(at, wants_version))

static inline bool machine_wants_text(const struct machine_options *options)
{
    return options->wants_help || options->wants_version;
}

/* Writes what --help or --version asks for. */
enum status machine_print_text(const struct machine_options *options,
                               const struct option_table *table,
                               struct sink *sink);

/* Puts --memlimit, --quiet, --verbose and --progress into effect. */
void machine_apply(const struct machine_options *options);

enum status machine_take_memlimit(void *options, const struct option_row *row,
                                  const char *value);

enum status machine_take_device(void *options, const struct option_row *row,
                                const char *value);

#endif
