/* config_json.c -- the config.json of a checkpoint.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/config_json.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "import/config_keys.h"

/* The value under either of two keys: projects name the same thing otherwise.
 */
static const json_t *get_either(const json_t *config, const char *one,
                                const char *other)
{
    const json_t *value = config_get(config, one);
    return value ? value : config_get(config, other);
}

/* If the key is there, its text has to agree with the tensors. */
static enum status check_text(const json_t *config, const char *key,
                              const char *expected)
{
    const char *text = json_string_value(config_get(config, key));
    if (!text || strcmp(text, expected) == 0)
        return OK;
    return fail(E_MODEL,
                "config.json says that %s is %.32s; for this model it would be "
                "%s",
                key, text, expected);
}

static enum status check_activation(const json_t *config, const char *key)
{
    const char *text = json_string_value(config_get(config, key));
    if (!text || strcmp(text, "silu") == 0 || strcmp(text, "swish") == 0)
        return OK;
    return fail(E_MODEL,
                "config.json says that %s is %.32s: mambyte has silu only", key,
                text);
}

/* Layers other than Mamba, or with parts that ours lack. */
static enum status check_layers(const json_t *config)
{
    static const char *const biases[] = {"use_bias", "bias"};
    if (json_array_size(json_object_get(config, "attn_layer_idx")) > 0)
        return fail(E_MODEL, "config.json: the model has attention layers");
    if (json_integer_value(json_object_get(config, "d_intermediate")) > 0)
        return fail(E_MODEL, "config.json: the model has MLP layers");
    for (int i = 0; i < 2; i++) {
        if (json_is_true(config_get(config, biases[i])))
            return fail(E_MODEL,
                        "config.json: the model has biases of in_proj and "
                        "out_proj (%s), which mambyte does not support",
                        biases[i]);
    }
    TRY(check_activation(config, "hidden_act"));
    return check_activation(config, "activation");
}

/* A bound of the step; nothing reaches one that is as large as floats get. */
static double bound_of(const json_t *value)
{
    double bound = json_number_value(value);
    return json_is_object(value) || bound >= 1e38 ? (double)INFINITY : bound;
}

/* The groups of heads; without the key, the default of the project. */
static json_int_t groups_of(const json_t *config)
{
    const json_t *groups = get_either(config, "ngroups", "n_groups");
    if (groups)
        return json_integer_value(groups);
    return config_get(config, "model_type") ? 8 : 1;
}

static enum status read_mamba2(struct config_json *says, const json_t *config)
{
    const json_t *limit = get_either(config, "dt_limit", "time_step_limit");
    if (json_is_false(config_get(config, "rmsnorm")))
        return fail(E_MODEL, "config.json: the model has no norm before "
                             "out_proj (rmsnorm is false)");
    says->n_groups = (int)groups_of(config);
    if (json_array_size(limit) == 2) {
        says->delta_min = bound_of(json_array_get(limit, 0));
        says->delta_max = bound_of(json_array_get(limit, 1));
    }
    says->has_norm_before_gate =
        json_is_true(config_get(config, "norm_before_gate"));
    return OK;
}

int config_json_begin_byte(const json_t *config)
{
    const json_t *begin = json_object_get(config, "bos_token_id");
    const json_t *end = json_object_get(config, "eos_token_id");
    const json_t *padding = json_object_get(config, "pad_token_id");
    bool is_byte = json_is_integer(begin) && json_integer_value(begin) >= 0 &&
                   json_integer_value(begin) < N_BYTES_VOCAB;
    return is_byte && json_is_null(end) && json_is_null(padding)
               ? (int)json_integer_value(begin)
               : -1;
}

enum status config_json_read(struct config_json *says, const json_t *config,
                             enum mixer mixer)
{
    bool is_mamba2 = mixer == MIXER_MAMBA2;
    *says = (struct config_json){.begin_byte = config_json_begin_byte(config),
                                 .delta_max = (double)INFINITY};
    TRY(config_keys_check(config));
    TRY(check_text(config, "model_type", is_mamba2 ? "mamba2" : "mamba"));
    TRY(check_text(config, "layer", is_mamba2 ? "Mamba2" : "Mamba1"));
    TRY(check_layers(config));
    if (is_mamba2 && config)
        TRY(read_mamba2(says, config));
    json_int_t vocabulary =
        json_integer_value(config_get(config, "vocab_size"));
    says->vocabulary = vocabulary > 0 ? (uint64_t)vocabulary : 0;
    says->norm_epsilon = json_number_value(
        get_either(config, "layer_norm_epsilon", "norm_epsilon"));
    return OK;
}

static enum status check_size(const json_t *config, const char *key, int size)
{
    const json_t *value = config_get(config, key);
    if (!json_is_integer(value) || json_integer_value(value) == size)
        return OK;
    return fail(E_MODEL,
                "config.json says that %s is %" JSON_INTEGER_FORMAT
                ", the tensors that it is %d",
                key, json_integer_value(value), size);
}

static enum status check_truth(const json_t *config, const char *key, bool is)
{
    const json_t *value = config_get(config, key);
    if (!json_is_boolean(value) || json_is_true(value) == is)
        return OK;
    return fail(E_MODEL,
                "config.json says that %s is %s, the tensors that it "
                "is not",
                key, is ? "false" : "true");
}

static enum status check_expand(const json_t *config,
                                const struct model_config *c)
{
    const json_t *value = config_get(config, "expand");
    double expand = json_number_value(value);
    if (!value || floor(expand * c->d_model) == c->d_inner)
        return OK;
    return fail(E_MODEL,
                "config.json says that expand is %g, the tensors that it is %g",
                expand, (double)c->d_inner / c->d_model);
}

static enum status check_truths(const json_t *config,
                                const struct model_config *c,
                                bool has_conv_bias)
{
    TRY(check_truth(config, "rms_norm", !c->has_norm_bias));
    TRY(check_truth(config, "conv_bias", has_conv_bias));
    TRY(check_truth(config, "use_conv_bias", has_conv_bias));
    TRY(check_truth(config, "tie_embeddings", c->is_tied));
    TRY(check_truth(config, "tie_word_embeddings", c->is_tied));
    return c->mixer == MIXER_MAMBA2
               ? check_truth(config, "D_has_hdim", c->has_channel_d)
               : OK;
}

enum status config_json_check(const json_t *config,
                              const struct model_config *c, bool has_conv_bias)
{
    const struct {
        const char *key;
        int size;
    } sizes[] = {
        {"d_model", c->d_model},           {"hidden_size", c->d_model},
        {"n_layer", c->n_layer},           {"n_layers", c->n_layer},
        {"num_hidden_layers", c->n_layer}, {"d_inner", c->d_inner},
        {"intermediate_size", c->d_inner}, {"d_state", c->d_state},
        {"state_size", c->d_state},        {"d_conv", c->d_conv},
        {"conv_kernel", c->d_conv},        {"dt_rank", c->dt_rank},
        {"time_step_rank", c->dt_rank},    {"d_ssm", c->d_inner},
        {"num_heads", c->n_heads},         {"headdim", c->headdim},
        {"head_dim", c->headdim},
    };
    /* What only the other mixer has is 0, and not looked at. */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].size > 0)
            TRY(check_size(config, sizes[i].key, sizes[i].size));
    }
    TRY(check_expand(config, c));
    return check_truths(config, c, has_conv_bias);
}
