/* foreign.c -- a checkpoint as others publish it: a folder or a file.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/foreign.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/byteio.h"
#include "base/folder.h"
#include "base/text.h"
#include "import/json_file.h"
#include "import/torch_archive.h"
#include "import/torch_file.h"
#include "import/torch_legacy.h"
#include "model/file_kind.h"

enum { SHARDS_MAX = 4096 };

/* One file of tensors, of either kind. */
struct shard {
    char *path;
    struct safetensors *safetensors;
    struct torch_file *torch_file;
};

static const char *const file_names[] = {
    "model.safetensors.index.json", "model.safetensors",
    "pytorch_model.bin.index.json", "pytorch_model.bin"};

/* ---- paths -------------------------------------------------------------- */

/* A file beside path, for the caller to free. */
static enum status find_beside(char **file, const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    int n = slash ? (int)(slash - path) + 1 : 0;
    if (asprintf(file, "%.*s%s", n, path, name) >= 0)
        return OK;
    *file = NULL;
    return fail_memory("a path");
}

/* The file that a path means, for the caller to free. */
static enum status resolve(char **file, const char *path)
{
    struct stat info;
    *file = NULL;
    if (stat(path, &info) != 0)
        return fail(E_IO, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode)) {
        *file = strdup(path);
        return *file ? OK : fail_memory(path);
    }
    for (size_t i = 0; i < sizeof file_names / sizeof file_names[0]; i++) {
        TRY(folder_join(file, path, file_names[i]));
        if (stat(*file, &info) == 0)
            return OK;
        if (errno != ENOENT)
            return fail(E_IO, "%s: %s", *file, strerror(errno));
        free(*file);
        *file = NULL;
    }
    return fail(E_IO,
                "%s: the folder has no model.safetensors and no "
                "pytorch_model.bin, nor an index of one",
                path);
}

/* ---- JSON --------------------------------------------------------------- */

enum status foreign_read_json(json_t **json, const struct foreign *foreign,
                              const char *name, size_t most)
{
    struct stat info;
    *json = NULL;
    char *path;
    TRY(find_beside(&path, foreign->path, name));
    enum status status = stat(path, &info) == 0 || errno != ENOENT
                             ? json_file_read(json, path, most)
                             : OK;
    free(path);
    return status;
}

/* ---- shards ------------------------------------------------------------- */

static enum status open_shard(struct shard *shard, const char *path)
{
    struct source source;
    uint8_t start[TORCH_LEGACY_MAGIC_BYTES];
    size_t n = 0;
    TRY(file_kind_check_regular(path));
    TRY(source_open(&source, path));
    enum status status = source_read_full(&source, start, sizeof start, &n);
    source_close(&source);
    TRY(status);
    shard->path = strdup(path);
    if (!shard->path)
        return fail_memory(path);
    if (torch_archive_is_zip(start, n) || torch_legacy_is(start, n))
        return torch_file_open(&shard->torch_file, path);
    return safetensors_open(&shard->safetensors, path);
}

static size_t shard_count(const struct shard *shard)
{
    return shard->torch_file ? torch_file_count(shard->torch_file)
                             : safetensors_count(shard->safetensors);
}

static const struct tensor *shard_at(const struct shard *shard, size_t i)
{
    return shard->torch_file ? torch_file_at(shard->torch_file, i)
                             : safetensors_at(shard->safetensors, i);
}

static enum status add_shard(struct foreign *f, const char *path)
{
    for (size_t i = 0; i < f->n_shards; i++) {
        if (strcmp(f->shards[i].path, path) == 0)
            return OK;
    }
    if (f->n_shards == SHARDS_MAX)
        return fail(E_MODEL, "%s: names more than %d files", f->path,
                    SHARDS_MAX);
    return open_shard(&f->shards[f->n_shards++], path);
}

/* The files that an index names lie beside it. */
static enum status add_named(struct foreign *f, const json_t *name)
{
    const char *text = json_string_value(name);
    if (!text || *text == '\0' || *text == '.' || strchr(text, '/'))
        return fail(E_MODEL, "%s: a shard is not the name of a file beside it",
                    f->path);
    char *path;
    TRY(find_beside(&path, f->path, text));
    enum status status = add_shard(f, path);
    free(path);
    return status;
}

static enum status add_index(struct foreign *f)
{
    json_t *index;
    TRY(json_file_read(&index, f->path, INDEX_BYTES_MAX));
    json_t *map = json_object_get(index, "weight_map");
    enum status status = OK;
    if (json_object_size(map) == 0)
        status = fail(E_MODEL, "%s: has no weight_map", f->path);
    const char *key;
    json_t *name;
    json_object_foreach(map, key, name)
    {
        if (status == OK)
            status = add_named(f, name);
    }
    json_decref(index);
    return status;
}

/* ---- the list ----------------------------------------------------------- */

static enum status list_tensors(struct foreign *f)
{
    size_t n = 0;
    for (size_t i = 0; i < f->n_shards; i++)
        n += shard_count(&f->shards[i]);
    struct tensor *list = calloc(n + 1, sizeof *list);
    if (!list)
        return fail_memory("the list of tensors");
    f->tensors = list;
    for (size_t i = 0; i < f->n_shards; i++) {
        for (size_t k = 0; k < shard_count(&f->shards[i]); k++)
            list[f->n++] = *shard_at(&f->shards[i], k);
    }
    qsort(list, n, sizeof *list, tensor_compare_names);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(list[i - 1].name, list[i].name) == 0)
            return fail(E_MODEL, "%s: has two tensors %s", f->path,
                        list[i].name);
    }
    return OK;
}

static enum status fill(struct foreign *f, const char *path)
{
    TRY(resolve(&f->path, path));
    TRY(foreign_read_json(&f->config, f, "config.json", CONFIG_BYTES_MAX));
    f->shards = calloc(SHARDS_MAX, sizeof *f->shards);
    if (!f->shards)
        return fail_memory("the shards");
    if (text_find_tail(f->path, ".index.json"))
        TRY(add_index(f));
    else
        TRY(add_shard(f, f->path));
    if (f->n_shards == 1)
        f->metadata = f->shards[0].safetensors;
    return list_tensors(f);
}

enum status foreign_open(struct foreign *foreign, const char *path)
{
    *foreign = (struct foreign){0};
    enum status status = fill(foreign, path);
    if (status != OK)
        foreign_close(foreign);
    return status;
}

void foreign_close(struct foreign *f)
{
    for (size_t i = 0; i < f->n_shards; i++) {
        safetensors_close(f->shards[i].safetensors);
        torch_file_close(f->shards[i].torch_file);
        free(f->shards[i].path);
    }
    json_decref(f->config);
    free((void *)(uintptr_t)f->tensors);
    free(f->shards);
    free(f->path);
    *f = (struct foreign){0};
}
