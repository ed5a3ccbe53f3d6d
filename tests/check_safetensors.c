/* check_safetensors.c -- good files are listed, every other one is refused
 * with its sentence.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/little_endian.h"
#include "model/safetensors.h"

#include "runner.h" /* last */

/* ---- images ----------------------------------------------------------- */

/* A file in memory: length, header, n_data bytes 0, 1, 2, .. */
static uint8_t *make_image(size_t *n, const char *header, size_t n_data)
{
    size_t n_header = strlen(header);
    *n = 8 + n_header + n_data;
    uint8_t *bytes = malloc(*n);
    store_le(bytes, n_header, 8);
    memcpy(bytes + 8, header, n_header);
    for (size_t i = 0; i < n_data; i++)
        bytes[8 + n_header + i] = (uint8_t)i;
    return bytes;
}

static void assert_refused(const uint8_t *bytes, size_t n, const char *sentence)
{
    struct safetensors *file;
    enum status status = safetensors_open_memory(&file, "t", bytes, n);
    ck_assert_int_eq(status, E_MODEL);
    ck_assert_ptr_null(file);
    ck_assert_str_eq(status_message(), sentence);
}

static const char *good_header =
    "{\"__metadata__\":{\"b\":\"1\",\"a\":\"\\u00e9\"},"
    "\"z\":{\"dtype\":\"I8\",\"shape\":[2,3],\"data_offsets\":[0,6]},"
    "\"scalar\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[10,18]},"
    "\"none\":{\"dtype\":\"I64\",\"shape\":[0,9],\"data_offsets\":[18,18]},"
    "\"a\":{\"shape\":[2,1,1,1,1,1,1,1],\"dtype\":\"BF16\","
    "\"data_offsets\":[6,10]}}  ";

enum { GOOD_DATA = 18 };

/* ---- good ------------------------------------------------------------- */

START_TEST(tensors_come_in_the_order_of_their_data)
{
    size_t n;
    uint8_t *bytes = make_image(&n, good_header, GOOD_DATA);
    struct safetensors *file;
    ck_assert_int_eq(safetensors_open_memory(&file, "t", bytes, n), OK);
    static const char *const names[] = {"z", "a", "scalar", "none"};
    static const uint8_t first[] = {0, 6, 10};
    ck_assert_uint_eq(safetensors_count(file), 4);
    for (size_t i = 0; i < 4; i++) {
        const struct tensor *t = safetensors_at(file, i);
        ck_assert_str_eq(t->name, names[i]);
        ck_assert_ptr_eq(safetensors_find(file, names[i]), t);
        if (t->n_bytes > 0)
            ck_assert_uint_eq(*(const uint8_t *)t->data, first[i]);
    }
    ck_assert_ptr_null(safetensors_find(file, "zz"));
    ck_assert_ptr_null(safetensors_find(file, ""));
    ck_assert_ptr_null(safetensors_find(file, "__metadata__"));
    ck_assert_str_eq(safetensors_path(file), "t");
    ck_assert_uint_eq(safetensors_file_size(file), n);
    safetensors_close(file);
    free(bytes);
}
END_TEST

START_TEST(a_tensor_knows_its_size)
{
    size_t n;
    uint8_t *bytes = make_image(&n, good_header, GOOD_DATA);
    struct safetensors *file;
    ck_assert_int_eq(safetensors_open_memory(&file, "t", bytes, n), OK);
    const struct tensor *a = safetensors_find(file, "a");
    ck_assert_int_eq(a->dtype, DTYPE_BF16);
    ck_assert_int_eq(a->n_dims, 8);
    ck_assert_uint_eq(a->n_elements, 2);
    ck_assert_uint_eq(a->n_bytes, 4);
    const struct tensor *scalar = safetensors_find(file, "scalar");
    ck_assert_int_eq(scalar->n_dims, 0);
    ck_assert_uint_eq(scalar->n_elements, 1);
    ck_assert_uint_eq(safetensors_find(file, "none")->n_elements, 0);
    safetensors_close(file);
    free(bytes);
}
END_TEST

