/* torch_file.c -- opens the files of torch.save: .bin, .pt.
 *
 * A storage is read when the first tensor needs it.  A tensor whose elements
 * lie in its storage in row-major order is left there; any other (a transposed
 * view) is copied, and all copies together may not exceed the file.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/torch_file.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/memlimit.h"
#include "import/pickle.h"
#include "import/torch_archive.h"
#include "import/torch_legacy.h"

/* The elements of some tensors. */
struct storage {
    char key[STORAGE_KEY_CHARS];
    void *bytes; /* [n], owned */
    uint64_t n;
};

struct torch_file {
    /* Open while the file is being read, one of both. */
    struct torch_archive archive;
    struct torch_legacy legacy;
    bool is_legacy;
    uint64_t size; /* of the file */

    struct pickled pickled;
    struct storage *storages; /* [n_storages] */
    size_t n_storages;
    uint32_t *places; /* [n_places], by hash: 1 + index of a storage, or 0 */
    size_t n_places;  /* a power of two, at least twice n_storages */
    void **copies;    /* [n_copies], owned */
    size_t n_copies;
    uint64_t n_copied;      /* bytes */
    struct tensor *tensors; /* [n] */
    size_t n;
};

/* ---- storages ----------------------------------------------------------- */

/* Where the storage of that key is, or would be. */
static uint32_t *find_place(const struct torch_file *f, const char *key)
{
    size_t i = XXH3_64bits(key, strlen(key)) & (f->n_places - 1);
    while (f->places[i] > 0 &&
           strcmp(f->storages[f->places[i] - 1].key, key) != 0)
        i = (i + 1) & (f->n_places - 1);
    return &f->places[i];
}

static enum status read_storage(struct torch_file *f, const char *key,
                                void **bytes, uint64_t *n)
{
    char part[STORAGE_KEY_CHARS + 8];
    if (f->is_legacy)
        return torch_legacy_read(&f->legacy, key, bytes, n);
    snprintf(part, sizeof part, "data/%s", key);
    return torch_archive_read(&f->archive, part, bytes, n);
}

static enum status find_storage(struct torch_file *f, struct storage **storage,
                                const struct pickled_tensor *p)
{
    uint32_t *place = find_place(f, p->key);
    if (*place > 0) {
        *storage = &f->storages[*place - 1];
        return OK;
    }
    *storage = &f->storages[f->n_storages];
    TRY(read_storage(f, p->key, &(*storage)->bytes, &(*storage)->n));
    snprintf((*storage)->key, STORAGE_KEY_CHARS, "%s", p->key);
    *place = (uint32_t)++f->n_storages;
    return OK;
}

static enum status check_storage(const struct storage *storage,
                                 const struct pickled_tensor *p)
{
    size_t size = dtype_size(p->dtype);
    if (storage->n / size != p->n_storage || storage->n % size != 0)
        return fail(E_MODEL,
                    "%s: its storage has %" PRIu64 " bytes, the pickle says "
                    "%" PRIu64 " elements of %s",
                    p->name, storage->n, p->n_storage, dtype_name(p->dtype));
    return OK;
}

/* ---- tensors ------------------------------------------------------------ */

/* Fills in the sizes; no element may lie outside the storage, nor may there
 * be more of them than in it. */
static enum status check_view(struct tensor *t, const struct pickled_tensor *p)
{
    uint64_t last = p->offset;
    bool is_inside = true;
    t->n_elements = 1;
    for (int i = 0; i < p->n_dims; i++) {
        uint64_t reach;
        is_inside =
            is_inside && p->shape[i] > 0 &&
            !__builtin_mul_overflow(t->n_elements, p->shape[i],
                                    &t->n_elements) &&
            !__builtin_mul_overflow(p->shape[i] - 1, p->stride[i], &reach) &&
            !__builtin_add_overflow(last, reach, &last);
    }
    if (!is_inside || last >= p->n_storage || t->n_elements > p->n_storage)
        return fail(E_MODEL,
                    "%s: its shape and strides reach beyond its storage of "
                    "%" PRIu64 " elements",
                    p->name, p->n_storage);
    t->n_bytes = t->n_elements * dtype_size(t->dtype);
    return OK;
}

static bool is_row_major(const struct pickled_tensor *p)
{
    uint64_t stride = 1;
    for (int i = p->n_dims; i-- > 0;) {
        if (p->shape[i] > 1 && p->stride[i] != stride)
            return false;
        stride *= p->shape[i];
    }
    return true;
}

/* The elements in row-major order. */
static void gather(uint8_t *to, const uint8_t *storage,
                   const struct pickled_tensor *p, uint64_t n)
{
    size_t size = dtype_size(p->dtype);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = p->offset, rest = i;
        for (int d = p->n_dims; d-- > 0;) {
            at += rest % p->shape[d] * p->stride[d];
            rest /= p->shape[d];
        }
        memcpy(to + i * size, storage + at * size, size);
    }
}

