/* export.c -- makes the int8 model that mambyte runs from weights in training.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/export.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/quantise.h"

enum { OWN_METADATA = 7, SCALE_NAME_CHARS = PARAMETER_NAME_CHARS + 8 };

/* A model being made. */
struct export
{
    struct tensor *tensors; /* [2 parameters->n]                        */
    size_t n_tensors;
    char(*scale_names)[SCALE_NAME_CHARS]; /* [parameters->n]               */
    int8_t *q;     /* [n_floats]: at the place of its floats   */
    float *scales; /* [rows of all matrices]                   */
    size_t n_scales;
    struct metadata *metadata; /* [OWN_METADATA + provenance->n]           */
    size_t n_metadata;
    char begin_byte[16], norm_epsilon[32];
    char headdim[16], n_groups[16], delta_limit[80];
};

static void close_export(struct export *e)
{
    free(e->tensors);
    free(e->scale_names);
    free(e->q);
    free(e->scales);
    free(e->metadata);
}

static enum status open_export(struct export *e, const struct parameters *p,
                               const struct provenance *provenance)
{
    size_t n_rows = 0;
    for (size_t i = 0; i < p->n; i++)
        n_rows += p->list[i].is_matrix ? (size_t)p->list[i].shape[0] : 0;
    *e = (struct export){
        .tensors = calloc(2 * p->n, sizeof *e->tensors),
        .scale_names = calloc(p->n, sizeof *e->scale_names),
        .q = malloc(p->n_floats),
        .scales = malloc((n_rows + 1) * sizeof *e->scales),
        .metadata = calloc(OWN_METADATA + provenance->n, sizeof *e->metadata),
    };
    if (e->tensors && e->scale_names && e->q && e->scales && e->metadata)
        return OK;
    close_export(e);
    return fail_memory("a model");
}

static struct tensor *add(struct export *e, const struct parameter *p,
                          enum dtype dtype, const void *data)
{
    struct tensor *t = &e->tensors[e->n_tensors++];
    t->name = p->name;
    t->dtype = dtype;
    t->n_dims = p->n_dims;
    for (int i = 0; i < p->n_dims; i++)
        t->shape[i] = (uint64_t)p->shape[i];
    t->data = data;
    return t;
}

static void add_matrix(struct export *e, size_t index,
                       const struct parameter *p, const float *weights)
{
    int8_t *q = e->q + p->offset;
    float *scale = e->scales + e->n_scales;
    size_t cols = (size_t)p->shape[1];
    for (size_t r = 0; r < (size_t)p->shape[0]; r++)
        quantise_row(q + r * cols, scale + r, weights + p->offset + r * cols,
                     p->shape[1]);
    e->n_scales += (size_t)p->shape[0];

    add(e, p, DTYPE_I8, q);
    struct tensor *t = add(e, p, DTYPE_F32, scale);
    snprintf(e->scale_names[index], SCALE_NAME_CHARS, "%s_scale", p->name);
    t->name = e->scale_names[index];
    t->n_dims = 1;
}

/* The fewest digits that give the number back. */
static void print_float(char text[32], float x)
{
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, 32, "%.*g", digits, (double)x);
        if ((float)strtod(text, NULL) == x)
            return;
    }
}

/* What the shapes of Mamba-2 leave open. */
static void add_heads(struct export *e, const struct model_config *c)
{
    snprintf(e->headdim, sizeof e->headdim, "%d", c->headdim);
    snprintf(e->n_groups, sizeof e->n_groups, "%d", c->n_groups);
    e->metadata[e->n_metadata++] = (struct metadata){"head_dim", e->headdim};
    e->metadata[e->n_metadata++] = (struct metadata){"n_groups", e->n_groups};
    if (!(c->delta_min > 0.0f) && isinf(c->delta_max))
        return;
    char low[32], high[32];
    print_float(low, c->delta_min);
    print_float(high, isinf(c->delta_max) ? FLT_MAX : c->delta_max);
    snprintf(e->delta_limit, sizeof e->delta_limit, "[%s, %s]", low, high);
    e->metadata[e->n_metadata++] =
        (struct metadata){"time_step_limit", e->delta_limit};
}

static void add_own_metadata(struct export *e, const struct model_config *c)
{
    bool is_mamba1 = c->mixer == MIXER_MAMBA1;
    e->metadata[e->n_metadata++] =
        (struct metadata){"architecture", is_mamba1 ? "mamba1" : "mamba2"};
    if (!is_mamba1)
        add_heads(e, c);
    print_float(e->norm_epsilon, c->norm_epsilon);
    e->metadata[e->n_metadata++] =
        (struct metadata){"norm_epsilon", e->norm_epsilon};
    if (c->begin_byte < 0)
        return;
    snprintf(e->begin_byte, sizeof e->begin_byte, "%d", c->begin_byte);
    e->metadata[e->n_metadata++] =
        (struct metadata){"begin_byte", e->begin_byte};
}

static struct safetensors_content fill(struct export *e,
                                       const struct parameters *p,
                                       const float *weights,
                                       const struct provenance *provenance)
{
    for (size_t i = 0; i < p->n; i++) {
        const struct parameter *parameter = &p->list[i];
        if (parameter->n == 0)
            continue;
        if (parameter->is_matrix)
            add_matrix(e, i, parameter, weights);
        else
            add(e, parameter, DTYPE_F32, weights + parameter->offset);
    }
    add_own_metadata(e, &p->config);
    for (size_t i = 0; i < provenance->n; i++)
        e->metadata[e->n_metadata++] = provenance->metadata[i];
    return (struct safetensors_content){e->metadata, e->n_metadata, e->tensors,
                                        e->n_tensors};
}

enum status export_memory(uint8_t **bytes, size_t *n,
                          const struct parameters *parameters,
                          const float *weights,
                          const struct provenance *provenance)
{
    struct export e;
    *bytes = NULL;
    TRY(open_export(&e, parameters, provenance));
    struct safetensors_content content =
        fill(&e, parameters, weights, provenance);
    enum status status = safetensors_write_memory(bytes, n, &content);
    close_export(&e);
    return status;
}

enum status export_file(const char *path, const struct parameters *parameters,
                        const float *weights,
                        const struct provenance *provenance)
{
    struct export e;
    TRY(open_export(&e, parameters, provenance));
    struct safetensors_content content =
        fill(&e, parameters, weights, provenance);
    enum status status = safetensors_write(path, &content);
    close_export(&e);
    return status;
}
