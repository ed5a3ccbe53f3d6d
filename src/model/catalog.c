/* catalog.c -- finds weight files: by path, by name, or the default.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/catalog.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* Takes over name and path. */
static enum status append(struct catalog *catalog, enum catalog_kind kind,
                          char *name, char *path, uint64_t size)
{
    size_t n = catalog->n;
    struct catalog_entry *entries =
        realloc(catalog->entries, (n + 1) * sizeof *entries);
    if (!entries) {
        free(name);
        free(path);
        return fail_memory("the list of models");
    }
    entries[n] = (struct catalog_entry){kind, name, path, size};
    catalog->entries = entries;
    catalog->n++;
    return OK;
}

/* Keeps the first place that is there but cannot be read, and why. */
static enum status note_unread(struct catalog *catalog, const char *path,
                               int error)
{
    if (error == ENOMEM)
        return fail_memory("the list of models");
    if (error == ENOENT || error == ENOTDIR || catalog->unread)
        return OK;
    catalog->unread = strdup(path);
    catalog->error = error;
    return catalog->unread ? OK : fail_memory("the list of models");
}

static enum status add_file(struct catalog *catalog, enum catalog_kind kind,
                            const char *folder, const char *file)
{
    struct stat st;
    char *path, *name;
    if (asprintf(&path, "%s/%s", folder, file) < 0)
        return fail_memory("the list of models");
    bool is_there = stat(path, &st) == 0;
    if (!is_there || !S_ISREG(st.st_mode)) {
        enum status status = is_there ? OK : note_unread(catalog, path, errno);
        free(path);
        return status;
    }
    name = strndup(file, strlen(file) - strlen(suffixes[kind]));
    if (!name) {
        free(path);
        return fail_memory("the list of models");
    }
    if (lookup(catalog, name, kind)) {
        free(name);
        free(path);
        return OK;
    }
    return append(catalog, kind, name, path, (uint64_t)st.st_size);
}

static enum status add_folder(struct catalog *catalog, const char *folder)
{
    enum status status = OK;
    DIR *dir = opendir(folder);
    if (!dir)
        return note_unread(catalog, folder, errno);
    struct dirent *d;
    for (errno = 0; status == OK && (d = readdir(dir)); errno = 0) {
        if (has_suffix(d->d_name, CATALOG_MODEL))
            status = add_file(catalog, CATALOG_MODEL, folder, d->d_name);
        else if (has_suffix(d->d_name, CATALOG_HEAD))
            status = add_file(catalog, CATALOG_HEAD, folder, d->d_name);
    }
    if (status == OK && errno != 0)
        status = note_unread(catalog, folder, errno);
    closedir(dir);
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
        return fail(E_MODEL, "no %s named '%s' can be read: %s: %s", noun, name,
                    catalog->unread, strerror(catalog->error));
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
        status = fail(E_MODEL, "no model can be read: %s: %s", catalog.unread,
                      strerror(catalog.error));
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
