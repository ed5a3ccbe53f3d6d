/* own_folder.h -- a folder of a test's own, where it is while it runs.
 *
 *     tcase_add_checked_fixture(tcase, own_folder_enter, own_folder_leave);
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_OWN_FOLDER_H
#define MAMBYTE_OWN_FOLDER_H

#include <stddef.h>

/* Makes a folder in the current one, and goes there. */
void own_folder_enter(void);

/* Goes back, and removes the folder with all that it holds. */
void own_folder_leave(void);

/* How many files it holds, those whose names begin with a dot too. */
int own_folder_count(void);

/* Writes a file. */
void own_folder_put(const char *path, const void *bytes, size_t n);
void own_folder_put_text(const char *path, const char *text);

#endif
