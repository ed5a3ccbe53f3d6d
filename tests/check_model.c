/* check_model.c -- tensors come to their places, and a fingerprint is the
 * identity of what predicts.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/exact.h"
#include "base/little_endian.h"
#include "model_image.h"

#include "runner.h" /* last */

/* ---- places ----------------------------------------------------------- */

START_TEST(shapes_give_the_config)
{
    struct image image = image_make(&small_mamba1);
    struct model *model = image_open(image);
    const struct model_config *c = &model->config;
    ck_assert_int_eq(c->d_model, 32);
    ck_assert_int_eq(c->n_layer, 2);
    ck_assert_int_eq(c->d_inner, 48);
    ck_assert_int_eq(c->d_state, 8);
    ck_assert_int_eq(c->d_conv, 3);
    ck_assert_int_eq(c->dt_rank, 5);
    ck_assert(!c->has_norm_bias);
    ck_assert(!c->is_tied);
    ck_assert_int_eq(c->begin_byte, 0);
    ck_assert(c->norm_epsilon == 1e-5f);
    ck_assert_uint_eq(model_state_floats(c), 2 * (2 + 8) * 48 + 256);
    uint64_t a_layer = 32 + 96 * 32 + 48 * 3 + 48 + 21 * 48 + 48 * 5 + 48 +
                       48 * 8 + 48 + 32 * 48;
    ck_assert_uint_eq(model->n_parameters,
                      256 * 32 + 2 * a_layer + 32 + 256 * 32);
    model_close(model);
    model_close(NULL);
    free(image.bytes);
}
END_TEST

/* [rows][columns] of the file against [columns][rows] of the model. */
static void assert_transposed(struct image image, const char *name,
                              const float *floats, int rows, int columns)
{
    size_t n;
    const uint8_t *p = image_find_data(image, name, &n);
    ck_assert_uint_eq(n, 4 * (size_t)rows * (size_t)columns);
    ck_assert_uint_eq((uintptr_t)floats % 64, 0);
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < columns; c++)
            ck_assert_uint_eq(exact_bits(floats[c * rows + r]),
                              load_le(p + 4 * (r * columns + c), 4));
    }
}

static void assert_matrix(struct image image, const char *name,
                          const struct matrix *m, int rows, int columns)
{
    char scale_name[128];
    size_t n;
    ck_assert_int_eq(m->rows, rows);
    ck_assert_int_eq(m->cols, columns);
    ck_assert_ptr_eq(m->q, image_find_data(image, name, &n));
    ck_assert_uint_eq(n, (size_t)rows * (size_t)columns);
    snprintf(scale_name, sizeof scale_name, "%s_scale", name);
    assert_transposed(image, scale_name, m->scale, rows, 1);
}

START_TEST(tensors_come_to_their_places)
{
    struct tiny_spec spec = small_mamba1;
    spec.has_norm_bias = true;
    struct image image = image_make(&spec);
    struct model *model = image_open(image);
    const struct layer *layer = &model->layers[1];
#define LAYER_1 "backbone.layers.1."
    assert_transposed(image, "backbone.embedding.weight", model->embedding,
                      256 * 32, 1);
    assert_transposed(image, LAYER_1 "norm.weight", layer->norm, 32, 1);
    assert_transposed(image, LAYER_1 "norm.bias", layer->norm_bias, 32, 1);
    assert_matrix(image, LAYER_1 "mixer.in_proj.weight", &layer->in_proj, 96,
                  32);
    assert_transposed(image, LAYER_1 "mixer.conv1d.weight", layer->conv, 48, 3);
    assert_transposed(image, LAYER_1 "mixer.conv1d.bias", layer->conv_bias, 48,
                      1);
    assert_matrix(image, LAYER_1 "mixer.x_proj.weight", &layer->x_proj, 21, 48);
    assert_matrix(image, LAYER_1 "mixer.dt_proj.weight", &layer->dt_proj, 48,
                  5);
    assert_transposed(image, LAYER_1 "mixer.dt_proj.bias", layer->dt_bias, 48,
                      1);
    assert_transposed(image, LAYER_1 "mixer.D", layer->d, 48, 1);
    assert_matrix(image, LAYER_1 "mixer.out_proj.weight", &layer->out_proj, 32,
                  48);
    assert_transposed(image, "backbone.norm_f.weight", model->norm_f, 32, 1);
    assert_transposed(image, "backbone.norm_f.bias", model->norm_f_bias, 32, 1);
    assert_matrix(image, "lm_head.weight", &model->lm_head, 256, 32);
    model_close(model);
    free(image.bytes);
}
END_TEST

