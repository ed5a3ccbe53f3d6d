/* file_group.h -- files of one folder that appear together.
 *
 * All are on the disk before the first gets its name (atomic_file.h).  The last
 * one describes the others: a file of its name is removed first, and it appears
 * last, so that it never lies beside files that it does not describe, whenever
 * the program ends.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FILE_GROUP_H
#define MAMBYTE_FILE_GROUP_H

#include <stdbool.h>

#include "base/atomic_file.h"
#include "base/status.h"

enum { FILE_GROUP_MAX = 8, FILE_GROUP_PATH = 4096 };

struct file_group {
    const char *folder; /* the caller's */
    bool is_new;        /* the folder was made for the group */
    struct atomic_file files[FILE_GROUP_MAX]; /* [n] */
    int n;
    const char *obsolete[FILE_GROUP_MAX]; /* [n_obsolete] */
    int n_obsolete;
};

/* Makes folder where there is none. */
enum status file_group_open(struct file_group *group, const char *folder);

/* A new file, to be written. */
enum status file_group_add(struct file_group *group, const char *name,
                           struct atomic_file **file);

/* Together with the new files, this one goes, if there is one.  name must
 * stay. */
void file_group_drop(struct file_group *group, const char *name);

/* Completes the group, after which it is closed, whatever happens. */
enum status file_group_commit(struct file_group *group);

/* Drops the new files: all is as it was. */
void file_group_abandon(struct file_group *group);

#endif
