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

#include "status.h"

enum dtype {
    DTYPE_I8,
    DTYPE_U8,
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_F32,
    DTYPE_F64,
    DTYPE_I16,
    DTYPE_I32,
    DTYPE_I64,
    DTYPE_BOOL
};

#define TENSOR_MAX_DIMS 8

struct tensor {
    const char *name;
    enum dtype dtype;
    int n_dims; /* 0 for a scalar */
    uint64_t shape[TENSOR_MAX_DIMS];
    uint64_t n_elements; /* the product of shape */
    uint64_t n_bytes;
    const void *data; /* little-endian; as aligned as the file
                       * has it, so not at all */
};

struct safetensors; /* private; owns the mapping, names and tensors */

/* Maps path (a regular file).  On success *file is the caller's to close; on
 * failure it is NULL and the sentence starts with path. */
enum status safetensors_open(struct safetensors **file, const char *path);

/* The same on n bytes that the caller keeps until the close; name is used in
 * messages.  For fuzzing and tests. */
enum status safetensors_open_memory(struct safetensors **file, const char *name,
                                    const void *bytes, size_t n);

/* NULL is accepted.  Pointers into the file die here. */
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

const char *dtype_name(enum dtype dtype); /* "I8", "F32", .. */
size_t dtype_size(enum dtype dtype);      /* bytes an element */

/* "I8 [2048][512]" into text, for messages; returns text. */
const char *tensor_describe(const struct tensor *tensor, char text[160]);

#endif
