/* fingerprint.c -- the identity of a model: a hash of what its predictions
 * depend on.
 *
 * Left out are whether lm_head is tied, names, the order of the file, and other
 * metadata.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL /* so that its state may live on our stack */
#include <xxhash.h>

#include "base/exact.h"
#include "base/little_endian.h"
#include "model/model.h"

static void hash_number(XXH3_state_t *hash, uint32_t number)
{
    uint8_t bytes[4];
    store_le(bytes, number, sizeof bytes);
    XXH3_128bits_update(hash, bytes, sizeof bytes);
}

static void hash_heads(XXH3_state_t *hash, const struct model_config *c)
{
    hash_number(hash, (uint32_t)c->n_heads);
    hash_number(hash, (uint32_t)c->n_groups);
    hash_number(hash, exact_bits(c->delta_min));
    hash_number(hash, exact_bits(c->delta_max));
    hash_number(hash, c->has_norm_before_gate);
}

static void hash_config(XXH3_state_t *hash, const struct model_config *c)
{
    hash_number(hash, EXACT_VERSION);
    hash_number(hash, (uint32_t)c->d_model);
    hash_number(hash, (uint32_t)c->n_layer);
    hash_number(hash, (uint32_t)c->d_inner);
    hash_number(hash, (uint32_t)c->d_state);
    hash_number(hash, (uint32_t)c->d_conv);
    hash_number(hash, (uint32_t)c->dt_rank); /* 0: Mamba-2 */
    if (c->mixer == MIXER_MAMBA2)
        hash_heads(hash, c);
    hash_number(hash, c->has_norm_bias);
    hash_number(hash, (uint32_t)c->begin_byte);
    hash_number(hash, exact_bits(c->norm_epsilon));
}

static void hash_floats(XXH3_state_t *hash, const float *x, int rows, int cols)
{
    uint8_t bytes[1024];
    size_t n = (size_t)rows * (size_t)cols, n_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = exact_bits(x[i]);
        for (int shift = 0; shift < 32; shift += 8)
            bytes[n_bytes++] = (uint8_t)(bits >> shift);
        if (n_bytes == sizeof bytes || i + 1 == n) {
            XXH3_128bits_update(hash, bytes, n_bytes);
            n_bytes = 0;
        }
    }
}

static void hash_matrix(XXH3_state_t *hash, const struct matrix *m)
{
    size_t n = (size_t)m->rows * (size_t)m->cols;
    if (!m->q) {
        hash_number(hash, m->dtype);
        XXH3_128bits_update(hash, m->floats, n * dtype_size(m->dtype));
        return;
    }
    XXH3_128bits_update(hash, m->q, n);
    hash_floats(hash, m->scale, m->rows, 1);
}

static void hash_norm(XXH3_state_t *hash, const float *norm, const float *bias,
                      int d_model)
{
    hash_floats(hash, norm, 1, d_model);
    if (bias)
        hash_floats(hash, bias, 1, d_model);
}

static void hash_mamba1(XXH3_state_t *hash, const struct layer *layer,
                        const struct model_config *c)
{
    hash_matrix(hash, &layer->x_proj);
    hash_matrix(hash, &layer->dt_proj);
    hash_floats(hash, layer->dt_bias, 1, c->d_inner);
    hash_floats(hash, layer->a_log2e, c->d_state, c->d_inner);
    hash_floats(hash, layer->d, 1, c->d_inner);
}

static void hash_mamba2(XXH3_state_t *hash, const struct layer *layer,
                        const struct model_config *c)
{
    hash_floats(hash, layer->dt_bias, 1, c->n_heads);
    hash_floats(hash, layer->a_log2e, 1, c->n_heads);
    hash_floats(hash, layer->d, 1, c->d_inner);
    hash_floats(hash, layer->gate_norm, 1, c->d_inner);
}

static void hash_layer(XXH3_state_t *hash, const struct layer *layer,
                       const struct model_config *c)
{
    hash_norm(hash, layer->norm, layer->norm_bias, c->d_model);
    hash_matrix(hash, &layer->in_proj);
    hash_floats(hash, layer->conv, c->d_conv, conv_channels(c));
    hash_floats(hash, layer->conv_bias, 1, conv_channels(c));
    if (c->mixer == MIXER_MAMBA2)
        hash_mamba2(hash, layer, c);
    else
        hash_mamba1(hash, layer, c);
    hash_matrix(hash, &layer->out_proj);
}

void model_fingerprint(const struct model *model,
                       struct fingerprint *fingerprint)
{
    const struct model_config *c = &model->config;
    XXH3_state_t hash;
    XXH3_INITSTATE(&hash);
    XXH3_128bits_reset(&hash);
    hash_config(&hash, c);
    hash_floats(&hash, model->embedding, N_BYTES_VOCAB, c->d_model);
    for (int l = 0; l < c->n_layer; l++)
        hash_layer(&hash, &model->layers[l], c);
    hash_norm(&hash, model->norm_f, model->norm_f_bias, c->d_model);
    hash_matrix(&hash, &model->lm_head);

    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(&hash));
    memcpy(fingerprint->bytes, digest.digest, sizeof fingerprint->bytes);
}

void fingerprint_text(char text[FINGERPRINT_CHARS],
                      const struct fingerprint *fingerprint)
{
    for (size_t i = 0; i < sizeof fingerprint->bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", fingerprint->bytes[i]);
}