START_TEST(a_is_prepared_as_stated)
{
    struct image image = image_make(&small_mamba1);
    struct model *model = image_open(image);
    size_t n;
    const uint8_t *p =
        image_find_data(image, "backbone.layers.0.mixer.A_log", &n);
    for (int c = 0; c < 48; c++) {
        for (int s = 0; s < 8; s++) {
            float a_log =
                exact_float((uint32_t)load_le(p + 4 * (c * 8 + s), 4));
            float a = -exact_exp(a_log);
            float want = a * EXACT_LOG2E;
            float got = model->layers[0].a_log2e[s * 48 + c];
            ck_assert_uint_eq(exact_bits(got), exact_bits(want));
        }
    }
    model_close(model);
    free(image.bytes);
}
END_TEST

START_TEST(a_tied_head_is_the_embedding_quantised)
{
    struct tiny_spec spec = small_mamba1;
    spec.is_tied = true;
    struct image image = image_make(&spec);
    struct model *model = image_open(image);
    ck_assert(model->config.is_tied);
    for (int r = 0; r < 256; r++) {
        int largest = 0;
        for (int c = 0; c < 32; c++) {
            int q = model->lm_head.q[r * 32 + c];
            float off = model->embedding[r * 32 + c] -
                        (float)q * model->lm_head.scale[r];
            largest = abs(q) > largest ? abs(q) : largest;
            ck_assert(fabsf(off) <= 0.501f * model->lm_head.scale[r]);
        }
        ck_assert_int_eq(largest, 127);
    }
    model_close(model);
    free(image.bytes);
}
END_TEST

START_TEST(weights_may_lie_at_any_address)
{
    struct image image = image_make(&small_mamba1);
    struct model *model = image_open(image);
    struct fingerprint want, got;
    model_fingerprint(model, &want);
    model_close(model);
    for (size_t shift = 1; shift < 8; shift++) {
        uint8_t *room = malloc(image.n + shift);
        memcpy(room + shift, image.bytes, image.n);
        model = image_open((struct image){room + shift, image.n});
        model_fingerprint(model, &got);
        ck_assert_mem_eq(got.bytes, want.bytes, sizeof want.bytes);
        model_close(model);
        free(room);
    }
    free(image.bytes);
}
END_TEST

START_TEST(metadata_may_be_absent)
{
    struct image image = image_make(&small_mamba1);
    image_edit_header(&image,
                      "\"architecture\":\"mamba1\",\"begin_byte\":\"0\","
                      "\"norm_epsilon\":\"1e-05\"",
                      "");
    struct model *model = image_open(image);
    ck_assert_int_eq(model->config.begin_byte, -1);
    ck_assert(model->config.norm_epsilon == 1e-5f);
    model_close(model);
    free(image.bytes);
}
END_TEST

START_TEST(floats_stay_as_they_are)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    struct tiny_spec spec = small_mamba1;
    spec.weights = types[_i / 2];
    spec.is_tied = _i % 2;
    struct image image = image_make(&spec);
    struct model *model = image_open(image);
    size_t n;
    ck_assert(model->config.is_float);
    const struct matrix *m = &model->layers[1].x_proj;
    ck_assert_ptr_null(m->q);
    ck_assert_int_eq(m->dtype, spec.weights);
    ck_assert_ptr_eq(
        m->floats,
        image_find_data(image, "backbone.layers.1.mixer.x_proj.weight", &n));
    ck_assert_ptr_nonnull(model->lm_head.floats);
    ck_assert_int_eq(model->lm_head.dtype,
                     spec.is_tied ? DTYPE_F32 : spec.weights);
    ck_assert_int_eq(model_needs_int8(model, "compression"), E_MODEL);
    ck_assert_str_eq(status_message(),
                     "t has float weights, and compression needs int8: "
                     "'mambyte-import --quantize=int8 -o NEW t' makes such a "
                     "model of it");
    model_close(model);
    free(image.bytes);
}
END_TEST

