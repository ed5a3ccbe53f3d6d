/* atomic_file.c -- writes a file whole, or leaves everything as it was.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/temporary.h"

enum { MODE_BITS = 0777, PROC_CHARS = 32 };

static bool uses_names;

void atomic_file_use_names(bool uses)
{
    uses_names = uses;
}

static enum status system_error(const struct atomic_file *file)
{
    return fail(E_IO, "%s: %s", file->path, strerror(errno));
}

static enum status exists_already(const struct atomic_file *file)
{
    return fail(E_SKIPPED, "%s: exists already, skipped", file->path);
}

/* ---- the target --------------------------------------------------------- */

/* The name of the target in its folder. */
static const char *base_of(const char *target)
{
    const char *slash = strrchr(target, '/');
    return slash ? slash + 1 : target;
}

/* Whether the file at the path may be replaced. */
static enum status check_old(const struct atomic_file *file,
                             const struct stat *old)
{
    bool is_file = S_ISREG(old->st_mode);
    switch (file->kind) {
    case ATOMIC_NEW:
        return exists_already(file);
    case ATOMIC_REPLACE:
        if (!is_file && !S_ISLNK(old->st_mode))
            return fail(E_IO, "%s: exists and is not a regular file",
                        file->path);
        return OK;
    default:
        if (is_file && access(file->path, W_OK) != 0)
            return system_error(file);
        return OK;
    }
}

/* Sets target, and like when there is a file to be replaced. */
static enum status find_target(struct atomic_file *file)
{
    struct stat old;
    bool follows = file->kind == ATOMIC_FOLLOW;
    if ((follows ? stat : lstat)(file->path, &old) == 0) {
        TRY(check_old(file, &old));
        file->like = old;
        file->is_like = S_ISREG(old.st_mode);
        file->is_device = follows && !file->is_like;
        file->target = follows && file->is_like ? realpath(file->path, NULL)
                                                : strdup(file->path);
    } else if (errno == ENOENT) {
        if (follows && lstat(file->path, &old) == 0)
            return fail(E_IO, "%s: is a link to a file that is not there",
                        file->path);
        file->target = strdup(file->path);
    }
    return file->target ? OK : system_error(file);
}

/* A folder that we may write to but not list is opened without the right to
 * bring it to the disk. */
static int open_path_of_folder(const char *name)
{
    const int flags = O_DIRECTORY | O_CLOEXEC;
    int fd = open(name, O_RDONLY | flags);
#ifdef O_PATH
    if (fd < 0 && errno == EACCES)
        fd = open(name, O_PATH | flags);
#endif
    return fd;
}

static enum status open_folder(struct atomic_file *file)
{
    size_t n = (size_t)(base_of(file->target) - file->target);
    if (file->target[n] == '\0')
        return fail(E_IO, "%s: %s", file->path, strerror(EISDIR));
    char *folder = n > 0 ? strndup(file->target, n) : strdup(".");
    if (!folder)
        return fail_memory("a file name");
    file->folder = open_path_of_folder(folder);
    free(folder);
    return file->folder >= 0 ? OK : system_error(file);
}

/* ---- the new file ------------------------------------------------------- */

/* Where linkat() finds a file that has no name. */
static const char *proc_path(char path[PROC_CHARS], int fd)
{
    snprintf(path, PROC_CHARS, "/proc/self/fd/%d", fd);
    return path;
}

static int open_nameless(const struct atomic_file *file)
{
#ifdef O_TMPFILE
    char path[PROC_CHARS];
    if (uses_names)
        return -1;
    int fd = openat(file->folder, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0 && access(proc_path(path, fd), F_OK) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
#else
    (void)file;
#endif
    return -1;
}

static int open_named(struct atomic_file *file)
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    struct temporary *t = temporary_new(file->folder);
    if (!t)
        return -1;
    int fd = openat(file->folder, temporary_name(t), flags, 0600);
    if (fd >= 0)
        file->temporary = t;
    else
        temporary_forget(t);
    return fd;
}

static enum status open_stream(struct atomic_file *file)
{
    if (file->fd < 0)
        return system_error(file);
    file->stream = fdopen(file->fd, "wb");
    return file->stream ? OK : fail_memory(file->path);
}

static enum status open_beside(struct atomic_file *file)
{
    TRY(open_folder(file));
    file->fd = open_nameless(file);
    if (file->fd < 0)
        file->fd = open_named(file);
    return open_stream(file);
}

