/* file_place.c -- where a path leads: to a file, or to a place for one.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/file_place.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct file_place found(const struct stat *info)
{
    return (struct file_place){.is_there = true,
                               .mode = info->st_mode,
                               .device = info->st_dev,
                               .inode = info->st_ino};
}

static const char *name_in(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The folder that path lies in. */
static struct file_place folder_of(const char *path)
{
    char folder[4096];
    struct stat info;
    int n = (int)(name_in(path) - path);
    if (n >= (int)sizeof folder)
        return (struct file_place){.is_there = false};
    snprintf(folder, sizeof folder, "%.*s%s", n, path, n > 0 ? "" : ".");
    return stat(folder, &info) == 0 ? found(&info)
                                    : (struct file_place){.is_there = false};
}

struct file_place file_place_of(const char *path)
{
    struct stat info;
    if (strcmp(path, "-") == 0)
        return file_place_of_fd(STDIN_FILENO);
    if (stat(path, &info) == 0)
        return found(&info);
    struct file_place place = folder_of(path);
    place.is_there = false;
    place.name = name_in(path);
    return place;
}

struct file_place file_place_of_fd(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 ? found(&info)
                                 : (struct file_place){.is_there = false};
}

bool file_place_is_same(const struct file_place *a, const struct file_place *b)
{
    if (a->is_there != b->is_there || a->device != b->device ||
        a->inode != b->inode)
        return false;
    if (a->is_there)
        return S_ISREG(a->mode);
    return a->mode != 0 && b->mode != 0 && strcmp(a->name, b->name) == 0;
}

bool file_place_is_in(const char *path, const struct file_place *folder)
{
    struct file_place own = folder_of(path);
    return own.is_there && folder->is_there && own.device == folder->device &&
           own.inode == folder->inode;
}

void file_places_add(struct file_places *places, const char *path)
{
    if (!path)
        return;
    assert(places->n < FILE_PLACES_MAX);
    places->items[places->n++] = file_place_of(path);
}

bool file_places_have(const struct file_places *places,
                      const struct file_place *place)
{
    for (int i = 0; i < places->n; i++) {
        if (file_place_is_same(&places->items[i], place))
            return true;
    }
    return false;
}
