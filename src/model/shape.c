/* shape.c -- the sizes of a model, from the shapes of the embedding and of
 * layer 0, and from metadata where shapes cannot say.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "model/binder.h"
#include "model/json_text.h"

#define MIXER_0 LAYERS "0.mixer."

/* Published checkpoints have two names for the embedding. */
const struct tensor *binder_find_embedding(const struct binder *b)
{
    const struct tensor *t =
        safetensors_find(b->file, "backbone.embedding.weight");
    return t ? t : safetensors_find(b->file, "backbone.embeddings.weight");
}

static enum status check_embedding(const struct tensor *embedding)
{
    if (!embedding)
        return fail(E_MODEL, "tensor backbone.embedding.weight is missing");
    if (embedding->n_dims != 2) {
        char text[160];
        return fail(E_MODEL, "%s is %s, expected 2 dimensions", embedding->name,
                    tensor_describe(embedding, text));
    }
    if (embedding->shape[0] != N_BYTES_VOCAB)
        return fail(E_MODEL,
                    "not a byte model: embedding has %" PRIu64
                    " rows, expected %d",
                    embedding->shape[0], N_BYTES_VOCAB);
    return OK;
}

static enum status set_size(int *size, const char *what, uint64_t value,
                            int least, int most, int multiple)
{
    bool is_multiple = value % (uint64_t)multiple == 0;
    if (value < (uint64_t)least || value > (uint64_t)most || !is_multiple)
        return fail(E_MODEL,
                    "%s is %" PRIu64 ", expected %d to %d in steps of %d", what,
                    value, least, most, multiple);
    *size = (int)value;
    return OK;
}

/* The layer that a tensor of this name belongs to, counted from 1; or 0. */
static uint64_t layer_of(const char *name)
{
    if (!text_starts_with(name, LAYERS))
        return 0;
    uint64_t n = 0;
    for (const char *p = name + strlen(LAYERS); *p >= '0' && *p <= '9'; p++)
        n = n * 10 + (uint64_t)(*p - '0');
    return n + 1;
}

static uint64_t count_layers(const struct safetensors *file)
{
    uint64_t n = 0;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        uint64_t layer = layer_of(safetensors_at(file, i)->name);
        n = layer > n ? layer : n;
    }
    return n;
}

static enum status find_shape(const struct binder *b,
                              const struct tensor **tensor, const char *name,
                              int n_dims)
{
    TRY(binder_find(b, tensor, name));
    if ((*tensor)->n_dims != n_dims) {
        char text[160];
        return fail(E_MODEL, "%s is %s, expected %d dimensions", name,
                    tensor_describe(*tensor, text), n_dims);
    }
    return OK;
}

/* ---- the mixer ----------------------------------------------------------- */

static enum status read_mamba1(const struct binder *b)
{
    struct model_config *c = &b->model->config;
    const struct tensor *a_log, *dt;
    TRY(find_shape(b, &a_log, MIXER_0 "A_log", 2));
    TRY(find_shape(b, &dt, MIXER_0 "dt_proj.weight", 2));
    TRY(set_size(&c->d_inner, "d_inner", a_log->shape[0], 4, D_INNER_MAX, 4));
    TRY(set_size(&c->d_state, "d_state", a_log->shape[1], 4, D_STATE_MAX, 4));
    TRY(set_size(&c->dt_rank, "dt_rank", dt->shape[1], 1, D_MODEL_MAX, 1));
    if ((c->d_state & (c->d_state - 1)) != 0)
        return fail(E_MODEL, "d_state is %d, expected a power of two",
                    c->d_state);
    return OK;
}

/* A decimal number of the metadata, from 1 to most; fallback when absent. */
static enum status read_number(const struct binder *b, int *number,
                               const char *key, int most, int fallback)
{
    const char *text = safetensors_metadata(b->file, key);
    *number = fallback;
    if (!text)
        return OK;
    size_t n = strspn(text, "0123456789");
    *number = n >= 1 && n <= 6 && text[n] == '\0' ? atoi(text) : 0;
    if (*number < 1 || *number > most)
        return fail(E_MODEL, "%s of the metadata is not a number from 1 to %d",
                    key, most);
    return OK;
}

