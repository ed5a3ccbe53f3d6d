/* dataset.c -- the bytes to learn from: data sources, each of many
 * documents.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL /* so that its state may live on our stack */
#include <xxhash.h>

#include "base/array.h"
#include "base/byteio.h"
#include "base/folder.h"
#include "base/number.h"
#include "base/signals.h"

/* Smaller files are read: the number of mappings has a limit. */
enum { MAP_FROM = 1 << 16, SAMPLE_BYTES = 4096 };

/* ---- documents ---------------------------------------------------------- */

static enum status add_document(struct data_source *s, uint8_t *bytes, size_t n,
                                bool is_mapped)
{
    struct document *documents =
        array_grow(s->documents, s->n_documents, &s->room, sizeof *documents);
    if (!documents)
        return fail_memory("the list of documents");
    s->documents = documents;
    s->documents[s->n_documents++] =
        (struct document){bytes, n, is_mapped, s->n_bytes};
    s->n_bytes += n + (bytes[n - 1] != 0);
    return OK;
}

static void free_document(uint8_t *bytes, size_t n, bool is_mapped)
{
    if (is_mapped)
        munmap(bytes, n);
    else
        free(bytes);
}

static enum status take(struct data_source *s, uint8_t *bytes, size_t n,
                        bool is_mapped)
{
    enum status status = OK;
    if (n > 0)
        status = add_document(s, bytes, n, is_mapped);
    if (n == 0 || status != OK)
        free_document(bytes, n, is_mapped);
    return status;
}

static enum status read_document(struct data_source *s, const char *path)
{
    uint8_t *bytes;
    size_t n;
    TRY(source_read_file(path, &bytes, &n));
    return take(s, bytes, n, false);
}

static enum status map_document(struct data_source *s, const char *path)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *bytes = MAP_FAILED;
    size_t n = 0;
    if (fd >= 0 && fstat(fd, &info) == 0) {
        n = (size_t)info.st_size;
        bytes = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (bytes == MAP_FAILED)
        return fail(E_IO, "%s: %s", path, strerror(error));
    return take(s, bytes, n, true);
}

/* ---- folders ------------------------------------------------------------ */

static enum status add_path(struct data_source *s, const char *path,
                            bool is_operand, const struct file_places *own);

static enum status add_folder(struct data_source *s, const char *path,
                              const struct file_places *own)
{
    struct folder folder;
    TRY(folder_open(&folder, path));
    enum status status = OK;
    for (size_t i = 0; status == OK && i < folder.n; i++) {
        char *entry = NULL;
        status = folder_path(&folder, i, &entry);
        if (status == OK)
            status = add_path(s, entry, false, own);
        free(entry);
    }
    folder_close(&folder);
    return status;
}

static enum status refuse_own(const char *path)
{
    return fail(E_USAGE, "%s: is an input, and this run would replace it",
                path);
}

/* A file, or all files below a folder.  Anything else counts only when the
 * command line names it. */
static enum status add_path(struct data_source *s, const char *path,
                            bool is_operand, const struct file_places *own)
{
    struct stat info, link;
    struct file_place place = file_place_of(path);
    TRY(signals_check());
    if (file_places_have(own, &place))
        return is_operand ? refuse_own(path) : OK;
    if (stat(path, &info) != 0 || lstat(path, &link) != 0)
        return fail(E_IO, "%s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return S_ISLNK(link.st_mode) && !is_operand ? OK
                                                    : add_folder(s, path, own);
    if (S_ISREG(info.st_mode) && info.st_size >= MAP_FROM)
        return map_document(s, path);
    if (S_ISREG(info.st_mode) || is_operand)
        return read_document(s, path);
    return OK;
}

/* ---- operands ----------------------------------------------------------- */

enum status dataset_parse_weight(char *name, double *weight)
{
    struct stat info;
    char *equals = strrchr(name, '=');
    *weight = 0;
    if (!equals || stat(name, &info) == 0)
        return OK;
    double value;
    const char *end = number_parse_real(equals + 1, &value);
    if (!end || *end != '\0' || !(value >= 1e-30 && value <= 1e30))
        return fail(E_USAGE,
                    "'%s': the weight is not a number from 1e-30 to 1e30",
                    name);
    *equals = '\0';
    *weight = value;
    return OK;
}

static enum status open_source(struct data_source *s, const char *operand,
                               const struct file_places *own)
{
    s->name = strdup(operand);
    if (!s->name)
        return fail_memory("a name");
    TRY(dataset_parse_weight(s->name, &s->weight));
    if (strcmp(s->name, "-") == 0)
        TRY(read_document(s, s->name));
    else
        TRY(add_path(s, s->name, true, own));
    if (s->n_documents == 0)
        return fail(E_IO, "%s: there are no bytes to learn from", s->name);
    return OK;
}

enum status dataset_open(struct dataset *dataset, const char *const *operands,
                         int n, const struct file_places *own)
{
    *dataset = (struct dataset){.sources = NULL};
    dataset->sources = calloc((size_t)n, sizeof *dataset->sources);
    if (!dataset->sources)
        return fail_memory("the list of sources");
    enum status status = OK;
    for (int i = 0; status == OK && i < n; i++) {
        dataset->n++;
        status = open_source(&dataset->sources[i], operands[i], own);
    }
    if (status != OK)
        dataset_close(dataset);
    return status;
}

void dataset_close(struct dataset *dataset)
{
    for (int i = 0; i < dataset->n; i++) {
        struct data_source *s = &dataset->sources[i];
        for (size_t d = 0; d < s->n_documents; d++)
            free_document(s->documents[d].bytes, s->documents[d].n,
                          s->documents[d].is_mapped);
        free(s->documents);
        free(s->name);
    }
    free(dataset->sources);
    *dataset = (struct dataset){.sources = NULL};
}

/* ---- reading ------------------------------------------------------------ */

/* The last document that begins at position or before. */
static size_t find_document(const struct data_source *s, uint64_t position)
{
    size_t low = 0, high = s->n_documents;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (s->documents[middle].begin <= position)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void data_source_read(const struct data_source *source, uint64_t position,
                      uint8_t *bytes, size_t n)
{
    size_t d = find_document(source, position);
    while (n > 0) {
        const struct document *document = &source->documents[d++];
        size_t at = (size_t)(position - document->begin), part = 0;
        if (at < document->n) {
            part = document->n - at < n ? document->n - at : n;
            memcpy(bytes, document->bytes + at, part);
        }
        bytes += part;
        n -= part;
        position += part;
        bool is_last = d == source->n_documents;
        uint64_t next = is_last ? source->n_bytes : source->documents[d].begin;
        if (n > 0 && position < next) {
            *bytes++ = 0;
            n--;
            position++;
        }
    }
}

uint64_t dataset_fingerprint(const struct dataset *dataset, bool has_names)
{
    XXH3_state_t hash;
    uint8_t sample[SAMPLE_BYTES];
    XXH3_64bits_reset(&hash);
    for (int i = 0; i < dataset->n; i++) {
        const struct data_source *s = &dataset->sources[i];
        uint64_t n = s->n_bytes < SAMPLE_BYTES ? s->n_bytes : SAMPLE_BYTES;
        if (has_names)
            XXH3_64bits_update(&hash, s->name, strlen(s->name) + 1);
        XXH3_64bits_update(&hash, &s->n_bytes, sizeof s->n_bytes);
        for (uint64_t part = 0; part < 3; part++) {
            data_source_read(s, (s->n_bytes - n) / 2 * part, sample, (size_t)n);
            XXH3_64bits_update(&hash, sample, (size_t)n);
        }
    }
    return XXH3_64bits_digest(&hash);
}
