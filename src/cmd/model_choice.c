/* model_choice.c -- the model of a command.
 *
 * This runs before any privilege is dropped, so of a file to decompress it
 * reads the first bytes only: its header, which has a checksum.  Such a file
 * chooses among the models that are installed, and no more.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/model_choice.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteio.h"
#include "base/file_place.h"
#include "base/signals.h"
#include "compress/container.h"
#include "engine/snapshot.h"
#include "model/catalog.h"
#include "model/model.h"
#include "model/safetensors.h"

enum { START_BYTES = 64 };

_Static_assert((int)START_BYTES >= (int)STREAM_HEADER_BYTES, "a header fits");

/* Of a regular file only.  Anything else can be read only once, and is not even
 * opened: whoever writes to a pipe would take us for its reader, and find it
 * gone. */
static size_t read_start(uint8_t bytes[START_BYTES], const char *path)
{
    struct source source;
    struct file_place place = file_place_of(path);
    if (!place.is_there || !S_ISREG(place.mode) ||
        source_open(&source, path) != OK)
        return 0;
    size_t n = source_peek(&source, bytes, START_BYTES);
    source_close(&source);
    return n;
}

/* Of a compressed file or a state. */
static bool find_in_start(struct fingerprint *model, const char *path)
{
    uint8_t bytes[START_BYTES];
    struct stream_header header;
    size_t n = read_start(bytes, path);
    if (snapshot_find_model(model, bytes, n))
        return true;
    if (n < STREAM_HEADER_BYTES || stream_header_parse(&header, bytes) != OK)
        return false;
    *model = header.model;
    return true;
}

/* Of a head; false where it has no features. */
static bool find_in_head(char text[FINGERPRINT_CHARS], const char *choice)
{
    char *path;
    struct safetensors *file;
    if (catalog_find_head(&path, choice) != OK)
        return false;
    signals_guard_mapping(path);
    const char *found = NULL;
    if (safetensors_open(&file, path) == OK) {
        found = safetensors_metadata(file, "fingerprint");
        if (found)
            snprintf(text, FINGERPRINT_CHARS, "%s", found);
        safetensors_close(file);
    }
    free(path);
    return found != NULL;
}

/* Of the first of several states, with commas between. */
static bool find_in_states(struct fingerprint *model, const char *choice)
{
    char *first = strndup(choice, strcspn(choice, ","));
    bool is_found = first && find_in_start(model, first);
    free(first);
    return is_found;
}

/* The fingerprint of the model that made what the command reads. */
static bool find_maker(char text[FINGERPRINT_CHARS],
                       const struct options *options)
{
    struct fingerprint model;
    bool is_found = false;
    if (options->mode == MODE_CLASSIFY && !strchr(options->classify, ','))
        return find_in_head(text, options->classify);
    if (options->mode == MODE_CLASSIFY)
        is_found = find_in_states(&model, options->classify);
    else if (options->mode == MODE_DECOMPRESS || options->mode == MODE_TEST)
        is_found = find_in_start(&model, options->files[0]);
    else if (options->load_state)
        is_found = find_in_start(&model, options->load_state);
    if (is_found)
        fingerprint_text(text, &model);
    return is_found;
}

static bool is_maker(const char *path, const char *wanted)
{
    struct model *model;
    struct fingerprint own;
    char text[FINGERPRINT_CHARS];
    signals_guard_mapping(path);
    if (model_open(&model, path) != OK)
        return false;
    model_fingerprint(model, &own);
    fingerprint_text(text, &own);
    model_close(model);
    return strcmp(text, wanted) == 0;
}

/* Leaves the path as it is where no installed model is the one. */
static enum status find_installed(char **path, const char *wanted)
{
    struct catalog catalog;
    const char *found = NULL;
    TRY(catalog_open(&catalog));
    for (size_t i = 0; i < catalog.n && !found; i++) {
        const struct catalog_entry *entry = &catalog.entries[i];
        if (entry->kind == CATALOG_MODEL && is_maker(entry->path, wanted))
            found = entry->path;
    }
    char *copy = found ? strdup(found) : NULL;
    if (copy) {
        free(*path);
        *path = copy;
    }
    catalog_close(&catalog);
    return found && !copy ? fail_memory("a file name") : OK;
}

enum status model_choose(char **path, const struct options *options)
{
    char wanted[FINGERPRINT_CHARS];
    TRY(catalog_find(path, options->model));
    if (options->model || !find_maker(wanted, options) ||
        is_maker(*path, wanted))
        return OK;
    enum status status = find_installed(path, wanted);
    if (status != OK) {
        free(*path);
        *path = NULL;
    }
    return status;
}
