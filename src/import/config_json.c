/* config_json.c -- the config.json of a checkpoint.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/config_json.h"

#include <jansson.h>
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

/* If the key is there, its text is that of a Mamba that we run. */
static enum status check_text(const void *config, const char *key,
                              const char *known)
{
    const char *text = json_string_value(get(config, key));
    if (!text || strcmp(text, known) == 0)
        return OK;
    return fail(E_MODEL, "config.json: %s is not %s, which is all that runs",
                key, known);
}

enum status config_json_read(struct config_json *says, const void *config)
{
    *says = (struct config_json){0};
    TRY(check_text(config, "model_type", "mamba"));
    TRY(check_text(config, "layer", "Mamba1"));
    TRY(check_text(config, "hidden_act", "silu"));
    if (json_array_size(json_object_get(config, "attn_layer_idx")) > 0)
        return fail(E_MODEL, "config.json: the model has layers of attention");
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
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        TRY(check_size(config, sizes[i].key, sizes[i].size));
    TRY(check_truth(config, "rms_norm", !c->has_norm_bias));
    TRY(check_truth(config, "tie_embeddings", c->is_tied));
    return check_truth(config, "tie_word_embeddings", c->is_tied);
}
