/* publish_place.c -- whether a folder can take a model for the programs of
 * others.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/publish_place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/atomic_file.h"
#include "base/file_place.h"

/* The files of a model in a folder. */
static const struct {
    const char *name;
    bool is_weights;                /* or their index */
    bool for_ssm, for_transformers; /* written for them */
} files[] = {
    {.name = "model.safetensors", .is_weights = true, .for_transformers = true},
    {.name = "model.safetensors.index.json", .is_weights = true},
    {.name = "pytorch_model.bin", .is_weights = true, .for_ssm = true},
    {.name = "pytorch_model.bin.index.json", .is_weights = true},
    {.name = "config.json", .for_ssm = true, .for_transformers = true},
    {.name = "generation_config.json",
     .for_ssm = true,
     .for_transformers = true},
    {.name = "tokenizer.json", .for_transformers = true},
    {.name = "tokenizer_config.json", .for_transformers = true},
};

enum { N_FILES = sizeof files / sizeof files[0], PATH_CHARS = 4096 };

static bool is_written(int i, enum naming naming)
{
    return naming == NAMING_MAMBA_SSM ? files[i].for_ssm
                                      : files[i].for_transformers;
}

static enum status check_file(const char *folder, int i, enum naming naming,
                              const struct file_place *input, bool is_forced)
{
    char path[PATH_CHARS];
    if (snprintf(path, sizeof path, "%s/%s", folder, files[i].name) >=
        PATH_CHARS)
        return fail(E_USAGE, "%.64s..: the name is too long", folder);
    struct file_place place = file_place_of(path);
    if (!place.is_there)
        return OK;
    if (file_place_is_same(&place, input))
        return fail(E_USAGE, "%s: is the input", path);
    if (!is_written(i, naming))
        return files[i].is_weights
                   ? fail(E_USAGE,
                          "%s: is there already, and would be read "
                          "in place of the new weights",
                          path)
                   : OK;
    return is_forced
               ? OK
               : fail(E_USAGE, "%s: exists already; --force replaces it", path);
}

enum status publish_place_check(const char *folder, enum naming naming,
                                const char *input, bool is_forced)
{
    char path[PATH_CHARS];
    struct file_place from = file_place_of(input);
    struct file_place to = file_place_of(folder);
    if (!to.is_there)
        return atomic_file_check(folder);
    if (!S_ISDIR(to.mode))
        return fail(E_IO, "%s: %s", folder, strerror(ENOTDIR));
    if (from.is_there && from.device == to.device && from.inode == to.inode)
        return fail(E_USAGE, "%s: is the input", folder);
    for (int i = 0; i < N_FILES; i++)
        TRY(check_file(folder, i, naming, &from, is_forced));
    snprintf(path, sizeof path, "%s/config.json", folder);
    return atomic_file_check(path);
}
