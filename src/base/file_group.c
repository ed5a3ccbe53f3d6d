/* file_group.c -- files of one folder that appear together.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/file_group.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum status file_group_open(struct file_group *group, const char *folder)
{
    struct stat info;
    *group = (struct file_group){.folder = folder};
    group->is_new = mkdir(folder, 0777) == 0;
    if (group->is_new)
        return OK;
    int error = errno;
    if (error == EEXIST && stat(folder, &info) == 0 && S_ISDIR(info.st_mode))
        return OK;
    return fail(E_IO, "%s: %s", folder,
                strerror(error == EEXIST ? ENOTDIR : error));
}

static enum status make_path(const struct file_group *group, const char *name,
                             char path[FILE_GROUP_PATH])
{
    if (snprintf(path, FILE_GROUP_PATH, "%s/%s", group->folder, name) >=
        FILE_GROUP_PATH)
        return fail(E_IO, "%.64s..: the name is too long", group->folder);
    return OK;
}

enum status file_group_add(struct file_group *group, const char *name,
                           struct atomic_file **file)
{
    char path[FILE_GROUP_PATH];
    assert(group->n < FILE_GROUP_MAX);
    *file = &group->files[group->n];
    TRY(make_path(group, name, path));
    TRY(atomic_file_open(*file, path, ATOMIC_FOLLOW));
    group->n++;
    return OK;
}

void file_group_drop(struct file_group *group, const char *name)
{
    assert(group->n_obsolete < FILE_GROUP_MAX);
    group->obsolete[group->n_obsolete++] = name;
}

static enum status remove_file(const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return OK;
    return fail(E_IO, "%s: %s", path, strerror(errno));
}

/* The old file that describes the others, and what has no successor. */
static enum status remove_old(const struct file_group *group)
{
    char path[FILE_GROUP_PATH];
    if (group->n > 0)
        TRY(remove_file(group->files[group->n - 1].path));
    for (int i = 0; i < group->n_obsolete; i++) {
        TRY(make_path(group, group->obsolete[i], path));
        TRY(remove_file(path));
    }
    return OK;
}

enum status file_group_commit(struct file_group *group)
{
    enum status status = OK;
    for (int i = 0; i < group->n && status == OK; i++)
        status = atomic_file_prepare(&group->files[i]);
    if (status == OK)
        status = remove_old(group);
    for (int i = 0; i < group->n && status == OK; i++)
        status = atomic_file_commit(&group->files[i]);
    file_group_abandon(group);
    return status;
}

void file_group_abandon(struct file_group *group)
{
    for (int i = 0; i < group->n; i++)
        atomic_file_abandon(&group->files[i]);
    group->n = 0;
    if (group->is_new)
        rmdir(group->folder);
    group->is_new = false;
}
