/* check_linear_classifier.c -- a linear classifier comes back from its file,
 * and no other file is taken for one.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "classify/example_sets.h"
#include "classify/examples.h"
#include "classify/gram_words.h"
#include "classify/linear_classifier_file.h"
#include "classify/regression.h"
#include "engine/engine.h"
#include "engine/pooled.h"
#include "tiny_model.h"

#include "runner.h" /* last */

enum { N_LABELS = 3, N_MAX = 512, N_GRAMS = 40 };

static struct tiny_model tiny;
static struct linear_classifier linear;
static char path[] = "check_linear_classifier.XXXXXX";
static char *labels[] = {"a b", "code:c", "\xc3\xa9"};

static void set_up(void)
{
    static float mean[N_MAX], inverse[N_MAX], w[(N_MAX + 1) * N_LABELS];
    struct tiny_spec spec = tiny_spec_make(32, 2, 1);
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(tiny_model_open(&tiny, &spec), OK);
    int n = (int)pooled_floats(&tiny.model->config);
    ck_assert_int_le(n, N_MAX);
    linear = (struct linear_classifier){.labels = labels,
                                        .n_labels = N_LABELS,
                                        .n_features = n,
                                        .mean = mean,
                                        .inverse = inverse,
                                        .w = w,
                                        .ease = 0.75f,
                                        .temperature = 1.25};
    for (int i = 0; i < n; i++) {
        mean[i] = (float)(i % 7) * 0.25f;
        inverse[i] = 1 + (float)(i % 3);
        for (int k = 0; k < N_LABELS; k++)
            w[i * N_LABELS + k] = (float)(((i + k) * 37) % 255 - 127);
    }
    for (int k = 0; k < N_LABELS; k++) {
        w[k] = 127; /* so that the scale is 1 and nothing is rounded */
        w[n * N_LABELS + k] = 0.1f * (float)k;
    }
    ck_assert_int_eq(grams_open(&linear.grams, N_GRAMS, N_GRAMS, N_LABELS), OK);
    for (int i = 0; i < N_GRAMS; i++) {
        linear.grams.keys[i] = gram_word_key((uint32_t)i * 417 + 5);
        linear.grams.starts[i + 1] = (uint32_t)i + 1;
        linear.grams.pairs[i].label = (uint16_t)(i % N_LABELS);
        linear.grams.pairs[i].level = (uint8_t)(i % GRAM_LEVELS);
    }
    for (int k = 0; k < N_LABELS; k++)
        linear.grams.shifts[k] = (float)k - 0.5f;
    grams_index(&linear.grams);
    linear_classifier_name_model(&linear, tiny.model);
}

static void tear_down(void)
{
    tiny_model_close(&tiny);
    grams_close(&linear.grams);
    unlink(path);
    strcpy(strrchr(path, '.'), ".XXXXXX");
}

START_TEST(a_classifier_comes_back)
{
    struct linear_classifier back;
    size_t n = (size_t)linear.n_features;
    ck_assert_int_eq(linear_classifier_save(&linear, path), OK);
    ck_assert_int_eq(linear_classifier_load(&back, path), OK);
    ck_assert_int_eq(back.n_labels, N_LABELS);
    for (int k = 0; k < N_LABELS; k++)
        ck_assert_str_eq(back.labels[k], labels[k]);
    ck_assert_int_eq(back.n_features, linear.n_features);
    ck_assert_double_eq(back.temperature, 1.25);
    ck_assert_mem_eq(back.mean, linear.mean, n * sizeof(float));
    ck_assert_mem_eq(back.inverse, linear.inverse, n * sizeof(float));
    ck_assert_mem_eq(back.w, linear.w, (n + 1) * N_LABELS * sizeof(float));
    ck_assert_float_eq(back.ease, 0.75f);
    for (uint32_t i = 0; i < N_GRAMS; i++) {
        uint32_t gram = gram_words_find(back.grams.words,
                                        gram_word_of(linear.grams.keys[i]));
        ck_assert_uint_ne(gram, GRAM_NONE);
        ck_assert_uint_eq(back.grams.pairs[back.grams.starts[gram]].level,
                          linear.grams.pairs[i].level);
    }
    ck_assert_mem_eq(back.grams.shifts, linear.grams.shifts,
                     N_LABELS * sizeof(float));
    ck_assert_int_eq(linear_classifier_check_model(&back, path, tiny.model),
                     OK);
    linear_classifier_free(&back);
}
END_TEST

