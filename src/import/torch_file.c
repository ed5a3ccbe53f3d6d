/* torch_file.c -- opens the files of torch.save: .bin, .pt.
 *
 * A storage is read when the first tensor needs it.  A tensor that lies in
 * its storage as row-major order has it is left there; another (a transposed
 * view) is copied, and all copies together may not exceed the file.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/torch_file.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "import/pickle.h"

enum { ENTRY_NAME_CHARS = 256 };

#define PICKLE_NAME "data.pkl"

/* The elements of some tensors. */
struct storage {
    char key[STORAGE_KEY_CHARS];
    void *bytes; /* [n], owned */
    uint64_t n;
};

struct torch_file {
    zip_t *zip;    /* open while the file is being read              */
    uint64_t size; /* of the file                                    */
    char *name;    /* of the archive inside it: "pytorch_model"      */
    struct pickled pickled;
    struct storage *storages; /* [n_storages]                         */
    size_t n_storages;
    void **copies; /* [n_copies], owned                               */
    size_t n_copies;
    uint64_t n_copied;      /* bytes                                  */
    struct tensor *tensors; /* [n]                                    */
    size_t n;
};

bool torch_file_is_zip(const uint8_t *bytes, size_t n)
{
    return n >= 4 && memcmp(bytes, "PK\3\4", 4) == 0;
}

/* ---- entries ------------------------------------------------------------ */

static enum status zip_failed(struct torch_file *f)
{
    return fail(E_MODEL, "the zip archive is damaged: %s",
                zip_strerror(f->zip));
}

static enum status stat_entry(struct torch_file *f, zip_uint64_t i,
                              zip_stat_t *info)
{
    const zip_uint64_t needed =
        ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_METHOD;
    if (zip_stat_index(f->zip, i, ZIP_FL_ENC_RAW, info) != 0 ||
        (info->valid & needed) != needed)
        return zip_failed(f);
    return OK;
}

/* Entries that share their bytes could claim more than there is. */
static enum status check_sizes(struct torch_file *f)
{
    uint64_t total = 0;
    zip_int64_t n = zip_get_num_entries(f->zip, 0);
    for (zip_int64_t i = 0; i < n; i++) {
        zip_stat_t info;
        TRY(stat_entry(f, (zip_uint64_t)i, &info));
        if (info.comp_method != ZIP_CM_STORE)
            return fail(E_MODEL, "the zip archive is compressed, which "
                                 "PyTorch does not do");
        if (info.size > f->size - total)
            return fail(E_MODEL,
                        "the zip archive claims more bytes than the "
                        "file has, %" PRIu64,
                        f->size);
        total += info.size;
    }
    return OK;
}

/* The one entry that ends in /data.pkl gives the archive its name. */
static enum status find_name(struct torch_file *f)
{
    zip_int64_t n = zip_get_num_entries(f->zip, 0);
    const size_t n_tail = sizeof "/" PICKLE_NAME - 1;
    for (zip_int64_t i = 0; i < n; i++) {
        zip_stat_t info;
        TRY(stat_entry(f, (zip_uint64_t)i, &info));
        size_t length = strlen(info.name);
        if (length <= n_tail || length > ENTRY_NAME_CHARS / 2 ||
            strcmp(info.name + length - n_tail, "/" PICKLE_NAME) != 0)
            continue;
        if (f->name)
            return fail(E_MODEL, "the zip archive has two /" PICKLE_NAME);
        f->name = strndup(info.name, length - n_tail);
        if (!f->name)
            return fail_memory("a name");
    }
    if (!f->name)
        return fail(E_MODEL, "a zip archive without /" PICKLE_NAME
                             ": not a file of torch.save");
    return OK;
}

/* Reads NAME/part whole; *bytes is to be freed. */
static enum status read_entry(struct torch_file *f, const char *part,
                              void **bytes, uint64_t *n)
{
    char name[ENTRY_NAME_CHARS];
    zip_stat_t info;
    *bytes = NULL;
    snprintf(name, sizeof name, "%s/%s", f->name, part);
    zip_int64_t i = zip_name_locate(f->zip, name, ZIP_FL_ENC_RAW);
    if (i < 0)
        return fail(E_MODEL, "the zip archive has no %s", part);
    TRY(stat_entry(f, (zip_uint64_t)i, &info));
    *n = info.size;

    zip_file_t *entry = zip_fopen_index(f->zip, (zip_uint64_t)i, 0);
    if (!entry)
        return zip_failed(f);
    *bytes = malloc(info.size > 0 ? info.size : 1);
    zip_int64_t got = *bytes ? zip_fread(entry, *bytes, info.size) : 0;
    int closed = zip_fclose(entry);
    if (!*bytes)
        return fail_memory("a storage");
    if (got == (zip_int64_t)info.size && closed == 0)
        return OK;
    free(*bytes);
    *bytes = NULL;
    return fail(E_MODEL, "the zip archive is damaged in %s", part);
}

