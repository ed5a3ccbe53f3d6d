/* check_adopt.c -- a foreign checkpoint becomes a model of ours, or is refused.
 *
 * The checkpoints of tests/data/import, changed in memory: other names, more
 * rows, fewer tensors.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "import/adopt.h"
#include "import/tokenizer_json.h"

#include "runner.h" /* last */

enum { TENSORS_MAX = 64 };

static const struct adopt_options as_said = {.begin_byte = BEGIN_BYTE_AS_SAID};

/* A checkpoint with a list of its own, to be changed. */
struct changed {
    struct foreign original, foreign;
    struct tensor list[TENSORS_MAX];
    char names[TENSORS_MAX][TENSOR_NAME_CHARS];
    void *room; /* of more rows, or NULL */
};

static void open_changed(struct changed *c, const char *model)
{
    char path[DATA_PATH_CHARS];
    *c = (struct changed){.room = NULL};
    enum status status =
        foreign_open(&c->original, data_path(path, "import/%s", model));
    ck_assert_msg(status == OK, "%s", status_message());
    ck_assert_uint_le(c->original.n, TENSORS_MAX);
    for (size_t i = 0; i < c->original.n; i++) {
        c->list[i] = c->original.tensors[i];
        snprintf(c->names[i], TENSOR_NAME_CHARS, "%s", c->list[i].name);
        c->list[i].name = c->names[i];
    }
    c->foreign = c->original;
    c->foreign.tensors = c->list;
}

static void close_changed(struct changed *c)
{
    foreign_close(&c->original);
    free(c->room);
}

/* Takes a tensor out, which has to be there. */
static void drop(struct changed *c, const char *name)
{
    size_t i = 0;
    while (i < c->foreign.n && strcmp(c->list[i].name, name) != 0)
        i++;
    ck_assert_uint_lt(i, c->foreign.n);
    c->list[i] = c->list[--c->foreign.n];
}

static struct fingerprint fingerprint_of(const struct foreign *foreign)
{
    struct adopted adopted;
    struct fingerprint fingerprint;
    enum status status = adopt(&adopted, foreign, &as_said);
    ck_assert_msg(status == OK, "%s", status_message());
    model_fingerprint(adopted.model, &fingerprint);
    adopted_close(&adopted);
    return fingerprint;
}

static void check_refused(const struct foreign *foreign, const char *part)
{
    struct adopted adopted;
    ck_assert_int_eq(adopt(&adopted, foreign, &as_said), E_MODEL);
    ck_assert_ptr_null(adopted.model);
    ck_assert_msg(strstr(status_message(), part) != NULL, "%s",
                  status_message());
}

/* ---- names -------------------------------------------------------------- */

/* Where a name starts with from, to takes its place. */
static void rename_start(struct changed *c, const char *from, const char *to)
{
    for (size_t i = 0; i < c->foreign.n; i++) {
        char rest[TENSOR_NAME_CHARS];
        if (strncmp(c->names[i], from, strlen(from)) != 0)
            continue;
        snprintf(rest, sizeof rest, "%s", c->names[i] + strlen(from));
        snprintf(c->names[i], TENSOR_NAME_CHARS, "%s%.200s", to, rest);
    }
}

static const struct {
    const char *model, *backbone, *head; /* what they start with */
    const char *naming;
} prefixes[] = {
    {"mamba2-ssm", "backbone.", "lm_head.", "mamba-ssm"},
    {"mamba2-ssm", "module.backbone.", "module.lm_head.", "mamba-ssm"},
    {"mamba2-ssm", "_orig_mod.backbone.", "_orig_mod.lm_head.", "mamba-ssm"},
    {"mamba2-ssm", "_orig_mod.module.backbone.", "_orig_mod.module.lm_head.",
     "mamba-ssm"},
    {"mamba2-ssm", "module.model._orig_mod.backbone.", "module.model.lm_head.",
     "mamba-ssm"},
    {"mamba2-ssm", "model.", "lm_head.", "mamba-ssm"},
    {"mamba2-ssm", "", "lm_head.", "mamba-ssm"},
    {"mamba2-ssm", "a.b.c.", "a.b.lm_head.", "mamba-ssm"},
    {"mamba2-transformers", "", "", "transformers"},
    {"mamba2-transformers", "model.backbone.", "", "transformers"},
    {"mamba2-transformers", "module.", "", "transformers"},
};

