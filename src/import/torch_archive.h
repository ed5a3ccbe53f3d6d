/* torch_archive.h -- the zip archive that torch.save makes.
 *
 * NAME/data.pkl describes the tensors (pickle.h); NAME/data/0, NAME/data/1,
 * .. hold their elements.  Entries have to be stored, as PyTorch does, not
 * compressed: so nothing in the file can be larger than the file, and all
 * together may not be either.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TORCH_ARCHIVE_H
#define MAMBYTE_TORCH_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zip.h>

#include "base/status.h"

#define PICKLE_NAME "data.pkl"

struct torch_archive {
    zip_t *zip;
    uint64_t size; /* of the file */
    char *name;    /* owned: of the archive inside it: "pytorch_model" */
};

/* To be closed after a failure too.  Sentences do not name the file. */
enum status torch_archive_open(struct torch_archive *archive, const char *path);

/* The same on n bytes, which the caller keeps until the close. */
enum status torch_archive_open_memory(struct torch_archive *archive,
                                      const void *bytes, size_t n);
void torch_archive_close(struct torch_archive *archive);

/* The whole entry NAME/part; *bytes is the caller's to free. */
enum status torch_archive_read(struct torch_archive *archive, const char *part,
                               void **bytes, uint64_t *n);

/* Whether these first bytes of a file are those of a zip archive. */
bool torch_archive_is_zip(const uint8_t *bytes, size_t n);

#endif
