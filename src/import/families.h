/* families.h -- models that people take for a Mamba, recognised by name.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FAMILIES_H
#define MAMBYTE_FAMILIES_H

#include <jansson.h>

#include "base/status.h"

/* E_MODEL, with the name of the family, when config.json says that the model is
 * of another one: FalconMamba, Jamba, RWKV ..  config may be NULL. */
enum status families_check_config(const json_t *config);

/* The same when a tensor of this name shows it. */
enum status families_check_tensor(const char *name);

#endif
