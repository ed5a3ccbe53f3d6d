/* tiny_model.h -- makes random models from a seed, of any shape.
 *
 * The same spec gives the same bytes on every machine.  Magnitudes are such
 * that activations stay near 1, states remember, and predictions differ.
 *
 * Weights are int8 with scales, or floats of one type.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TINY_MODEL_H
#define MAMBYTE_TINY_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/model.h"

struct tiny_spec {
    enum mixer mixer;
    int d_model, n_layer, d_inner, d_state, d_conv;
    int dt_rank;           /* Mamba-1 */
    int headdim, n_groups; /* Mamba-2 */
    bool has_channel_d;    /* Mamba-2: D has d_inner numbers, not n_heads */
    bool has_norm_bias;    /* LayerNorm */
    bool is_tied;          /* no lm_head */
    int begin_byte;        /* -1: the model has none */
    enum dtype weights;    /* of the projections: I8, F32, BF16 or F16 */
    uint64_t seed;
    enum overflow {
        NO_OVERFLOW,
        LOGITS_OVERFLOW,  /* what the model predicts is not finite */
        FEATURES_OVERFLOW /* only its features are: int8, Mamba-1 */
    } overflow;
};

/* d_inner = 2 d_model, d_state 16, d_conv 4, dt_rank = d_model / 16 rounded
 * up, RMSNorm, an lm_head of its own, begin byte 0, int8. */
struct tiny_spec tiny_spec_make(int d_model, int n_layer, uint64_t seed);

/* The same for Mamba-2: d_state 64, one group, heads of 64. */
struct tiny_spec tiny_spec_mamba2(int d_model, int n_layer, uint64_t seed);

/* A safetensors file in memory; *bytes is the caller's to free. */
enum status tiny_model_make(const struct tiny_spec *spec, uint8_t **bytes,
                            size_t *n);

/* The same into a file. */
enum status tiny_model_write(const struct tiny_spec *spec, const char *path);

/* An open model with the bytes that it is mapped to. */
struct tiny_model {
    struct model *model;
    uint8_t *bytes;
};

enum status tiny_model_open(struct tiny_model *tiny,
                            const struct tiny_spec *spec);
void tiny_model_close(struct tiny_model *tiny);

/* Whether the GPU's engine opens at all; if not, status_message() says why. */
bool tiny_model_runs_on_gpu(void);

#endif
