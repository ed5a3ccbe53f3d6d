/* safetensors.c -- maps a .safetensors file and lists its tensors by name.
 *
 * jansson reads the JSON, and its tree is kept: names and metadata point
 * into it.  What is allocated here is proportional to the header, whatever
 * sizes it claims.  Names are printable ASCII, so they can be shown as they
 * are; other text of the file is made printable before it is shown.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/little_endian.h"
#include "base/memlimit.h"
#include "base/printable.h"
#include "base/text.h"
#include "model/json_text.h"
#include "model/file_kind.h"
#include "model/safetensors_entry.h"

enum {
    LENGTH_BYTES = 8,       /* in front of the JSON */
    HEADER_MAX = 100000000, /* the bound of the published implementation */
};

#define METADATA "__metadata__"

struct safetensors {
    char *path;
    const uint8_t *bytes; /* [n_bytes], the whole file */
    size_t n_bytes;
    bool is_mapped;             /* bytes are ours to unmap */
    json_t *header;             /* owns names and metadata */
    json_t *metadata;           /* inside header, or NULL */
    const char **metadata_keys; /* [n], then NULL */
    const uint8_t *data;        /* [n_data], after the header */
    uint64_t n_data;
    struct tensor *tensors;        /* [n_tensors], in the order of data */
    const struct tensor **by_name; /* [n_tensors], in the order of names */
    size_t n_tensors;
};

/* ---- the header ------------------------------------------------------- */

/* Puts the JSON into file->header, and finds the data after it. */
static enum status parse_header(struct safetensors *file)
{
    TRY(file_kind_check(file->bytes, file->n_bytes));
    if (file->n_bytes < LENGTH_BYTES)
        return fail(E_MODEL,
                    "not a safetensors file: %zu byte%s long, a "
                    "header needs %d",
                    file->n_bytes, text_plural(file->n_bytes), LENGTH_BYTES);
    uint64_t n_header = load_le(file->bytes, LENGTH_BYTES);
    if (n_header > file->n_bytes - LENGTH_BYTES)
        return fail(E_MODEL,
                    "truncated, or not a safetensors file: its header "
                    "claims %" PRIu64 " byte%s, the file has %zu",
                    n_header, text_plural(n_header), file->n_bytes);
    if (n_header > HEADER_MAX)
        return fail(E_MODEL,
                    "header claims %" PRIu64 " bytes, at most %d "
                    "are possible",
                    n_header, HEADER_MAX);

    const char *text = (const char *)file->bytes + LENGTH_BYTES;
    if (n_header == 0 || text[0] != '{')
        return fail(E_MODEL, "not a safetensors file: header does not begin "
                             "with {");
    json_error_t error;
    TRY(memlimit_check_json(text, (size_t)n_header, "its header"));
    TRY(json_text_parse(&file->header, text, (size_t)n_header,
                        JSON_REJECT_DUPLICATES, &error));
    if (!file->header) {
        char shown[PRINTABLE_CHARS];
        return fail(E_MODEL, "header is not valid JSON at byte %d: %s",
                    error.position,
                    printable_start(shown, error.text, strlen(error.text)));
    }
    file->data = file->bytes + LENGTH_BYTES + n_header;
    file->n_data = file->n_bytes - LENGTH_BYTES - n_header;
    return OK;
}

static enum status read_metadata(struct safetensors *file)
{
    file->metadata = json_object_get(file->header, METADATA);
    if (!file->metadata)
        return OK;
    if (!json_is_object(file->metadata))
        return fail(E_MODEL, METADATA " is not an object");
    file->metadata_keys = calloc(json_object_size(file->metadata) + 1,
                                 sizeof *file->metadata_keys);
    if (!file->metadata_keys)
        return fail_memory("the metadata");

