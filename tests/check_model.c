/* check_model.c -- tensors come to their places, wrong models are refused,
 * and a fingerprint is the identity of what predicts.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "base/little_endian.h"
#include "model/model.h"
#include "tiny_model.h"

#include "runner.h" /* last */

/* ---- images ----------------------------------------------------------- */

/* A file in memory. */
struct image {
    uint8_t *bytes; /* [n] */
    size_t n;
};

static const struct tiny_spec small = {.d_model = 32,
                                       .n_layer = 2,
                                       .d_inner = 48,
                                       .d_state = 8,
                                       .d_conv = 3,
                                       .dt_rank = 5,
                                       .seed = 1};

/* Mamba-2: 6 heads of 8 channels, of 2 groups. */
static const struct tiny_spec small2 = {.mixer = MIXER_MAMBA2,
                                        .d_model = 32,
                                        .n_layer = 2,
                                        .d_inner = 48,
                                        .d_state = 16,
                                        .d_conv = 3,
                                        .headdim = 8,
                                        .n_groups = 2,
                                        .seed = 1};

static struct image make_image(const struct tiny_spec *spec)
{
    struct image image;
    ck_assert_int_eq(tiny_model_make(spec, &image.bytes, &image.n), OK);
    return image;
}

static size_t header_bytes(struct image image)
{
    return (size_t)load_le(image.bytes, 8);
}

/* Replaces the first old in the header, which may change its length. */
static void edit_header(struct image *image, const char *old, const char *new)
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

/* The data of a tensor, to be changed. */
static uint8_t *find_data(struct image image, const char *name, size_t *n)
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

static struct model *open_image(struct image image)
{
    struct model *model;
    enum status status = model_open_memory(&model, "t", image.bytes, image.n);
    ck_assert_msg(status == OK, "%s", status_message());
    return model;
}

static void assert_refused(struct image image, const char *sentence)
{
    struct model *model;
    ck_assert_int_eq(model_open_memory(&model, "t", image.bytes, image.n),
                     E_MODEL);
    ck_assert_ptr_null(model);
    ck_assert_str_eq(status_message(), sentence);
}

/* ---- places ----------------------------------------------------------- */

START_TEST(shapes_give_the_config)
{
    struct image image = make_image(&small);
    struct model *model = open_image(image);
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
    const uint8_t *p = find_data(image, name, &n);
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
    ck_assert_ptr_eq(m->q, find_data(image, name, &n));
    ck_assert_uint_eq(n, (size_t)rows * (size_t)columns);
    snprintf(scale_name, sizeof scale_name, "%s_scale", name);
    assert_transposed(image, scale_name, m->scale, rows, 1);
}

START_TEST(tensors_come_to_their_places)
{
    struct tiny_spec spec = small;
    spec.has_norm_bias = true;
    struct image image = make_image(&spec);
    struct model *model = open_image(image);
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
    struct image image = make_image(&small);
    struct model *model = open_image(image);
    size_t n;
    const uint8_t *p = find_data(image, "backbone.layers.0.mixer.A_log", &n);
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
    struct tiny_spec spec = small;
    spec.is_tied = true;
    struct image image = make_image(&spec);
    struct model *model = open_image(image);
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
    struct image image = make_image(&small);
    struct model *model = open_image(image);
    struct fingerprint want, got;
    model_fingerprint(model, &want);
    model_close(model);
    for (size_t shift = 1; shift < 8; shift++) {
        uint8_t *room = malloc(image.n + shift);
        memcpy(room + shift, image.bytes, image.n);
        model = open_image((struct image){room + shift, image.n});
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
    struct image image = make_image(&small);
    edit_header(&image,
                "\"architecture\":\"mamba1\",\"begin_byte\":\"0\","
                "\"norm_epsilon\":\"1e-05\"",
                "");
    struct model *model = open_image(image);
    ck_assert_int_eq(model->config.begin_byte, -1);
    ck_assert(model->config.norm_epsilon == 1e-5f);
    model_close(model);
    free(image.bytes);
}
END_TEST

START_TEST(floats_stay_as_they_are)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    struct tiny_spec spec = small;
    spec.weights = types[_i / 2];
    spec.is_tied = _i % 2;
    struct image image = make_image(&spec);
    struct model *model = open_image(image);
    size_t n;
    ck_assert(model->config.is_float);
    const struct matrix *m = &model->layers[1].x_proj;
    ck_assert_ptr_null(m->q);
    ck_assert_int_eq(m->dtype, spec.weights);
    ck_assert_ptr_eq(
        m->floats,
        find_data(image, "backbone.layers.1.mixer.x_proj.weight", &n));
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

/* Infinity in the last element of a projection. */
START_TEST(floats_are_finite)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    static const uint8_t high[] = {0x7f, 0x7f, 0x7c};
    static const uint8_t low[] = {0x80, 0x80, 0x00};
    struct tiny_spec spec = small;
    spec.weights = types[_i];
    struct image image = make_image(&spec);
    size_t n;
    uint8_t *data = find_data(image, "lm_head.weight", &n);
    data[n - 1] = high[_i];
    data[n - 2] = low[_i];
    struct model *model;
    ck_assert_int_eq(model_open_memory(&model, "t", image.bytes, image.n),
                     E_MODEL);
    ck_assert_str_eq(status_message(),
                     "t: lm_head.weight holds a value that is not finite");
    free(image.bytes);
}
END_TEST