static enum status check_byte_order(struct torch_file *f)
{
    char name[ENTRY_NAME_CHARS];
    void *bytes;
    uint64_t n;
    snprintf(name, sizeof name, "%s/byteorder", f->name);
    if (zip_name_locate(f->zip, name, ZIP_FL_ENC_RAW) < 0)
        return OK;
    TRY(read_entry(f, "byteorder", &bytes, &n));
    bool is_little = n == 6 && memcmp(bytes, "little", 6) == 0;
    free(bytes);
    if (!is_little)
        return fail(E_MODEL, "the file is of a big-endian machine");
    return OK;
}

static enum status read_pickle(struct torch_file *f)
{
    void *bytes;
    uint64_t n;
    TRY(read_entry(f, PICKLE_NAME, &bytes, &n));
    enum status status = pickle_read(&f->pickled, bytes, n);
    free(bytes);
    return status;
}

/* ---- tensors ------------------------------------------------------------ */

static enum status find_storage(struct torch_file *f, struct storage **storage,
                                const struct pickled_tensor *p)
{
    for (size_t i = 0; i < f->n_storages; i++) {
        *storage = &f->storages[i];
        if (strcmp((*storage)->key, p->key) == 0)
            return OK;
    }
    *storage = &f->storages[f->n_storages];
    char part[STORAGE_KEY_CHARS + 8];
    snprintf(part, sizeof part, "data/%s", p->key);
    TRY(read_entry(f, part, &(*storage)->bytes, &(*storage)->n));
    snprintf((*storage)->key, STORAGE_KEY_CHARS, "%s", p->key);
    f->n_storages++;
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
        return fail(E_MODEL, "%s: tensors overlap to more than the file has",
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

static enum status read_all(struct torch_file *f)
{
    TRY(check_sizes(f));
    TRY(find_name(f));
    TRY(check_byte_order(f));
    TRY(read_pickle(f));
    size_t n = f->pickled.n;
    f->tensors = calloc(n + 1, sizeof *f->tensors);
    f->storages = calloc(n + 1, sizeof *f->storages);
    f->copies = calloc(n + 1, sizeof *f->copies);
    if (!f->tensors || !f->storages || !f->copies)
        return fail_memory("the list of tensors");
    for (size_t i = 0; i < n; i++)
        TRY(make_tensor(f, &f->pickled.tensors[i]));
    return OK;
}

/* ---- the file ----------------------------------------------------------- */

static enum status open_source(struct torch_file *f, zip_source_t *source,
                               zip_error_t *error)
{
    zip_stat_t info;
    if (source && zip_source_stat(source, &info) == 0 &&
        (info.valid & ZIP_STAT_SIZE))
        f->size = info.size;
    if (source)
        f->zip =
            zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, error);
    if (f->zip)
        return OK;
    zip_source_free(source);
    return fail(E_MODEL, "not a zip archive that is whole: %s",
                zip_error_strerror(error));
}

/* Closes the archive: all that is wanted of it is in memory. */
static enum status finish(struct torch_file **result, struct torch_file *f,
                          const char *name, enum status status)
{
    if (status == OK)
        status = read_all(f);
    if (f->zip)
        zip_discard(f->zip);
    f->zip = NULL;
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
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *source = zip_source_buffer_create(bytes, n, 0, &error);
    enum status status = open_source(f, source, &error);
    zip_error_fini(&error);
    return finish(file, f, name, status);
}

enum status torch_file_open(struct torch_file **file, const char *path)
{
    *file = NULL;
    struct torch_file *f = calloc(1, sizeof *f);
    if (!f)
        return fail_memory(path);
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *source = zip_source_file_create(path, 0, -1, &error);
    enum status status = open_source(f, source, &error);
    zip_error_fini(&error);
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
    free(file->copies);
    free(file->name);
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
