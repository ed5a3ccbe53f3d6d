/* sandbox.h -- gives up the rights that the work ahead has no use for.
 *
 * Files from outside are parsed by much code.  If a mistake in it let a file
 * take over the program, that should gain little: from sandbox_enter() on, the
 * kernel lets the program
 *
 *   open only files that were allowed (Landlock), and none for writing or none
 *   at all where that is said;
 *   start no program, talk to no other, see no memory but its own (seccomp).
 *
 * What is open stays open.  It holds for this thread and those that it starts,
 * for good; calls are barred for all threads.  Where the kernel has neither, or
 * the build is for sanitizers, nothing happens: this is a second line of
 * defence.
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

enum sandbox_kind {
    SANDBOX_READS, /* reading needs to be allowed, as writing does          */
    SANDBOX_WRITES /* any file may be read                                  */
};

struct sandbox {
    int ruleset;     /* of Landlock; -1: there is none */
    uint64_t rights; /* that it handles */
};

void sandbox_open(struct sandbox *sandbox, enum sandbox_kind kind);

/* Allows to read a file; links are followed.  One that is not there does no
 * harm. */
void sandbox_allow_reading(struct sandbox *sandbox, const char *path);

/* Allows to write the file at path, and all that atomic_file.h does in its
 * folder. */
void sandbox_allow_writing(struct sandbox *sandbox, const char *path);

/* Gives up everything else, and closes the sandbox. */
void sandbox_enter(struct sandbox *sandbox);

#endif
