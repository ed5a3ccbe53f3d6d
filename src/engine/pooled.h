/* pooled.h -- pooled features: what layers put out, summed over bytes.
 *
 * They are the gated outputs of the scan, y of Mamba-1 and v of Mamba-2, of
 * POOLED_LAYERS layers (or all), spread evenly; one layer after the other,
 * [d_inner] each.  Bytes are added one by one, in their order.  Classifiers
 * divide by the number of bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_POOLED_H
#define MAMBYTE_POOLED_H

#include <stddef.h>

#include "model/model.h"

enum { POOLED_LAYERS = 4 };

static inline int pooled_layers(const struct model_config *c)
{
    return c->n_layer < POOLED_LAYERS ? c->n_layer : POOLED_LAYERS;
}

/* The place of a layer among those; -1 when it is none of them. */
static inline int pooled_find(const struct model_config *c, int layer)
{
    int n = pooled_layers(c);
    for (int i = 0; i < n; i++) {
        if ((2 * i + 1) * c->n_layer / (2 * n) == layer)
            return i;
    }
    return -1;
}

static inline size_t pooled_floats(const struct model_config *c)
{
    return (size_t)pooled_layers(c) * (size_t)c->d_inner;
}

#endif