START_TEST(metadata_keep_their_order)
{
    size_t n;
    uint8_t *bytes = make_image(&n, good_header, GOOD_DATA);
    struct safetensors *file;
    ck_assert_int_eq(safetensors_open_memory(&file, "t", bytes, n), OK);
    ck_assert_str_eq(safetensors_metadata_key(file, 0), "b");
    ck_assert_str_eq(safetensors_metadata_key(file, 1), "a");
    ck_assert_ptr_null(safetensors_metadata_key(file, 2));
    ck_assert_str_eq(safetensors_metadata(file, "b"), "1");
    ck_assert_str_eq(safetensors_metadata(file, "a"), "\xc3\xa9");
    ck_assert_ptr_null(safetensors_metadata(file, "c"));
    safetensors_close(file);
    free(bytes);
}
END_TEST

START_TEST(a_file_without_tensors_is_good)
{
    size_t n;
    uint8_t *bytes = make_image(&n, "{}", 0);
    struct safetensors *file;
    ck_assert_int_eq(safetensors_open_memory(&file, "t", bytes, n), OK);
    ck_assert_uint_eq(safetensors_count(file), 0);
    ck_assert_ptr_null(safetensors_find(file, "a"));
    ck_assert_ptr_null(safetensors_metadata(file, "a"));
    ck_assert_ptr_null(safetensors_metadata_key(file, 0));
    safetensors_close(file);
    safetensors_close(NULL);
    free(bytes);
}
END_TEST

START_TEST(tensors_are_described)
{
    char text[160];
    struct tensor t = {.dtype = DTYPE_I8, .n_dims = 2, .shape = {2048, 512}};
    ck_assert_str_eq(tensor_describe(&t, text), "I8 [2048][512]");
    t.n_dims = 0;
    ck_assert_str_eq(tensor_describe(&t, text), "I8 scalar");
    t.n_dims = TENSOR_MAX_DIMS;
    for (int i = 0; i < TENSOR_MAX_DIMS; i++)
        t.shape[i] = UINT64_MAX;
    ck_assert_uint_eq(strlen(tensor_describe(&t, text)), 159);
    for (int i = DTYPE_I8; i <= DTYPE_BOOL; i++)
        ck_assert_uint_le(dtype_size((enum dtype)i), 8);
    ck_assert_str_eq(dtype_name(DTYPE_BOOL), "BOOL");
}
END_TEST

/* ---- bad headers ------------------------------------------------------ */

#define ENTRY(dtype, shape, offsets)                                           \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape                             \
    ",\"data_offsets\":" offsets "}}"
#define PAIR(first, second)                                                    \
    "{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":" first "},"      \
    "\"b\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":" second "}}"

