/* publish.c -- a model for the programs of others.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/publish.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file_group.h"
#include "base/number.h"
#include "base/signals.h"
#include "import/tokenizer_json.h"
#include "import/torch_write.h"
#include "model/json_text.h"
#include "model/safetensors_write.h"

/* Digits that tell all floats apart. */
enum { REAL_DIGITS = 9 };

/* ---- tensors ------------------------------------------------------------ */

#define OUR_EMBEDDING   "backbone.embedding.weight"
#define THEIR_EMBEDDING "backbone.embeddings.weight"

static size_t list_tensors(struct tensor *list, const struct parameters *p,
                           const float *weights)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) {
        const struct parameter *from = &p->list[i];
        if (from->n == 0)
            continue;
        list[n++] = parameter_tensor(from, DTYPE_F32, weights + from->offset);
    }
    return n;
}

/* mamba-ssm wants an lm_head even if it is the embedding. */
static size_t tie_head(struct tensor *list, size_t n)
{
    size_t i = 0;
    while (strcmp(list[i].name, OUR_EMBEDDING) != 0)
        i++;
    list[n] = list[i];
    list[n].name = "lm_head.weight";
    return n + 1;
}

static enum status write_safetensors(FILE *out, struct tensor *list, size_t n)
{
    static const struct metadata format = {"format", "pt"};
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].name, OUR_EMBEDDING) == 0)
            list[i].name = THEIR_EMBEDDING;
    }
    struct safetensors_content content = {&format, 1, list, n};
    return safetensors_write_stream(out, &content);
}

static enum status write_tensors(struct file_group *group, enum naming naming,
                                 const struct parameters *p,
                                 const float *weights)
{
    struct atomic_file *file;
    bool is_torch = naming == NAMING_MAMBA_SSM;
    TRY(file_group_add(
        group, is_torch ? "pytorch_model.bin" : "model.safetensors", &file));
    struct tensor *list = calloc(p->n + 1, sizeof *list);
    if (!list)
        return fail_memory("the list of tensors");
    size_t n = list_tensors(list, p, weights);
    if (is_torch && p->config.is_tied)
        n = tie_head(list, n);
    enum status status = is_torch ? torch_write(file->stream, list, n)
                                  : write_safetensors(file->stream, list, n);
    free(list);
    return status == OK ? OK : status_prefix(status, file->path);
}

/* ---- config.json -------------------------------------------------------- */

static json_t *mamba1_ssm_config(const struct model_config *c)
{
    return json_pack(
        "{si si si s{si si si si} sb sb sb si sb}", "d_model", c->d_model,
        "n_layer", c->n_layer, "vocab_size", N_BYTES_VOCAB, "ssm_cfg",
        "d_state", c->d_state, "d_conv", c->d_conv, "expand",
        c->d_inner / c->d_model, "dt_rank", c->dt_rank, "rms_norm",
        !c->has_norm_bias, "residual_in_fp32", 1, "fused_add_norm", 1,
        "pad_vocab_size_multiple", 1, "tie_embeddings", c->is_tied);
}

/* So that JSON has the fewest digits of a float. */
static double rounded(float x)
{
    char text[32];
    return strtod(number_print(text, x), NULL);
}

static bool has_delta_limit(const struct model_config *c)
{
    return c->delta_min > 0.0f || !isinf(c->delta_max);
}

/* As both programs have it: no limit is a number that PyTorch can make a float
 * of, and no step reaches. */
static json_t *delta_limit(const struct model_config *c)
{
    double high = isinf(c->delta_max) ? 1e38 : rounded(c->delta_max);
    return json_pack("[ff]", rounded(c->delta_min), high);
}

static json_t *mamba2_ssm_config(const struct model_config *c, json_t *limit)
{
    return json_pack(
        "{si si si si s{ss si si si si si sb sb so*} s[] s{} sb sb sb si sb}",
        "d_model", c->d_model, "d_intermediate", 0, "n_layer", c->n_layer,
        "vocab_size", N_BYTES_VOCAB, "ssm_cfg", "layer", "Mamba2", "d_state",
        c->d_state, "d_conv", c->d_conv, "expand", c->d_inner / c->d_model,
        "headdim", c->headdim, "ngroups", c->n_groups, "D_has_hdim",
        c->has_channel_d, "norm_before_gate", c->has_norm_before_gate,
        "dt_limit", limit, "attn_layer_idx", "attn_cfg", "rms_norm",
        !c->has_norm_bias, "residual_in_fp32", 1, "fused_add_norm", 1,
        "pad_vocab_size_multiple", 1, "tie_embeddings", c->is_tied);
}

/* A model without a begin byte gets none here either. */
static json_t *mamba1_transformers_config(const struct model_config *c)
{
    json_t *begin =
        c->begin_byte < 0 ? json_null() : json_integer(c->begin_byte);
    return json_pack(
        "{s[s] ss si si si si si si si si sf sb sb ss sb sb so sn sn ss}",
        "architectures", "MambaForCausalLM", "model_type", "mamba",
        "vocab_size", N_BYTES_VOCAB, "hidden_size", c->d_model,
        "intermediate_size", c->d_inner, "expand", c->d_inner / c->d_model,
        "num_hidden_layers", c->n_layer, "state_size", c->d_state,
        "conv_kernel", c->d_conv, "time_step_rank", c->dt_rank,
        "layer_norm_epsilon", rounded(c->norm_epsilon), "use_bias", 0,
        "use_conv_bias", 1, "hidden_act", "silu", "residual_in_fp32", 1,
        "tie_word_embeddings", c->is_tied, "bos_token_id", begin,
        "eos_token_id", "pad_token_id", "torch_dtype", "float32");
}

