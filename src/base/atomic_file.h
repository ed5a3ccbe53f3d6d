/* atomic_file.h -- writes a file whole, or leaves everything as it was.
 *
 * The new file has no name until it is whole (O_TMPFILE), or one beside its
 * target that cannot be guessed (temporary.h), and nobody else may open it.
 * When it is whole and on the disk, it gets
 *
 *   the mode and, where we may, the owner of what it replaces (or of another
 *   file: atomic_file_like), without setuid, setgid and sticky bit; where we
 *   may not give it the group, the group and others get only the rights that
 *   both had;
 *
 *   its name, by link(2) or rename(2): what was there is never truncated, and
 *   whoever has it open keeps it.
 *
 * A program that ends before that leaves no trace; but where the system cannot
 * make files without a name, SIGKILL leaves a temporary.
 *
 * Every failure is one sentence that starts with the path.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ATOMIC_FILE_H
#define MAMBYTE_ATOMIC_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/status.h"

enum atomic_target {
    ATOMIC_NEW,     /* must not exist, then or at the commit: else
                     * E_SKIPPED "exists already, skipped" */
    ATOMIC_REPLACE, /* if there, a regular file or a link, which is replaced */
    ATOMIC_FOLLOW   /* a link stays, and where it leads is replaced; a file
                     * that may not be written is refused, and a link that
                     * leads nowhere; a device or a pipe is written to as it
                     * is */
};

/* Zero is a closed file. */
struct atomic_file {
    FILE *stream; /* write to it, or to fd */
    int fd;
    char *path;                  /* owned: as the caller named it */
    char *target;                /* owned: without links */
    int folder;                  /* of the target, open */
    struct temporary *temporary; /* NULL: the file has no name yet */
    enum atomic_target kind;
    bool is_whole;  /* and on the disk: only the name is missing */
    bool is_device; /* or a pipe: has no folder and no temporary */
    mode_t mode;    /* of a file that replaces none */
    bool is_like, keeps_times;
    struct stat like;
};

/* Nothing is to be closed after a failure. */
enum status atomic_file_open(struct atomic_file *file, const char *path,
                             enum atomic_target kind);

/* Whether path could be written now, with ATOMIC_FOLLOW: opens a new file
 * beside it, and abandons it.  A device or a pipe is not opened. */
enum status atomic_file_check(const char *path);

/* The file gets the mode, the owner and the times of another. */
void atomic_file_like(struct atomic_file *file, const struct stat *other);

/* Brings the file to the disk: all that can still fail is giving it its name.
 * Nothing may be written to it afterwards. */
enum status atomic_file_prepare(struct atomic_file *file);

/* Completes the file.  After a failure all is as it was, except that the new
 * file may be in place although a crash of the machine could still lose it. */
enum status atomic_file_commit(struct atomic_file *file);

/* Drops the new file: all is as it was.  A closed file is accepted. */
void atomic_file_abandon(struct atomic_file *file);

/* Does it all, with ATOMIC_FOLLOW: opens, writes bytes [n], commits. */
enum status atomic_file_write(const char *path, const void *bytes, size_t n);

/* For tests: whether files have temporary names even where the system can make
 * them without one. */
void atomic_file_use_names(bool uses);

#endif
