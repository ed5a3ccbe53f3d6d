/* binder.h -- a model while it is being made: takes tensors by their names.
 *
 * Private to model.c, shape.c and layer.c.  Each take_ function finds a tensor,
 * checks its type and shape, and marks it as taken.  Names are relative to
 * b->prefix.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BINDER_H
#define MAMBYTE_BINDER_H

#include "model/model.h"

enum { NAME_CHARS = 128 };

#define LAYERS "backbone.layers."

struct binder {
    struct model *model;
    const struct safetensors *file;
    const struct tensor **taken; /* [n_taken], those that have a place */
    size_t n_taken;
    char prefix[NAME_CHARS / 2]; /* of the names: "backbone.layers.3." */
    char *free;                  /* what is left of the arena */
};

/* shape.c: fills in model->config from shapes and metadata. */
enum status read_config(struct binder *b);

/* The embedding, by either of its two published names; NULL: there is none. */
const struct tensor *find_embedding(const struct binder *b);

/* layer.c: takes the tensors of a layer, whose prefix is set. */
enum status bind_layer(struct binder *b, struct layer *layer);

/* E_MODEL when there is no tensor of that name. */
enum status find_tensor(const struct binder *b, const struct tensor **tensor,
                        const char *name);

/* Makes model->arena: room for every float of the file that is copied, and
 * for a quantised embedding.  Whatever sizes a header claims, it is no more
 * than the file has. */
enum status allocate_arena(struct binder *b);
void *carve(struct binder *b, size_t n_bytes);

/* What a tensor has to be.  F32 stands for any type of floats. */
struct tensor vector_of(int n);
struct tensor matrix_of(enum dtype dtype, int rows, int cols);
struct tensor conv_of(int channels, int taps);

/* A copy in the arena; [rows][columns] becomes [columns][rows]. */
enum status take_copy(struct binder *b, float **floats, const char *name,
                      struct tensor expected, int columns);
enum status take_floats(struct binder *b, const float **floats,
                        const char *name, struct tensor expected);
enum status take_vector(struct binder *b, const float **vector,
                        const char *name, int n);

/* A projection, with its scales if the model is one of int8; not copied. */
enum status take_matrix(struct binder *b, struct matrix *matrix,
                        const char *name, int rows, int cols);

/* name.weight, and name.bias if the norms of the model have one. */
enum status take_norm(struct binder *b, const float **norm, const float **bias,
                      const char *name);

#endif