/* Then no model is needed. */
START_TEST(a_classifier_may_have_no_features)
{
    struct linear_classifier back, plain = linear;
    float logits[2][N_LABELS], evidence[N_LABELS] = {1, -2, 3};
    plain.n_features = 0;
    ck_assert_int_eq(linear_classifier_save(&plain, path), OK);
    ck_assert_int_eq(linear_classifier_load(&back, path), OK);
    ck_assert_int_eq(back.n_features, 0);
    ck_assert_int_eq(linear_classifier_check_model(&back, path, tiny.model),
                     OK);
    linear_classifier_compute(&plain, logits[0], NULL, evidence, 0, 1);
    linear_classifier_compute(&back, logits[1], NULL, evidence, 0, 1);
    ck_assert_mem_eq(logits[0], logits[1], sizeof logits[0]);
    linear_classifier_free(&back);
}
END_TEST

START_TEST(records_do_not_disturb_each_other)
{
    size_t n = (size_t)linear.n_features;
    float *x = malloc(9 * n * sizeof *x), *alone = malloc(n * sizeof *alone);
    float together[9 * N_LABELS], one[N_LABELS], evidence[9 * N_LABELS];
    for (size_t i = 0; i < 9 * n; i++)
        x[i] = (float)(i * 31 % 101) * 0.01f;
    for (size_t i = 0; i < 9 * N_LABELS; i++)
        evidence[i] = (float)(i * 7 % 11);
    memcpy(alone, x + 5 * n, n * sizeof *x);
    linear_classifier_compute(&linear, together, x, evidence, 0, 9);
    linear_classifier_compute(&linear, one, alone, evidence + 5 * N_LABELS, 0,
                              1);
    ck_assert_mem_eq(together + 5 * N_LABELS, one, sizeof one);
    free(x);
    free(alone);
}
END_TEST

START_TEST(that_of_another_model_is_refused)
{
    struct tiny_model other;
    struct tiny_spec spec = tiny_spec_make(32, 2, 2);
    ck_assert_int_eq(tiny_model_open(&other, &spec), OK);
    ck_assert_int_eq(
        linear_classifier_check_model(&linear, "x.head", other.model), E_MODEL);
    ck_assert_ptr_nonnull(strstr(status_message(), "x.head: a head for"));
    tiny_model_close(&other);
}
END_TEST

/* ---- damage ------------------------------------------------------------- */

struct file {
    uint8_t bytes[1 << 16];
    size_t n;
};

static struct file read_file(void)
{
    static struct file file;
    FILE *in = fopen(path, "rb");
    ck_assert_ptr_nonnull(in);
    file.n = fread(file.bytes, 1, sizeof file.bytes, in);
    ck_assert_uint_lt(file.n, sizeof file.bytes);
    fclose(in);
    return file;
}

static uint8_t *find(struct file *file, const char *text)
{
    uint8_t *at = memmem(file->bytes, file->n, text, strlen(text));
    ck_assert_ptr_nonnull(at);
    return at;
}

static void replace(struct file *file, const char *text, const char *other)
{
    ck_assert_uint_eq(strlen(text), strlen(other));
    memcpy(find(file, text), other, strlen(other));
}

/* Refuses the file, with the sentence, when text is replaced by other.  Without
 * its checksum, which would be wrong. */
static void refuses(const char *text, const char *other, const char *sentence)
{
    struct linear_classifier bad;
    ck_assert_int_eq(linear_classifier_save(&linear, path), OK);
    struct file file = read_file();
    replace(&file, "\"checksum\"", "\"unknown!\"");
    replace(&file, text, other);
    ck_assert_int_eq(
        linear_classifier_load_memory(&bad, "bad", file.bytes, file.n),
        E_MODEL);
    ck_assert_ptr_null(bad.labels);
    ck_assert_msg(strstr(status_message(), sentence) != NULL, "%s",
                  status_message());
}

