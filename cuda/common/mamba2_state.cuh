/* mamba2_state.cuh -- the state of a stream of Mamba-2 on the device.
 *
 * First the image, as state_image.h lays it out.  What it holds from the place
 * on is not kept at 0 here: cuda_states.cu clears it in what it hands out.
 * Then what is derived: for each layer the place of the next byte in its
 * chunk, and S^ with its scales.  A layer has a place of its own, as layers
 * work on different bytes of a stream at a time; between calls all are equal.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_STATE_CUH
#define MAMBYTE_MAMBA2_STATE_CUH

#include "cuda/common/device.cuh"

/* Where the parts lie, in bytes of a state; those of layer l are
 * l * layer_floats or l * layer_int8s or l * layer_derived further. */
struct mamba2_layout {
    size_t layer_floats, s, w, e; /* in floats, s to e in a layer        */
    size_t int8s, layer_int8s, b; /* b in a layer, behind x              */
    size_t image;                 /* bytes of the image                  */
    size_t derived, layer_derived;
    size_t s_scale, s_q; /* in a layer, behind the place        */
    size_t n_bytes;      /* of a state                          */
};

/* One layer of a state. */
struct mamba2_layer_state {
    float *past;    /* [d_conv - 1][conv_channels()]                       */
    float *s;       /* [n_heads][headdim][d_state]                         */
    float *w;       /* [n_heads][CHUNK]                                    */
    float *e;       /* [n_heads]                                           */
    int8_t *x;      /* [CHUNK][d_inner]                                    */
    int8_t *b;      /* [CHUNK][n_groups][d_state]                          */
    int *place;     /* of the next byte in its chunk                       */
    float *s_scale; /* [d_inner]                                           */
    int8_t *s_q;    /* [d_inner][d_state]                                  */
};

static inline struct mamba2_layout
mamba2_layout_of(const struct model_config *c)
{
    size_t d_inner = c->d_inner, d_state = c->d_state;
    struct mamba2_layout l = {};
    l.layer_floats = state_layer_floats(c);
    l.s = (size_t)(c->d_conv - 1) * conv_channels(c);
    l.w = l.s + d_inner * d_state;
    l.e = l.w + (size_t)c->n_heads * CHUNK;
    l.int8s = model_state_floats(c) * sizeof(float);
    l.layer_int8s = CHUNK * (d_inner + (size_t)c->n_groups * d_state);
    l.b = CHUNK * d_inner;
    l.image = model_state_size(c);
    l.derived = (l.image + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    l.s_scale = ARENA_ALIGN;
    l.s_q = l.s_scale + d_inner * sizeof(float);
    l.layer_derived = (l.s_q + d_inner * d_state + ARENA_ALIGN - 1) /
                      ARENA_ALIGN * ARENA_ALIGN;
    l.n_bytes = l.derived + c->n_layer * l.layer_derived;
    return l;
}

static inline __host__ __device__ struct mamba2_layer_state
mamba2_layer_state(float *image, const struct mamba2_layout &l, int layer)
{
    struct mamba2_layer_state s;
    s.past = image + layer * l.layer_floats;
    s.s = s.past + l.s;
    s.w = s.past + l.w;
    s.e = s.past + l.e;
    s.x = (int8_t *)image + l.int8s + layer * l.layer_int8s;
    s.b = s.x + l.b;
    char *derived = (char *)image + l.derived + layer * l.layer_derived;
    s.place = (int *)derived;
    s.s_scale = (float *)(derived + l.s_scale);
    s.s_q = (int8_t *)(derived + l.s_q);
    return s;
}

#endif
