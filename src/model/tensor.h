/* tensor.h -- a named array of numbers, as it is in a file.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TENSOR_H
#define MAMBYTE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
    const void *data; /* little-endian; not aligned */
};

const char *dtype_name(enum dtype dtype); /* "I8", "F32", .. */
size_t dtype_size(enum dtype dtype);      /* bytes an element */
bool dtype_is_float(enum dtype dtype);    /* F32, BF16 or F16 */

/* The product of shape, which does not overflow. */
uint64_t tensor_elements(const struct tensor *tensor);

/* By names, for qsort() and bsearch() of struct tensor. */
int tensor_compare_names(const void *a, const void *b);

/* The type of that name; false when there is none. */
bool dtype_find(enum dtype *dtype, const char *name);

/* Elements [first, first + n) of a tensor of floats, as binary32. */
void tensor_read_floats(float *to, const struct tensor *tensor, size_t first,
                        size_t n);

/* "I8 [2048][512]" into text, for messages; returns text. */
const char *tensor_describe(const struct tensor *tensor, char text[160]);

#endif
