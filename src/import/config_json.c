/* config_json.c -- the config.json of a checkpoint.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/config_json.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* The value of a key at the top, or in "ssm_cfg", where mamba-ssm keeps those
 * of the mixer. */
static const json_t *get(const void *config, const char *key)
{
    const json_t *value = json_object_get(config, key);
    const json_t *mixer = json_object_get(config, "ssm_cfg");
    return value ? value : json_object_get(mixer, key);
}

/* If the key is there, its text has to be what the tensors say it is. */
static enum status check_text(const void *config, const char *key,
                              const char *expected)
{
    const char *text = json_string_value(get(config, key));
    if (!text || strcmp(text, expected) == 0)
        return OK;
    return fail(E_MODEL,
                "config.json says that %s is %.32s; of this model it would be "
                "%s",
                key, text, expected);
}

/* Layers that are no Mamba. */
static enum status check_layers(const void *config)
{
    if (json_array_size(json_object_get(config, "attn_layer_idx")) > 0)
        return fail(E_MODEL, "config.json: the model has layers of attention");
    if (json_integer_value(json_object_get(config, "d_intermediate")) > 0)
        return fail(E_MODEL, "config.json: the model has layers of MLP");
    return OK;
}

/* A number; transformers writes one that JSON has not as an object. */
static double number_of(const json_t *value)
{
    const json_t *named = json_object_get(value, "__float__");
    const char *text = json_string_value(named);
    return text && strcmp(text, "Infinity") == 0 ? (double)INFINITY
                                                 : json_number_value(value);
}

/* The groups of heads; as each project has it, when it is not said. */
static json_int_t groups_of(const void *config)
{
    const json_t *ours = get(config, "ngroups");
    const json_t *theirs = get(config, "n_groups");
    if (ours || theirs)
        return json_integer_value(ours ? ours : theirs);
    return get(config, "model_type") ? 8 : 1;
}

static enum status read_mamba2(struct config_json *says, const void *config)
{
    const json_t *limit = get(config, "dt_limit");
    if (!limit)
        limit = get(config, "time_step_limit");
    json_int_t n = groups_of(config);
    if (n < 1 || n > MAMBA2_GROUPS_MAX)
        return fail(E_MODEL,
                    "config.json: n_groups is not a number from 1 to %d",
                    MAMBA2_GROUPS_MAX);
    if (json_is_false(get(config, "rmsnorm")))
        return fail(E_MODEL, "config.json: the model has no norm before "
                             "out_proj (rmsnorm is false)");
    says->n_groups = (int)n;
    if (json_array_size(limit) == 2) {
        says->delta_min = number_of(json_array_get(limit, 0));
        says->delta_max = number_of(json_array_get(limit, 1));
    }
    says->has_norm_before_gate = json_is_true(get(config, "norm_before_gate"));
    return OK;
}

enum status config_json_read(struct config_json *says, const void *config,
                             enum mixer mixer)
{
    bool is_mamba2 = mixer == MIXER_MAMBA2;
    *says = (struct config_json){.delta_max = (double)INFINITY};
    TRY(check_text(config, "model_type", is_mamba2 ? "mamba2" : "mamba"));
    TRY(check_text(config, "layer", is_mamba2 ? "Mamba2" : "Mamba1"));
    TRY(check_text(config, "hidden_act", "silu"));
    TRY(check_layers(config));
    if (is_mamba2 && config)
        TRY(read_mamba2(says, config));
    json_int_t vocabulary = json_integer_value(get(config, "vocab_size"));
    says->vocabulary = vocabulary > 0 ? (uint64_t)vocabulary : 0;
    const json_t *epsilon = get(config, "layer_norm_epsilon");
    if (!epsilon)
        epsilon = get(config, "norm_epsilon");
    says->norm_epsilon = json_number_value(epsilon);
    return OK;
}

static enum status check_size(const void *config, const char *key, int size)
{
    const json_t *value = get(config, key);
    if (!json_is_integer(value) || json_integer_value(value) == size)
        return OK;
    return fail(E_MODEL,
                "config.json says that %s is %" JSON_INTEGER_FORMAT
                ", the tensors that it is %d",
                key, json_integer_value(value), size);
}

static enum status check_truth(const void *config, const char *key, bool is)
{
    const json_t *value = get(config, key);
    if (!json_is_boolean(value) || json_is_true(value) == is)
        return OK;
    return fail(E_MODEL,
                "config.json says that %s is %s, the tensors that it "
                "is not",
                key, is ? "false" : "true");
}

enum status config_json_check(const void *config, const struct model_config *c)
{
    const struct {
        const char *key;
        int size;
    } sizes[] = {
        {"d_model", c->d_model},
        {"hidden_size", c->d_model},
        {"n_layer", c->n_layer},
        {"n_layers", c->n_layer},
        {"num_hidden_layers", c->n_layer},
        {"d_inner", c->d_inner},
        {"intermediate_size", c->d_inner},
        {"expand", c->d_inner / c->d_model},
        {"d_state", c->d_state},
        {"state_size", c->d_state},
        {"d_conv", c->d_conv},
        {"conv_kernel", c->d_conv},
        {"dt_rank", c->dt_rank},
        {"time_step_rank", c->dt_rank},
        {"d_ssm", c->d_inner},
        {"num_heads", c->n_heads},
        {"headdim", c->headdim},
        {"head_dim", c->headdim},
    };
    /* What only the other mixer has is 0, and not looked at. */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].size > 0)
            TRY(check_size(config, sizes[i].key, sizes[i].size));
    }
    TRY(check_truth(config, "rms_norm", !c->has_norm_bias));
    TRY(check_truth(config, "tie_embeddings", c->is_tied));
    return check_truth(config, "tie_word_embeddings", c->is_tied);
}
