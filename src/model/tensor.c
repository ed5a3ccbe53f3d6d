/* tensor.c -- a named array of numbers, as it is in a file.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/exact.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [DTYPE_I8] = {"I8", 1},     [DTYPE_U8] = {"U8", 1},
    [DTYPE_BF16] = {"BF16", 2}, [DTYPE_F16] = {"F16", 2},
    [DTYPE_F32] = {"F32", 4},   [DTYPE_F64] = {"F64", 8},
    [DTYPE_I16] = {"I16", 2},   [DTYPE_I32] = {"I32", 4},
    [DTYPE_I64] = {"I64", 8},   [DTYPE_BOOL] = {"BOOL", 1},
};

enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };

const char *dtype_name(enum dtype dtype)
{
    return dtypes[dtype].name;
}

size_t dtype_size(enum dtype dtype)
{
    return dtypes[dtype].size;
}

bool dtype_find(enum dtype *dtype, const char *name)
{
    int i = 0;
    while (i < N_DTYPES && strcmp(dtypes[i].name, name) != 0)
        i++;
    if (i < N_DTYPES)
        *dtype = (enum dtype)i;
    return i < N_DTYPES;
}

bool dtype_is_float(enum dtype dtype)
{
    return dtype == DTYPE_F32 || dtype == DTYPE_BF16 || dtype == DTYPE_F16;
}

uint64_t tensor_elements(const struct tensor *tensor)
{
    uint64_t n = 1;
    for (int i = 0; i < tensor->n_dims; i++)
        n *= tensor->shape[i];
    return n;
}

int tensor_compare_names(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static uint32_t load_le16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t load_le32(const uint8_t *p)
{
    return load_le16(p) | load_le16(p + 2) << 16;
}

void tensor_read_floats(float *to, const struct tensor *tensor, size_t first,
                        size_t n)
{
    const uint8_t *p =
        (const uint8_t *)tensor->data + first * dtype_size(tensor->dtype);
    if (tensor->dtype == DTYPE_F32) {
        for (size_t i = 0; i < n; i++)
            to[i] = exact_float(load_le32(p + 4 * i));
    } else if (tensor->dtype == DTYPE_BF16) {
        for (size_t i = 0; i < n; i++)
            to[i] = exact_float(load_le16(p + 2 * i) << 16);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = exact_half(load_le16(p + 2 * i));
    }
}

const char *tensor_describe(const struct tensor *tensor, char text[160])
{
    size_t n = (size_t)snprintf(text, 160, "%s", dtype_name(tensor->dtype));
    if (tensor->n_dims == 0)
        snprintf(text + n, 160 - n, " scalar");
    for (int i = 0; i < tensor->n_dims && n < 160; i++)
        n += (size_t)snprintf(text + n, 160 - n, "%s[%" PRIu64 "]",
                              i == 0 ? " " : "", tensor->shape[i]);
    return text;
}