static enum status read_heads(const struct binder *b, uint64_t n_heads)
{
    struct model_config *c = &b->model->config;
    int stated;
    TRY(set_size(&c->n_heads, "n_heads", n_heads, 1, c->d_inner, 1));
    if (c->d_inner % c->n_heads != 0)
        return fail(E_MODEL, "%d heads do not divide d_inner, %d", c->n_heads,
                    c->d_inner);
    TRY(set_size(&c->headdim, "head_dim", (uint64_t)(c->d_inner / c->n_heads),
                 8, HEADDIM_MAX, 8));
    TRY(read_number(b, &stated, "head_dim", HEADDIM_MAX, c->headdim));
    if (stated != c->headdim)
        return fail(E_MODEL,
                    "head_dim of the metadata is %d, but %d heads of d_inner "
                    "%d have %d channels",
                    stated, c->n_heads, c->d_inner, c->headdim);
    return OK;
}

/* conv1d has d_inner + 2 n_groups d_state channels. */
static enum status read_groups(const struct binder *b, uint64_t channels)
{
    struct model_config *c = &b->model->config;
    TRY(read_number(b, &c->n_groups, "n_groups", MAMBA2_GROUPS_MAX, 1));
    if (c->n_heads % c->n_groups != 0)
        return fail(E_MODEL, "n_groups is %d, which does not divide %d heads",
                    c->n_groups, c->n_heads);
    uint64_t d_inner = (uint64_t)c->d_inner, parts = 2 * (uint64_t)c->n_groups;
    if (channels <= d_inner || (channels - d_inner) % parts != 0)
        return fail(E_MODEL,
                    "conv1d.weight has %" PRIu64 " channels, expected d_inner, "
                    "%d, and 2 d_state for each of n_groups, %d",
                    channels, c->d_inner, c->n_groups);
    return set_size(&c->d_state, "d_state", (channels - d_inner) / parts, 16,
                    MAMBA2_D_STATE_MAX, 16);
}

static enum status check_in_proj(const struct model_config *c, uint64_t rows)
{
    if (rows != (uint64_t)in_proj_rows(c))
        return fail(E_MODEL,
                    "in_proj.weight has %" PRIu64 " rows, but 2 d_inner + 2 "
                    "n_groups d_state + n_heads = 2 * %d + 2 * %d * %d + %d is "
                    "%d",
                    rows, c->d_inner, c->n_groups, c->d_state, c->n_heads,
                    in_proj_rows(c));
    return OK;
}

static enum status read_mamba2(const struct binder *b)
{
    struct model_config *c = &b->model->config;
    const struct tensor *a_log, *conv, *in, *out, *d;
    TRY(find_shape(b, &a_log, MIXER_0 "A_log", 1));
    TRY(find_shape(b, &d, MIXER_0 "D", 1));
    TRY(find_shape(b, &conv, MIXER_0 "conv1d.weight", 3));
    TRY(find_shape(b, &in, MIXER_0 "in_proj.weight", 2));
    TRY(find_shape(b, &out, MIXER_0 "out_proj.weight", 2));
    TRY(set_size(&c->d_inner, "d_inner", out->shape[1], 8, D_INNER_MAX, 8));
    TRY(read_heads(b, a_log->shape[0]));
    TRY(read_groups(b, conv->shape[0]));
    c->has_channel_d = d->shape[0] == (uint64_t)c->d_inner;
    return check_in_proj(c, in->shape[0]);
}

static enum status read_sizes(const struct binder *b)
{
    struct model_config *c = &b->model->config;
    TRY(set_size(&c->d_model, "d_model", binder_find_embedding(b)->shape[1], 4,
                 D_MODEL_MAX, 4));
    TRY(set_size(&c->n_layer, "n_layer", count_layers(b->file), 1, N_LAYER_MAX,
                 1));
    TRY(c->mixer == MIXER_MAMBA2 ? read_mamba2(b) : read_mamba1(b));

    const struct tensor *conv, *in;
    TRY(find_shape(b, &conv, MIXER_0 "conv1d.weight", 3));
    TRY(find_shape(b, &in, MIXER_0 "in_proj.weight", 2));
    c->is_float = dtype_is_float(in->dtype);
    return set_size(&c->d_conv, "d_conv", conv->shape[2], 2, D_CONV_MAX, 1);
}

