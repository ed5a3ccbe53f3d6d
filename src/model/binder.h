/* binder.h -- a model while it is being made: takes tensors by their names.
 *
 * Private to model.c, shape.c and layer.c.  Each binder_take_ function finds a
 * tensor, checks its type and shape, and marks it as taken.  Names are relative
 * to b->prefix.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BINDER_H
#define MAMBYTE_BINDER_H

#include "model/model.h"

enum { BINDER_NAME_CHARS = 128 };

#define LAYERS "backbone.layers."

struct binder {
    struct model *model;
    const struct safetensors *file;
    const struct tensor **taken; /* [n_taken], those that have a place */
    size_t n_taken;
    char prefix[BINDER_NAME_CHARS / 2]; /* of the names: "backbone.layers.3." */
    char *free;                         /* what is left of the arena */
};

/* shape.c: fills in model->config from shapes and metadata. */
enum status binder_read_config(struct binder *b);

/* The embedding, by either of its two published names; NULL: there is none. */
const struct tensor *binder_find_embedding(const struct binder *b);

/* layer.c: takes the tensors of a layer, whose prefix is set. */
enum status binder_take_layer(struct binder *b, struct layer *layer);

/* E_MODEL when there is no tensor of that name. */
enum status binder_find(const struct binder *b, const struct tensor **tensor,
                        const char *name);

/* Makes model->arena: room for every float of the file that is copied, and
 * for a quantised embedding.  Whatever sizes a header claims, it is no more
 * than the file has. */
enum status binder_allocate(struct binder *b);

/* The next n_bytes of it, rounded up to whole cache lines. */
void *binder_carve(struct binder *b, size_t n_bytes);

/* The type and shape that a tensor has to have.  F32 stands for any floats. */
struct tensor expected_vector(int n);
struct tensor expected_matrix(enum dtype dtype, int rows, int cols);
struct tensor expected_conv(int channels, int taps);

/* A copy in the arena; [rows][columns] becomes [columns][rows]. */
enum status binder_take_copy(struct binder *b, float **floats, const char *name,
                             struct tensor expected, int columns);
enum status binder_take_floats(struct binder *b, const float **floats,
                               const char *name, struct tensor expected);
enum status binder_take_vector(struct binder *b, const float **vector,
                               const char *name, int n);

/* A projection, with its scales if the model is one of int8; not copied. */
enum status binder_take_matrix(struct binder *b, struct matrix *matrix,
                               const char *name, int rows, int cols);

/* name.weight, and name.bias if the norms of the model have one. */
enum status binder_take_norm(struct binder *b, const float **norm,
                             const float **bias, const char *name);

#endif
