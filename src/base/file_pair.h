/* file_pair.h -- a file that becomes another: FILE and FILE.mbz.
 *
 * The new file is made under another name beside its place, takes its name
 * when it is whole and on the disk, and only then is the old one removed: at
 * every moment the one or the other is there, whatever happens.  It gets the
 * old one's times, mode and, where we may, owner.
 *
 * What xz skips with a warning is skipped with E_SKIPPED: what is no regular
 * file, and without force a symbolic link, one of several links, a file
 * whose target exists.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FILE_PAIR_H
#define MAMBYTE_FILE_PAIR_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/byteio.h"
#include "base/status.h"

struct file_pair {
    struct source source;
    struct sink *sink; /* the caller's, on the new file                    */
    struct stat old;   /* of the source                                    */
    char *target;      /* owned: its name                                  */
    char *beside;      /* owned: its name until it is whole                */
};

/* Opens path to be read, and sink on what is to become target.  On failure
 * there is nothing to close. */
enum status file_pair_open(struct file_pair *pair, const char *path,
                           const char *target, bool force, struct sink *sink);

/* Ends it well: the target is there, the source gone unless keep.  On
 * failure the source is left, and no target, unless it was only the removal
 * that failed. */
enum status file_pair_finish(struct file_pair *pair, bool keep);

/* Ends it: all is as it was before. */
void file_pair_abandon(struct file_pair *pair);

#endif
