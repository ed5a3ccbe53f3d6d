/* families.c -- models that people take for a Mamba, recognised by name.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/families.h"

#include <stdbool.h>
#include <string.h>

#include "base/text.h"
#include "import/config_keys.h"

#define ATTENTION "which has attention layers"

/* By how the type of the model, or of its layers, starts. */
static const struct {
    const char *type, *name, *what;
} types[] = {
    {"falcon_mamba", "a FalconMamba", "which has norms of B, C and dt"},
    {"mamba3", "a Mamba-3", "which has another recurrence"},
    {"Mamba3", "a Mamba-3", "which has another recurrence"},
    {"jamba", "a Jamba", ATTENTION},
    {"bamba", "a Bamba", ATTENTION},
    {"zamba", "a Zamba", ATTENTION},
    {"falcon_h1", "a Falcon-H1", ATTENTION},
    {"nemotron_h", "a Nemotron-H", ATTENTION},
    {"granitemoehybrid", "a hybrid Granite", ATTENTION},
    {"rwkv", "an RWKV", "which is not a Mamba"},
};

/* By a part of a tensor's name, the first that fits. */
static const struct {
    const char *part, *name, *what;
} parts[] = {
    {".mixer.B_bias", "a Mamba-3", "which has another recurrence"},
    {".mamba.dt_layernorm.", "a Jamba", ATTENTION},
    {".mamba.", "a hybrid model", ATTENTION},
    {".time_decay", "an RWKV", "which is not a Mamba"},
    {".att.x_r", "an RWKV", "which is not a Mamba"},
    {".self_attn.", "a transformer", "which is not a Mamba"},
};

static enum status refuse(const char *name, const char *what, const char *where)
{
    return fail(E_MODEL,
                "the model is %s, %s, as %s shows: mambyte supports only "
                "Mamba-1 and Mamba-2",
                name, what, where);
}

static bool starts_with(const char *text, const char *start)
{
    return text && text_starts_with(text, start);
}

enum status families_check_config(const json_t *config)
{
    const char *type = json_string_value(config_get(config, "model_type"));
    const char *layer = json_string_value(config_get(config, "layer"));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (starts_with(type, types[i].type) ||
            starts_with(layer, types[i].type))
            return refuse(types[i].name, types[i].what, "config.json");
    }
    return OK;
}

enum status families_check_tensor(const char *name)
{
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strstr(name, parts[i].part))
            return refuse(parts[i].name, parts[i].what, name);
    }
    return OK;
}
