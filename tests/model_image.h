/* model_image.h -- small models as files in memory, to be changed.
 *
 * What goes wrong here fails the test that called.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MODEL_IMAGE_H
#define MAMBYTE_MODEL_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "model/model.h"
#include "tiny_model.h"

/* A file in memory; the test frees its bytes. */
struct image {
    uint8_t *bytes; /* [n] */
    size_t n;
};

/* d_model 32, d_inner 48, 2 layers. */
extern const struct tiny_spec small_mamba1;

/* The same with 6 heads of 8 channels, in 2 groups. */
extern const struct tiny_spec small_mamba2;

struct image image_make(const struct tiny_spec *spec);

/* Replaces the first old in the header, which may change its length. */
void image_edit_header(struct image *image, const char *old, const char *new);

/* The data of a tensor, [*n], to be changed. */
uint8_t *image_find_data(struct image image, const char *name, size_t *n);

/* Opened under the name t. */
struct model *image_open(struct image image);
void image_assert_refused(struct image image, const char *sentence);

#endif