/* ---- wrong models ------------------------------------------------------ */

#define L0 "backbone.layers.0."
#define L1 "backbone.layers.1."

static const struct {
    const char *old, *new;
    const char *sentence;
} wrong_headers[] = {
    {"backbone.embedding.weight", "backbone.embed.weight",
     "t: tensor backbone.embedding.weight is missing"},
    {"[256,32]", "[512,16]",
     "t: not a byte model: embedding has 512 rows, expected 256"},
    {"[256,32]", "[8192]",
     "t: backbone.embedding.weight is F32 [8192], expected 2 dimensions"},
    {"\"F32\",\"shape\":[256,32]", "\"I32\",\"shape\":[256,32]",
     "t: backbone.embedding.weight is I32 [256][32], expected F32 "
     "[256][32]"},
    {L1 "norm.weight", L1 "norm.waight",
     "t: tensor " L1 "norm.weight is missing"},
    {L1 "norm.weight", "backbone.layers.01.norm.weight",
     "t: tensor " L1 "norm.weight is missing"},
    {L1 "norm.weight", "backbone.layers.3.norm.weight",
     "t: tensor " L1 "norm.weight is missing"},
    {L1 "norm.weight", "backbone.layers.9999999.norm.weight",
     "t: n_layer is 10000000, expected 1 to 1024 in steps of 1"},
    {L0 "mixer.A_log", L0 "mixer.A", "t: tensor " L0 "mixer.A_log is missing"},
    {"[48,8]", "[384]",
     "t: " L0 "mixer.A_log is F32 [384], expected 2 dimensions"},
    {"[48,8]", "[384,1]", "t: d_state is 1, expected 4 to 64 in steps of 4"},
    {"[48,8]", "[96,4]",
     "t: " L0 "mixer.in_proj.weight is I8 [96][32], expected I8 "
     "[192][32]"},
    {"[48,1,3]", "[48,3]",
     "t: " L0 "mixer.conv1d.weight is F32 [48][3], expected 3 dimensions"},
    {"[48,1,3]", "[48,3,1]", "t: d_conv is 1, expected 2 to 8 in steps of 1"},
    {"[48,1,3]", "[16,3,3]",
     "t: " L0 "mixer.conv1d.weight is F32 [16][3][3], expected F32 "
     "[48][1][3]"},
    {"\"I8\",\"shape\":[96,32]", "\"F32\",\"shape\":[96,8]",
     "t: " L0 "mixer.in_proj.weight is F32 [96][8], expected F32 [96][32]"},
    {"\"I8\",\"shape\":[96,32]", "\"BF16\",\"shape\":[96,16]",
     "t: " L0 "mixer.in_proj.weight is BF16 [96][16], expected F32 [96][32]"},
    {"\"I8\",\"shape\":[96,32]", "\"U8\",\"shape\":[96,32]",
     "t: " L0 "mixer.in_proj.weight is U8 [96][32], expected I8 [96][32]"},
    {"\"I8\",\"shape\":[96,32]", "\"I8\",\"shape\":[32,96]",
     "t: " L0 "mixer.in_proj.weight is I8 [32][96], expected I8 [96][32]"},
    {L0 "mixer.in_proj.weight_scale", L0 "mixer.in_proj.scale",
     "t: tensor " L0 "mixer.in_proj.weight_scale is missing"},
    {"[96]", "[2,48]",
     "t: " L0 "mixer.in_proj.weight_scale is F32 [2][48], expected F32 "
     "[96]"},
    {"lm_head.weight_scale", "lm_head.weight_scales",
     "t: tensor lm_head.weight_scale is missing"},
    {"\"backbone.norm_f.weight\":",
     "\"typo\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]},"
     "\"backbone.norm_f.weight\":",
     "t: unknown tensor typo"},
    {"\"backbone.norm_f.weight\":",
     "\"backbone.embeddings.weight\":{\"dtype\":\"F32\",\"shape\":[0],"
     "\"data_offsets\":[0,0]},\"backbone.norm_f.weight\":",
     "t: unknown tensor backbone.embeddings.weight"},
    {"\"backbone.norm_f.weight\":",
     "\"backbone.norm_f.bias\":{\"dtype\":\"F32\",\"shape\":[0],"
     "\"data_offsets\":[0,0]},\"backbone.norm_f.weight\":",
     "t: tensor " L0 "norm.bias is missing"},
    {"mamba1", "mamba3",
     "t: architecture of the metadata is neither mamba1 nor mamba2"},
    {"mamba1", "mamba2",
     "t: " L0 "mixer.A_log is F32 [48][8], expected 1 dimensions"},
};

