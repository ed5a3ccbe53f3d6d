/* config_json.h -- the config.json of a checkpoint: what the tensors do not
 * say, and whether it agrees with them.
 *
 * It knows the keys of mamba-ssm, of transformers and of the MambaByte authors,
 * and ignores others.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CONFIG_JSON_H
#define MAMBYTE_CONFIG_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "model/model.h"

/* What shapes do not tell. */
struct config_json {
    uint64_t vocabulary; /* 0: not said                                     */
    double norm_epsilon; /* 0: not said                                     */

    /* Of Mamba-2. */
    int n_groups;                /* 0: not said                             */
    double delta_min, delta_max; /* 0 and infinity: no limit                */
    bool has_norm_before_gate;
};

/* config: a json_t *, or NULL, which says nothing.  Refuses what is no Mamba of
 * this mixer, and what has layers besides. */
enum status config_json_read(struct config_json *says, const void *config,
                             enum mixer mixer);

/* Holds the sizes, the norm and the head to those of the tensors. */
enum status config_json_check(const void *config, const struct model_config *c);

#endif
