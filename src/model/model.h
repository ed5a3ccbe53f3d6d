/* model.h -- an immutable byte-level Mamba: its shape, weights, identity.
 *
 * Names are those of the Mamba papers and of the published checkpoints.  A
 * model never changes after it is opened; any number of engines and states
 * may use it.  Shapes come from the tensors, never from a name.
 *
 * A model has layers of one kind of mixer, Mamba-1 or Mamba-2:
 *
 *                 Mamba-1                       Mamba-2
 *     in_proj     u | z                         z | x | B | C | dt
 *     conv1d      u                             x | B | C
 *     dt, B, C    x_proj of u, dt_proj of dt    of in_proj
 *     decay       a state of a channel          a head
 *     before      y silu(z)                     the norm of y silu(z), over
 *     out_proj                                  each group
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
    D_STATE_MAX = 64, /* Mamba-1: a power of two from 4 up */

    /* Mamba-2 */
    HEADDIM_MAX = 128,        /* a multiple of 8 */
    MAMBA2_D_STATE_MAX = 256, /* a multiple of 16 */
    MAMBA2_GROUPS_MAX = 8,
    CHUNK = 64 /* bytes of a chunk */
};

/* What a layer computes with between in_proj and out_proj. */
enum mixer { MIXER_MAMBA1, MIXER_MAMBA2 };

struct model_config {
    enum mixer mixer;
    int d_model; /* width of the residual stream */
    int n_layer;
    int d_inner; /* expand * d_model; any multiple of 4 here */
    int d_state; /* N */
    int d_conv;  /* taps of the causal convolution */

    /* Mamba-1 only, else 0 */
    int dt_rank;

    /* Mamba-2 only, else 0 */
    int n_heads;  /* H = d_inner / headdim */
    int headdim;  /* P, channels of a head */
    int n_groups; /* G, of heads that share B and C; divides n_heads */
    float delta_min, delta_max; /* time_step_limit; 0 and infinity when there
                                 * is none */
    bool has_norm_before_gate;  /* norm(y) silu(z) in place of
                                 * norm(y silu(z)); models of floats only */
    bool has_channel_d;         /* D has a number a channel, not a head */

    bool has_norm_bias; /* LayerNorm with bias in place of RMSNorm */
    bool is_tied;       /* lm_head is the embedding */
    bool is_float;      /* the projections are: see model_needs_int8 */
    int begin_byte;     /* fed first; -1 when the model has none */
    float norm_epsilon; /* of all norms */
};

/* Channels of the convolution, in the order of in_proj: u, or x | B | C. */
static inline int conv_channels(const struct model_config *c)
{
    return c->d_inner + 2 * c->n_groups * c->d_state;
}

/* Rows of in_proj: u | z, or z | x | B | C | dt. */
static inline int in_proj_rows(const struct model_config *c)
{
    return c->d_inner + conv_channels(c) + c->n_heads;
}

/* A projection y = W x, in int8 or in floats. */
struct matrix {
    int rows, cols;     /* outputs, inputs */
    const int8_t *q;    /* [rows][cols], mapped, or owned when tied; NULL:
                         * floats */
    const float *scale; /* [rows], of q */
    const void *floats; /* [rows][cols], mapped: little-endian, not aligned */
    enum dtype dtype;   /* of floats */
};

/* a_log2e is -exp(A_log) log2(e), as exact.h computes it. */
struct layer {
    const float *norm;      /* [d_model] */
    const float *norm_bias; /* [d_model] or NULL */
    struct matrix in_proj;  /* [in_proj_rows()][d_model] */
    const float *conv;      /* [d_conv][conv_channels()], oldest tap first */
    const float *conv_bias; /* [conv_channels()] */
    const float *dt_bias;   /* [d_inner]; Mamba-2: [n_heads] */
    const float *a_log2e;   /* [d_state][d_inner]; Mamba-2: [n_heads] */
    const float *d;         /* [d_inner]; where the file has one number a head,
                             * it is repeated for the channels of the head */
    struct matrix out_proj; /* [d_model][d_inner] */

    /* Mamba-1 only */
    struct matrix x_proj;  /* [dt_rank + 2 d_state][d_inner]: dt, B, C */
    struct matrix dt_proj; /* [d_inner][dt_rank] */

    /* Mamba-2 only */
    const float *gate_norm; /* [d_inner]: mixer.norm, before out_proj */
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

/* E_MODEL, with a sentence that says how to quantise, when the model is one of
 * floats.  Its results differ a little between machines, so nothing that
 * another machine will read (what: "compression") may depend on them. */
enum status model_needs_int8(const struct model *model, const char *what);

/* E_MODEL, with a sentence that names the model: its activations overflow, so
 * what it predicts is not finite. */
enum status model_overflows(const struct model *model);

/* NULL is accepted. */
void model_close(struct model *model);

/* 128 bits over the shape, every tensor and EXACT_VERSION: equal for two
 * models exactly when they predict alike.  Reads all weights. */
struct fingerprint {
    uint8_t bytes[16];
};
void model_fingerprint(const struct model *model,
                       struct fingerprint *fingerprint);

/* As hexadecimal digits, and a NUL. */
enum { FINGERPRINT_CHARS = 2 * sizeof(struct fingerprint) + 1 };
void fingerprint_text(char text[FINGERPRINT_CHARS],
                      const struct fingerprint *fingerprint);

/* Floats of the state of one stream, and its int8 numbers, of which Mamba-1 has
 * none: state_image.h. */
size_t model_state_floats(const struct model_config *config);
size_t model_state_int8s(const struct model_config *config);

/* Bytes of both. */
static inline size_t model_state_size(const struct model_config *config)
{
    return model_state_floats(config) * sizeof(float) +
           model_state_int8s(config);
}

#endif