START_TEST(other_files_are_refused)
{
    struct linear_classifier bad;
    refuses("mambyte-head", "mambyte-heap", "bad: is not a head");
    refuses("\"format\"", "\"formal\"", "no \"format\"");
    refuses("\"version\":\"4\"", "\"version\":\"2\"", "another version than 4");
    refuses("1.25", "-1.2", "temperature");
    refuses("1.25", "1.2x", "temperature");
    refuses("\\\"a b\\\"", "\\\"z b\\\"", "not sorted");
    refuses("\\\"a b\\\"", "\\\"\\\\n\\\"", "control character");
    refuses("\\\"a b\\\"", "  [  ] ", "not a string");
    refuses("\"inverse\"", "\"inverts\"", "no tensor inverse");
    refuses("\"bias\"", "\"bios\"", "no tensor bias");
    refuses("\"grams\"", "\"trams\"", "no tensor grams");
    refuses("\"gram_shift\"", "\"gram_shirt\"", "no tensor gram_shift");
    refuses("\"gram_ease\"", "\"gram_easy\"", "no tensor gram_ease");
    ck_assert_int_eq(
        linear_classifier_load_memory(&bad, "tiny", tiny.bytes,
                                      safetensors_file_size(tiny.model->file)),
        E_MODEL);
    ck_assert_ptr_nonnull(strstr(status_message(), "tiny: is not a head"));
    ck_assert_int_eq(linear_classifier_load(&bad, "/no/such.head"), E_IO);
}
END_TEST

/* Heads that have no checksum are as good as ever. */
START_TEST(a_checksum_may_be_missing)
{
    struct linear_classifier found;
    ck_assert_int_eq(linear_classifier_save(&linear, path), OK);
    struct file file = read_file();
    replace(&file, "\"checksum\"", "\"unknown!\"");
    ck_assert_int_eq(
        linear_classifier_load_memory(&found, "old", file.bytes, file.n), OK);
    linear_classifier_free(&found);
}
END_TEST

/* Whether a bit of that byte may change: it is of the name of the checksum's
 * key, or of the spaces behind the header. */
static bool may_change(struct file *file, size_t i)
{
    size_t key = (size_t)(find(file, "checksum") - file->bytes);
    return (i >= key && i < key + strlen("checksum")) || file->bytes[i] == ' ';
}

START_TEST(a_flipped_bit_is_refused)
{
    struct linear_classifier bad;
    ck_assert_int_eq(linear_classifier_save(&linear, path), OK);
    struct file file = read_file();
    for (size_t i = 0; i < file.n; i++) {
        bool is_free = may_change(&file, i);
        file.bytes[i] ^= (uint8_t)(1 << i % 8);
        enum status status =
            linear_classifier_load_memory(&bad, "bad", file.bytes, file.n);
        ck_assert_msg(status != OK || is_free, "byte %zu", i);
        file.bytes[i] ^= (uint8_t)(1 << i % 8);
        linear_classifier_free(&bad);
    }
    file.bytes[file.n - 1] ^= 1;
    linear_classifier_load_memory(&bad, "bad", file.bytes, file.n);
    ck_assert_str_eq(status_message(),
                     "bad: the file is damaged: its checksum differs");
}
END_TEST

START_TEST(what_is_no_number_is_refused)
{
    struct linear_classifier bad;
    float *const places[] = {&linear.mean[3], &linear.inverse[0],
                             &linear.w[linear.n_features * N_LABELS + 1],
                             &linear.grams.shifts[1], &linear.ease};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        float kept = *places[i];
        *places[i] = i == 1 ? INFINITY : NAN;
        ck_assert_int_eq(linear_classifier_save(&linear, path), OK);
        *places[i] = kept;
        ck_assert_int_eq(linear_classifier_load(&bad, path), E_MODEL);
        ck_assert_ptr_nonnull(strstr(status_message(), "finite number"));
    }
}
END_TEST

/* ---- examples ----------------------------------------------------------- */

static enum status read_examples(struct examples *examples, const char *text)
{
    FILE *out = fopen(path, "wb");
    ck_assert_ptr_nonnull(out);
    fputs(text, out);
    fclose(out);
    return examples_read(examples, path);
}

START_TEST(examples_have_two_forms)
{
    struct examples e;
    ck_assert_int_eq(read_examples(&e, "b\tone\n__label__a two words\n"
                                       "b\tone\na\tone\nb\t\nc d\tx\ty"),
                     OK);
    ck_assert_uint_eq(e.n, 5);
    ck_assert_uint_eq(e.n_empty, 1);
    ck_assert_int_eq(e.n_labels, 3);
    ck_assert_str_eq(e.labels[2], "c d");
    ck_assert_int_eq(e.items[1].label, 0);
    ck_assert_mem_eq(e.items[1].text, "two words", 9);
    ck_assert_mem_eq(e.items[4].text, "x\ty", 3);
    ck_assert_int_eq(examples_drop(&e), OK);
    ck_assert_uint_eq(e.n, 4);
    ck_assert_uint_eq(e.n_duplicates, 1);
    ck_assert_uint_eq(e.n_conflicts, 1);
    ck_assert_int_eq(e.items[2].label, 0);
    examples_free(&e);
}
END_TEST