START_TEST(a_wrong_header_is_refused)
{
    struct image image = make_image(&small);
    edit_header(&image, wrong_headers[_i].old, wrong_headers[_i].new);
    assert_refused(image, wrong_headers[_i].sentence);
    free(image.bytes);
}
END_TEST

static const char *const wrong_begin_bytes[] = {"256", "-1", "",    "1 ",
                                                "0x1", "+1", "1.0", "0000"};

START_TEST(a_wrong_begin_byte_is_refused)
{
    struct image image = make_image(&small);
    char new[64];
    snprintf(new, sizeof new, "\"begin_byte\":\"%s\"", wrong_begin_bytes[_i]);
    edit_header(&image, "\"begin_byte\":\"0\"", new);
    assert_refused(image, "t: begin_byte of the metadata is not a number "
                          "from 0 to 255");
    free(image.bytes);
}
END_TEST

static const char *const wrong_epsilons[] = {
    "0", "-1e-5", "", "nan", "inf", "1e-60", "1e39", "abc", "1e-05x", "[1]"};

START_TEST(a_wrong_epsilon_is_refused)
{
    struct image image = make_image(&small);
    edit_header(&image, "1e-05", wrong_epsilons[_i]);
    assert_refused(image,
                   "t: norm_epsilon of the metadata is not a number above 0");
    free(image.bytes);
}
END_TEST

static const struct {
    const char *tensor;
    uint32_t bits;
    const char *sentence;
} wrong_values[] = {
    {"backbone.embedding.weight", 0x7fc00000u,
     "t: backbone.embedding.weight holds a value that is not finite"},
    {L1 "mixer.A_log", 0x7f800000u,
     "t: " L1 "mixer.A_log holds a value that is not finite"},
    {L1 "mixer.conv1d.weight", 0xff800000u,
     "t: " L1 "mixer.conv1d.weight holds a value that is not finite"},
    {L0 "mixer.in_proj.weight_scale", 0x7fc00000u,
     "t: " L0 "mixer.in_proj.weight_scale holds a value that is not finite"},
    {L0 "mixer.x_proj.weight_scale", 0xbf800000u,
     "t: " L0 "mixer.x_proj.weight_scale holds a negative scale, in row 20"},
    {L0 "mixer.out_proj.weight", 0x80010203u,
     "t: " L0 "mixer.out_proj.weight holds -128: int8 weights go from -127 "
     "to 127"},
};

START_TEST(a_wrong_value_is_refused)
{
    struct image image = make_image(&small);
    size_t n;
    uint8_t *p = find_data(image, wrong_values[_i].tensor, &n);
    store_le(p + n - 4, wrong_values[_i].bits, 4);
    assert_refused(image, wrong_values[_i].sentence);
    free(image.bytes);
}
END_TEST