static json_t *mamba2_transformers_config(const struct model_config *c,
                                          json_t *limit)
{
    json_t *begin =
        c->begin_byte < 0 ? json_null() : json_integer(c->begin_byte);
    return json_pack(
        "{s[s] ss si si si si si si si si si sf so* sb sb sb ss sb sb so sn sn "
        "si ss}",
        "architectures", "Mamba2ForCausalLM", "model_type", "mamba2",
        "vocab_size", N_BYTES_VOCAB, "hidden_size", c->d_model, "expand",
        c->d_inner / c->d_model, "num_hidden_layers", c->n_layer, "num_heads",
        c->n_heads, "head_dim", c->headdim, "n_groups", c->n_groups,
        "state_size", c->d_state, "conv_kernel", c->d_conv,
        "layer_norm_epsilon", rounded(c->norm_epsilon), "time_step_limit",
        limit, "rms_norm", 1, "use_bias", 0, "use_conv_bias", 1, "hidden_act",
        "silu", "residual_in_fp32", 1, "tie_word_embeddings", c->is_tied,
        "bos_token_id", begin, "eos_token_id", "pad_token_id", "chunk_size",
        CHUNK, "torch_dtype", "float32");
}

/* NULL when there is no memory. */
static json_t *config_of(enum naming naming, const struct model_config *c)
{
    bool is_ssm = naming == NAMING_MAMBA_SSM;
    if (c->mixer == MIXER_MAMBA1)
        return is_ssm ? mamba1_ssm_config(c) : mamba1_transformers_config(c);
    json_t *limit = has_delta_limit(c) ? delta_limit(c) : NULL;
    if (has_delta_limit(c) && !limit)
        return NULL;
    return is_ssm ? mamba2_ssm_config(c, limit)
                  : mamba2_transformers_config(c, limit);
}

/* Both programs read the begin byte here; config.json of mamba-ssm has no place
 * for it. */
static json_t *generation_config(const struct model_config *c)
{
    return json_pack("{si sn sn}", "bos_token_id", c->begin_byte,
                     "eos_token_id", "pad_token_id");
}

/* ---- JSON --------------------------------------------------------------- */

/* Takes json over; NULL: there was no memory for it. */
static enum status write_json(struct file_group *group, const char *name,
                              json_t *json)
{
    struct atomic_file *file;
    char *text =
        json_text(json, JSON_INDENT(2) | JSON_REAL_PRECISION(REAL_DIGITS));
    json_decref(json);
    if (!text)
        return fail_memory(name);
    enum status status = file_group_add(group, name, &file);
    if (status == OK && fputs(text, file->stream) < 0)
        status = fail(E_IO, "%s: %s", file->path, strerror(errno));
    free(text);
    return status;
}

/* config.json is the last. */
static enum status write_configs(struct file_group *group, enum naming naming,
                                 const struct model_config *c)
{
    if (naming == NAMING_TRANSFORMERS) {
        TRY(write_json(group, "tokenizer.json",
                       tokenizer_json_make(c->begin_byte)));
        TRY(write_json(group, "tokenizer_config.json",
                       tokenizer_json_make_config(c->begin_byte)));
    }
    if (c->begin_byte >= 0)
        TRY(write_json(group, "generation_config.json", generation_config(c)));
    else
        file_group_drop(group, "generation_config.json");
    return write_json(group, "config.json", config_of(naming, c));
}

/* ---- the whole ---------------------------------------------------------- */

static enum status check_shape(enum naming naming, const struct model_config *c)
{
    if (c->d_inner % c->d_model != 0)
        return fail(E_MODEL,
                    "d_inner is %d, which is not a multiple of d_model %d: no "
                    "other program has such a model",
                    c->d_inner, c->d_model);
    if (naming == NAMING_TRANSFORMERS && c->has_norm_bias)
        return fail(E_MODEL, "the model has LayerNorm with a bias, the Mamba "
                             "of transformers only RMSNorm");
    if (naming == NAMING_TRANSFORMERS &&
        (c->has_norm_before_gate || c->has_channel_d))
        return fail(E_MODEL,
                    "the model has %s, which the Mamba-2 of transformers "
                    "lacks",
                    c->has_channel_d ? "a D for each channel"
                                     : "the norm before the gate");
    if (naming == NAMING_MAMBA_SSM && c->norm_epsilon != 1e-5f)
        return fail(E_MODEL,
                    "the model's norm_epsilon is %g, mamba-ssm's is "
                    "always 1e-5",
                    (double)c->norm_epsilon);
    return OK;
}

enum status publish(const char *folder, enum naming naming,
                    const struct parameters *parameters, const float *weights)
{
    struct file_group group;
    TRY(check_shape(naming, &parameters->config));
    TRY(file_group_open(&group, folder));
    enum status status = write_tensors(&group, naming, parameters, weights);
    if (status == OK)
        status = write_configs(&group, naming, &parameters->config);
    if (status == OK) {
        signals_be_hasty(false); /* all files, or none */
        return file_group_commit(&group);
    }
    file_group_abandon(&group);
    return status;
}
