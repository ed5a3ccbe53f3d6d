/* model_image.c -- small models as files in memory, to be changed.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model_image.h"

#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"

#include "runner.h" /* last */

const struct tiny_spec small_mamba1 = {.d_model = 32,
                                       .n_layer = 2,
                                       .d_inner = 48,
                                       .d_state = 8,
                                       .d_conv = 3,
                                       .dt_rank = 5,
                                       .seed = 1};

const struct tiny_spec small_mamba2 = {.mixer = MIXER_MAMBA2,
                                       .d_model = 32,
                                       .n_layer = 2,
                                       .d_inner = 48,
                                       .d_state = 16,
                                       .d_conv = 3,
                                       .headdim = 8,
                                       .n_groups = 2,
                                       .seed = 1};

struct image image_make(const struct tiny_spec *spec)
{
    struct image image;
    ck_assert_int_eq(tiny_model_make(spec, &image.bytes, &image.n), OK);
    return image;
}

static size_t header_bytes(struct image image)
{
    return (size_t)load_le(image.bytes, 8);
}

void image_edit_header(struct image *image, const char *old, const char *new)
{
    size_t n_old = strlen(old), n_new = strlen(new);
    size_t n_header = header_bytes(*image);
    uint8_t *at = memmem(image->bytes + 8, n_header, old, n_old);
    ck_assert_msg(at != NULL, "the header has no %s", old);
    size_t before = (size_t)(at - image->bytes);
    uint8_t *bytes = malloc(image->n + n_new);
    memcpy(bytes, image->bytes, before);
    memcpy(bytes + before, new, n_new);
    memcpy(bytes + before + n_new, at + n_old, image->n - before - n_old);
    n_header += n_new - n_old;
    store_le(bytes, n_header, 8);
    free(image->bytes);
    image->bytes = bytes;
    image->n += n_new - n_old;
}

uint8_t *image_find_data(struct image image, const char *name, size_t *n)
{
    struct safetensors *file;
    ck_assert_int_eq(safetensors_open_memory(&file, "t", image.bytes, image.n),
                     OK);
    const struct tensor *t = safetensors_find(file, name);
    ck_assert_ptr_nonnull(t);
    size_t at = (size_t)((const uint8_t *)t->data - image.bytes);
    *n = (size_t)t->n_bytes;
    safetensors_close(file);
    return image.bytes + at;
}

struct model *image_open(struct image image)
{
    struct model *model;
    enum status status = model_open_memory(&model, "t", image.bytes, image.n);
    ck_assert_msg(status == OK, "%s", status_message());
    return model;
}

void image_assert_refused(struct image image, const char *sentence)
{
    struct model *model;
    ck_assert_int_eq(model_open_memory(&model, "t", image.bytes, image.n),
                     E_MODEL);
    ck_assert_ptr_null(model);
    ck_assert_str_eq(status_message(), sentence);
}
