/* parameters_load.c -- weights, or other arrays of their shape, from a file.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <string.h>

#include "train/parameters.h"

enum { FULL_NAME_CHARS = 2 * PARAMETER_NAME_CHARS };

/* Published checkpoints have two names for the embedding. */
static const struct tensor *find(const struct safetensors *file,
                                 const char *prefix, const char *name)
{
    char full[FULL_NAME_CHARS];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct tensor *tensor = safetensors_find(file, full);
    if (!tensor && strcmp(name, "backbone.embedding.weight") == 0)
        tensor = safetensors_find(file, "backbone.embeddings.weight");
    return tensor;
}

static enum status check_shape(const struct parameter *p,
                               const struct tensor *tensor)
{
    bool is_alike =
        tensor->n_dims == p->n_dims &&
        (dtype_is_float(tensor->dtype) || tensor->dtype == DTYPE_I8);
    for (int i = 0; is_alike && i < p->n_dims; i++)
        is_alike = tensor->shape[i] == (uint64_t)p->shape[i];
    char text[160];
    if (!is_alike)
        return fail(E_FORMAT, "%s is %s, which is not the shape in training",
                    tensor->name, tensor_describe(tensor, text));
    return OK;
}

static enum status load_matrix(const struct parameter *p, float *x,
                               const struct tensor *tensor,
                               const struct safetensors *file)
{
    char name[FULL_NAME_CHARS];
    snprintf(name, sizeof name, "%s_scale", tensor->name);
    const struct tensor *scale = safetensors_find(file, name);
    if (!scale || scale->dtype != DTYPE_F32 ||
        scale->n_elements != (uint64_t)p->shape[0])
        return fail(E_FORMAT, "%s has no scale for each row", tensor->name);
    const int8_t *q = tensor->data;
    float row_scale = 0.0f;
    size_t cols = (size_t)p->shape[1];
    for (size_t i = 0; i < p->n; i++) {
        if (i % cols == 0)
            tensor_read_floats(&row_scale, scale, i / cols, 1);
        x[i] = (float)q[i] * row_scale;
    }
    return OK;
}

static enum status load_parameter(const struct parameter *p, float *x,
                                  const struct safetensors *file,
                                  const char *prefix)
{
    const struct tensor *tensor = find(file, prefix, p->name);
    if (!tensor)
        return fail(E_FORMAT, "tensor %s%s is missing", prefix, p->name);
    TRY(check_shape(p, tensor));
    if (tensor->dtype == DTYPE_I8)
        return load_matrix(p, x, tensor, file);
    tensor_read_floats(x, tensor, 0, p->n);
    return OK;
}

enum status parameters_load(const struct parameters *parameters, float *floats,
                            const struct safetensors *file, const char *prefix)
{
    for (size_t i = 0; i < parameters->n; i++) {
        const struct parameter *p = &parameters->list[i];
        if (p->n == 0)
            continue;
        enum status status =
            load_parameter(p, floats + p->offset, file, prefix);
        if (status != OK)
            return status_prefix(status, safetensors_path(file));
    }
    return OK;
}
