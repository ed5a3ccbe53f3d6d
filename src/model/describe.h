/* describe.h -- what a model is, in lines for people.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DESCRIBE_H
#define MAMBYTE_DESCRIBE_H

#include "base/byteio.h"
#include "base/status.h"
#include "model/model.h"

/* A key in a column of its own; the value follows. */
enum status describe_key(struct sink *out, const char *key);

/* Text from outside, escaped (escape.h), and a newline. */
enum status describe_text(struct sink *out, const char *text);

/* "Mamba-2"; "RMSNorm"; "tied to the embedding"; "int8", or the type of
 * floats. */
const char *describe_architecture(const struct model_config *config);
const char *describe_norm(const struct model_config *config);
const char *describe_lm_head(const struct model_config *config);
const char *describe_weights(const struct model *model);

/* Calls put for each size of a model with its mixer: "d_model". */
typedef enum status describe_put(struct sink *out, const char *key, int size);
enum status describe_sizes(struct sink *out, const struct model_config *config,
                           describe_put *put);

/* Parameters, weights, shape, norm, lm_head, begin byte. */
enum status describe_model(struct sink *out, const struct model *model);

#endif
