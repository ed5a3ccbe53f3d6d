/* config_json.h -- the config.json of a checkpoint: what the tensors do not
 * say, and whether it agrees with them.
 *
 * config_keys.h has the keys, and what their values have to be.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CONFIG_JSON_H
#define MAMBYTE_CONFIG_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "model/model.h"

/* What the shapes leave open. */
struct config_json {
    uint64_t vocabulary; /* 0: not said */
    double norm_epsilon; /* 0: not said */
    int begin_byte;      /* -1: not said */

    /* Of Mamba-2. */
    int n_groups;                /* 0: not said */
    double delta_min, delta_max; /* 0 and infinity: no limit */
    bool has_norm_before_gate;
};

/* config may be NULL.  E_MODEL when it is not of a Mamba with this mixer, when
 * there are other layers too, or when a key has an impossible value. */
enum status config_json_read(struct config_json *says, const json_t *config,
                             enum mixer mixer);

/* E_MODEL when sizes, norm, biases or head differ from those of the tensors. */
enum status config_json_check(const json_t *config,
                              const struct model_config *c, bool has_conv_bias);

/* The byte that texts begin with, by config.json or generation_config.json; -1:
 * none.  Both programs write a bos_token_id for each model, which means nothing
 * unless the other special tokens are null, as in what we write. */
int config_json_begin_byte(const json_t *config);

#endif
