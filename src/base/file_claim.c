/* file_claim.c -- names of files that one process at a time writes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/file_claim.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* A folder opens for reading only, and so takes only shared locks: each holds
 * one, and looks whether it alone does. */
static bool lock_alone(int folder, const char *name)
{
    struct flock ours = {
        .l_type = F_RDLCK,
        .l_whence = SEEK_SET,
        .l_start = (off_t)(XXH3_64bits(name, strlen(name)) >> 1),
        .l_len = 1,
    };
    struct flock other = ours;
    other.l_type = F_WRLCK;
    return fcntl(folder, F_OFD_SETLK, &ours) != 0 ||
           fcntl(folder, F_OFD_GETLK, &other) != 0 || other.l_type == F_UNLCK;
}

/* The folder stays open: its descriptor has the lock. */
static bool claim(const char *target)
{
    const char *slash = strrchr(target, '/');
    const char *name = slash ? slash + 1 : target;
    char *path = slash ? strndup(target, (size_t)(name - target)) : strdup(".");
    int folder = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(path);
    return folder < 0 || lock_alone(folder, name);
}

bool file_claim(const char *path)
{
    char *target = realpath(path, NULL);
    bool is_ours = claim(target ? target : path);
    free(target);
    return is_ours;
}
