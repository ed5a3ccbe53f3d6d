/* own_folder.c -- a folder of a test's own, where it is while it runs.
 *
 * SPDX-License-Identifier: MIT
 */
#include "own_folder.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner.h" /* last */

enum { FOLDERS_OPEN = 8 };

static char folder[] = "check.XXXXXX";

void own_folder_enter(void)
{
    strcpy(strrchr(folder, '.'), ".XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
}

static int remove_one(const char *path, const struct stat *info, int kind,
                      struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

void own_folder_leave(void)
{
    ck_assert_int_eq(chdir(".."), 0);
    ck_assert_int_eq(
        nftw(folder, remove_one, FOLDERS_OPEN, FTW_DEPTH | FTW_PHYS), 0);
}

int own_folder_count(void)
{
    int n = 0;
    DIR *here = opendir(".");
    for (struct dirent *entry; (entry = readdir(here));)
        n +=
            strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(here);
    return n;
}

void own_folder_put(const char *path, const void *bytes, size_t n)
{
    FILE *out = fopen(path, "wb");
    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(fwrite(bytes, 1, n, out), n);
    ck_assert_int_eq(fclose(out), 0);
}

void own_folder_put_text(const char *path, const char *text)
{
    own_folder_put(path, text, strlen(text));
}
