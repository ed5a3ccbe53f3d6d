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

#include <stdint.h>

#include "base/status.h"
#include "model/model.h"

/* What shapes do not tell. */
struct config_json {
    uint64_t vocabulary; /* 0: not said                                     */
    double norm_epsilon; /* 0: not said                                     */
};

/* config: a json_t *, or NULL, which says nothing.  Refuses what is no Mamba
 * of the first kind. */
enum status config_json_read(struct config_json *says, const void *config);

/* Holds the sizes, the norm and the head to those of the tensors. */
enum status config_json_check(const void *config, const struct model_config *c);

#endif
