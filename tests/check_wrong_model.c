/* check_wrong_model.c -- wrong models are refused, with a sentence each; sizes
 * within their limits are accepted.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/little_endian.h"
#include "model_image.h"

#include "runner.h" /* last */

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

static void assert_edit_refused(const struct tiny_spec *spec, const char *old,
                                const char *new, const char *sentence)
{
    struct image image = image_make(spec);
    image_edit_header(&image, old, new);
    image_assert_refused(image, sentence);
    free(image.bytes);
}

START_TEST(a_wrong_header_is_refused)
{
    assert_edit_refused(&small_mamba1, wrong_headers[_i].old,
                        wrong_headers[_i].new, wrong_headers[_i].sentence);
}
END_TEST

static const char *const wrong_begin_bytes[] = {"256", "-1", "",    "1 ",
                                                "0x1", "+1", "1.0", "0000"};

START_TEST(a_wrong_begin_byte_is_refused)
{
    char new[64];
    snprintf(new, sizeof new, "\"begin_byte\":\"%s\"", wrong_begin_bytes[_i]);
    assert_edit_refused(&small_mamba1, "\"begin_byte\":\"0\"", new,
                        "t: begin_byte of the metadata is not a number from 0 "
                        "to 255");
}
END_TEST

static const char *const wrong_epsilons[] = {
    "0", "-1e-5", "", "nan", "inf", "1e-60", "1e39", "abc", "1e-05x", "[1]"};

START_TEST(a_wrong_epsilon_is_refused)
{
    assert_edit_refused(
        &small_mamba1, "1e-05", wrong_epsilons[_i],
        "t: norm_epsilon of the metadata is not a number above 0");
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
    struct image image = image_make(&small_mamba1);
    size_t n;
    uint8_t *p = image_find_data(image, wrong_values[_i].tensor, &n);
    store_le(p + n - 4, wrong_values[_i].bits, 4);
    image_assert_refused(image, wrong_values[_i].sentence);
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
    struct image image = image_make(&spec);
    image_assert_refused(image, wrong_specs[_i].sentence);
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
    struct image image = image_make(_i ? &small_mamba2 : &small_mamba1);
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
    assert_edit_refused(&small_mamba2, wrong_headers2[_i].old,
                        wrong_headers2[_i].new, wrong_headers2[_i].sentence);
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
    struct tiny_spec spec = small_mamba2;
    spec.d_inner = wrong_specs2[_i].d_inner;
    spec.d_state = wrong_specs2[_i].d_state;
    spec.headdim = wrong_specs2[_i].headdim;
    spec.n_groups = 1;
    struct image image = image_make(&spec);
    image_assert_refused(image, wrong_specs2[_i].sentence);
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

/* ---- floats ------------------------------------------------------------- */

/* Infinity in the last element of a projection. */
START_TEST(floats_are_finite)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    static const uint8_t high[] = {0x7f, 0x7f, 0x7c};
    static const uint8_t low[] = {0x80, 0x80, 0x00};
    struct tiny_spec spec = small_mamba1;
    spec.weights = types[_i];
    struct image image = image_make(&spec);
    size_t n;
    uint8_t *data = image_find_data(image, "lm_head.weight", &n);
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

#define COUNT(array) (int)(sizeof array / sizeof array[0])

int main(void)
{
    Suite *suite = suite_create("wrong_model");
    TCase *wrong = tcase_create("wrong");
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
    tcase_add_loop_test(wrong, every_size_within_its_limits_is_accepted, 0,
                        300);
    tcase_add_loop_test(wrong, truncations_are_refused, 0, 2);
    tcase_add_test(wrong, a_missing_file_is_refused);
    suite_add_tcase(suite, wrong);

    TCase *mamba2 = tcase_create("mamba2");
    tcase_add_loop_test(mamba2, a_wrong_header_of_mamba2_is_refused, 0,
                        COUNT(wrong_headers2));
    tcase_add_loop_test(mamba2, a_size_of_mamba2_beyond_its_limits_is_refused,
                        0, COUNT(wrong_specs2));
    tcase_add_loop_test(
        mamba2, every_size_of_mamba2_within_its_limits_is_accepted, 0, 64);
    suite_add_tcase(suite, mamba2);
    return run_suite_here(suite);
}
