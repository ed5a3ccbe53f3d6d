/* file_pair.c -- a file that becomes another: FILE and FILE.mbz.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/file_pair.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

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
        return fail(E_SKIPPED, "%s: is not a regular file, skipped", path);
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
        return fail(E_SKIPPED, "%s: is not a regular file, skipped", path);
    return OK;
}

enum status file_pair_open(struct file_pair *pair, const char *path,
                           const char *target, bool force, struct sink *sink)
{
    *pair = (struct file_pair){.source.fd = -1};
    enum status status = open_source(pair, path, force);
    if (status == OK)
        status = atomic_file_open(&pair->target, target,
                                  force ? ATOMIC_REPLACE : ATOMIC_NEW);
    if (status != OK) {
        file_pair_abandon(pair);
        return status;
    }
    atomic_file_like(&pair->target, &pair->old);
    pair->sink = sink;
    sink_init(sink, pair->target.fd);
    sink->name = target;
    sink->is_sparse = true;
    return OK;
}

/* ---- ending ------------------------------------------------------------- */

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Removes the source, if it is still the file that was read. */
static enum status remove_source(const struct file_pair *pair)
{
    struct stat now;
    const struct stat *old = &pair->old;
    const char *path = pair->source.path;
    if (stat(path, &now) != 0 || now.st_ino != old->st_ino ||
        now.st_dev != old->st_dev)
        return fail(E_IO, "%s: is now another file, not removed", path);
    if (now.st_size != old->st_size ||
        !is_same_time(&now.st_mtim, &old->st_mtim) ||
        !is_same_time(&now.st_ctim, &old->st_ctim))
        return fail(E_IO, "%s: has changed since it was read, not removed",
                    path);
    return unlink(path) == 0 ? OK : system_error(path);
}

enum status file_pair_finish(struct file_pair *pair, bool keep)
{
    enum status status = sink_finish(pair->sink);
    if (status == OK)
        status = atomic_file_commit(&pair->target);
    if (status == OK && !keep)
        status = remove_source(pair);
    file_pair_abandon(pair);
    return status;
}

void file_pair_abandon(struct file_pair *pair)
{
    source_close(&pair->source);
    atomic_file_abandon(&pair->target);
    *pair = (struct file_pair){.source.fd = -1};
}
