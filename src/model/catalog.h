/* catalog.h -- finds weight files: by path, by name, or the default.
 *
 * A head is a linear classifier on the model's features.  Models are looked up
 * as NAME.safetensors, heads as NAME.head, in this order, in
 *     MAMBYTE_DATADIR/weights           where the program was installed;
 *     EXE/../share/mambyte/weights      where it was moved to;
 *     EXE/weights, EXE/../weights       in a build tree,
 * EXE being the folder of the running program.  A name in an earlier place
 * hides the same name in a later one; files that begin with a dot are left out.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CATALOG_H
#define MAMBYTE_CATALOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum catalog_kind { CATALOG_MODEL, CATALOG_HEAD };

struct catalog_entry {
    enum catalog_kind kind;
    char *name; /* "mambyte-27m" */
    char *path;
    uint64_t size; /* of the file */
};

struct catalog {
    struct catalog_entry *entries; /* [n], models first, by name */
    size_t n, room;
    char *unread; /* why a place that is there cannot be read, or NULL */
};

enum status catalog_open(struct catalog *catalog);
void catalog_close(struct catalog *catalog);

/* The path of a model, for the caller to free.  choice: a file when it holds
 * a '/' or ends in ".safetensors" or ".head"; a name otherwise; NULL is the
 * default: CATALOG_DEFAULT if it is there, else the first by name. */
#define CATALOG_DEFAULT "mambyte-27m"
enum status catalog_find(char **path, const char *choice);

/* The same for a head: a file when it holds a '/' or ends in ".head". */
enum status catalog_find_head(char **path, const char *choice);

#endif
