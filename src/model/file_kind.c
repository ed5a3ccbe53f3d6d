/* file_kind.c -- files that are not models, recognised by their first bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/file_kind.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const struct {
    const char *start;
    size_t n;
    const char *what;
} kinds[] = {
#define START(text) text, sizeof text - 1
    {START("version https://git-lfs.github.com/spec/"),
     "is a pointer of git-lfs, not the file: 'git lfs pull' fetches it"},
    {START("<!doctype html"), "is an HTML page, not the file: the download "
                              "failed"},
    {START("<html"), "is an HTML page, not the file: the download failed"},
    {START("GGUF"), "is GGUF, which mambyte does not read: import the "
                    "checkpoint that it was made from"},
    {START("\x89HDF\r\n"), "is HDF5, which mambyte does not read"},
    {START("PK\3\4"), "is a zip archive, such as PyTorch writes: "
                      "mambyte-import makes a model of those"},
    {START("\x80\2\x8a\x0a"), "is a pickle, such as PyTorch writes: "
                              "mambyte-import makes a model of those"},
    {START("\x1f\x8b"), "is compressed by gzip: unpack it first"},
    {START("BZh"), "is compressed by bzip2: unpack it first"},
    {START("\xfd"
           "7zXZ"),
     "is compressed by xz: unpack it first"},
    {START("\x28\xb5\x2f\xfd"), "is compressed by zstd: unpack it first"},
#undef START
};

/* The length of a header could be the magic of another kind. */
static bool is_safetensors(const uint8_t *bytes, size_t n)
{
    static const uint8_t zeros[4];
    return n > 8 && bytes[8] == '{' && memcmp(bytes + 4, zeros, 4) == 0;
}

enum status file_kind_check(const uint8_t *bytes, size_t n)
{
    const char *text = (const char *)bytes;
    if (is_safetensors(bytes, n))
        return OK;
    while (n > 0 && isspace((unsigned char)*text)) {
        text++;
        n--;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (n >= kinds[i].n &&
            strncasecmp(text, kinds[i].start, kinds[i].n) == 0)
            return fail(E_MODEL, "%s", kinds[i].what);
    }
    return OK;
}

enum status file_kind_check_regular(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return fail(E_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return fail(E_IO, "%s: is not a regular file", path);
    return OK;
}