static const struct {
    int d_model, n_layer, d_inner, d_state, d_conv, dt_rank;
    const char *sentence;
} wrong_specs[] = {
    {6, 1, 8, 4, 2, 1, "t: d_model is 6, expected 4 to 16384 in steps of 4"},
    {16388, 1, 8, 4, 2, 1,
     "t: d_model is 16388, expected 4 to 16384 in steps of 4"},
    {4, 0, 8, 4, 2, 1, "t: n_layer is 0, expected 1 to 1024 in steps of 1"},
    {4, 1025, 4, 4, 2, 1,
     "t: n_layer is 1025, expected 1 to 1024 in steps of 1"},
    {4, 1, 10, 4, 2, 1, "t: d_inner is 10, expected 4 to 65536 in steps of 4"},
    {4, 1, 65540, 4, 2, 1,
     "t: d_inner is 65540, expected 4 to 65536 in steps of 4"},
    {4, 1, 8, 2, 2, 1, "t: d_state is 2, expected 4 to 64 in steps of 4"},
    {4, 1, 8, 12, 2, 1, "t: d_state is 12, expected a power of two"},
    {4, 1, 8, 128, 2, 1, "t: d_state is 128, expected 4 to 64 in steps of 4"},
    {4, 1, 8, 4, 1, 1, "t: d_conv is 1, expected 2 to 8 in steps of 1"},
    {4, 1, 8, 4, 9, 1, "t: d_conv is 9, expected 2 to 8 in steps of 1"},
    {4, 1, 4, 4, 2, 16385,
     "t: dt_rank is 16385, expected 1 to 16384 in steps of 1"},
};

START_TEST(a_size_beyond_its_limits_is_refused)
{
    struct tiny_spec spec = {.d_model = wrong_specs[_i].d_model,
                             .n_layer = wrong_specs[_i].n_layer,
                             .d_inner = wrong_specs[_i].d_inner,
                             .d_state = wrong_specs[_i].d_state,
                             .d_conv = wrong_specs[_i].d_conv,
                             .dt_rank = wrong_specs[_i].dt_rank};
    struct image image = make_image(&spec);
    assert_refused(image, wrong_specs[_i].sentence);
    free(image.bytes);
}
END_TEST

START_TEST(every_size_within_its_limits_is_accepted)
{
    struct tiny_spec spec = {.d_model = 4,
                             .n_layer = 1,
                             .d_inner = 4,
                             .d_state = 4 << _i % 5,
                             .d_conv = 2 + _i % 7,
                             .dt_rank = 1 + _i,
                             .has_norm_bias = _i % 2,
                             .is_tied = _i % 3 == 0,
                             .begin_byte = _i % 257 - 1,
                             .seed = (uint64_t)_i};
    struct tiny_model tiny;
    ck_assert_int_eq(tiny_model_open(&tiny, &spec), OK);
    ck_assert_int_eq(tiny.model->config.begin_byte, spec.begin_byte);
    tiny_model_close(&tiny);
}
END_TEST

START_TEST(truncations_are_refused)
{
    struct image image = make_image(_i ? &small2 : &small);
    struct model *model;
    for (size_t n = 0; n < image.n; n += 97) {
        ck_assert_int_eq(model_open_memory(&model, "t", image.bytes, n),
                         E_MODEL);
        ck_assert_ptr_null(model);
    }
    free(image.bytes);
}
END_TEST

START_TEST(a_missing_file_is_refused)
{
    struct model *model;
    ck_assert_int_eq(model_open(&model, "no such file"), E_IO);
    ck_assert_ptr_null(model);
    ck_assert_str_eq(status_message(),
                     "no such file: No such file or directory");
}
END_TEST

/* ---- Mamba-2 ------------------------------------------------------------ */

START_TEST(mamba2_comes_to_its_places)
{
    struct tiny_spec spec = small2;
    spec.has_channel_d = _i;
    struct image image = make_image(&spec);
    struct model *model = open_image(image);
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
    const uint8_t *d = find_data(image, LAYER_1 "mixer.D", &n);
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
    struct image image = make_image(&small2);
    edit_header(&image,
                "\"architecture\":\"mamba2\",\"head_dim\":\"8\","
                "\"n_groups\":\"2\",",
                " ");
    struct model *model = open_image(image);
    ck_assert_int_eq(model->config.mixer, MIXER_MAMBA2);
    ck_assert_int_eq(model->config.n_groups, 1);
    ck_assert_int_eq(model->config.d_state, 32);
    ck_assert(model->config.delta_min == 0.0f);
    ck_assert(isinf(model->config.delta_max));
    model_close(model);
    free(image.bytes);
}
END_TEST

