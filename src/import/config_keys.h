/* config_keys.h -- the keys of config.json that we know, and what their values
 * have to be.
 *
 * Those of mamba-ssm, of transformers and of the MambaByte authors.  mamba-ssm
 * keeps those of the mixer in an object of their own, "ssm_cfg".  Other keys
 * are ignored.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CONFIG_KEYS_H
#define MAMBYTE_CONFIG_KEYS_H

#include <jansson.h>

#include "base/status.h"

/* The value of a key, at the top or in ssm_cfg; NULL: not said. */
const json_t *config_get(const json_t *config, const char *key);

/* E_MODEL, naming the first key whose value has a wrong type or is out of
 * range. */
enum status config_keys_check(const json_t *config);

#endif