/* ---- Mamba-2 ------------------------------------------------------------ */

START_TEST(mamba2_comes_to_its_places)
{
    struct tiny_spec spec = small_mamba2;
    spec.has_channel_d = _i;
    struct image image = image_make(&spec);
    struct model *model = image_open(image);
    const struct model_config *c = &model->config;
    ck_assert_int_eq(c->mixer, MIXER_MAMBA2);
    ck_assert_int_eq(c->d_inner, 48);
    ck_assert_int_eq(c->n_heads, 6);
    ck_assert_int_eq(c->headdim, 8);
    ck_assert_int_eq(c->n_groups, 2);
    ck_assert_int_eq(c->d_state, 16);
    ck_assert_int_eq(c->dt_rank, 0);
    ck_assert_uint_eq(model_state_floats(c),
                      2 * (2 * 112 + 48 * 16 + 6 * 65) + 256);
    ck_assert_uint_eq(model_state_int8s(c), 2 * 64 * (48 + 32) + 1);

    const struct layer *layer = &model->layers[1];
    assert_matrix(image, LAYER_1 "mixer.in_proj.weight", &layer->in_proj,
                  2 * 48 + 2 * 2 * 16 + 6, 32);
    assert_transposed(image, LAYER_1 "mixer.conv1d.weight", layer->conv, 112,
                      3);
    assert_transposed(image, LAYER_1 "mixer.conv1d.bias", layer->conv_bias, 112,
                      1);
    assert_transposed(image, LAYER_1 "mixer.dt_bias", layer->dt_bias, 6, 1);
    assert_transposed(image, LAYER_1 "mixer.norm.weight", layer->gate_norm, 48,
                      1);
    assert_matrix(image, LAYER_1 "mixer.out_proj.weight", &layer->out_proj, 32,
                  48);
    size_t n;
    const uint8_t *d = image_find_data(image, LAYER_1 "mixer.D", &n);
    ck_assert_uint_eq(n, _i ? 4 * 48 : 4 * 6);
    for (int i = 0; i < 48; i++)
        ck_assert_uint_eq(exact_bits(layer->d[i]),
                          load_le(d + 4 * (_i ? i : i / 8), 4));
    model_close(model);
    free(image.bytes);
}
END_TEST

/* Without metadata the tensors say which mixer it is, and one group is
 * assumed. */
START_TEST(mamba2_needs_no_metadata)
{
    struct image image = image_make(&small_mamba2);
    image_edit_header(&image,
                      "\"architecture\":\"mamba2\",\"head_dim\":\"8\","
                      "\"n_groups\":\"2\",",
                      " ");
    struct model *model = image_open(image);
    ck_assert_int_eq(model->config.mixer, MIXER_MAMBA2);
    ck_assert_int_eq(model->config.n_groups, 1);
    ck_assert_int_eq(model->config.d_state, 32);
    ck_assert(model->config.delta_min == 0.0f);
    ck_assert(isinf(model->config.delta_max));
    model_close(model);
    free(image.bytes);
}
END_TEST

/* ---- the fingerprint --------------------------------------------------- */

static struct fingerprint fingerprint_of(struct image image)
{
    struct fingerprint fingerprint;
    struct model *model = image_open(image);
    model_fingerprint(model, &fingerprint);
    model_close(model);
    return fingerprint;
}

START_TEST(names_and_metadata_do_not_change_it)
{
    struct image image = image_make(&small_mamba1);
    struct fingerprint want = fingerprint_of(image);
    image_edit_header(&image, "backbone.embedding.", "backbone.embeddings.");
    image_edit_header(&image, "\"norm_epsilon\":\"1e-05\"",
                      "\"note\":\"none\",\"norm_epsilon\":\"0.00001\"");
    image_edit_header(&image, "\"architecture\":\"mamba1\",", " ");
    struct fingerprint got = fingerprint_of(image);
    ck_assert_mem_eq(got.bytes, want.bytes, sizeof want.bytes);
    free(image.bytes);
}
END_TEST