START_TEST(whatever_is_before_all_names_is_replaced)
{
    struct changed c;
    struct adopted adopted;
    open_changed(&c, prefixes[_i].model);
    struct fingerprint expected = fingerprint_of(&c.original), got;
    rename_start(&c, "backbone.", prefixes[_i].backbone);
    rename_start(&c, "lm_head.", prefixes[_i].head);
    ck_assert_int_eq(adopt(&adopted, &c.foreign, &as_said), OK);
    model_fingerprint(adopted.model, &got);
    ck_assert_mem_eq(got.bytes, expected.bytes, sizeof got.bytes);
    ck_assert_str_eq(adopted.naming, prefixes[_i].naming);
    adopted_close(&adopted);
    close_changed(&c);
}
END_TEST

START_TEST(wrappers_of_layers_are_left_out)
{
    struct changed c;
    open_changed(&c, "mamba2-ssm");
    struct fingerprint expected = fingerprint_of(&c.original);
    rename_start(&c, "backbone.layers.0.", "backbone.layers.0._orig_mod.");
    rename_start(&c, "backbone.layers.1.",
                 "backbone.layers.1._checkpoint_wrapped_module.");
    struct fingerprint got = fingerprint_of(&c.foreign);
    ck_assert_mem_eq(got.bytes, expected.bytes, sizeof got.bytes);
    close_changed(&c);
}
END_TEST

START_TEST(two_models_and_doubles_are_refused)
{
    struct changed c;
    open_changed(&c, "mamba2-ssm");
    rename_start(&c, "lm_head.", "ema.embedding.");
    check_refused(&c.foreign,
                  "backbone.embedding.weight and ema.embedding.weight: the "
                  "model has two embeddings, not one");
    close_changed(&c);
    open_changed(&c, "mamba2-ssm");
    rename_start(&c, "backbone.layers.1.mixer.A_log",
                 "backbone.layers.0._orig_mod.mixer.A_log");
    check_refused(&c.foreign,
                  "two tensors are named backbone.layers.0.mixer.A_log");
    close_changed(&c);
    open_changed(&c, "mamba2-ssm");
    rename_start(&c, "backbone.embedding.", "backbone.em.");
    check_refused(&c.foreign, "there is no embedding under any known name");
    close_changed(&c);
    open_changed(&c, "mamba2-ssm");
    rename_start(&c, "backbone.layers.1.", "other.layers.1.");
    check_refused(&c.foreign, "unknown tensor other.layers.1.");
    close_changed(&c);
}
END_TEST

/* ---- biases ------------------------------------------------------------- */

START_TEST(a_missing_bias_of_the_convolution_is_zero)
{
    static const float zeros[256];
    struct changed c;
    open_changed(&c, "mamba2-ssm");
    c.foreign.config = NULL;
    for (size_t i = 0; i < c.foreign.n; i++) {
        if (strstr(c.list[i].name, "conv1d.bias"))
            c.list[i].data = zeros;
    }
    struct fingerprint expected = fingerprint_of(&c.foreign);
    for (int l = 1; l >= 0; l--) {
        char name[64];
        snprintf(name, sizeof name, "backbone.layers.%d.mixer.conv1d.bias", l);
        drop(&c, name);
        struct fingerprint got = fingerprint_of(&c.foreign);
        ck_assert_mem_eq(got.bytes, expected.bytes, sizeof got.bytes);
    }
    close_changed(&c);
}
END_TEST

START_TEST(biases_of_projections_are_refused)
{
    struct changed c;
    open_changed(&c, "mamba2-ssm");
    rename_start(&c, "backbone.layers.1.mixer.conv1d.bias",
                 "backbone.layers.1.mixer.in_proj.bias");
    check_refused(&c.foreign, "(use_bias), which mambyte does not support: "
                              "backbone.layers.1.mixer.in_proj.bias");
    close_changed(&c);
}
END_TEST

/* ---- the vocabulary ----------------------------------------------------- */

/* More rows, of NaN: they must not matter. */
static void pad(struct changed *c, uint64_t rows)
{
    size_t row = 32 * sizeof(float), n_padded = 0;
    uint8_t *room = c->room = malloc(2 * rows * row);
    memset(room, 0xff, 2 * rows * row);
    for (size_t i = 0; i < c->foreign.n; i++) {
        struct tensor *t = &c->list[i];
        if (t->n_dims != 2 || t->shape[0] != 256)
            continue;
        uint8_t *to = room + n_padded++ * rows * row;
        memcpy(to, t->data, (rows < 256 ? rows : 256) * row);
        t->data = to;
        t->shape[0] = rows;
    }
    ck_assert_uint_eq(n_padded, 2);
}

#define ARE_NOT "tokens, which are not the 256 bytes"