/* Metadata that is absent is left to the tensors: only Mamba-2 has dt_bias. */
static enum status read_mixer(const struct binder *b)
{
    const char *text = safetensors_metadata(b->file, "architecture");
    bool is_mamba2 = safetensors_find(b->file, MIXER_0 "dt_bias") != NULL;
    if (text) {
        is_mamba2 = strcmp(text, "mamba2") == 0;
        if (!is_mamba2 && strcmp(text, "mamba1") != 0)
            return fail(E_MODEL, "architecture of the metadata is neither "
                                 "mamba1 nor mamba2");
    }
    b->model->config.mixer = is_mamba2 ? MIXER_MAMBA2 : MIXER_MAMBA1;
    return OK;
}

/* ---- metadata ------------------------------------------------------------ */

static enum status read_begin_byte(int *byte, const char *text)
{
    *byte = -1;
    if (!text)
        return OK;
    int value = 0;
    size_t n = strspn(text, "0123456789");
    if (n >= 1 && n <= 3 && text[n] == '\0')
        value = atoi(text);
    else
        value = N_BYTES_VOCAB;
    if (value >= N_BYTES_VOCAB)
        return fail(E_MODEL, "begin_byte of the metadata is not a number "
                             "from 0 to 255");
    *byte = value;
    return OK;
}

/* A number as JSON has it: the same in every locale. */
static enum status read_epsilon(float *epsilon, const char *text)
{
    *epsilon = 1e-5f;
    if (!text)
        return OK;
    json_t *number;
    TRY(json_text_parse(&number, text, strlen(text), JSON_DECODE_ANY, NULL));
    float value = (float)json_number_value(number);
    json_decref(number);
    if (!(value > 0.0f) || !isfinite(value))
        return fail(E_MODEL, "norm_epsilon of the metadata is not a number "
                             "above 0");
    *epsilon = value;
    return OK;
}

/* [least, largest], or [least]. */
static enum status read_delta_limit(struct model_config *c, const char *text)
{
    c->delta_min = 0.0f;
    c->delta_max = INFINITY;
    if (!text)
        return OK;
    json_t *limit;
    TRY(json_text_parse(&limit, text, strlen(text), 0, NULL));
    size_t n = json_array_size(limit);
    bool has_largest = n == 2;
    bool is_right = n == 1 || n == 2;
    for (size_t i = 0; i < n; i++)
        is_right &= json_is_number(json_array_get(limit, i));
    if (is_right)
        c->delta_min = (float)json_number_value(json_array_get(limit, 0));
    if (is_right && has_largest)
        c->delta_max = (float)json_number_value(json_array_get(limit, 1));
    json_decref(limit);
    if (!is_right || !(c->delta_min >= 0.0f) || !isfinite(c->delta_min) ||
        !(c->delta_min <= c->delta_max))
        return fail(E_MODEL, "time_step_limit of the metadata is not an array "
                             "of the least, 0 or more, and the largest step");
    return OK;
}

static enum status read_gate(struct model_config *c, const char *text)
{
    c->has_norm_before_gate = text && strcmp(text, "true") == 0;
    if (text && !c->has_norm_before_gate && strcmp(text, "false") != 0)
        return fail(E_MODEL,
                    "norm_before_gate of the metadata is not true or false");
    if (c->has_norm_before_gate && !c->is_float)
        return fail(E_MODEL, "norm_before_gate is true, which only models of "
                             "floats can have");
    return OK;
}

static enum status read_mamba2_metadata(const struct binder *b)
{
    struct model_config *c = &b->model->config;
    TRY(read_delta_limit(c, safetensors_metadata(b->file, "time_step_limit")));
    return read_gate(c, safetensors_metadata(b->file, "norm_before_gate"));
}

enum status binder_read_config(struct binder *b)
{
    const struct safetensors *file = b->file;
    struct model_config *c = &b->model->config;
    TRY(read_mixer(b));
    TRY(check_embedding(binder_find_embedding(b)));
    TRY(read_sizes(b));
    c->has_norm_bias = safetensors_find(file, "backbone.norm_f.bias");
    c->is_tied = !safetensors_find(file, "lm_head.weight");
    if (c->mixer == MIXER_MAMBA2)
        TRY(read_mamba2_metadata(b));
    TRY(read_begin_byte(&c->begin_byte,
                        safetensors_metadata(file, "begin_byte")));
    return read_epsilon(&c->norm_epsilon,
                        safetensors_metadata(file, "norm_epsilon"));
}
