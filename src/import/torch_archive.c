/* torch_archive.c -- the zip archive that torch.save makes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/torch_archive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum { ENTRY_NAME_CHARS = 256 };

static enum status zip_failed(struct torch_archive *a)
{
    return fail(E_MODEL, "the zip archive is damaged: %s",
                zip_strerror(a->zip));
}

static enum status stat_entry(struct torch_archive *a, zip_uint64_t i,
                              zip_stat_t *info)
{
    const zip_uint64_t needed =
        ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_METHOD;
    if (zip_stat_index(a->zip, i, ZIP_FL_ENC_RAW, info) != 0 ||
        (info->valid & needed) != needed)
        return zip_failed(a);
    return OK;
}

/* Entries that share their bytes could claim more than there is. */
static enum status check_sizes(struct torch_archive *a)
{
    uint64_t total = 0;
    zip_int64_t n = zip_get_num_entries(a->zip, 0);
    for (zip_int64_t i = 0; i < n; i++) {
        zip_stat_t info;
        TRY(stat_entry(a, (zip_uint64_t)i, &info));
        if (info.comp_method != ZIP_CM_STORE)
            return fail(E_MODEL, "the zip archive is compressed, which "
                                 "PyTorch does not do");
        if (info.size > a->size - total)
            return fail(E_MODEL,
                        "the zip archive claims more bytes than the "
                        "file has, %" PRIu64,
                        a->size);
        total += info.size;
    }
    return OK;
}

/* The one entry that ends in /data.pkl gives the archive its name. */
static enum status find_name(struct torch_archive *a)
{
    zip_int64_t n = zip_get_num_entries(a->zip, 0);
    for (zip_int64_t i = 0; i < n; i++) {
        zip_stat_t info;
        TRY(stat_entry(a, (zip_uint64_t)i, &info));
        const char *tail = text_find_tail(info.name, "/" PICKLE_NAME);
        if (!tail || tail == info.name ||
            strlen(info.name) > ENTRY_NAME_CHARS / 2)
            continue;
        if (a->name)
            return fail(E_MODEL, "the zip archive has two /" PICKLE_NAME);
        a->name = strndup(info.name, (size_t)(tail - info.name));
        if (!a->name)
            return fail_memory("a name");
    }
    if (!a->name)
        return fail(E_MODEL, "a zip archive without /" PICKLE_NAME
                             ": not a file of torch.save");
    return OK;
}

enum status torch_archive_read(struct torch_archive *archive, const char *part,
                               void **bytes, uint64_t *n)
{
    struct torch_archive *a = archive;
    char name[ENTRY_NAME_CHARS];
    zip_stat_t info;
    *bytes = NULL;
    snprintf(name, sizeof name, "%s/%s", a->name, part);
    zip_int64_t i = zip_name_locate(a->zip, name, ZIP_FL_ENC_RAW);
    if (i < 0)
        return fail(E_MODEL, "the zip archive has no %s", part);
    TRY(stat_entry(a, (zip_uint64_t)i, &info));
    *n = info.size;

    zip_file_t *entry = zip_fopen_index(a->zip, (zip_uint64_t)i, 0);
    if (!entry)
        return zip_failed(a);
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

static enum status check_byte_order(struct torch_archive *a)
{
    char name[ENTRY_NAME_CHARS];
    void *bytes;
    uint64_t n;
    snprintf(name, sizeof name, "%s/byteorder", a->name);
    if (zip_name_locate(a->zip, name, ZIP_FL_ENC_RAW) < 0)
        return OK;
    TRY(torch_archive_read(a, "byteorder", &bytes, &n));
    bool is_little = n == 6 && memcmp(bytes, "little", 6) == 0;
    free(bytes);
    if (!is_little)
        return fail(E_MODEL, "the file was saved on a big-endian machine");
    return OK;
}

/* ---- opening ------------------------------------------------------------ */

static enum status open_source(struct torch_archive *a, zip_source_t *source,
                               zip_error_t *error)
{
    zip_stat_t info;
    if (source && zip_source_stat(source, &info) == 0 &&
        (info.valid & ZIP_STAT_SIZE))
        a->size = info.size;
    if (source)
        a->zip =
            zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, error);
    if (a->zip)
        return OK;
    zip_source_free(source);
    return fail(E_MODEL, "not a whole zip archive: %s",
                zip_error_strerror(error));
}

static enum status check(struct torch_archive *a)
{
    TRY(check_sizes(a));
    TRY(find_name(a));
    return check_byte_order(a);
}

/* Takes over source; NULL when it could not be made. */
static enum status open_and_check(struct torch_archive *a, zip_source_t *source,
                                  zip_error_t *error)
{
    enum status status = open_source(a, source, error);
    zip_error_fini(error);
    return status == OK ? check(a) : status;
}

enum status torch_archive_open(struct torch_archive *archive, const char *path)
{
    zip_error_t error;
    *archive = (struct torch_archive){.zip = NULL};
    zip_error_init(&error);
    zip_source_t *source = zip_source_file_create(path, 0, -1, &error);
    return open_and_check(archive, source, &error);
}

enum status torch_archive_open_memory(struct torch_archive *archive,
                                      const void *bytes, size_t n)
{
    zip_error_t error;
    *archive = (struct torch_archive){.zip = NULL};
    zip_error_init(&error);
    zip_source_t *source = zip_source_buffer_create(bytes, n, 0, &error);
    return open_and_check(archive, source, &error);
}

void torch_archive_close(struct torch_archive *archive)
{
    if (archive->zip)
        zip_discard(archive->zip);
    free(archive->name);
    *archive = (struct torch_archive){.zip = NULL};
}

bool torch_archive_is_zip(const uint8_t *bytes, size_t n)
{
    return n >= 4 && memcmp(bytes, "PK\3\4", 4) == 0;
}
