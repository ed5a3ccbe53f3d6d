/* folder.h -- the names in a folder, in one order everywhere.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FOLDER_H
#define MAMBYTE_FOLDER_H

#include <stddef.h>

#include "base/status.h"

struct folder {
    const char *path; /* the caller's */
    char **names;     /* [n], by their bytes, whatever the locale is */
    size_t n, room;
};

/* Names that begin with a dot are left out.  On failure the folder is
 * empty. */
enum status folder_open(struct folder *folder, const char *path);
void folder_close(struct folder *folder);

/* FOLDER/NAME, for the caller to free; NULL after a failure. */
enum status folder_join(char **path, const char *folder, const char *name);

/* The same of name i. */
enum status folder_path(const struct folder *folder, size_t i, char **path);

#endif
