/* config_keys.c -- the keys of config.json that we know, and what their values
 * have to be.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/config_keys.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/printable.h"
#include "model/json_text.h"
#include "model/model.h"

/* ---- kinds of values ---------------------------------------------------- */

static bool is_integer_from(const json_t *value, json_int_t least)
{
    return json_is_integer(value) && json_integer_value(value) >= least &&
           json_integer_value(value) <= INT32_MAX;
}

static bool is_size(const json_t *value)
{
    return is_integer_from(value, 1);
}

static bool is_count(const json_t *value)
{
    return is_integer_from(value, 0);
}

/* transformers works "auto" out of other sizes. */
static bool is_rank(const json_t *value)
{
    const char *text = json_string_value(value);
    return is_size(value) || (text && strcmp(text, "auto") == 0);
}

static bool is_groups(const json_t *value)
{
    return is_size(value) && json_integer_value(value) <= MAMBA2_GROUPS_MAX;
}

static bool is_factor(const json_t *value)
{
    return json_number_value(value) > 0 && json_number_value(value) <= 1e6;
}

static bool is_epsilon(const json_t *value)
{
    return json_number_value(value) >= 1e-30 && json_number_value(value) <= 1;
}

static bool is_truth(const json_t *value)
{
    return json_is_boolean(value);
}

static bool is_text(const json_t *value)
{
    return json_is_string(value);
}

static bool is_list(const json_t *value)
{
    return json_is_array(value);
}

static bool is_object(const json_t *value)
{
    return json_is_object(value);
}

/* transformers writes a number that JSON lacks as {"__float__": ..}. */
static bool is_bound(const json_t *value)
{
    const char *name = json_string_value(json_object_get(value, "__float__"));
    return (json_is_number(value) && json_number_value(value) >= 0) ||
           (name && strcmp(name, "Infinity") == 0);
}

static bool is_limit(const json_t *value)
{
    const json_t *low = json_array_get(value, 0),
                 *high = json_array_get(value, 1);
    return json_array_size(value) == 2 && json_is_number(low) &&
           is_bound(low) && is_bound(high) &&
           (json_is_object(high) ||
            json_number_value(low) <= json_number_value(high));
}

/* A token, or several that serve alike. */
static bool is_token(const json_t *value)
{
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!is_count(json_array_get(value, i)))
            return false;
    }
    return is_count(value) || is_list(value);
}

struct kind {
    bool (*is)(const json_t *value);
    const char *expected;
};

static const struct kind size = {is_size, "a whole number from 1 up"};
static const struct kind count = {is_count, "a whole number from 0 up"};
static const struct kind rank = {is_rank,
                                 "a whole number from 1 up or \"auto\""};
static const struct kind groups = {is_groups, "a whole number from 1 to 8"};
static const struct kind factor = {is_factor, "a number above 0"};
static const struct kind epsilon = {is_epsilon,
                                    "a number above 0 and at most 1"};
static const struct kind truth = {is_truth, "true or false"};
static const struct kind text = {is_text, "a string"};
static const struct kind list = {is_list, "an array"};
static const struct kind object = {is_object, "an object"};
static const struct kind limit = {
    is_limit, "an array of the least, from 0 up, and the largest step"};
static const struct kind token = {is_token, "a whole number from 0 up"};

/* ---- keys --------------------------------------------------------------- */

static const struct {
    const char *key;
    const struct kind *kind;
    bool may_be_null;
} keys[] = {
    {"model_type", &text, false},
    {"ssm_cfg", &object, true},
    {"layer", &text, false},

    {"d_model", &size, false},
    {"hidden_size", &size, false},
    {"n_layer", &size, false},
    {"n_layers", &size, false},
    {"num_hidden_layers", &size, false},
    {"d_inner", &size, true},
    {"d_ssm", &size, true},
    {"intermediate_size", &size, true},
    {"expand", &factor, false},
    {"d_state", &size, false},
    {"state_size", &size, false},
    {"d_conv", &size, false},
    {"conv_kernel", &size, false},
    {"dt_rank", &rank, false},
    {"time_step_rank", &rank, false},
    {"num_heads", &size, false},
    {"headdim", &size, false},
    {"head_dim", &size, false},
    {"ngroups", &groups, false},
    {"n_groups", &groups, false},
    {"vocab_size", &size, false},

    {"layer_norm_epsilon", &epsilon, false},
    {"norm_epsilon", &epsilon, false},
    {"rms_norm", &truth, false},
    {"rmsnorm", &truth, false},
    {"norm_before_gate", &truth, false},
    {"D_has_hdim", &truth, false},
    {"dt_limit", &limit, false},
    {"time_step_limit", &limit, false},
    {"hidden_act", &text, false},
    {"activation", &text, false},
    {"bias", &truth, false},
    {"use_bias", &truth, false},
    {"conv_bias", &truth, false},
    {"use_conv_bias", &truth, false},
    {"tie_embeddings", &truth, false},
    {"tie_word_embeddings", &truth, false},
    {"d_intermediate", &count, true},
    {"attn_layer_idx", &list, true},

    {"bos_token_id", &token, true},
    {"eos_token_id", &token, true},
    {"pad_token_id", &token, true},
};

enum { N_KEYS = sizeof keys / sizeof keys[0] };

const json_t *config_get(const json_t *config, const char *key)
{
    const json_t *value = json_object_get(config, key);
    const json_t *mixer = json_object_get(config, "ssm_cfg");
    return value ? value : json_object_get(mixer, key);
}

static enum status wrong_value(const char *key, const json_t *value,
                               const char *expected)
{
    char shown[PRINTABLE_CHARS];
    char *is = json_text(value, JSON_ENCODE_ANY | JSON_COMPACT |
                                    JSON_REAL_PRECISION(6));
    if (!is)
        return fail_memory("config.json");
    printable_start(shown, is, strlen(is));
    free(is);
    return fail(E_MODEL, "config.json: %s is %s, expected %s", key, shown,
                expected);
}

/* config: the whole, or its ssm_cfg. */
static enum status check_object(const json_t *config)
{
    for (int i = 0; i < N_KEYS; i++) {
        const json_t *value = json_object_get(config, keys[i].key);
        if (!value || (json_is_null(value) && keys[i].may_be_null))
            continue;
        if (!keys[i].kind->is(value))
            return wrong_value(keys[i].key, value, keys[i].kind->expected);
    }
    return OK;
}

enum status config_keys_check(const json_t *config)
{
    TRY(check_object(config));
    return check_object(json_object_get(config, "ssm_cfg"));
}
