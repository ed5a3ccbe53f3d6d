/* machine_options.h -- options that several programs have: where to compute,
 * and how much to say of it.
 *
 * Rows for their tables (option_table.h).  at: the offset of the member that
 * takes the value, in the program's struct of options.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MACHINE_OPTIONS_H
#define MAMBYTE_MACHINE_OPTIONS_H

#include "base/message.h"
#include "cmd/option_table.h"
#include "engine/engine.h"

/* into a struct engine_options */
#define ROW_DEVICE(at, help)                                                   \
    {                                                                          \
        0, "device", "auto|cpu|cuda[:N]", OPTION_ANY, machine_take_device, at, \
            0, 0, help                                                         \
    }

/* into an int */
#define ROW_THREADS(at)                                                        \
    {                                                                          \
        'T', "threads", "N", OPTION_ANY, option_take_int, at, 0, 1024,         \
            "of the CPU; 0 is one a core (0)"                                  \
    }

/* into an enum verbosity */
#define ROW_QUIET(at)                                                          \
    {                                                                          \
        'q', "quiet", NULL, OPTION_ANY, option_take_choice, at, SILENT, 0,     \
            "no progress, no notes"                                            \
    }
#define ROW_VERBOSE(at, help)                                                  \
    {                                                                          \
        'v', "verbose", NULL, OPTION_ANY, option_take_choice, at, VERBOSE, 0,  \
            help                                                               \
    }

/* into a bool */
#define ROW_PROGRESS(modes, at)                                                \
    {                                                                          \
        0, "progress", NULL, modes, option_take_true, at, 0, 0,                \
            "show progress even if stderr is no terminal"                      \
    }
#define ROW_HELP(at)                                                           \
    {                                                                          \
        0, "help", NULL, OPTION_ANY, option_take_true, at, 0, 0, "this text"   \
    }
#define ROW_VERSION(at)                                                        \
    {                                                                          \
        0, "version", NULL, OPTION_ANY, option_take_true, at, 0, 0,            \
            "the version"                                                      \
    }

enum status machine_take_device(void *options, const struct option_row *row,
                                const char *value);

#endif
