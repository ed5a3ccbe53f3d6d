/* folder.c -- the names in a folder, in one order everywhere.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum status add_name(struct folder *folder, const char *name)
{
    char **names = (char **)array_grow(folder->names, folder->n, &folder->room,
                                       sizeof *names);
    if (!names)
        return fail_memory("the names of a folder");
    folder->names = names;
    names[folder->n] = strdup(name);
    if (!names[folder->n])
        return fail_memory("the names of a folder");
    folder->n++;
    return OK;
}

static enum status read_names(struct folder *folder, DIR *dir)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno != 0)
            return fail(E_IO, "%s: %s", folder->path, strerror(errno));
        if (!entry)
            return OK;
        if (entry->d_name[0] != '.')
            TRY(add_name(folder, entry->d_name));
    }
}

enum status folder_open(struct folder *folder, const char *path)
{
    *folder = (struct folder){.path = path};
    DIR *dir = opendir(path);
    if (!dir)
        return fail(E_IO, "%s: %s", path, strerror(errno));
    enum status status = read_names(folder, dir);
    closedir(dir);
    if (status != OK)
        folder_close(folder);
    else if (folder->n > 0)
        qsort(folder->names, folder->n, sizeof *folder->names, compare_names);
    return status;
}

void folder_close(struct folder *folder)
{
    for (size_t i = 0; i < folder->n; i++)
        free(folder->names[i]);
    free(folder->names);
    *folder = (struct folder){.path = NULL};
}

enum status folder_join(char **path, const char *folder, const char *name)
{
    size_t n = strlen(folder);
    const char *slash = n > 0 && folder[n - 1] != '/' ? "/" : "";
    if (asprintf(path, "%s%s%s", folder, slash, name) >= 0)
        return OK;
    *path = NULL;
    return fail_memory("a path");
}

enum status folder_path(const struct folder *folder, size_t i, char **path)
{
    return folder_join(path, folder->path, folder->names[i]);
}