START_TEST(a_mark_and_blank_lines_are_left_out)
{
    struct examples e;
    ck_assert_int_eq(read_examples(&e, "\xef\xbb\xbf"
                                       "a\tone\n\n \r\nb\ttwo\n"
                                       "\t\t\r\na\t \r\nb\t\t\n\n"),
                     OK);
    ck_assert_uint_eq(e.n, 2);
    ck_assert_uint_eq(e.n_empty, 6);
    ck_assert_str_eq(e.labels[0], "a");
    ck_assert_str_eq(e.labels[1], "b");
    examples_free(&e);
    ck_assert_int_eq(read_examples(&e, "\xef\xbb\xbf\n"), E_FORMAT);
    ck_assert_ptr_nonnull(strstr(status_message(), "there are no records"));
    ck_assert_int_eq(read_examples(&e, "a\tone\n\nno tab\n"), E_FORMAT);
    ck_assert_ptr_nonnull(strstr(status_message(), "line 3: there is no"));
}
END_TEST

START_TEST(examples_are_held_out_and_cut)
{
    struct examples e;
    char text[1000] = "";
    size_t n_fit;
    for (int i = 0; i < 20; i++)
        snprintf(text + strlen(text), 40, "%c\t%c0123456789abcdef\n",
                 i % 2 ? 'b' : 'a', 'A' + i);
    ck_assert_int_eq(read_examples(&e, text), OK);
    ck_assert_int_eq(sets_hold_out(&e, &n_fit), OK);
    ck_assert_uint_eq(n_fit, 18);
    ck_assert_int_eq(e.items[18].text[0], 'A' + 8); /* the fifth of a */
    ck_assert_int_eq(e.items[19].text[0], 'A' + 9);
    ck_assert_int_eq(sets_add_cuts(&e), OK);
    ck_assert_uint_eq(e.n, 20 + 15); /* 2 bytes are too few, 4 are not */
    ck_assert_uint_eq(e.items[20].n, 4);
    ck_assert_uint_eq(e.items[21].n, 6);
    ck_assert_uint_eq(e.items[22].n, 8);
    ck_assert_ptr_eq(e.items[20].text, e.items[1].text);
    ck_assert(e.items[19].weight == 1 && e.items[20].weight < 1);
    examples_free(&e);
}
END_TEST

START_TEST(examples_without_labels_are_refused)
{
    static const char *const bad[][2] = {
        {"a\tx\nno tab\n", "line 2: there is no label"},
        {"\tx\n", "line 1: a label is empty"},
        {"__label__ x\n", "line 1: a label is empty"},
        {"-\tx\n", "line 1: '-' is not a label"},
        {"\x01\tx\n", "line 1: a label has a control character"},
        {"\xff\tx\n", "line 1: a label is not UTF-8"},
        {"__label__a __label__b x\n", "line 1: a second label"},
        {"", "there are no records"},
        {"a\t\n", "there are no records"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct examples e;
        ck_assert_int_eq(read_examples(&e, bad[i][0]), E_FORMAT);
        ck_assert_ptr_null(e.items);
        ck_assert_msg(strstr(status_message(), bad[i][1]) != NULL, "%s",
                      status_message());
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("linear_classifier");
    TCase *tests = tcase_create("tests");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_classifier_comes_back);
    tcase_add_test(tests, a_classifier_may_have_no_features);
    tcase_add_test(tests, records_do_not_disturb_each_other);
    tcase_add_test(tests, that_of_another_model_is_refused);
    tcase_add_test(tests, other_files_are_refused);
    tcase_add_test(tests, a_checksum_may_be_missing);
    tcase_add_test(tests, a_flipped_bit_is_refused);
    tcase_add_test(tests, what_is_no_number_is_refused);
    tcase_add_test(tests, examples_have_two_forms);
    tcase_add_test(tests, a_mark_and_blank_lines_are_left_out);
    tcase_add_test(tests, examples_are_held_out_and_cut);
    tcase_add_test(tests, examples_without_labels_are_refused);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