    size_t n = 0;
    const char *key;
    json_t *value;
    json_object_foreach(file->metadata, key, value)
    {
        file->metadata_keys[n++] = key;
        if (!json_is_string(value)) {
            char shown[PRINTABLE_CHARS];
            return fail(E_MODEL,
                        METADATA ": the value of \"%s\" is not a "
                                 "string",
                        printable_start(shown, key, strlen(key)));
        }
    }
    return OK;
}

static enum status read_tensors(struct safetensors *file)
{
    size_t n = json_object_size(file->header) - (file->metadata ? 1 : 0);
    file->tensors = calloc(n + 1, sizeof *file->tensors);
    file->by_name = calloc(n + 1, sizeof *file->by_name);
    if (!file->tensors || !file->by_name)
        return fail_memory("the list of tensors");

    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry)
    {
        if (entry != file->metadata)
            TRY(safetensors_read_entry(&file->tensors[file->n_tensors++], name,
                                       entry, file->data, file->n_data));
    }
    return OK;
}

static int compare_data(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    if (x->data != y->data)
        return (const uint8_t *)x->data < (const uint8_t *)y->data ? -1 : 1;
    if (x->n_bytes != y->n_bytes)
        return x->n_bytes < y->n_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int compare_name(const void *a, const void *b)
{
    const struct tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* Sorts by data, which must follow each other without hole or overlap up to
 * the end of the file. */
static enum status check_contiguous(struct safetensors *file)
{
    qsort(file->tensors, file->n_tensors, sizeof *file->tensors, compare_data);
    uint64_t end = 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct tensor *t = &file->tensors[i];
        uint64_t begin = (uint64_t)((const uint8_t *)t->data - file->data);
        if (begin != end)
            return fail(E_MODEL,
                        "%s: data begin at %" PRIu64 ", %s at %" PRIu64,
                        t->name, begin,
                        begin < end ? "inside other data that end"
                                    : "after a hole that begins",
                        end);
        end += t->n_bytes;
    }
    if (end != file->n_data)
        return fail(E_MODEL,
                    "the tensors end at %" PRIu64 ", the file has %" PRIu64
                    " bytes of data",
                    end, file->n_data);
    return OK;
}

static void sort_by_name(struct safetensors *file)
{
    for (size_t i = 0; i < file->n_tensors; i++)
        file->by_name[i] = &file->tensors[i];
    qsort(file->by_name, file->n_tensors, sizeof *file->by_name, compare_name);
}

static enum status parse(struct safetensors *file)
{
    TRY(parse_header(file));
    TRY(read_metadata(file));
    TRY(read_tensors(file));
    TRY(check_contiguous(file));
    sort_by_name(file);
    return OK;
}

/* ---- the file --------------------------------------------------------- */

static const char *kind_of(mode_t mode)
{
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISFIFO(mode))
        return "a pipe";
    if (S_ISSOCK(mode))
        return "a socket";
    return "a device";
}

static enum status map_descriptor(struct safetensors *file, int fd)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return fail(E_IO, "%s", strerror(errno));
    if (!S_ISREG(info.st_mode))
        return fail(E_IO, "is %s, expected a regular file",
                    kind_of(info.st_mode));
    if (info.st_size == 0)
        return fail(E_MODEL, "not a safetensors file: empty");

    size_t n = (size_t)info.st_size;
    if ((off_t)n != info.st_size)
        return fail(E_MEMORY, "too large for the memory of this machine");
    void *bytes = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return fail(E_IO, "%s", strerror(errno));
    posix_madvise(bytes, n, POSIX_MADV_WILLNEED);
    file->bytes = bytes;
    file->n_bytes = n;
    file->is_mapped = true;
    return OK;
}

static enum status map_file(struct safetensors *file, const char *path)
{
    /* Not blocking: a pipe without a writer is refused, not waited for. */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return fail(E_IO, "%s", strerror(errno));
    enum status status = map_descriptor(file, fd);
    close(fd);
    return status;
}

