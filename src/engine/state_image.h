/* state_image.h -- a state in the memory of the host: what engines give and
 * take, snapshots keep and trainers carry.
 *
 * Floats:
 *   for each layer: conv [d_conv - 1][conv_channels()], oldest input first;
 *                   s    Mamba-1: [d_state][d_inner],
 *                        Mamba-2: [n_heads][headdim][d_state];
 *                   w    [n_heads][CHUNK], 0 from the place on;
 *                   e    [n_heads], 0 at place 0;
 *   then logits [256].
 * Behind them int8:
 *   for each layer: x    [CHUNK][d_inner], 0 from the place on;
 *                   b    [CHUNK][n_groups][d_state], 0 from the place on;
 *   then the place of the next byte in its chunk.
 * w, e and the int8 are of Mamba-2 in int8 (kernels/mamba2.h) only.
 *
 * model_state_size() bytes in all.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_STATE_IMAGE_H
#define MAMBYTE_STATE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/model.h"

static inline size_t state_layer_floats(const struct model_config *c)
{
    return (model_state_floats(c) - N_BYTES_VOCAB) / (size_t)c->n_layer;
}

static inline int8_t *state_int8s(const struct model_config *c, float *image)
{
    return (int8_t *)(image + model_state_floats(c));
}

static inline float *state_conv(const struct model_config *c, float *image,
                                int layer)
{
    return image + (size_t)layer * state_layer_floats(c);
}

static inline float *state_s(const struct model_config *c, float *image,
                             int layer)
{
    return state_conv(c, image, layer) +
           (size_t)(c->d_conv - 1) * (size_t)conv_channels(c);
}

static inline float *state_logits(const struct model_config *c, float *image)
{
    return image + (size_t)c->n_layer * state_layer_floats(c);
}

/* E_FORMAT when an image, which may come from a file, is none of Mamba-2: x and
 * b go from -127 to 127, the place from 0 to CHUNK - 1, and what has to be 0 is
 * 0.  Levels and devices compute alike only then: they differ in how far past
 * the place they look. */
enum status state_image_check(const struct model_config *c, const float *image);

#endif