static const struct {
    const char *header;
    size_t n_data;
    const char *sentence;
} bad_headers[] = {
    {"", 0, "t: not a safetensors file: header does not begin with {"},
    {" {}", 0, "t: not a safetensors file: header does not begin with {"},
    {"{\"__metadata__\":[]}", 0, "t: __metadata__ is not an object"},
    {"{\"__metadata__\":{\"a\":1}}", 0,
     "t: __metadata__: the value of \"a\" is not a string"},
    {"{\"\":{}}", 0,
     "t: a tensor's name is not 1 to 255 printable ASCII characters"},
    {"{\"\\u001b\":{}}", 0,
     "t: a tensor's name is not 1 to 255 printable ASCII characters"},
    {"{\"a\":{}}", 0,
     "t: a: the entry is not an object of dtype, shape and "
     "data_offsets"},
    {"{\"a\":[]}", 0,
     "t: a: the entry is not an object of dtype, shape and "
     "data_offsets"},
    {"{\"a\":{\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[0,1],\"x\":1}}",
     1, "t: a: the entry is not an object of dtype, shape and data_offsets"},
    {ENTRY("1", "[]", "[0,1]"), 1, "t: a: dtype is not a string"},
    {ENTRY("\"F8_E4M3\"", "[1]", "[0,1]"), 1,
     "t: a: unknown dtype \"F8_E4M3\""},
    {ENTRY("\"\\u001b[2J\"", "[1]", "[0,1]"), 1,
     "t: a: unknown dtype \"?[2J\""},
    {ENTRY("\"I8\"", "4", "[0,4]"), 4, "t: a: shape is not an array"},
    {ENTRY("\"I8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1,
     "t: a: 9 dimensions, at most 8 are possible"},
    {ENTRY("\"I8\"", "[2,-2]", "[0,4]"), 4,
     "t: a: dimension 1 of the shape is not a whole number from 0 up"},
    {ENTRY("\"I8\"", "[4.0]", "[0,4]"), 4,
     "t: a: dimension 0 of the shape is not a whole number from 0 up"},
    {ENTRY("\"I8\"", "[\"4\"]", "[0,4]"), 4,
     "t: a: dimension 0 of the shape is not a whole number from 0 up"},
    {ENTRY("\"I8\"", "[4294967296,4294967296]", "[0,0]"), 0,
     "t: a: the product of the shape overflows"},
    {ENTRY("\"F32\"", "[4611686018427387904]", "[0,0]"), 0,
     "t: a: the product of the shape overflows"},
    {ENTRY("\"I8\"", "[4]", "4"), 4,
     "t: a: data_offsets are not two whole numbers from 0 up"},
    {ENTRY("\"I8\"", "[4]", "[0,4,4]"), 4,
     "t: a: data_offsets are not two whole numbers from 0 up"},
    {ENTRY("\"I8\"", "[4]", "[-4,0]"), 4,
     "t: a: data_offsets are not two whole numbers from 0 up"},
    {ENTRY("\"I8\"", "[4]", "[0.0,4.0]"), 4,
     "t: a: data_offsets are not two whole numbers from 0 up"},
    {ENTRY("\"I8\"", "[4]", "[4,0]"), 4,
     "t: a: data begin at 4 and end before, at 0"},
    {ENTRY("\"I8\"", "[4]", "[0,9223372036854775807]"), 4,
     "t: a: data end at 9223372036854775807, the file has 4 bytes of data"},
    {ENTRY("\"F32\"", "[4]", "[0,4]"), 4,
     "t: a: F32 [4] needs 16 bytes, data_offsets give 4"},
    {ENTRY("\"I8\"", "[4]", "[1,5]"), 5,
     "t: a: data begin at 1, after a hole that begins at 0"},
    {ENTRY("\"I8\"", "[4]", "[0,4]"), 5,
     "t: the tensors end at 4, the file has 5 bytes of data"},
    {PAIR("[0,4]", "[5,9]"), 9,
     "t: b: data begin at 5, after a hole that begins at 4"},
    {PAIR("[0,4]", "[3,7]"), 8,
     "t: b: data begin at 3, inside other data that end at 4"},
    {PAIR("[0,4]", "[0,4]"), 8,
     "t: b: data begin at 0, inside other data that end at 4"},
};

/* The library says what is wrong with the JSON. */
#define BAD_JSON "header is not valid JSON at byte "

static const char *const bad_json[] = {
    "{",
    "{} {}",
    "{\"\x1b[31m",
    "{\"a\xff",
    "{\"a\":\"\\u0000\"}",
    "{\"a\":1,\"a\":2}",
    "{'a':1}",
    "{\"a\":NaN}",
    "{\"a\":01}",
    "{\"a\":[1,]}",
    "{\"a\":18446744073709551616}",
    "{\"a\":1}\\",
};

static bool is_printable(const char *text)
{
    while (*text >= ' ' && *text <= '~')
        text++;
    return *text == '\0';
}

START_TEST(bad_json_is_refused)
{
    size_t n;
    uint8_t *bytes = make_image(&n, bad_json[_i], 0);
    struct safetensors *file;
    ck_assert_int_eq(safetensors_open_memory(&file, "t", bytes, n), E_MODEL);
    ck_assert_ptr_null(file);
    ck_assert_int_eq(
        strncmp(status_message(), "t: " BAD_JSON, strlen("t: " BAD_JSON)), 0);
    ck_assert(is_printable(status_message()));
    free(bytes);
}
END_TEST

START_TEST(a_bad_header_is_refused)
{
    size_t n;
    uint8_t *bytes =
        make_image(&n, bad_headers[_i].header, bad_headers[_i].n_data);
    assert_refused(bytes, n, bad_headers[_i].sentence);
    free(bytes);
}
END_TEST

START_TEST(a_deep_header_is_refused)
{
    enum { DEPTH = 1000000 };
    char *header = malloc(DEPTH + 6);
    memcpy(header, "{\"a\":", 5);
    memset(header + 5, '[', DEPTH);
    header[DEPTH + 5] = '\0';
    size_t n;
    uint8_t *bytes = make_image(&n, header, 0);
    struct safetensors *file;
    ck_assert_int_eq(safetensors_open_memory(&file, "t", bytes, n), E_MODEL);
    free(bytes);
    free(header);
}
END_TEST

START_TEST(a_long_name_is_refused)
{
    char header[400] = "{\"";
    memset(header + 2, 'x', 256);
    strcpy(header + 258, "\":{}}");
    size_t n;
    uint8_t *bytes = make_image(&n, header, 0);
    assert_refused(bytes, n,
                   "t: a tensor's name is not 1 to 255 printable "
                   "ASCII characters");
    free(bytes);
}
END_TEST

START_TEST(a_bad_length_is_refused)
{
    static const uint8_t huge[16] = {255, 255, 255, 255, 255, 255, 255, 127};
    assert_refused(huge, sizeof huge,
                   "t: truncated, or not a safetensors file: its header "
                   "claims 9223372036854775807 bytes, the file has "
                   "16");
    assert_refused(huge, 7,
                   "t: not a safetensors file: 7 bytes long, a header needs 8");
    assert_refused(huge, 0,
                   "t: not a safetensors file: 0 bytes long, a header needs 8");
}
END_TEST

START_TEST(a_header_beyond_the_bound_is_refused)
{
    size_t n = 8 + 100000001;
    uint8_t *bytes = calloc(n, 1);
    ck_assert_ptr_nonnull(bytes);
    bytes[0] = 0x01, bytes[1] = 0xe1, bytes[2] = 0xf5, bytes[3] = 0x05;
    assert_refused(bytes, n,
                   "t: header claims 100000001 bytes, at most 100000000 are "
                   "possible");
    free(bytes);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    size_t n;
    uint8_t *bytes = make_image(&n, good_header, GOOD_DATA);
    for (size_t i = 0; i < n; i++) {
        /* A copy of exactly that length, so that a sanitizer sees a read past
         * the end. */
        uint8_t *part = malloc(i + 1);
        memcpy(part, bytes, i);
        struct safetensors *file;
        ck_assert_int_eq(safetensors_open_memory(&file, "t", part, i), E_MODEL);
        ck_assert_ptr_null(file);
        free(part);
    }
    free(bytes);
}
END_TEST

START_TEST(every_flipped_bit_is_survived)
{
    size_t n;
    uint8_t *bytes = make_image(&n, good_header, GOOD_DATA);
    for (size_t i = 0; i < 8 * n; i++) {
        struct safetensors *file;
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        enum status status = safetensors_open_memory(&file, "t", bytes, n);
        ck_assert_int_eq(status == OK, file != NULL);
        safetensors_close(file);
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    free(bytes);
}
END_TEST

/* ---- files ------------------------------------------------------------ */

/* The last message without the path that it starts with. */
static const char *sentence_after(const char *path)
{
    size_t n = strlen(path);
    ck_assert_int_eq(strncmp(status_message(), path, n), 0);
    ck_assert_int_eq(strncmp(status_message() + n, ": ", 2), 0);
    return status_message() + n + 2;
}

static const struct {
    const char *name;
    const char *sentence; /* its start; NULL for a good file */
} files[] = {
    {"good-one.safetensors", NULL},
    {"good-empty-tensor.safetensors", NULL},
    {"good-unordered.safetensors", NULL},
    {"bad-empty.safetensors", "not a safetensors file: empty"},
    {"bad-short.safetensors",
     "not a safetensors file: 5 bytes long, a header needs 8"},
    {"bad-header-length.safetensors",
     "truncated, or not a safetensors file: its header claims "
     "9223372036854775807 bytes, the file has 78"},
    {"bad-json.safetensors", BAD_JSON},
    {"bad-truncated.safetensors",
     "b: data end at 16, the file has 12 bytes of data"},
    {"bad-duplicate.safetensors", BAD_JSON},
    {"bad-overlap.safetensors",
     "b: data begin at 4, inside other data that end at 8"},
    {"bad-hole.safetensors",
     "b: data begin at 12, after a hole that begins at 8"},
    {"bad-trailing.safetensors",
     "the tensors end at 16, the file has 20 bytes of data"},
    {"bad-overflow.safetensors", "a: the product of the shape overflows"},
    {"bad-dtype.safetensors", "a: unknown dtype \"F8_E5M2\""},
};

START_TEST(files_are_accepted_or_refused)
{
    char path[DATA_PATH_CHARS];
    struct safetensors *file;
    enum status status =
        safetensors_open(&file, data_path(path, "%s", files[_i].name));
    if (files[_i].sentence) {
        ck_assert_int_eq(status, E_MODEL);
        const char *sentence = files[_i].sentence;
        ck_assert_int_eq(
            strncmp(sentence_after(path), sentence, strlen(sentence)), 0);
    } else {
        ck_assert_msg(status == OK, "%s", status_message());
    }
    safetensors_close(file);
}
END_TEST

static void assert_not_opened(const char *path, const char *sentence)
{
    struct safetensors *file;
    ck_assert_int_eq(safetensors_open(&file, path), E_IO);
    ck_assert_ptr_null(file);
    ck_assert_str_eq(sentence_after(path), sentence);
}

START_TEST(only_regular_files_are_opened)
{
    assert_not_opened("/", "is a directory, expected a regular file");
    assert_not_opened("/dev/null", "is a device, expected a regular file");
    assert_not_opened("no such file", "No such file or directory");
    char folder[] = "check_safetensors.XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    char pipe_path[64];
    snprintf(pipe_path, sizeof pipe_path, "%s/pipe", folder);
    ck_assert_int_eq(mkfifo(pipe_path, 0600), 0);
    assert_not_opened(pipe_path, "is a pipe, expected a regular file");
    unlink(pipe_path);
    rmdir(folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *good = tcase_create("good");
    tcase_add_test(good, tensors_come_in_the_order_of_their_data);
    tcase_add_test(good, a_tensor_knows_its_size);
    tcase_add_test(good, metadata_keep_their_order);
    tcase_add_test(good, a_file_without_tensors_is_good);
    tcase_add_test(good, tensors_are_described);
    suite_add_tcase(suite, good);

    TCase *bad = tcase_create("bad");
    tcase_add_loop_test(bad, a_bad_header_is_refused, 0,
                        sizeof bad_headers / sizeof bad_headers[0]);
    tcase_add_loop_test(bad, bad_json_is_refused, 0,
                        sizeof bad_json / sizeof bad_json[0]);
    tcase_add_test(bad, a_deep_header_is_refused);
    tcase_add_test(bad, a_long_name_is_refused);
    tcase_add_test(bad, a_bad_length_is_refused);
    tcase_add_test(bad, a_header_beyond_the_bound_is_refused);
    tcase_add_test(bad, every_truncation_is_refused);
    tcase_add_test(bad, every_flipped_bit_is_survived);
    suite_add_tcase(suite, bad);

    TCase *on_disk = tcase_create("files");
    tcase_add_loop_test(on_disk, files_are_accepted_or_refused, 0,
                        sizeof files / sizeof files[0]);
    tcase_add_test(on_disk, only_regular_files_are_opened);
    suite_add_tcase(suite, on_disk);
    return run_suite_here(suite);
}
