/* binder.c -- takes tensors by their names.
 *
 * Projections stay where they are mapped; all other floats are copied into
 * one arena.  All floats are checked to be finite.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/binder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "base/memlimit.h"
#include "base/text.h"

enum { ALIGNMENT = 64 };

static size_t round_up(size_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---- tensors by name ----------------------------------------------------- */

struct tensor expected_vector(int n)
{
    return (struct tensor){
        .dtype = DTYPE_F32, .n_dims = 1, .shape = {(uint64_t)n}};
}

struct tensor expected_matrix(enum dtype dtype, int rows, int cols)
{
    return (struct tensor){
        .dtype = dtype, .n_dims = 2, .shape = {(uint64_t)rows, (uint64_t)cols}};
}

struct tensor expected_conv(int channels, int taps)
{
    return (struct tensor){.dtype = DTYPE_F32,
                           .n_dims = 3,
                           .shape = {(uint64_t)channels, 1, (uint64_t)taps}};
}

static const char *full_name(const struct binder *b,
                             char full[BINDER_NAME_CHARS], const char *name)
{
    snprintf(full, BINDER_NAME_CHARS, "%s%s", b->prefix, name);
    return full;
}

enum status binder_find(const struct binder *b, const struct tensor **tensor,
                        const char *name)
{
    char full[BINDER_NAME_CHARS];
    *tensor = safetensors_find(b->file, full_name(b, full, name));
    if (!*tensor)
        return fail(E_MODEL, "tensor %s is missing", full);
    return OK;
}

static enum status wrong_shape(const struct tensor *is,
                               const struct tensor *expected)
{
    char is_text[160], expected_text[160];
    return fail(E_MODEL, "%s is %s, expected %s", is->name,
                tensor_describe(is, is_text),
                tensor_describe(expected, expected_text));
}

/* Finds a tensor, checks its type and shape, and marks it as taken. */
static enum status take(struct binder *b, const struct tensor **tensor,
                        const char *name, struct tensor expected)
{
    TRY(binder_find(b, tensor, name));
    const struct tensor *t = *tensor;
    bool is_type = t->dtype == expected.dtype ||
                   (dtype_is_float(t->dtype) && expected.dtype == DTYPE_F32);
    if (!is_type || t->n_dims != expected.n_dims ||
        memcmp(t->shape, expected.shape, sizeof t->shape) != 0)
        return wrong_shape(t, &expected);
    b->taken[b->n_taken++] = t;
    return OK;
}

/* ---- the arena ----------------------------------------------------------- */

static bool is_projection(const char *name)
{
    return strcmp(name, "lm_head.weight") == 0 ||
           text_find_tail(name, "_proj.weight");
}

/* A D with a number for each head is copied to d_inner floats.  Room for them
 * is counted with out_proj, which has d_inner columns and more data than that;
 * binder_take_layer takes it before D. */
static size_t repeated_d(const struct model_config *c, const struct tensor *t)
{
    bool is_out = text_find_tail(t->name, "mixer.out_proj.weight") != NULL;
    bool has_room = t->n_bytes / sizeof(float) >= (uint64_t)c->d_inner;
    return is_out && has_room && c->mixer == MIXER_MAMBA2
               ? round_up((size_t)c->d_inner * sizeof(float))
               : 0;
}

enum status binder_allocate(struct binder *b)
{
    const struct model_config *c = &b->model->config;
    size_t n = ALIGNMENT; /* never empty */
    for (size_t i = 0; i < safetensors_count(b->file); i++) {
        const struct tensor *t = safetensors_at(b->file, i);
        if (dtype_is_float(t->dtype) && !is_projection(t->name))
            n += round_up((size_t)t->n_elements * sizeof(float));
        n += repeated_d(c, t);
    }
    if (c->is_tied && !c->is_float)
        n += round_up((size_t)N_BYTES_VOCAB * (size_t)c->d_model) +
             round_up(N_BYTES_VOCAB * sizeof(float));
    TRY(memlimit_check_content(n, "the model"));
    b->model->arena = aligned_alloc(ALIGNMENT, n);
    if (!b->model->arena)
        return fail_memory("the weights");
    b->free = b->model->arena;
    return OK;
}

void *binder_carve(struct binder *b, size_t n_bytes)
{
    void *room = b->free;
    b->free += round_up(n_bytes);
    return room;
}

/* An F16 with the largest exponent is not finite; of other types the value
 * tells. */
