/* safetensors_entry.c -- an entry of the header: one tensor, checked.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/safetensors_entry.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/printable.h"

enum { NAME_MAX_CHARS = 255 };

static bool is_valid_name(const char *name)
{
    size_t n = 0;
    while (n < NAME_MAX_CHARS && is_printable(name[n]))
        n++;
    return n > 0 && name[n] == '\0';
}

static bool is_size(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

static enum status read_dtype(struct tensor *tensor, const json_t *value)
{
    if (!json_is_string(value))
        return fail(E_MODEL, "%s: dtype is not a string", tensor->name);
    const char *text = json_string_value(value);
    if (dtype_find(&tensor->dtype, text))
        return OK;
    char shown[PRINTABLE_CHARS];
    return fail(E_MODEL, "%s: unknown dtype \"%s\"", tensor->name,
                printable_start(shown, text, strlen(text)));
}

static enum status read_shape(struct tensor *tensor, const json_t *value)
{
    if (!json_is_array(value))
        return fail(E_MODEL, "%s: shape is not an array", tensor->name);
    size_t n_dims = json_array_size(value);
    if (n_dims > TENSOR_MAX_DIMS)
        return fail(E_MODEL, "%s: %zu dimensions, at most %d are possible",
                    tensor->name, n_dims, TENSOR_MAX_DIMS);

    tensor->n_dims = (int)n_dims;
    tensor->n_elements = 1;
    for (size_t i = 0; i < n_dims; i++) {
        const json_t *size = json_array_get(value, i);
        if (!is_size(size))
            return fail(E_MODEL,
                        "%s: dimension %zu of the shape is not a "
                        "whole number from 0 up",
                        tensor->name, i);
        tensor->shape[i] = (uint64_t)json_integer_value(size);
        if (__builtin_mul_overflow(tensor->n_elements, tensor->shape[i],
                                   &tensor->n_elements))
            return fail(E_MODEL, "%s: the product of the shape overflows",
                        tensor->name);
    }
    if (__builtin_mul_overflow(tensor->n_elements, dtype_size(tensor->dtype),
                               &tensor->n_bytes))
        return fail(E_MODEL, "%s: the product of the shape overflows",
                    tensor->name);
    return OK;
}

static enum status read_offsets(struct tensor *tensor, const json_t *value,
                                const uint8_t *data, uint64_t n_data)
{
    const json_t *first = json_array_get(value, 0);
    const json_t *last = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !is_size(first) || !is_size(last))
        return fail(E_MODEL,
                    "%s: data_offsets are not two whole numbers "
                    "from 0 up",
                    tensor->name);

    uint64_t begin = (uint64_t)json_integer_value(first);
    uint64_t end = (uint64_t)json_integer_value(last);
    if (begin > end)
        return fail(E_MODEL,
                    "%s: data begin at %" PRIu64 " and end before, "
                    "at %" PRIu64,
                    tensor->name, begin, end);
    if (end > n_data)
        return fail(E_MODEL,
                    "%s: data end at %" PRIu64 ", the file has %" PRIu64
                    " bytes of data",
                    tensor->name, end, n_data);
    if (end - begin != tensor->n_bytes) {
        char text[160];
        return fail(E_MODEL,
                    "%s: %s needs %" PRIu64 " bytes, data_offsets "
                    "give %" PRIu64,
                    tensor->name, tensor_describe(tensor, text),
                    tensor->n_bytes, end - begin);
    }
    tensor->data = data + begin;
    return OK;
}

enum status safetensors_read_entry(struct tensor *tensor, const char *name,
                                   const json_t *entry, const uint8_t *data,
                                   uint64_t n_data)
{
    if (!is_valid_name(name))
        return fail(E_MODEL,
                    "a tensor's name is not 1 to %d printable ASCII "
                    "characters",
                    NAME_MAX_CHARS);
    tensor->name = name;
    const json_t *dtype = json_object_get(entry, "dtype");
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!dtype || !shape || !offsets || json_object_size(entry) != 3)
        return fail(E_MODEL,
                    "%s: the entry is not an object of dtype, shape "
                    "and data_offsets",
                    name);
    TRY(read_dtype(tensor, dtype));
    TRY(read_shape(tensor, shape));
    return read_offsets(tensor, offsets, data, n_data);
}
