/* model.c -- a model from a file.
 *
 * binder_read_config() learns the sizes from the shapes of the embedding and of
 * layer 0; then every tensor is taken by its name (binder.h).  At the end
 * each tensor of the file must have been taken.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/binder.h"
#include "model/quantise.h"

static void tie_head(struct binder *b)
{
    struct model *model = b->model;
    int d_model = model->config.d_model;
    model->lm_head = (struct matrix){.rows = N_BYTES_VOCAB, .cols = d_model};
    if (model->config.is_float) {
        const struct tensor *embedding = binder_find_embedding(b);
        model->lm_head.floats = embedding->data;
        model->lm_head.dtype = embedding->dtype;
        return;
    }
    int8_t *q = binder_carve(b, (size_t)N_BYTES_VOCAB * (size_t)d_model);
    float *scale = binder_carve(b, N_BYTES_VOCAB * sizeof *scale);
    for (int i = 0; i < N_BYTES_VOCAB; i++) {
        size_t at = (size_t)i * (size_t)d_model;
        quantise_row(q + at, scale + i, model->embedding + at, d_model);
    }
    model->lm_head.q = q;
    model->lm_head.scale = scale;
}

static enum status bind_layers(struct binder *b)
{
    struct model *model = b->model;
    for (int l = 0; l < model->config.n_layer; l++) {
        snprintf(b->prefix, sizeof b->prefix, LAYERS "%d.", l);
        TRY(binder_take_layer(b, &model->layers[l]));
    }
    b->prefix[0] = '\0';
    return OK;
}

static enum status bind_tensors(struct binder *b)
{
    struct model *model = b->model;
    int d_model = model->config.d_model;
    TRY(binder_take_floats(b, &model->embedding, binder_find_embedding(b)->name,
                           expected_matrix(DTYPE_F32, N_BYTES_VOCAB, d_model)));
    TRY(bind_layers(b));
    TRY(binder_take_norm(b, &model->norm_f, &model->norm_f_bias,
                         "backbone.norm_f"));
    if (model->config.is_tied)
        tie_head(b);
    else
        TRY(binder_take_matrix(b, &model->lm_head, "lm_head.weight",
                               N_BYTES_VOCAB, d_model));
    return OK;
}

/* Names the first tensor that was not taken. */
static enum status check_all_taken(const struct binder *b)
{
    for (size_t i = 0; i < safetensors_count(b->file); i++) {
        const struct tensor *t = safetensors_at(b->file, i);
        size_t j = 0;
        while (j < b->n_taken && b->taken[j] != t)
            j++;
        if (j == b->n_taken)
            return fail(E_MODEL, "unknown tensor %s", t->name);
    }
    return OK;
}

static uint64_t count_parameters(const struct binder *b)
{
    uint64_t n = 0;
    for (size_t i = 0; i < b->n_taken; i++) {
        const char *end = strrchr(b->taken[i]->name, '_');
        if (!end || strcmp(end, "_scale") != 0)
            n += b->taken[i]->n_elements;
    }
    return n;
}

static enum status bind(struct binder *b)
{
    TRY(binder_read_config(b));
    struct model *model = b->model;
    b->taken = calloc(safetensors_count(b->file), sizeof *b->taken);
    model->layers =
        calloc((size_t)model->config.n_layer, sizeof *model->layers);
    if (!b->taken || !model->layers)
        return fail_memory("the layers");
    TRY(binder_allocate(b));
    TRY(bind_tensors(b));
    if (b->n_taken != safetensors_count(b->file))
        return check_all_taken(b);
    model->n_parameters = count_parameters(b);
    return OK;
}

/* Takes the file over, even when it fails. */
static enum status model_make(struct model **result, struct safetensors *file)
{
    struct model *model = calloc(1, sizeof *model);
    if (!model) {
        safetensors_close(file);
        return fail_memory("the model");
    }
    model->file = file;
    struct binder b = {.model = model, .file = file};
    enum status status = bind(&b);
    free(b.taken);
    if (status != OK) {
        status_prefix(status, safetensors_path(file));
        model_close(model);
        return status;
    }
    *result = model;
    return OK;
}

enum status model_open(struct model **model, const char *path)
{
    struct safetensors *file;
    *model = NULL;
    TRY(safetensors_open(&file, path));
    return model_make(model, file);
}

enum status model_open_memory(struct model **model, const char *name,
                              const void *bytes, size_t n)
{
    struct safetensors *file;
    *model = NULL;
    TRY(safetensors_open_memory(&file, name, bytes, n));
    return model_make(model, file);
}

enum status model_open_content(struct model **model, const char *name,
                               const struct safetensors_content *content)
{
    struct safetensors *file;
    *model = NULL;
    TRY(safetensors_open_content(&file, name, content));
    return model_make(model, file);
}

void model_close(struct model *model)
{
    if (!model)
        return;
    safetensors_close(model->file);
    free(model->layers);
    free(model->arena);
    free(model);
}

enum status model_needs_int8(const struct model *model, const char *what)
{
    const char *path = safetensors_path(model->file);
    if (!model->config.is_float)
        return OK;
    return fail(E_MODEL,
                "%s has float weights, and %s needs int8: 'mambyte-import "
                "--quantize=int8 -o NEW %s' makes such a model of it",
                path, what, path);
}

enum status model_overflows(const struct model *model)
{
    return fail(E_MODEL,
                "%s: the model overflows on this input: its predictions are "
                "not finite",
                safetensors_path(model->file));
}

static size_t layer_floats(const struct model_config *c)
{
    size_t past = (size_t)(c->d_conv - 1) * (size_t)conv_channels(c);
    size_t states = (size_t)c->d_state * (size_t)c->d_inner;
    bool has_chunk = c->mixer == MIXER_MAMBA2 && !c->is_float;
    return past + states + (has_chunk ? (size_t)c->n_heads * (CHUNK + 1) : 0);
}

size_t model_state_floats(const struct model_config *c)
{
    return (size_t)c->n_layer * layer_floats(c) + N_BYTES_VOCAB;
}

size_t model_state_int8s(const struct model_config *c)
{
    if (c->mixer == MIXER_MAMBA1 || c->is_float)
        return 0;
    size_t a_byte = (size_t)(c->d_inner + c->n_groups * c->d_state);
    return (size_t)c->n_layer * CHUNK * a_byte + 1;
}
