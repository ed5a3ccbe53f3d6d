/* sandbox.h -- drops the privileges that the rest of the work does not need.
 *
 * Files from outside are parsed by much code.  If a mistake in it let a file
 * take over the program, that should gain little: from sandbox_enter() on, the
 * kernel lets the program
 *
 *   open only the files that were allowed (Landlock: enum sandbox_kind);
 *   start no program, talk to no other, see no memory but its own (seccomp).
 *
 * Files that are open stay open.  The restrictions last until the program ends:
 * those on files for this thread and the threads that it starts, those on calls
 * for all threads.  Where the kernel has neither, or the build is for
 * sanitizers, nothing happens: this is a second line of defence.
 *
 *     struct sandbox sandbox;
 *     sandbox_open(&sandbox, SANDBOX_READS);
 *     sandbox_allow_reading(&sandbox, path);
 *     sandbox_enter(&sandbox);
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SANDBOX_H
#define MAMBYTE_SANDBOX_H

#include <stdint.h>

#include "base/status.h"

enum sandbox_kind {
    SANDBOX_READS, /* a file has to be allowed to be read or written */
    SANDBOX_WRITES /* any file may be read, only allowed ones be written */
};

struct sandbox {
    int ruleset;     /* of Landlock; -1: there is none */
    uint64_t rights; /* of access to files, which it restricts */
    int error;       /* errno of what could not be allowed; 0: none */
};

void sandbox_open(struct sandbox *sandbox, enum sandbox_kind kind);

/* Allows a file to be read; links are followed.  A file that cannot be opened
 * is ignored: whoever opens it later fails in the same way. */
void sandbox_allow_reading(struct sandbox *sandbox, const char *path);

/* Allows the file at path to be written, and all that atomic_file.h does in its
 * folder. */
void sandbox_allow_writing(struct sandbox *sandbox, const char *path);

/* Restricts the program to what was allowed, and closes the sandbox.  E_IO when
 * there were too few descriptors, or too little memory, to allow it all. */
enum status sandbox_enter(struct sandbox *sandbox);

#endif
