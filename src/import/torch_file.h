/* torch_file.h -- opens the files of torch.save: .bin, .pt.
 *
 * Such a file is a zip archive: NAME/data.pkl describes the tensors
 * (pickle.h), NAME/data/0, NAME/data/1, .. hold their elements.  Entries have
 * to be stored, as PyTorch does, not compressed; so nothing in the file can
 * be larger than the file, and together they may not be either.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TORCH_FILE_H
#define MAMBYTE_TORCH_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "model/safetensors.h"

struct torch_file; /* private; owns tensors, their names and their data */

/* On success *file is the caller's to close; on failure it is NULL and the
 * sentence starts with path. */
enum status torch_file_open(struct torch_file **file, const char *path);

/* The same on n bytes, which are only read now; name is used in messages. */
enum status torch_file_open_memory(struct torch_file **file, const char *name,
                                   const void *bytes, size_t n);

/* NULL is accepted. */
void torch_file_close(struct torch_file *file);

/* Tensors in the order of the dict, each whole and row-major. */
size_t torch_file_count(const struct torch_file *file);
const struct tensor *torch_file_at(const struct torch_file *file, size_t i);

/* Whether these first bytes of a file are those of a zip archive. */
bool torch_file_is_zip(const uint8_t *bytes, size_t n);

#endif
