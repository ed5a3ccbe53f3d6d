/* torch_file.h -- opens the files of torch.save: .bin, .pt.
 *
 * Such a file is a zip archive (torch_archive.h) with a pickle in it that
 * describes the tensors (pickle.h); or, before PyTorch 1.6, pickles and data
 * one after the other (torch_legacy.h).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TORCH_FILE_H
#define MAMBYTE_TORCH_FILE_H

#include <stddef.h>

#include "base/status.h"
#include "model/safetensors.h"

struct torch_file; /* private; owns tensors, their names and their data */

/* On success *file is the caller's to close; on failure it is NULL and the
 * sentence starts with path. */
enum status torch_file_open(struct torch_file **file, const char *path);

/* The same on the n bytes of an archive, which are only read now; name is used
 * in messages. */
enum status torch_file_open_memory(struct torch_file **file, const char *name,
                                   const void *bytes, size_t n);

/* NULL is accepted. */
void torch_file_close(struct torch_file *file);

/* Tensors in the order of the dict, each whole and row-major. */
size_t torch_file_count(const struct torch_file *file);
const struct tensor *torch_file_at(const struct torch_file *file, size_t i);

#endif
