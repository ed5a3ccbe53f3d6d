/* export.c -- makes the int8 model that mambyte runs from weights in training.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/export.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/number.h"
#include "model/metadata_list.h"
#include "model/quantise.h"

enum { SCALE_NAME_CHARS = PARAMETER_NAME_CHARS + 8 };

/* A model being made. */
struct exporter {
    struct tensor *tensors; /* [2 parameters->n] */
    size_t n_tensors;
    char (*scale_names)[SCALE_NAME_CHARS]; /* [parameters->n] */
    int8_t *q;     /* [n_floats]: at the place of its floats */
    float *scales; /* [rows of all matrices] */
    size_t n_scales;
    struct metadata_list metadata;
};

static void close_exporter(struct exporter *e)
{
    free(e->tensors);
    free(e->scale_names);
    free(e->q);
    free(e->scales);
}

static enum status open_exporter(struct exporter *e, const struct parameters *p)
{
    size_t n_rows = 0;
    for (size_t i = 0; i < p->n; i++)
        n_rows += p->list[i].is_matrix ? (size_t)p->list[i].shape[0] : 0;
    *e = (struct exporter){
        .tensors = calloc(2 * p->n, sizeof *e->tensors),
        .scale_names = calloc(p->n, sizeof *e->scale_names),
        .q = malloc(p->n_floats),
        .scales = malloc((n_rows + 1) * sizeof *e->scales),
    };
    if (e->tensors && e->scale_names && e->q && e->scales)
        return OK;
    close_exporter(e);
    return fail_memory("a model");
}

static struct tensor *add(struct exporter *e, const struct parameter *p,
                          enum dtype dtype, const void *data)
{
    struct tensor *t = &e->tensors[e->n_tensors++];
    *t = parameter_tensor(p, dtype, data);
    return t;
}

static void add_matrix(struct exporter *e, size_t index,
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

/* What the shapes of Mamba-2 leave open. */
static void describe_mamba2(struct metadata_list *list,
                            const struct model_config *c)
{
    metadata_list_print(list, "head_dim", "%d", c->headdim);
    metadata_list_print(list, "n_groups", "%d", c->n_groups);
    if (!(c->delta_min > 0.0f) && isinf(c->delta_max))
        return;
    char low[32], high[32];
    float largest = isinf(c->delta_max) ? FLT_MAX : c->delta_max;
    metadata_list_print(list, "time_step_limit", "[%s, %s]",
                        number_print(low, c->delta_min),
                        number_print(high, largest));
}

static void describe(struct metadata_list *list, const struct model_config *c)
{
    char epsilon[32];
    bool is_mamba1 = c->mixer == MIXER_MAMBA1;
    metadata_list_add(list, "architecture", is_mamba1 ? "mamba1" : "mamba2");
    if (!is_mamba1)
        describe_mamba2(list, c);
    metadata_list_print(list, "norm_epsilon", "%s",
                        number_print(epsilon, c->norm_epsilon));
    if (c->begin_byte >= 0)
        metadata_list_print(list, "begin_byte", "%d", c->begin_byte);
}

static struct safetensors_content fill(struct exporter *e,
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
    describe(&e->metadata, &p->config);
    for (size_t i = 0; i < provenance->n; i++)
        metadata_list_add(&e->metadata, provenance->metadata[i].key,
                          provenance->metadata[i].value);
    return (struct safetensors_content){e->metadata.items, e->metadata.n,
                                        e->tensors, e->n_tensors};
}

enum status export_memory(uint8_t **bytes, size_t *n,
                          const struct parameters *parameters,
                          const float *weights,
                          const struct provenance *provenance)
{
    struct exporter e;
    *bytes = NULL;
    TRY(open_exporter(&e, parameters));
    struct safetensors_content content =
        fill(&e, parameters, weights, provenance);
    enum status status = safetensors_write_memory(bytes, n, &content);
    close_exporter(&e);
    return status;
}

enum status export_file(const char *path, const struct parameters *parameters,
                        const float *weights,
                        const struct provenance *provenance)
{
    struct exporter e;
    TRY(open_exporter(&e, parameters));
    struct safetensors_content content =
        fill(&e, parameters, weights, provenance);
    enum status status = safetensors_write(path, &content);
    close_exporter(&e);
    return status;
}
