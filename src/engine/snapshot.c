/* snapshot.c -- the state of one stream to and from a file.
 *
 *      0  8   magic
 *      8  4   version of the format
 *     12  4   flags, none defined
 *     16 16   fingerprint of the model
 *     32  8   bytes that the stream has read
 *     40  8   n, the number of floats
 *     48  8   XXH3-64 of bytes 0 to 47
 *     56 4 n  floats, binary32
 *         8   XXH3-64 of all before
 *
 * All little-endian.  The header has a checksum of its own, so that damage
 * is not taken for another model or another length.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/exact.h"
#include "base/little_endian.h"

#define MAGIC "MBYTSTAT"

enum {
    VERSION = 1,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_MODEL = 16,
    AT_N_BYTES = 32,
    AT_N_FLOATS = 40,
    AT_CHECKSUM = 48,
    HEADER_BYTES = 56,
    CHECKSUM_BYTES = 8,
    MAGIC_BYTES = 8
};

static enum status system_error(void)
{
    return fail(E_IO, "%s", strerror(errno));
}

static size_t file_bytes(size_t n_floats)
{
    return HEADER_BYTES + 4 * n_floats + CHECKSUM_BYTES;
}

/* ---- reading ---------------------------------------------------------- */

static bool has_checksum(const uint8_t *bytes, size_t n)
{
    return load_le(bytes + n, CHECKSUM_BYTES) == XXH3_64bits(bytes, n);
}

static enum status check_header(const uint8_t *bytes, size_t n)
{
    size_t n_magic = n < MAGIC_BYTES ? n : MAGIC_BYTES;
    if (n == 0 || memcmp(bytes, MAGIC, n_magic) != 0)
        return fail(E_FORMAT, "not a state snapshot");
    if (n < HEADER_BYTES)
        return fail(E_FORMAT, "state snapshot is truncated: %zu bytes", n);
    uint64_t version = load_le(bytes + AT_VERSION, 4);
    if (version > VERSION)
        return fail(E_FORMAT,
                    "state snapshot has version %" PRIu64
                    " of the format, newer than this program's, %d",
                    version, VERSION);
    if (!has_checksum(bytes, AT_CHECKSUM))
        return fail(E_FORMAT, "state snapshot is damaged: checksum of the "
                              "header differs");
    if (version < VERSION || load_le(bytes + AT_FLAGS, 4) != 0)
        return fail(E_FORMAT, "state snapshot has an unknown version or "
                              "unknown flags");
    return OK;
}

static enum status check_owner(const uint8_t *bytes,
                               const struct fingerprint *model, size_t n_floats)
{
    if (memcmp(bytes + AT_MODEL, model->bytes, sizeof model->bytes) != 0)
        return fail(E_FORMAT, "state snapshot was made by another model");
    uint64_t n = load_le(bytes + AT_N_FLOATS, 8);
    if (n != n_floats)
        return fail(E_FORMAT,
                    "state snapshot holds %" PRIu64
                    " numbers, the model's state has %zu",
                    n, n_floats);
    return OK;
}

static enum status check_body(const uint8_t *bytes, size_t n, size_t n_floats)
{
    size_t expected = file_bytes(n_floats);
    if (n < expected)
        return fail(E_FORMAT,
                    "state snapshot is truncated: %zu bytes, expected %zu", n,
                    expected);
    if (n > expected)
        return fail(E_FORMAT, "state snapshot is followed by other bytes");
    if (!has_checksum(bytes, n - CHECKSUM_BYTES))
        return fail(E_FORMAT, "state snapshot is damaged: checksum differs");
    return OK;
}

enum status snapshot_parse(struct snapshot *snapshot, const uint8_t *bytes,
                           size_t n, const struct fingerprint *model,
                           size_t n_floats)
{
    *snapshot = (struct snapshot){.floats = NULL};
    TRY(check_header(bytes, n));
    TRY(check_owner(bytes, model, n_floats));
    TRY(check_body(bytes, n, n_floats));

    float *floats = malloc(n_floats * sizeof *floats);
    if (!floats)
        return fail_memory("a state");
    for (size_t i = 0; i < n_floats; i++) {
        const uint8_t *p = bytes + HEADER_BYTES + 4 * i;
        floats[i] = exact_float((uint32_t)load_le(p, 4));
    }
    *snapshot = (struct snapshot){
        .model = *model,
        .n_bytes = load_le(bytes + AT_N_BYTES, 8),
        .n_floats = n_floats,
        .floats = floats,
    };
    return OK;
}

static enum status read_file(const char *path, uint8_t *bytes, size_t size,
                             size_t *n)
{
    FILE *in = fopen(path, "rb");
    if (!in)
        return system_error();
    *n = fread(bytes, 1, size, in);
    enum status status = ferror(in) ? system_error() : OK;
    fclose(in);
    return status;
}

