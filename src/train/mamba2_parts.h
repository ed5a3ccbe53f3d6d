/* mamba2_parts.h -- what the files of the mixer of Mamba-2 share.
 *
 *     mamba2.c           its memory, and its weights, made ready
 *     mamba2_forward.c   from in_proj's product to out_proj's
 *     mamba2_backward.c  the way back
 *
 * Rows of zx and of what the engine's kernels make are places: window w has
 * n_chunks whole chunks, of which those past its end have no input, delta 0
 * and decay 1.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_PARTS_H
#define MAMBYTE_MAMBA2_PARTS_H

#include <stddef.h>

#include "train/backward_pass.h"

/* What the forward pass keeps of the mixer of a layer. */
struct mamba2_tape {
    struct layer layer; /* for the engine's kernels */
    float *conv;        /* [d_conv][conv_channels()] */
    float *dconv;       /* the same */
    float *a_log2e;     /* [n_heads] */
    float *d;           /* [d_inner] */
    float *xbc;         /* [t][conv_channels()], after the convolution */
    float *v;           /* [t][d_inner], y silu(z) */
    float *states;      /* [window][n_chunks][d_inner][d_state], before
                         * each chunk */
};

struct mamba2 {
    struct mamba2_tape *tapes; /* [n_layer] */
    int n_chunks;              /* of a window */

    /* Forward.  Of a window: S^, its scales, the weights of a chunk. */
    struct mamba2_rows rows;   /* [place] */
    struct mamba2_state *held; /* [window][n_chunks]: of a chunk, x, b */
    int8_t *no_x, *no_b;       /* x^ and B^ of no bytes */

    /* Backward. */
    float *dv;       /* [t][d_inner] */
    float *r;        /* [t][n_groups], of the norm */
    float *dxbc;     /* [t][conv_channels()] */
    float *dbc;      /* [t][n_heads][2 d_state] */
    float *ds;       /* [thread][headdim][d_state] */
    float *room;     /* [thread][chunk_room_floats()] */
    float *da;       /* [thread][n_t][LANES], of the convolution */
    float *dscalars; /* [window][n_heads][3]: of dt_bias, A_log, D */
};

/* Those of mixer_pass. */
void mamba2_forward(struct backward *b, int thread, int l);
void mamba2_output(struct backward *b, int thread, int l,
                   struct activations next);
void mamba2_backward(struct backward *b, int thread, int l);

/* ---- where things are ---------------------------------------------------- */

/* Floats of S, of a window and layer. */
static inline size_t mamba2_state_floats(const struct model_config *c)
{
    return (size_t)c->d_inner * (size_t)c->d_state;
}

/* The layer of a window's state: the convolution's inputs, then S. */
static inline float *mamba2_conv_state(const struct backward *b, float *state,
                                       int l)
{
    const struct model_config *c = config_of(b);
    return state + (size_t)l * (trainer_state_floats(c) / (size_t)c->n_layer);
}

static inline float *mamba2_s_state(const struct backward *b, float *state,
                                    int l)
{
    const struct model_config *c = config_of(b);
    return mamba2_conv_state(b, state, l) +
           (size_t)(c->d_conv - 1) * (size_t)conv_channels(c);
}

/* The states before a chunk of a window. */
static inline float *mamba2_states_at(const struct backward *b, int l, int w,
                                      int chunk)
{
    const struct mamba2 *m = b->mamba2;
    size_t at = (size_t)w * (size_t)m->n_chunks + (size_t)chunk;
    return m->tapes[l].states + at * mamba2_state_floats(config_of(b));
}

static inline int mamba2_first_place(const struct backward *b, int w, int chunk)
{
    return (w * b->mamba2->n_chunks + chunk) * CHUNK;
}

static inline size_t mamba2_first_row(const struct backward *b, int w,
                                      int chunk)
{
    return (size_t)w * (size_t)b->n_t + (size_t)chunk * CHUNK;
}

/* Bytes of a chunk. */
static inline int mamba2_chunk_bytes(const struct backward *b, int chunk)
{
    int left = b->n_t - chunk * CHUNK;
    return left < CHUNK ? left : CHUNK;
}

#endif
