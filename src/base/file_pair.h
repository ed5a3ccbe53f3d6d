/* file_pair.h -- a file that becomes another: FILE and FILE.mbz.
 *
 * The new file is written as atomic_file.h promises; only when it is whole and
 * on the disk is the old one removed.  So one of the two is there at every
 * moment, whatever happens.  The new file gets the times, the mode and, where
 * we may, the owner of the old one.
 *
 * What xz skips with a warning is skipped with E_SKIPPED: anything but a
 * regular file; and, unless forced, a symbolic link, a file of several links,
 * and a file whose target exists.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FILE_PAIR_H
#define MAMBYTE_FILE_PAIR_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/atomic_file.h"
#include "base/byteio.h"
#include "base/status.h"

struct file_pair {
    struct source source;
    struct stat old; /* of the source, when it was opened */
    struct atomic_file target;
    struct sink *sink; /* the caller's, on the new file */
};

/* Opens path to be read, and sink on what is to become target, whose name has
 * to stay.  On failure there is nothing to close. */
enum status file_pair_open(struct file_pair *pair, const char *path,
                           const char *target, bool force, struct sink *sink);

/* Completes the target, and removes the source unless keep.  A source that is
 * another file by now, or has changed, is an error and stays.  Any other
 * failure leaves all as it was. */
enum status file_pair_finish(struct file_pair *pair, bool keep);

/* Drops the new file: all is as it was. */
void file_pair_abandon(struct file_pair *pair);

#endif