static enum status open_device(struct atomic_file *file)
{
    file->fd = open(file->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    return open_stream(file);
}

static enum status open_new(struct atomic_file *file)
{
    TRY(find_target(file));
    return file->is_device ? open_device(file) : open_beside(file);
}

static enum status set_path(struct atomic_file *file, const char *path,
                            enum atomic_target kind)
{
    mode_t mask = umask(077);
    umask(mask);
    *file = (struct atomic_file){
        .kind = kind, .fd = -1, .folder = -1, .mode = 0666 & ~mask};
    file->path = strdup(path);
    return file->path ? OK : fail_memory("a file name");
}

enum status atomic_file_open(struct atomic_file *file, const char *path,
                             enum atomic_target kind)
{
    TRY(set_path(file, path, kind));
    enum status status = open_new(file);
    if (status != OK)
        atomic_file_abandon(file);
    return status;
}

static enum status check_device(const struct atomic_file *file)
{
    if (S_ISDIR(file->like.st_mode))
        return fail(E_IO, "%s: %s", file->path, strerror(EISDIR));
    return access(file->path, W_OK) == 0 ? OK : system_error(file);
}

static enum status check_new(struct atomic_file *file)
{
    TRY(find_target(file));
    return file->is_device ? check_device(file) : open_beside(file);
}

enum status atomic_file_check(const char *path)
{
    struct atomic_file file;
    TRY(set_path(&file, path, ATOMIC_FOLLOW));
    enum status status = check_new(&file);
    atomic_file_abandon(&file);
    return status;
}

void atomic_file_like(struct atomic_file *file, const struct stat *other)
{
    file->is_like = file->keeps_times = true;
    file->like = *other;
}

/* ---- ending ------------------------------------------------------------- */

/* Without its group, a file lets group and others do only what both could: a
 * member of the old group may now be one of the others, and the other way
 * round. */
static mode_t mode_without_group(mode_t mode)
{
    mode_t both = (mode >> 3) & mode & S_IRWXO;
    return (mode & S_IRWXU) | both << 3 | both;
}

/* Mode last: a change of owner clears bits of it. */
static enum status set_metadata(const struct atomic_file *file)
{
    mode_t mode = file->mode;
    if (file->is_like) {
        mode = file->like.st_mode & MODE_BITS;
        (void)!fchown(file->fd, file->like.st_uid, (gid_t)-1);
        if (fchown(file->fd, (uid_t)-1, file->like.st_gid) != 0)
            mode = mode_without_group(mode);
    }
    const struct timespec times[2] = {file->like.st_atim, file->like.st_mtim};
    if (fchmod(file->fd, mode) != 0 ||
        (file->keeps_times && futimens(file->fd, times) != 0))
        return system_error(file);
    return OK;
}

/* For file systems without hard links: an empty file takes the name, and is
 * replaced. */
static int claim_name(const struct atomic_file *file, const char *from,
                      const char *base)
{
    int fd = openat(file->folder, base, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                    0600);
    if (fd < 0)
        return -1;
    close(fd);
    if (renameat(file->folder, from, file->folder, base) == 0)
        return 0;
    int error = errno;
    unlinkat(file->folder, base, 0);
    errno = error;
    return -1;
}

/* 0, or -1 and errno: EEXIST when something has the name already. */
static int name_new(struct atomic_file *file, const char *base)
{
    char path[PROC_CHARS];
    if (!file->temporary)
        return linkat(AT_FDCWD, proc_path(path, file->fd), file->folder, base,
                      AT_SYMLINK_FOLLOW);
    const char *from = temporary_name(file->temporary);
    if (linkat(file->folder, from, file->folder, base, 0) == 0) {
        temporary_remove(file->temporary);
    } else {
        if (errno == EEXIST || claim_name(file, from, base) != 0)
            return -1;
        temporary_forget(file->temporary);
    }
    file->temporary = NULL;
    return 0;
}

/* A file without a name needs one to be renamed. */
static int give_temporary_name(struct atomic_file *file)
{
    char path[PROC_CHARS];
    struct temporary *t = temporary_new(file->folder);
    if (!t)
        return -1;
    if (linkat(AT_FDCWD, proc_path(path, file->fd), file->folder,
               temporary_name(t), AT_SYMLINK_FOLLOW) != 0) {
        temporary_forget(t);
        return -1;
    }
    file->temporary = t;
    return 0;
}

static int replace(struct atomic_file *file, const char *base)
{
    if (!file->temporary && give_temporary_name(file) != 0)
        return -1;
    if (renameat(file->folder, temporary_name(file->temporary), file->folder,
                 base) != 0)
        return -1;
    temporary_forget(file->temporary);
    file->temporary = NULL;
    return 0;
}

static enum status give_name(struct atomic_file *file)
{
    const char *base = base_of(file->target);
    bool has_no_name = !file->temporary;
    if (file->kind == ATOMIC_NEW || has_no_name) {
        if (name_new(file, base) == 0)
            return OK;
        if (errno != EEXIST)
            return system_error(file);
        if (file->kind == ATOMIC_NEW)
            return exists_already(file);
    }
    return replace(file, base) == 0 ? OK : system_error(file);
}

/* A name is on the disk once its folder is.  Some file systems cannot do
 * that; then the name is all there is. */
static enum status sync_folder(const struct atomic_file *file)
{
    return fsync(file->folder) == 0 || errno != EIO ? OK : system_error(file);
}

enum status atomic_file_prepare(struct atomic_file *file)
{
    if (file->is_whole)
        return OK;
    if (fflush(file->stream) != 0 || ferror(file->stream))
        return system_error(file);
    if (!file->is_device) {
        TRY(set_metadata(file));
        if (fsync(file->fd) != 0)
            return system_error(file);
    }
    file->is_whole = true;
    return OK;
}

enum status atomic_file_commit(struct atomic_file *file)
{
    enum status status = atomic_file_prepare(file);
    if (status == OK && !file->is_device)
        status = give_name(file);
    if (status == OK && !file->is_device)
        status = sync_folder(file);
    FILE *stream = file->stream;
    file->stream = NULL;
    file->fd = -1;
    if (fclose(stream) != 0 && file->is_device && status == OK)
        status = system_error(file);
    atomic_file_abandon(file);
    return status;
}

void atomic_file_abandon(struct atomic_file *file)
{
    if (!file->path)
        return;
    if (file->temporary)
        temporary_remove(file->temporary);
    if (file->stream)
        fclose(file->stream);
    else if (file->fd >= 0)
        close(file->fd);
    if (file->folder >= 0)
        close(file->folder);
    free(file->path);
    free(file->target);
    *file = (struct atomic_file){.path = NULL};
}

enum status atomic_file_write(const char *path, const void *bytes, size_t n)
{
    struct atomic_file file;
    TRY(atomic_file_open(&file, path, ATOMIC_FOLLOW));
    if (fwrite(bytes, 1, n, file.stream) == n)
        return atomic_file_commit(&file);
    enum status status = system_error(&file);
    atomic_file_abandon(&file);
    return status;
}
