/* safetensors.h -- maps a .safetensors file and lists its tensors by name.
 *
 * The format: an 8-byte little-endian length n, n bytes of JSON
 * {"name": {"dtype": .., "shape": [..], "data_offsets": [begin, end]}, ..,
 * "__metadata__": {"key": "value", ..}}, then the data; offsets count from
 * the end of the JSON.  Knows nothing of models.
 *
 * Opening validates everything before anything is used: the length of the
 * header (at most 100 MB and inside the file), strict JSON without duplicate
 * names, known dtypes, at most 8 dimensions, products without overflow, data
 * contiguous in the order of offsets, without hole or overlap, from 0 to the
 * end of the file.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SAFETENSORS_H
#define MAMBYTE_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/tensor.h"

struct metadata {
    const char *key, *value;
};

/* What a file holds, or is to hold. */
struct safetensors_content {
    const struct metadata *metadata; /* [n_metadata] */
    size_t n_metadata;
    const struct tensor *tensors; /* [n_tensors], in the order of data */
    size_t n_tensors;
};

struct safetensors; /* private; owns the mapping, names and tensors */

/* Maps path (a regular file).  On success *file is the caller's to close; on
 * failure it is NULL and the sentence starts with path. */
enum status safetensors_open(struct safetensors **file, const char *path);

/* The same for n bytes, which the caller keeps until the close; messages use
 * name. */
enum status safetensors_open_memory(struct safetensors **file, const char *name,
                                    const void *bytes, size_t n);

/* Tensors and metadata in memory as if they were a file; the caller keeps them
 * until the close.  Of a tensor, name, dtype, n_dims, shape and data are
 * read. */
enum status safetensors_open_content(struct safetensors **file,
                                     const char *name,
                                     const struct safetensors_content *content);

/* NULL is accepted.  Pointers into the file are invalid afterwards. */
void safetensors_close(struct safetensors *file);

const char *safetensors_path(const struct safetensors *file);
uint64_t safetensors_file_size(const struct safetensors *file);

/* Tensors in the order of their data; i < count. */
size_t safetensors_count(const struct safetensors *file);
const struct tensor *safetensors_at(const struct safetensors *file, size_t i);

/* NULL when there is none of that name. */
const struct tensor *safetensors_find(const struct safetensors *file,
                                      const char *name);

/* A string of __metadata__, or NULL.  Keys by index in the file's order,
 * NULL past the last. */
const char *safetensors_metadata(const struct safetensors *file,
                                 const char *key);
const char *safetensors_metadata_key(const struct safetensors *file, size_t i);

#endif