static const struct {
    uint64_t rows;
    const char *config; /* NULL: there is none */
    bool cuts;
    const char *sentence; /* NULL: accepted */
} vocabularies[] = {
    {256, NULL, false, NULL},
    {264, NULL, false, NULL},
    {384, NULL, false, NULL},
    {512, NULL, false, NULL},
    {255, NULL, false, ARE_NOT},
    {257, NULL, false, "--vocabulary=cut takes the first 256"},
    {259, NULL, false, "--vocabulary=cut takes the first 256"},
    {511, NULL, false, "--vocabulary=cut takes the first 256"},
    {520, NULL, false, ARE_NOT},
    {255, NULL, true, ARE_NOT},
    {257, NULL, true, NULL},
    {520, NULL, true, NULL},
    {264, "{\"vocab_size\": 256}", false, NULL},
    {264, "{\"vocab_size\": 259}", false, "has 259 " ARE_NOT},
    {264, "{\"vocab_size\": 50277}", false, "has 50277 " ARE_NOT},
    {264, "{\"vocab_size\": 100}", false, "has 100 " ARE_NOT},
    {256, "{\"vocab_size\": 264}", false, "vocab_size is 264, the tensors"},
    {257, "{\"eos_token_id\": 256}", false, NULL},
    {258, "{\"eos_token_id\": 256, \"pad_token_id\": 256}", false, ARE_NOT},
    {258, "{\"eos_token_id\": 256, \"pad_token_id\": 257}", false, NULL},
    {259, "{\"eos_token_id\": [256, 257], \"bos_token_id\": 258}", false, NULL},
    {259, "{\"eos_token_id\": 1, \"pad_token_id\": 0}", false, ARE_NOT},
};

START_TEST(rows_beyond_the_bytes_are_cut)
{
    struct adopt_options options = as_said;
    struct changed c;
    struct adopted adopted;
    open_changed(&c, "authors");
    const char *config = vocabularies[_i].config;
    options.cuts_vocabulary = vocabularies[_i].cuts;
    struct fingerprint expected = fingerprint_of(&c.original), got;
    pad(&c, vocabularies[_i].rows);
    c.foreign.config = config ? json_loads(config, 0, NULL) : NULL;
    enum status status = adopt(&adopted, &c.foreign, &options);
    if (vocabularies[_i].sentence) {
        ck_assert_int_eq(status, E_MODEL);
        ck_assert_msg(strstr(status_message(), vocabularies[_i].sentence), "%s",
                      status_message());
    } else {
        ck_assert_msg(status == OK, "%s", status_message());
        ck_assert_uint_eq(adopted.vocabulary, vocabularies[_i].rows);
        model_fingerprint(adopted.model, &got);
        ck_assert_mem_eq(got.bytes, expected.bytes, sizeof got.bytes);
        adopted_close(&adopted);
    }
    json_decref(c.foreign.config);
    close_changed(&c);
}
END_TEST

#define TOKENIZER "tokenizer.json"

/* 259 rows, of which a tokenizer beside the checkpoint names the first 256, or
 * one less. */
START_TEST(a_tokenizer_of_bytes_explains_further_rows)
{
    char path[] = "./any";
    struct changed c;
    struct adopted adopted;
    open_changed(&c, "authors");
    pad(&c, 259);
    c.foreign.config = NULL;
    c.foreign.path = path;
    json_t *tokenizer = tokenizer_json_make(-1);
    json_t *map = json_object_get(json_object_get(tokenizer, "model"), "vocab");
    ck_assert_uint_eq(json_object_size(map), 256);
    json_object_set_new(map, "<pad>", json_integer(256));
    if (_i == 1)
        json_object_del(map, "a");
    ck_assert_int_eq(json_dump_file(tokenizer, TOKENIZER, 0), 0);
    enum status status = adopt(&adopted, &c.foreign, &as_said);
    unlink(TOKENIZER);
    ck_assert_int_eq(status, _i == 1 ? E_MODEL : OK);
    if (status == OK)
        adopted_close(&adopted);
    json_decref(tokenizer);
    close_changed(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adopt");
    TCase *tcase = tcase_create("adopt");
    tcase_add_loop_test(tcase, whatever_is_before_all_names_is_replaced, 0,
                        sizeof prefixes / sizeof prefixes[0]);
    tcase_add_test(tcase, wrappers_of_layers_are_left_out);
    tcase_add_test(tcase, two_models_and_doubles_are_refused);
    tcase_add_test(tcase, a_missing_bias_of_the_convolution_is_zero);
    tcase_add_test(tcase, biases_of_projections_are_refused);
    tcase_add_loop_test(tcase, rows_beyond_the_bytes_are_cut, 0,
                        sizeof vocabularies / sizeof vocabularies[0]);
    tcase_add_loop_test(tcase, a_tokenizer_of_bytes_explains_further_rows, 0,
                        2);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