START_TEST(every_tensor_changes_it)
{
    struct image image = image_make(_i ? &small_mamba2 : &small_mamba1);
    struct fingerprint was = fingerprint_of(image);
    struct safetensors *file;
    ck_assert_int_eq(safetensors_open_memory(&file, "t", image.bytes, image.n),
                     OK);
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct tensor *t = safetensors_at(file, i);
        const uint8_t *end = (const uint8_t *)t->data + t->n_bytes;
        size_t at = (size_t)(end - image.bytes) - 2;
        image.bytes[at] ^= 2;
        struct fingerprint is = fingerprint_of(image);
        ck_assert_mem_ne(is.bytes, was.bytes, sizeof was.bytes);
        image.bytes[at] ^= 2;
    }
    safetensors_close(file);
    free(image.bytes);
}
END_TEST

START_TEST(the_config_changes_it)
{
    static const char *const edits[][2] = {
        {"\"begin_byte\":\"0\"", "\"begin_byte\":\"1\""},
        {"\"begin_byte\":\"0\",", ""},
        {"1e-05", "2e-05"},
    };
    struct image image = image_make(&small_mamba1);
    struct fingerprint was = fingerprint_of(image);
    image_edit_header(&image, edits[_i][0], edits[_i][1]);
    struct fingerprint is = fingerprint_of(image);
    ck_assert_mem_ne(is.bytes, was.bytes, sizeof was.bytes);
    free(image.bytes);
}
END_TEST

/* It goes into files, so another one is a change of format. */
START_TEST(it_is_the_same_everywhere)
{
    static const uint8_t want[16] = {0x8b, 0x8e, 0xa3, 0x08, 0x9a, 0x45,
                                     0x66, 0x30, 0xd7, 0x24, 0x50, 0xd7,
                                     0x48, 0x96, 0x76, 0xc6};
    struct image image = image_make(&small_mamba1);
    struct fingerprint is = fingerprint_of(image);
    ck_assert_mem_eq(is.bytes, want, sizeof want);
    free(image.bytes);
}
END_TEST

START_TEST(the_shipped_model_opens)
{
    const char *path = getenv("MAMBYTE_MODEL");
    struct model *model;
    if (!path)
        return;
    ck_assert_msg(model_open(&model, path) == OK, "%s", status_message());
    ck_assert_int_eq(model->config.d_model, 512);
    ck_assert_int_eq(model->config.n_layer, 16);
    ck_assert_int_eq(model->config.begin_byte, 0);
    ck_assert_uint_eq(model->n_parameters, 26725632);
    model_close(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model");
    TCase *places = tcase_create("places");
    tcase_add_test(places, shapes_give_the_config);
    tcase_add_test(places, tensors_come_to_their_places);
    tcase_add_test(places, a_is_prepared_as_stated);
    tcase_add_test(places, a_tied_head_is_the_embedding_quantised);
    tcase_add_test(places, weights_may_lie_at_any_address);
    tcase_add_test(places, metadata_may_be_absent);
    tcase_add_loop_test(places, floats_stay_as_they_are, 0, 6);
    tcase_add_test(places, the_shipped_model_opens);
    tcase_add_loop_test(places, mamba2_comes_to_its_places, 0, 2);
    tcase_add_test(places, mamba2_needs_no_metadata);
    suite_add_tcase(suite, places);

    TCase *identity = tcase_create("fingerprint");
    tcase_add_test(identity, names_and_metadata_do_not_change_it);
    tcase_add_loop_test(identity, every_tensor_changes_it, 0, 2);
    tcase_add_loop_test(identity, the_config_changes_it, 0, 3);
    tcase_add_test(identity, it_is_the_same_everywhere);
    suite_add_tcase(suite, identity);
    return run_suite_here(suite);
}