static enum status copy_view(struct torch_file *f, struct tensor *t,
                             const struct pickled_tensor *p,
                             const struct storage *storage)
{
    f->n_copied += t->n_bytes;
    if (f->n_copied > f->size)
        return fail(E_MODEL,
                    "%s: tensors overlap, and would be larger than the file",
                    p->name);
    void *copy = malloc(t->n_bytes);
    if (!copy)
        return fail_memory(p->name);
    f->copies[f->n_copies++] = copy;
    gather(copy, storage->bytes, p, t->n_elements);
    t->data = copy;
    return OK;
}

static enum status make_tensor(struct torch_file *f,
                               const struct pickled_tensor *p)
{
    struct storage *storage;
    struct tensor *t = &f->tensors[f->n++];
    *t = (struct tensor){
        .name = p->name, .dtype = p->dtype, .n_dims = p->n_dims};
    memcpy(t->shape, p->shape, sizeof t->shape);
    TRY(find_storage(f, &storage, p));
    TRY(check_storage(storage, p));
    TRY(check_view(t, p));
    if (!is_row_major(p))
        return copy_view(f, t, p, storage);
    t->data =
        (const uint8_t *)storage->bytes + p->offset * dtype_size(p->dtype);
    return OK;
}

/* Of a zip archive; that of an older file has been read. */
static enum status read_pickle(struct torch_file *f)
{
    void *bytes;
    uint64_t n;
    if (f->is_legacy)
        return OK;
    TRY(torch_archive_read(&f->archive, PICKLE_NAME, &bytes, &n));
    enum status status = pickle_read(&f->pickled, bytes, n);
    free(bytes);
    return status;
}

static enum status read_all(struct torch_file *f)
{
    TRY(memlimit_check_content(f->size, "the file"));
    TRY(read_pickle(f));
    size_t n = f->pickled.n;
    f->tensors = calloc(n + 1, sizeof *f->tensors);
    f->storages = calloc(n + 1, sizeof *f->storages);
    f->copies = calloc(n + 1, sizeof *f->copies);
    f->n_places = 2;
    while (f->n_places < 2 * n)
        f->n_places *= 2;
    f->places = calloc(f->n_places, sizeof *f->places);
    if (!f->tensors || !f->storages || !f->copies || !f->places)
        return fail_memory("the list of tensors");
    for (size_t i = 0; i < n; i++)
        TRY(make_tensor(f, &f->pickled.tensors[i]));
    return OK;
}

/* ---- the file ----------------------------------------------------------- */

/* Closes the archive: all that is wanted of it is in memory. */
static enum status finish(struct torch_file **result, struct torch_file *f,
                          const char *name, enum status status)
{
    if (status == OK)
        status = read_all(f);
    if (f->is_legacy)
        torch_legacy_close(&f->legacy);
    else
        torch_archive_close(&f->archive);
    if (status != OK) {
        torch_file_close(f);
        return status_prefix(status, name);
    }
    *result = f;
    return OK;
}

enum status torch_file_open_memory(struct torch_file **file, const char *name,
                                   const void *bytes, size_t n)
{
    *file = NULL;
    struct torch_file *f = calloc(1, sizeof *f);
    if (!f)
        return fail_memory(name);
    enum status status = torch_archive_open_memory(&f->archive, bytes, n);
    f->size = f->archive.size;
    return finish(file, f, name, status);
}

/* The file at path, of either kind. */
static enum status open_any(struct torch_file *f, const char *path)
{
    uint8_t start[TORCH_LEGACY_MAGIC_BYTES];
    struct source source;
    size_t n;
    TRY(source_open(&source, path));
    f->size = source.size;
    enum status status = source_read_full(&source, start, sizeof start, &n);
    source_close(&source);
    TRY(status);
    f->is_legacy = torch_legacy_is(start, n);
    return f->is_legacy ? torch_legacy_open(&f->legacy, path, &f->pickled)
                        : torch_archive_open(&f->archive, path);
}

enum status torch_file_open(struct torch_file **file, const char *path)
{
    *file = NULL;
    struct torch_file *f = calloc(1, sizeof *f);
    if (!f)
        return fail_memory(path);
    enum status status = open_any(f, path);
    return finish(file, f, path, status);
}

void torch_file_close(struct torch_file *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->n_storages; i++)
        free(file->storages[i].bytes);
    for (size_t i = 0; i < file->n_copies; i++)
        free(file->copies[i]);
    pickle_free(&file->pickled);
    free(file->tensors);
    free(file->storages);
    free(file->places);
    free(file->copies);
    free(file);
}

size_t torch_file_count(const struct torch_file *file)
{
    return file->n;
}

const struct tensor *torch_file_at(const struct torch_file *file, size_t i)
{
    return &file->tensors[i];
}
