/* catalog.c -- finds weight files: by path, by name, or the default.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/catalog.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/folder.h"
#include "base/text.h"

static const char *const suffixes[] = {
    [CATALOG_MODEL] = ".safetensors", [CATALOG_HEAD] = ".head"};

static bool has_suffix(const char *name, enum catalog_kind kind)
{
    const char *suffix = text_find_tail(name, suffixes[kind]);
    return suffix && suffix > name;
}

static const struct catalog_entry *
lookup(const struct catalog *catalog, const char *name, enum catalog_kind kind)
{
    for (size_t i = 0; i < catalog->n; i++) {
        if (catalog->entries[i].kind == kind &&
            strcmp(catalog->entries[i].name, name) == 0)
            return &catalog->entries[i];
    }
    return NULL;
}

static enum status append(struct catalog *catalog, enum catalog_kind kind,
                          const char *name, const char *path, uint64_t size)
{
    struct catalog_entry *entries = array_grow(catalog->entries, catalog->n,
                                               &catalog->room, sizeof *entries);
    if (!entries)
        return fail_memory("the list of models");
    catalog->entries = entries;
    struct catalog_entry *entry = &entries[catalog->n++];
    *entry = (struct catalog_entry){kind, strdup(name), strdup(path), size};
    return entry->name && entry->path ? OK : fail_memory("the list of models");
}

/* Keeps why the first place that is there cannot be read: the sentence of the
 * last failure. */
static enum status note_unread(struct catalog *catalog)
{
    if (!catalog->unread)
        catalog->unread = strdup(status_message());
    return catalog->unread ? OK : fail_memory("the list of models");
}

/* Nothing is there, or only a link to nothing. */
static bool is_missing(int error)
{
    return error == ENOENT || error == ENOTDIR;
}

static enum status add_file(struct catalog *catalog, enum catalog_kind kind,
                            const char *file, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        if (is_missing(errno))
            return OK;
        fail(E_IO, "%s: %s", path, strerror(errno));
        return note_unread(catalog);
    }
    char *name = strndup(file, strlen(file) - strlen(suffixes[kind]));
    if (!name)
        return fail_memory("the list of models");
    enum status status = OK;
    if (S_ISREG(st.st_mode) && !lookup(catalog, name, kind))
        status = append(catalog, kind, name, path, (uint64_t)st.st_size);
    free(name);
    return status;
}

static enum status add_files(struct catalog *catalog,
                             const struct folder *folder)
{
    enum status status = OK;
    for (size_t i = 0; i < folder->n && status == OK; i++) {
        const char *file = folder->names[i];
        bool is_model = has_suffix(file, CATALOG_MODEL);
        if (!is_model && !has_suffix(file, CATALOG_HEAD))
            continue;
        char *path;
        TRY(folder_path(folder, i, &path));
        status = add_file(catalog, is_model ? CATALOG_MODEL : CATALOG_HEAD,
                          file, path);
        free(path);
    }
    return status;
}

static enum status add_folder(struct catalog *catalog, const char *path)
{
    struct folder folder;
    if (access(path, F_OK) != 0 && is_missing(errno))
        return OK;
    enum status status = folder_open(&folder, path);
    if (status == E_IO)
        return note_unread(catalog);
    TRY(status);
    status = add_files(catalog, &folder);
    folder_close(&folder);
    return status;
}

/* The folder of the running program; false when it is not known. */
static bool program_folder(char folder[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    if (n <= 0)
        return false;
    folder[n] = '\0';
    char *slash = strrchr(folder, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return true;
}

static int compare_names(const void *a, const void *b)
{
    const struct catalog_entry *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return strcmp(x->name, y->name);
}

static enum status add_relative(struct catalog *catalog)
{
    static const char *const places[] = {"../share/mambyte/weights", "weights",
                                         "../weights"};
    char base[PATH_MAX], folder[PATH_MAX + 32];
    if (!program_folder(base))
        return OK;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(folder, sizeof folder, "%s/%s", base, places[i]);
        TRY(add_folder(catalog, folder));
    }
    return OK;
}

enum status catalog_open(struct catalog *catalog)
{
    *catalog = (struct catalog){0};
    enum status status = add_folder(catalog, MAMBYTE_DATADIR "/weights");
    if (status == OK)
        status = add_relative(catalog);
    if (status != OK) {
        catalog_close(catalog);
        return status;
    }
    if (catalog->n > 0)
        qsort(catalog->entries, catalog->n, sizeof *catalog->entries,
              compare_names);
    return OK;
}

void catalog_close(struct catalog *catalog)
{
    for (size_t i = 0; i < catalog->n; i++) {
        free(catalog->entries[i].name);
        free(catalog->entries[i].path);
    }
    free(catalog->entries);
    free(catalog->unread);
    *catalog = (struct catalog){0};
}

/* The entry of that name; without a name, the default. */
static const struct catalog_entry *
choose(const struct catalog *catalog, const char *name, enum catalog_kind kind)
{
    const struct catalog_entry *entry =
        lookup(catalog, name ? name : CATALOG_DEFAULT, kind);
    bool has_other = catalog->n > 0 && catalog->entries[0].kind == kind;
    return !entry && !name && has_other ? &catalog->entries[0] : entry;
}

static enum status set_path(char **path, const char *from)
{
    *path = strdup(from);
    return *path ? OK : fail_memory("a file name");
}

/* Where a file has that name, says how to name the file; where models may be
 * that cannot be read, says why. */
static enum status fail_unknown(const struct catalog *catalog, const char *name,
                                enum catalog_kind kind)
{
    const char *noun = kind == CATALOG_HEAD ? "head" : "model";
    if (access(name, F_OK) == 0)
        return fail(E_MODEL, "there is no %s named '%s'; the file is ./%s",
                    noun, name, name);
    if (catalog->unread)
        return fail(E_MODEL, "no %s named '%s' can be read: %s", noun, name,
                    catalog->unread);
    return fail(E_MODEL, "there is no %s named '%s'; see --list-models", noun,
                name);
}

/* Looks up a name, or the default. */
static enum status find(char **path, const char *name, enum catalog_kind kind)
{
    struct catalog catalog;
    enum status status;
    TRY(catalog_open(&catalog));
    const struct catalog_entry *entry = choose(&catalog, name, kind);
    if (entry)
        status = set_path(path, entry->path);
    else if (name)
        status = fail_unknown(&catalog, name, kind);
    else if (catalog.unread)
        status = fail(E_MODEL, "no model can be read: %s", catalog.unread);
    else
        status = fail(E_MODEL, "no model is installed; name a weight file "
                               "with --model or MAMBYTE_MODEL");
    catalog_close(&catalog);
    return status;
}

/* A head is a file here too: whoever opens it as a model says what it is. */
enum status catalog_find(char **path, const char *choice)
{
    *path = NULL;
    if (choice && (strchr(choice, '/') || has_suffix(choice, CATALOG_MODEL) ||
                   has_suffix(choice, CATALOG_HEAD)))
        return set_path(path, choice);
    return find(path, choice, CATALOG_MODEL);
}

enum status catalog_find_head(char **path, const char *choice)
{
    *path = NULL;
    if (strchr(choice, '/') || has_suffix(choice, CATALOG_HEAD))
        return set_path(path, choice);
    return find(path, choice, CATALOG_HEAD);
}