#define EPSILON "\"norm_epsilon\""
static const struct {
    const char *old, *new;
    const char *sentence;
} wrong_headers2[] = {
    {"mamba2", "mamba1",
     "t: " L0 "mixer.A_log is F32 [6], expected 2 dimensions"},
    {L0 "mixer.dt_bias", L0 "mixer.dt_bios",
     "t: tensor " L0 "mixer.dt_bias is missing"},
    {L1 "mixer.norm.weight", L1 "mixer.norn.weight",
     "t: tensor " L1 "mixer.norm.weight is missing"},
    {"\"head_dim\":\"8\"", "\"head_dim\":\"0\"",
     "t: head_dim of the metadata is not a number from 1 to 128"},
    {"\"head_dim\":\"8\"", "\"head_dim\":\"16\"",
     "t: head_dim of the metadata is 16, but 6 heads of d_inner 48 have 8 "
     "channels"},
    {"\"n_groups\":\"2\"", "\"n_groups\":\"0\"",
     "t: n_groups of the metadata is not a number from 1 to 8"},
    {"\"n_groups\":\"2\"", "\"n_groups\":\"4\"",
     "t: n_groups is 4, which does not divide 6 heads"},
    {"\"n_groups\":\"2\"", "\"n_groups\":\"3\"",
     "t: conv1d.weight has 112 channels, expected d_inner, 48, and 2 d_state "
     "for each of n_groups, 3"},
    {"[6]", "[2,3]", "t: " L0 "mixer.dt_bias is F32 [2][3], expected F32 [6]"},
    {"\"I8\",\"shape\":[166,32]", "\"I8\",\"shape\":[83,64]",
     "t: in_proj.weight has 83 rows, but 2 d_inner + 2 n_groups d_state + "
     "n_heads = 2 * 48 + 2 * 2 * 16 + 6 is 166"},
    {"\"I8\",\"shape\":[32,48]", "\"I8\",\"shape\":[48,32]",
     "t: 6 heads do not divide d_inner, 32"},
    {EPSILON, "\"time_step_limit\":\"[0.1,0.01]\"," EPSILON,
     "t: time_step_limit of the metadata is not an array of the least, 0 or "
     "more, and the largest step"},
    {EPSILON, "\"time_step_limit\":\"[1,2,3]\"," EPSILON,
     "t: time_step_limit of the metadata is not an array of the least, 0 or "
     "more, and the largest step"},
    {EPSILON, "\"norm_before_gate\":\"yes\"," EPSILON,
     "t: norm_before_gate of the metadata is not true or false"},
    {EPSILON, "\"norm_before_gate\":\"true\"," EPSILON,
     "t: norm_before_gate is true, which only models of floats can have"},
};

START_TEST(a_wrong_header_of_mamba2_is_refused)
{
    struct image image = make_image(&small2);
    edit_header(&image, wrong_headers2[_i].old, wrong_headers2[_i].new);
    assert_refused(image, wrong_headers2[_i].sentence);
    free(image.bytes);
}
END_TEST

static const struct {
    int d_inner, d_state, headdim;
    const char *sentence;
} wrong_specs2[] = {
    {20, 16, 4, "t: d_inner is 20, expected 8 to 65536 in steps of 8"},
    {16, 16, 4, "t: head_dim is 4, expected 8 to 128 in steps of 8"},
    {256, 16, 256, "t: head_dim is 256, expected 8 to 128 in steps of 8"},
    {16, 8, 8, "t: d_state is 8, expected 16 to 256 in steps of 16"},
    {16, 272, 8, "t: d_state is 272, expected 16 to 256 in steps of 16"},
};

START_TEST(a_size_of_mamba2_beyond_its_limits_is_refused)
{
    struct tiny_spec spec = small2;
    spec.d_inner = wrong_specs2[_i].d_inner;
    spec.d_state = wrong_specs2[_i].d_state;
    spec.headdim = wrong_specs2[_i].headdim;
    spec.n_groups = 1;
    struct image image = make_image(&spec);
    assert_refused(image, wrong_specs2[_i].sentence);
    free(image.bytes);
}
END_TEST

