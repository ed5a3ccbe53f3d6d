/* own_file.c -- recognises our kinds of files by their content.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/own_file.h"

#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/byteio.h"
#include "base/file_place.h"
#include "base/signals.h"
#include "classify/linear_classifier_file.h"
#include "engine/snapshot.h"
#include "model/safetensors.h"
#include "train/checkpoint.h"
#include "train/train_log.h"

enum { START_BYTES = 64 };

static const struct {
    const char *bytes;
    enum own_file kind;
} starts[] = {
    {SNAPSHOT_START, OWN_STATE}, {TRAIN_LOG_START, OWN_LOG},
    {"\x89PNG\r\n", OWN_PLOT},   {"<?xml", OWN_PLOT},
    {"<svg", OWN_PLOT},
};

static enum status kind_of_start(enum own_file *kind, const char *path)
{
    struct source source;
    uint8_t bytes[START_BYTES];
    TRY(source_open(&source, path));
    size_t n = source_peek(&source, bytes, sizeof bytes);
    source_close(&source);
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        size_t length = strlen(starts[i].bytes);
        if (n >= length && memcmp(bytes, starts[i].bytes, length) == 0)
            *kind = starts[i].kind;
    }
    return OK;
}

static enum status kind_of_tensors(enum own_file *kind, const char *path)
{
    struct safetensors *file;
    signals_guard_mapping(path);
    enum status status = safetensors_open(&file, path);
    if (status != OK)
        return status == E_MODEL ? OK : status;
    if (is_checkpoint(file))
        *kind = OWN_CHECKPOINT;
    else if (is_linear_classifier(file))
        *kind = OWN_HEAD;
    else if (safetensors_find(file, "backbone.embedding.weight"))
        *kind = OWN_MODEL;
    safetensors_close(file);
    return OK;
}

enum status own_file_find(enum own_file *kind, const char *path)
{
    struct file_place place = file_place_of(path);
    *kind = OWN_NONE;
    if (!place.is_there || !S_ISREG(place.mode))
        return OK;
    TRY(kind_of_start(kind, path));
    return *kind == OWN_NONE ? kind_of_tensors(kind, path) : OK;
}

enum own_file own_file_of(const char *path)
{
    enum own_file kind;
    (void)own_file_find(&kind, path);
    return kind;
}

enum status own_file_check_model(const char *path)
{
    switch (own_file_of(path)) {
    case OWN_HEAD:
        return fail(E_MODEL, "%s: is a head, not a model: --classify takes it",
                    path);
    case OWN_CHECKPOINT:
        return fail(E_MODEL,
                    "%s: is a checkpoint, not a model: mambyte-import makes "
                    "one of it",
                    path);
    case OWN_STATE:
        return fail(E_MODEL,
                    "%s: is a saved state, not a model: --load-state takes it",
                    path);
    default:
        return OK;
    }
}

const char *own_file_name(enum own_file kind)
{
    static const char *const names[] = {
        "something else", "a model", "a head", "a checkpoint",
        "a saved state",  "a log",   "a plot",
    };
    return names[kind];
}
