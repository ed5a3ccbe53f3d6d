/* file_pair.c -- a file that becomes another: FILE and FILE.mbz.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/file_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME_TRIES = 100, NAME_EXTRA = 32 };

static enum status system_error(const char *path)
{
    return fail(E_IO, "%s: %s", path, strerror(errno));
}

/* ---- opening ------------------------------------------------------------ */

static enum status check_source(const char *path, const struct stat *st,
                                bool force)
{
    if (S_ISDIR(st->st_mode))
        return fail(E_SKIPPED, "%s: is a directory, skipped", path);
    if (S_ISLNK(st->st_mode) && !force)
        return fail(E_SKIPPED, "%s: is a symbolic link, skipped", path);
    if (!S_ISREG(st->st_mode) && !S_ISLNK(st->st_mode))
        return fail(E_SKIPPED, "%s: is no regular file, skipped", path);
    if (st->st_nlink > 1 && !force)
        return fail(E_SKIPPED, "%s: has %ju links, skipped", path,
                    (uintmax_t)st->st_nlink);
    return OK;
}

static enum status open_source(struct file_pair *pair, const char *path,
                               bool force)
{
    if (lstat(path, &pair->old) != 0)
        return system_error(path);
    TRY(check_source(path, &pair->old, force));
    TRY(source_open(&pair->source, path));
    if (fstat(pair->source.fd, &pair->old) != 0)
        return system_error(path);
    if (!S_ISREG(pair->old.st_mode))
        return fail(E_SKIPPED, "%s: is no regular file, skipped", path);
    return OK;
}

static enum status open_beside(struct file_pair *pair, struct sink *sink)
{
    size_t size = strlen(pair->target) + NAME_EXTRA;
    char *name = malloc(size);
    if (!name)
        return fail_memory("a file name");
    int fd = -1;
    for (int i = 0; i < NAME_TRIES && fd < 0; i++) {
        snprintf(name, size, "%s.%ld-%d", pair->target, (long)getpid(), i);
        fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                  0600);
        if (fd < 0 && errno != EEXIST)
            break;
    }
    if (fd < 0) {
        free(name);
        return system_error(pair->target);
    }
    pair->beside = name;
    pair->sink = sink;
    sink_init(sink, fd);
    return OK;
}

static enum status open_target(struct file_pair *pair, const char *target,
                               bool force, struct sink *sink)
{
    struct stat st;
    if (lstat(target, &st) == 0) {
        if (!force)
            return fail(E_SKIPPED, "%s: exists already, skipped", target);
        if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
            return fail(E_IO, "%s: exists and is no regular file", target);
    } else if (errno != ENOENT) {
        return system_error(target);
    }
    pair->target = strdup(target);
    if (!pair->target)
        return fail_memory("a file name");
    return open_beside(pair, sink);
}

enum status file_pair_open(struct file_pair *pair, const char *path,
                           const char *target, bool force, struct sink *sink)
{
    *pair = (struct file_pair){.source.fd = -1};
    enum status status = open_source(pair, path, force);
    if (status == OK)
        status = open_target(pair, target, force, sink);
    if (status != OK)
        file_pair_abandon(pair);
    return status;
}

/* ---- ending ------------------------------------------------------------- */

/* Mode last: a change of owner clears bits of it.  Without the owner's group
 * nobody else gets what the group could do. */
static enum status copy_metadata(const struct file_pair *pair)
{
    int fd = pair->sink->fd;
    mode_t mode = pair->old.st_mode & 07777;
    bool is_owned = fchown(fd, pair->old.st_uid, (gid_t)-1) == 0;
    bool is_grouped = fchown(fd, (uid_t)-1, pair->old.st_gid) == 0;
    if (!is_owned)
        mode &= (mode_t)~S_ISUID;
    if (!is_grouped)
        mode &= ~((mode_t)S_ISGID | (((mode & S_IRWXO) << 3) ^ S_IRWXG));
    const struct timespec times[2] = {pair->old.st_atim, pair->old.st_mtim};
    if (fchmod(fd, mode) != 0 || futimens(fd, times) != 0)
        return system_error(pair->target);
    return OK;
}

/* A name is on the disk once its folder is. */
static enum status sync_folder(const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        return fail_memory("a file name");
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    /* Some file systems cannot; then the rename is all there is. */
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    return OK;
}

/* Closes the new file in any case. */
static enum status close_target(struct file_pair *pair)
{
    enum status status = sink_flush(pair->sink);
    if (status != OK)
        status_prefix(status, pair->target);
    if (status == OK)
        status = copy_metadata(pair);
    if (status == OK && fsync(pair->sink->fd) != 0)
        status = system_error(pair->target);
    if (close(pair->sink->fd) != 0 && status == OK)
        status = system_error(pair->target);
    pair->sink = NULL;
    return status;
}

/* Removes the source, if that is still what its name says. */
static enum status remove_source(const struct file_pair *pair)
{
    struct stat now;
    const char *path = pair->source.path;
    if (stat(path, &now) != 0 || now.st_ino != pair->old.st_ino ||
        now.st_dev != pair->old.st_dev)
        return fail(E_IO, "%s: is another file by now, not removed", path);
    return unlink(path) == 0 ? OK : system_error(path);
}

enum status file_pair_finish(struct file_pair *pair, bool keep)
{
    enum status status = close_target(pair);
    if (status == OK && rename(pair->beside, pair->target) != 0)
        status = system_error(pair->target);
    if (status == OK) {
        free(pair->beside);
        pair->beside = NULL;
        status = sync_folder(pair->target);
    }
    if (status == OK && !keep)
        status = remove_source(pair);
    file_pair_abandon(pair);
    return status;
}

void file_pair_abandon(struct file_pair *pair)
{
    source_close(&pair->source);
    if (pair->sink)
        close(pair->sink->fd);
    if (pair->beside)
        unlink(pair->beside);
    free(pair->beside);
    free(pair->target);
    *pair = (struct file_pair){.source.fd = -1};
}