static enum status check_finite(const struct tensor *tensor)
{
    uint32_t bound =
        tensor->dtype == DTYPE_F16 ? exact_bits(0x1p16f) : EXACT_INF_BITS;
    uint32_t largest = 0;
    size_t n = 0;
    for (size_t i = 0; i < tensor->n_elements; i += n) {
        float x[256];
        n = tensor->n_elements - i < 256 ? tensor->n_elements - i : 256;
        tensor_read_floats(x, tensor, i, n);
        for (size_t k = 0; k < n; k++) {
            uint32_t magnitude = exact_bits(x[k]) & EXACT_ABS_MASK;
            largest = magnitude > largest ? magnitude : largest;
        }
    }
    if (largest >= bound)
        return fail(E_MODEL, "%s holds a value that is not finite",
                    tensor->name);
    return OK;
}

/* Copies [rows][columns] as [columns][rows]; one column: as it is. */
static enum status copy_finite(float *to, const struct tensor *from,
                               size_t columns)
{
    TRY(check_finite(from));
    size_t rows = (size_t)from->n_elements / columns;
    if (columns == 1)
        tensor_read_floats(to, from, 0, rows);
    for (size_t c = 0; c < columns && columns > 1; c++) {
        for (size_t r = 0; r < rows; r++)
            tensor_read_floats(to++, from, r * columns + c, 1);
    }
    return OK;
}

enum status binder_take_copy(struct binder *b, float **floats, const char *name,
                             struct tensor expected, int columns)
{
    const struct tensor *tensor;
    TRY(take(b, &tensor, name, expected));
    *floats = binder_carve(b, (size_t)tensor->n_elements * sizeof(float));
    return copy_finite(*floats, tensor, (size_t)columns);
}

enum status binder_take_floats(struct binder *b, const float **floats,
                               const char *name, struct tensor expected)
{
    float *copy;
    TRY(binder_take_copy(b, &copy, name, expected, 1));
    *floats = copy;
    return OK;
}

enum status binder_take_vector(struct binder *b, const float **vector,
                               const char *name, int n)
{
    return binder_take_floats(b, vector, name, expected_vector(n));
}

/* ---- projections and norms ----------------------------------------------- */

static enum status check_scales(const struct binder *b, const char *name,
                                const float *scale, int n)
{
    char full[BINDER_NAME_CHARS];
    for (int i = 0; i < n; i++) {
        if (scale[i] < 0)
            return fail(E_MODEL, "%s holds a negative scale, in row %d",
                        full_name(b, full, name), i);
    }
    return OK;
}

/* -128 has no opposite, which the int8 products of some machines need. */
static enum status check_weights(const struct tensor *weight)
{
    const int8_t *q = weight->data;
    uint8_t found = 0;
    for (size_t i = 0; i < weight->n_elements; i++)
        found |= q[i] == -128;
    if (found)
        return fail(E_MODEL, "%s holds -128: int8 weights go from -127 to 127",
                    weight->name);
    return OK;
}

static enum status take_float_matrix(struct binder *b, struct matrix *matrix,
                                     const char *name)
{
    const struct tensor *weight;
    TRY(take(b, &weight, name,
             expected_matrix(DTYPE_F32, matrix->rows, matrix->cols)));
    matrix->floats = weight->data;
    matrix->dtype = weight->dtype;
    return check_finite(weight);
}

enum status binder_take_matrix(struct binder *b, struct matrix *matrix,
                               const char *name, int rows, int cols)
{
    matrix->rows = rows;
    matrix->cols = cols;
    if (b->model->config.is_float)
        return take_float_matrix(b, matrix, name);

    const struct tensor *weight;
    TRY(take(b, &weight, name, expected_matrix(DTYPE_I8, rows, cols)));
    TRY(check_weights(weight));
    matrix->q = weight->data;

    char scale_name[BINDER_NAME_CHARS / 2];
    snprintf(scale_name, sizeof scale_name, "%s_scale", name);
    TRY(binder_take_vector(b, &matrix->scale, scale_name, rows));
    return check_scales(b, scale_name, matrix->scale, rows);
}

enum status binder_take_norm(struct binder *b, const float **norm,
                             const float **bias, const char *name)
{
    const struct model_config *c = &b->model->config;
    char part[BINDER_NAME_CHARS / 2];
    snprintf(part, sizeof part, "%s.weight", name);
    TRY(binder_take_vector(b, norm, part, c->d_model));
    if (!c->has_norm_bias)
        return OK;
    snprintf(part, sizeof part, "%s.bias", name);
    return binder_take_vector(b, bias, part, c->d_model);
}