static struct safetensors *make_file(const char *path)
{
    struct safetensors *file = calloc(1, sizeof *file);
    if (file && !(file->path = strdup(path))) {
        free(file);
        file = NULL;
    }
    return file;
}

/* Hands the file over; after a failure, closes it. */
static enum status finish(struct safetensors **result, struct safetensors *file,
                          enum status status)
{
    if (status != OK) {
        status_prefix(status, file->path);
        safetensors_close(file);
        return status;
    }
    *result = file;
    return OK;
}

enum status safetensors_open(struct safetensors **file, const char *path)
{
    *file = NULL;
    struct safetensors *f = make_file(path);
    if (!f)
        return fail_memory(path);
    enum status status = map_file(f, path);
    if (status == OK)
        status = parse(f);
    return finish(file, f, status);
}

enum status safetensors_open_memory(struct safetensors **file, const char *name,
                                    const void *bytes, size_t n)
{
    *file = NULL;
    struct safetensors *f = make_file(name);
    if (!f)
        return fail_memory(name);
    f->bytes = bytes;
    f->n_bytes = n;
    return finish(file, f, parse(f));
}

static enum status take_content(struct safetensors *f,
                                const struct safetensors_content *content)
{
    json_t *metadata = json_object();
    f->header = json_pack("{so}", METADATA, metadata);
    f->tensors = calloc(content->n_tensors + 1, sizeof *f->tensors);
    f->by_name = calloc(content->n_tensors + 1, sizeof *f->by_name);
    if (!f->header || !f->tensors || !f->by_name)
        return fail_memory("the list of tensors");
    for (size_t i = 0; i < content->n_metadata; i++) {
        if (json_object_set_new(metadata, content->metadata[i].key,
                                json_string(content->metadata[i].value)) != 0)
            return fail_memory("metadata");
    }
    TRY(read_metadata(f));
    for (size_t i = 0; i < content->n_tensors; i++) {
        struct tensor *t = &f->tensors[f->n_tensors++];
        *t = content->tensors[i];
        t->n_elements = tensor_elements(t);
        t->n_bytes = t->n_elements * dtype_size(t->dtype);
        f->n_bytes += (size_t)t->n_bytes;
    }
    sort_by_name(f);
    return OK;
}

enum status safetensors_open_content(struct safetensors **file,
                                     const char *name,
                                     const struct safetensors_content *content)
{
    *file = NULL;
    struct safetensors *f = make_file(name);
    if (!f)
        return fail_memory(name);
    return finish(file, f, take_content(f, content));
}

void safetensors_close(struct safetensors *file)
{
    if (!file)
        return;
    json_decref(file->header);
    if (file->is_mapped)
        munmap((void *)(uintptr_t)file->bytes, file->n_bytes);
    free(file->by_name);
    free(file->tensors);
    free(file->metadata_keys);
    free(file->path);
    free(file);
}

/* ---- questions -------------------------------------------------------- */

const char *safetensors_path(const struct safetensors *file)
{
    return file->path;
}

uint64_t safetensors_file_size(const struct safetensors *file)
{
    return file->n_bytes;
}

size_t safetensors_count(const struct safetensors *file)
{
    return file->n_tensors;
}

const struct tensor *safetensors_at(const struct safetensors *file, size_t i)
{
    return &file->tensors[i];
}

const struct tensor *safetensors_find(const struct safetensors *file,
                                      const char *name)
{
    struct tensor key = {.name = name};
    const struct tensor *p = &key;
    const struct tensor *const *found =
        bsearch(&p, file->by_name, file->n_tensors, sizeof *file->by_name,
                compare_name);
    return found ? *found : NULL;
}

const char *safetensors_metadata(const struct safetensors *file,
                                 const char *key)
{
    return json_string_value(json_object_get(file->metadata, key));
}

const char *safetensors_metadata_key(const struct safetensors *file, size_t i)
{
    size_t n = json_object_size(file->metadata);
    return i < n ? file->metadata_keys[i] : NULL;
}
