/* outputs.c -- the files that a command is to write, checked before any work.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/outputs.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/file_claim.h"

void outputs_add(struct outputs *outputs, const char *option, const char *path,
                 enum own_file kind)
{
    if (!path)
        return;
    assert(outputs->n < OUTPUTS_MAX);
    outputs->items[outputs->n++] =
        (struct output){option, path, kind, file_place_of(path)};
}

enum status outputs_check_input(const struct outputs *outputs,
                                const char *input)
{
    if (!input)
        return OK;
    struct file_place place = file_place_of(input);
    for (int i = 0; i < outputs->n; i++) {
        const struct output *o = &outputs->items[i];
        if (file_place_is_same(&o->place, &place))
            return fail(E_USAGE, "%s: is an input, and --%s would replace it",
                        input, o->option);
    }
    return OK;
}

static enum status check_name(const struct output *output)
{
    if (strcmp(output->path, "-") == 0)
        return fail(E_USAGE, "--%s: '-' is not the name of a file",
                    output->option);
    return OK;
}

static enum status check_others(const struct outputs *outputs, int i)
{
    const struct output *o = &outputs->items[i];
    for (int k = 0; k < i; k++) {
        const struct output *other = &outputs->items[k];
        if (file_place_is_same(&o->place, &other->place))
            return fail(E_USAGE, "%s: --%s and --%s are the same file", o->path,
                        other->option, o->option);
    }
    return OK;
}

static enum status check_kind(const struct output *output)
{
    struct stat info;
    enum own_file kind;
    bool is_file = stat(output->path, &info) == 0 && S_ISREG(info.st_mode);
    if (!is_file || info.st_size == 0 || output->kind == OWN_NONE)
        return OK;
    TRY(own_file_find(&kind, output->path));
    if (kind == output->kind)
        return OK;
    return fail(E_USAGE, "%s: exists and is not %s; --force replaces it",
                output->path, own_file_name(output->kind));
}

/* Only a log is written to as it is. */
static enum status check_writable(const struct output *output)
{
    const struct file_place *place = &output->place;
    if (output->kind != OWN_LOG || !place->is_there || !S_ISREG(place->mode))
        return atomic_file_check(output->path);
    if (access(output->path, W_OK) != 0)
        return fail(E_IO, "%s: %s", output->path, strerror(errno));
    return OK;
}

static enum status check_output(const struct outputs *outputs, int i)
{
    const struct output *output = &outputs->items[i];
    TRY(check_name(output));
    TRY(check_others(outputs, i));
    if (!outputs->is_forced)
        TRY(check_kind(output));
    return check_writable(output);
}

enum status outputs_check(const struct outputs *outputs)
{
    for (int i = 0; i < outputs->n; i++)
        TRY(check_output(outputs, i));
    return OK;
}

enum status outputs_claim(const struct outputs *outputs)
{
    for (int i = 0; i < outputs->n; i++) {
        const struct file_place *place = &outputs->items[i].place;
        const char *path = outputs->items[i].path;
        bool is_file = !place->is_there || S_ISREG(place->mode);
        if (is_file && !file_claim(path))
            return fail(E_IO, "%s: another run is going to write it", path);
    }
    return OK;
}
