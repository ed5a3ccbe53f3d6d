/* model.h -- an immutable byte-level Mamba: its shape, weights, identity.
 *
 * Names are those of the Mamba paper and of the published checkpoints.  A
 * model never changes after it is opened; any number of engines and states
 * may use it.  Shapes come from the tensors, never from a name.
 *
 * Accepted: projections in int8 with one binary32 scale an output row, or all
 * in floats; the rest in floats; floats are F32, BF16 or F16;
 * backbone.embedding.weight or backbone.embeddings.weight; RMSNorm, or
 * LayerNorm where the norms have a bias; lm_head, or the embedding in its
 * place (with int8, quantised on loading).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MODEL_H
#define MAMBYTE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/safetensors.h"

enum {
    N_BYTES_VOCAB = 256, /* the vocabulary: id = byte */
    D_MODEL_MAX = 16384, /* so that K * 127 * 127 stays below 2^31 */
    D_INNER_MAX = 65536,
    N_LAYER_MAX = 1024,
    D_CONV_MAX = 8,
    D_STATE_MAX = 64 /* a power of two from 4 up */
};

struct model_config {
    int d_model; /* width of the residual stream */
    int n_layer;
    int d_inner; /* expand * d_model; any multiple of 4 here */
    int d_state; /* N */
    int d_conv;  /* taps of the causal convolution */
    int dt_rank;
    bool has_norm_bias; /* LayerNorm with bias in place of RMSNorm */
    bool is_tied;       /* lm_head is the embedding */
    bool is_float;      /* the projections are: see model_needs_int8 */
    int begin_byte;     /* fed first; -1 when the model has none */
    float norm_epsilon;
};

/* A projection y = W x, in int8 or in floats. */
struct matrix {
    int rows, cols;     /* outputs, inputs */
    const int8_t *q;    /* [rows][cols], mapped, or owned when tied; NULL:
                         * floats */
    const float *scale; /* [rows], of q */
    const void *floats; /* [rows][cols], mapped: little-endian, not aligned */
    enum dtype dtype;   /* of floats */
};

struct layer {
    const float *norm;      /* [d_model] */
    const float *norm_bias; /* [d_model] or NULL */
    struct matrix in_proj;  /* [2 d_inner][d_model], u first, then z */
    const float *conv;      /* [d_conv][d_inner], oldest tap first */
    const float *conv_bias; /* [d_inner] */
    struct matrix x_proj;   /* [dt_rank + 2 d_state][d_inner]: dt, B, C */
    struct matrix dt_proj;  /* [d_inner][dt_rank] */
    const float *dt_bias;   /* [d_inner] */
    const float *a_log2e;   /* [d_state][d_inner]: -exp(A_log) log2(e) */
    const float *d;         /* [d_inner] */
    struct matrix out_proj; /* [d_model][d_inner] */
};

struct model {
    struct model_config config;
    const float *embedding;   /* [256][d_model] */
    struct layer *layers;     /* [n_layer] */
    const float *norm_f;      /* [d_model] */
    const float *norm_f_bias; /* [d_model] or NULL */
    struct matrix lm_head;    /* [256][d_model] */
    uint64_t n_parameters;
    struct safetensors *file; /* owned; for path, size and metadata */
    void *arena;              /* owned: floats but those of projections, and
                               * a tied lm_head in int8 */
};

/* Opens and validates; on failure *model is NULL and the sentence names path,
 * the tensor and what was expected. */
enum status model_open(struct model **model, const char *path);

/* The same from memory; see safetensors_open_memory. */
enum status model_open_memory(struct model **model, const char *name,
                              const void *bytes, size_t n);

/* The same from what a file may hold; see safetensors_open_content. */
enum status model_open_content(struct model **model, const char *name,
                               const struct safetensors_content *content);

/* E_MODEL with a sentence that says how to quantise, when the model is one
 * of floats: its results differ a little between machines, and what is for
 * other machines (what: "compression") must not depend on them. */
enum status model_needs_int8(const struct model *model, const char *what);

/* NULL is accepted. */
void model_close(struct model *model);

/* 128 bits over the shape, every tensor and EXACT_VERSION: equal for two
 * models exactly when they predict alike.  Reads all weights. */
struct fingerprint {
    uint8_t bytes[16];
};
void model_fingerprint(const struct model *model,
                       struct fingerprint *fingerprint);

/* Floats of the recurrent state of one stream: see engine.h. */
size_t model_state_floats(const struct model_config *config);

#endif
