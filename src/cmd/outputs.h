/* outputs.h -- the files that a command is to write, checked before any work.
 *
 * A command is refused
 *   when an output is an input, or another output: as files, whatever they are
 *   called, and with --force too;
 *   when a file that is there is not of the kind that is to replace it, unless
 *   forced; an empty file is of any kind;
 *   when an output cannot be written: its folder is not there, say.
 *
 * Devices and pipes are written to as they are.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_OUTPUTS_H
#define MAMBYTE_OUTPUTS_H

#include <stdbool.h>

#include "base/file_place.h"
#include "base/status.h"
#include "cmd/own_file.h"

enum { OUTPUTS_MAX = 6 };

struct output {
    const char *option; /* that names it */
    const char *path;
    enum own_file kind; /* OWN_NONE: replaces whatever is there */
    struct file_place place;
};

struct outputs {
    bool is_forced;
    struct output items[OUTPUTS_MAX]; /* [n] */
    int n;
};

/* path NULL adds nothing.  option and path must stay. */
void outputs_add(struct outputs *outputs, const char *option, const char *path,
                 enum own_file kind);

/* E_USAGE when an output is this input, perhaps "-"; NULL is none. */
enum status outputs_check_input(const struct outputs *outputs,
                                const char *input);

/* Everything else. */
enum status outputs_check(const struct outputs *outputs);

/* Claims the files among the outputs until the program ends: E_IO when another
 * program has one of them (file_claim.h). */
enum status outputs_claim(const struct outputs *outputs);

#endif
