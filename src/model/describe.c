/* describe.c -- what a model is, in lines for people.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/describe.h"

#include <inttypes.h>

#include "base/escape.h"

enum status describe_text(struct sink *out, const char *text)
{
    TRY(escape_text(out, text));
    return sink_text(out, "\n");
}

enum status describe_key(struct sink *out, const char *key)
{
    return sink_format(out, "%-17s ", key);
}

static enum status print_size(struct sink *out, const char *key, int size)
{
    TRY(describe_key(out, key));
    return sink_format(out, "%d\n", size);
}

const char *describe_weights(const struct model *model)
{
    const struct matrix *matrix = &model->layers[0].in_proj;
    return matrix->q ? "int8" : dtype_name(matrix->dtype);
}

const char *describe_architecture(const struct model_config *config)
{
    return config->mixer == MIXER_MAMBA2 ? "Mamba-2" : "Mamba-1";
}

const char *describe_norm(const struct model_config *config)
{
    return config->has_norm_bias ? "LayerNorm" : "RMSNorm";
}

const char *describe_lm_head(const struct model_config *config)
{
    return config->is_tied ? "tied to the embedding" : "of its own";
}

enum status describe_sizes(struct sink *out, const struct model_config *config,
                           describe_put *put)
{
    const struct model_config *c = config;
    TRY(put(out, "layers", c->n_layer));
    TRY(put(out, "d_model", c->d_model));
    TRY(put(out, "d_inner", c->d_inner));
    TRY(put(out, "d_state", c->d_state));
    TRY(put(out, "d_conv", c->d_conv));
    if (c->mixer == MIXER_MAMBA1)
        return put(out, "dt_rank", c->dt_rank);
    TRY(put(out, "heads", c->n_heads));
    TRY(put(out, "head_dim", c->headdim));
    return put(out, "n_groups", c->n_groups);
}

enum status describe_model(struct sink *out, const struct model *model)
{
    const struct model_config *c = &model->config;
    TRY(describe_key(out, "architecture"));
    TRY(sink_format(out, "%s\n", describe_architecture(c)));
    TRY(describe_key(out, "parameters"));
    TRY(sink_format(out, "%" PRIu64 "\n", model->n_parameters));
    TRY(describe_key(out, "weights"));
    TRY(sink_format(out, "%s\n", describe_weights(model)));
    TRY(describe_sizes(out, c, print_size));
    TRY(describe_key(out, "norm"));
    TRY(sink_format(out, "%s, epsilon %g\n", describe_norm(c),
                    (double)c->norm_epsilon));
    TRY(describe_key(out, "lm_head"));
    TRY(sink_format(out, "%s\n", describe_lm_head(c)));
    if (c->begin_byte >= 0)
        return print_size(out, "begin byte", c->begin_byte);
    return sink_format(out, "%-17s none\n", "begin byte");
}
