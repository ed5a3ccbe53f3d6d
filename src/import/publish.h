/* publish.h -- a model for the programs of others: float weights under their
 * names, with the config.json that they read.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PUBLISH_H
#define MAMBYTE_PUBLISH_H

#include "base/status.h"
#include "train/parameters.h"

/* Who named the tensors of the output. */
enum naming { NAMING_OURS, NAMING_MAMBA_SSM, NAMING_TRANSFORMERS };

/* Writes into folder, which is made where there is none, first to last:
 *     NAMING_MAMBA_SSM     pytorch_model.bin, generation_config.json (where
 *                          there is a begin byte), config.json
 *     NAMING_TRANSFORMERS  model.safetensors, tokenizer.json,
 *                          tokenizer_config.json, generation_config.json (the
 *                          same), config.json
 * all or none, and config.json never beside other weights (file_group.h).  A
 * generation_config.json that is not written is removed.
 * E_MODEL when the other program has no model of such a shape. */
enum status publish(const char *folder, enum naming naming,
                    const struct parameters *parameters, const float *weights);

#endif