enum status snapshot_load(struct snapshot *snapshot, const char *path,
                          const struct fingerprint *model, size_t n_floats)
{
    *snapshot = (struct snapshot){.floats = NULL};
    size_t size = file_bytes(n_floats) + 1; /* one, to notice what follows */
    size_t n = 0;
    uint8_t *bytes = malloc(size);
    if (!bytes)
        return fail_memory("a state");
    enum status status = read_file(path, bytes, size, &n);
    if (status == OK)
        status = snapshot_parse(snapshot, bytes, n, model, n_floats);
    free(bytes);
    return status == OK ? OK : status_prefix(status, path);
}

void snapshot_free(struct snapshot *snapshot)
{
    free(snapshot->floats);
    *snapshot = (struct snapshot){.floats = NULL};
}

/* ---- writing ---------------------------------------------------------- */

/* The whole file, [file_bytes(n_floats)], or NULL. */
static uint8_t *make_image(const struct snapshot *snapshot)
{
    size_t n = file_bytes(snapshot->n_floats) - CHECKSUM_BYTES;
    uint8_t *bytes = malloc(n + CHECKSUM_BYTES);
    if (!bytes)
        return NULL;
    memcpy(bytes, MAGIC, MAGIC_BYTES);
    store_le(bytes + AT_VERSION, VERSION, 4);
    store_le(bytes + AT_FLAGS, 0, 4);
    memcpy(bytes + AT_MODEL, snapshot->model.bytes,
           sizeof snapshot->model.bytes);
    store_le(bytes + AT_N_BYTES, snapshot->n_bytes, 8);
    store_le(bytes + AT_N_FLOATS, snapshot->n_floats, 8);
    store_le(bytes + AT_CHECKSUM, XXH3_64bits(bytes, AT_CHECKSUM),
             CHECKSUM_BYTES);
    for (size_t i = 0; i < snapshot->n_floats; i++)
        store_le(bytes + HEADER_BYTES + 4 * i, exact_bits(snapshot->floats[i]),
                 4);
    store_le(bytes + n, XXH3_64bits(bytes, n), CHECKSUM_BYTES);
    return bytes;
}

/* Closes fd in any case. */
static enum status write_all(int fd, const uint8_t *bytes, size_t n,
                             bool is_file)
{
    FILE *out = fdopen(fd, "wb");
    if (!out) {
        close(fd);
        return fail_memory("a state");
    }
    enum status status = OK;
    if (fwrite(bytes, 1, n, out) != n || fflush(out) != 0 ||
        (is_file && fsync(fd) != 0))
        status = system_error();
    if (fclose(out) != 0 && status == OK)
        status = system_error();
    return status;
}

/* Opens a file beside path that nobody else has; its name goes to beside. */
static int create_beside(char *beside, size_t size, const char *path)
{
    int fd = -1;
    for (int i = 0; i < 100; i++) {
        snprintf(beside, size, "%s.%ld-%d", path, (long)getpid(), i);
        fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            break;
    }
    return fd;
}

/* Fills the file beside path, and gives it the name and the mode of path.
 * Closes fd in any case. */
static enum status write_and_rename(int fd, const char *beside,
                                    const char *path, const struct stat *old,
                                    const uint8_t *bytes, size_t n)
{
    if (old && fchmod(fd, old->st_mode & 07777) != 0) {
        close(fd);
        return system_error();
    }
    TRY(write_all(fd, bytes, n, true));
    return rename(beside, path) == 0 ? OK : system_error();
}

/* Gives path its new contents at once, or leaves all as it was.  old: what
 * is there now, or NULL. */
static enum status replace_file(const char *path, const struct stat *old,
                                const uint8_t *bytes, size_t n)
{
    size_t size = strlen(path) + 32;
    char *beside = malloc(size);
    if (!beside)
        return fail_memory("a state");
    enum status status = OK;
    int fd = create_beside(beside, size, path);
    if (fd < 0) {
        status = system_error();
    } else {
        status = write_and_rename(fd, beside, path, old, bytes, n);
        if (status != OK)
            unlink(beside);
    }
    free(beside);
    return status;
}

static enum status write_directly(const char *path, const uint8_t *bytes,
                                  size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    return fd < 0 ? system_error() : write_all(fd, bytes, n, false);
}

/* Follows links, so that they stay. */
static enum status write_path(const char *path, const uint8_t *bytes, size_t n)
{
    struct stat old;
    if (stat(path, &old) != 0)
        return errno == ENOENT ? replace_file(path, NULL, bytes, n)
                               : system_error();
    if (!S_ISREG(old.st_mode))
        return write_directly(path, bytes, n);
    if (access(path, W_OK) != 0)
        return system_error();
    char *target = realpath(path, NULL);
    if (!target)
        return system_error();
    enum status status = replace_file(target, &old, bytes, n);
    free(target);
    return status;
}

enum status snapshot_save(const char *path, const struct snapshot *snapshot)
{
    uint8_t *bytes = make_image(snapshot);
    if (!bytes)
        return fail_memory("a state");
    enum status status =
        write_path(path, bytes, file_bytes(snapshot->n_floats));
    free(bytes);
    return status == OK ? OK : status_prefix(status, path);
}
