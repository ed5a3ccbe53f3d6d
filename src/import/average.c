/* average.c -- the mean of the weights of models that have one shape.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/average.h"

#include <stdlib.h>

#include "base/signals.h"
#include "import/adopt.h"
#include "import/foreign.h"

static bool have_one_shape(const struct model_config *a,
                           const struct model_config *b)
{
    return a->mixer == b->mixer && a->n_heads == b->n_heads &&
           a->n_groups == b->n_groups && a->has_channel_d == b->has_channel_d &&
           a->d_model == b->d_model && a->n_layer == b->n_layer &&
           a->d_inner == b->d_inner && a->d_state == b->d_state &&
           a->d_conv == b->d_conv && a->dt_rank == b->dt_rank &&
           a->has_norm_bias == b->has_norm_bias && a->is_tied == b->is_tied;
}

/* others: [n_floats], the weights of the model at path. */
static enum status load(float *others, const struct parameters *parameters,
                        const struct model *first,
                        const struct foreign *foreign)
{
    const struct adopt_options options = {.begin_byte = BEGIN_BYTE_AS_SAID};
    struct adopted adopted;
    TRY(adopt(&adopted, foreign, &options));
    enum status status =
        have_one_shape(&adopted.model->config, &first->config)
            ? parameters_load(parameters, others, adopted.model->file, "")
            : fail(E_MODEL,
                   "%s: has another shape: there is no mean of the two",
                   foreign->path);
    adopted_close(&adopted);
    return status;
}

static enum status add(float *weights, float *others,
                       const struct parameters *parameters,
                       const struct model *first, const char *path)
{
    struct foreign foreign;
    signals_guard_mapping(path);
    TRY(foreign_open(&foreign, path));
    enum status status = load(others, parameters, first, &foreign);
    foreign_close(&foreign);
    for (size_t i = 0; i < parameters->n_floats && status == OK; i++)
        weights[i] += others[i];
    return status;
}

enum status average_weights(float *weights, const struct parameters *parameters,
                            const struct model *first, const char *const *paths,
                            int n)
{
    float *others = malloc(parameters->n_floats * sizeof *others);
    enum status status = others ? OK : fail_memory("the weights");
    for (int i = 0; i < n && status == OK; i++)
        status = add(weights, others, parameters, first, paths[i]);
    free(others);
    for (size_t i = 0; i < parameters->n_floats; i++)
        weights[i] /= (float)(n + 1);
    return status;
}