START_TEST(every_size_of_mamba2_within_its_limits_is_accepted)
{
    struct tiny_spec spec = {.mixer = MIXER_MAMBA2,
                             .d_model = 4 + _i % 3 * 4,
                             .n_layer = 1,
                             .d_state = 16 + _i % 16 * 16,
                             .d_conv = 2 + _i % 7,
                             .headdim = 8 + _i % 16 * 8,
                             .n_groups = 1 + _i % 8,
                             .is_tied = _i % 3 == 0,
                             .seed = (uint64_t)_i};
    spec.d_inner = spec.headdim * spec.n_groups * (1 + _i % 2);
    struct tiny_model tiny;
    ck_assert_int_eq(tiny_model_open(&tiny, &spec), OK);
    tiny_model_close(&tiny);
}
END_TEST

/* ---- the fingerprint --------------------------------------------------- */

static struct fingerprint fingerprint_of(struct image image)
{
    struct fingerprint fingerprint;
    struct model *model = open_image(image);
    model_fingerprint(model, &fingerprint);
    model_close(model);
    return fingerprint;
}

START_TEST(names_and_metadata_do_not_change_it)
{
    struct image image = make_image(&small);
    struct fingerprint want = fingerprint_of(image);
    edit_header(&image, "backbone.embedding.", "backbone.embeddings.");
    edit_header(&image, "\"norm_epsilon\":\"1e-05\"",
                "\"note\":\"none\",\"norm_epsilon\":\"0.00001\"");
    edit_header(&image, "\"architecture\":\"mamba1\",", " ");
    struct fingerprint got = fingerprint_of(image);
    ck_assert_mem_eq(got.bytes, want.bytes, sizeof want.bytes);
    free(image.bytes);
}
END_TEST

START_TEST(every_tensor_changes_it)
{
    struct image image = make_image(_i ? &small2 : &small);
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
    struct image image = make_image(&small);
    struct fingerprint was = fingerprint_of(image);
    edit_header(&image, edits[_i][0], edits[_i][1]);
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
    struct image image = make_image(&small);
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
    ck_assert_uint_eq(model->n_parameters, 27386368);
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
    tcase_add_loop_test(places, every_size_within_its_limits_is_accepted, 0,
                        300);
    tcase_add_test(places, the_shipped_model_opens);
    suite_add_tcase(suite, places);

#define COUNT(array) (int)(sizeof array / sizeof array[0])
    TCase *wrong = tcase_create("wrong");
    tcase_add_loop_test(wrong, floats_stay_as_they_are, 0, 6);
    tcase_add_loop_test(wrong, floats_are_finite, 0, 3);
    tcase_add_loop_test(wrong, a_wrong_header_is_refused, 0,
                        COUNT(wrong_headers));
    tcase_add_loop_test(wrong, a_wrong_begin_byte_is_refused, 0,
                        COUNT(wrong_begin_bytes));
    tcase_add_loop_test(wrong, a_wrong_epsilon_is_refused, 0,
                        COUNT(wrong_epsilons));
    tcase_add_loop_test(wrong, a_wrong_value_is_refused, 0,
                        COUNT(wrong_values));
    tcase_add_loop_test(wrong, a_size_beyond_its_limits_is_refused, 0,
                        COUNT(wrong_specs));
    tcase_add_loop_test(wrong, truncations_are_refused, 0, 2);
    tcase_add_test(wrong, a_missing_file_is_refused);
    suite_add_tcase(suite, wrong);

    TCase *mamba2 = tcase_create("mamba2");
    tcase_add_loop_test(mamba2, mamba2_comes_to_its_places, 0, 2);
    tcase_add_test(mamba2, mamba2_needs_no_metadata);
    tcase_add_loop_test(mamba2, a_wrong_header_of_mamba2_is_refused, 0,
                        COUNT(wrong_headers2));
    tcase_add_loop_test(mamba2, a_size_of_mamba2_beyond_its_limits_is_refused,
                        0, COUNT(wrong_specs2));
    tcase_add_loop_test(
        mamba2, every_size_of_mamba2_within_its_limits_is_accepted, 0, 64);
    suite_add_tcase(suite, mamba2);

    TCase *identity = tcase_create("fingerprint");
    tcase_add_test(identity, names_and_metadata_do_not_change_it);
    tcase_add_loop_test(identity, every_tensor_changes_it, 0, 2);
    tcase_add_loop_test(identity, the_config_changes_it, 0, 3);
    tcase_add_test(identity, it_is_the_same_everywhere);
    suite_add_tcase(suite, identity);
    return run_suite_here(suite);
}
