/* torch_legacy.h -- the files that torch.save made before PyTorch 1.6.
 *
 * Pickles that follow each other: a magic number, the version of the format,
 * the byte order, the state dict (pickle.h), and the list of the storages'
 * keys. Then the storages in the order of the list: how many elements, in 8
 * bytes, and the elements.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TORCH_LEGACY_H
#define MAMBYTE_TORCH_LEGACY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/byteio.h"
#include "import/pickle.h"

enum { TORCH_LEGACY_MAGIC_BYTES = 21 };

struct legacy_storage {
    char key[STORAGE_KEY_CHARS];
    uint64_t offset, n; /* of its bytes in the file */
};

struct torch_legacy {
    struct source source;
    struct legacy_storage *storages; /* [n], sorted by key */
    size_t n;
};

/* Whether these first bytes of a file, TORCH_LEGACY_MAGIC_BYTES or more, are
 * those of one. */
bool torch_legacy_is(const uint8_t *bytes, size_t n);

/* Reads the pickles; *pickled is the caller's to free.  To be closed after a
 * failure too.  Sentences do not name the file. */
enum status torch_legacy_open(struct torch_legacy *legacy, const char *path,
                              struct pickled *pickled);
void torch_legacy_close(struct torch_legacy *legacy);

/* A whole storage; *bytes is the caller's to free. */
enum status torch_legacy_read(struct torch_legacy *legacy, const char *key,
                              void **bytes, uint64_t *n);

#endif
