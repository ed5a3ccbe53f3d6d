/* check_loader.c -- data are found, joined and dealt out as they should be.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "own_folder.h"
#include "train/dataset.h"
#include "train/loader.h"

#include "runner.h" /* last */

static const struct file_places none;

static void open_one(struct dataset *d, const char *operand)
{
    ck_assert_msg(dataset_open(d, &operand, 1, &none) == OK, "%s",
                  status_message());
}

static void assert_refused(const char *operand, enum status status,
                           const char *sentence)
{
    struct dataset d;
    ck_assert_int_eq(dataset_open(&d, &operand, 1, &none), status);
    ck_assert_str_eq(status_message(), sentence);
    ck_assert_int_eq(d.n, 0);
}

/* ---- sources ------------------------------------------------------------ */

START_TEST(a_folder_is_its_files_in_order)
{
    struct dataset d;
    uint8_t bytes[64] = {0};
    ck_assert_int_eq(mkdir("f", 0777), 0);
    ck_assert_int_eq(mkdir("f/b", 0777), 0);
    own_folder_put_text("f/c", "third");
    own_folder_put_text("f/a", "first");
    own_folder_put("f/b/x", "second\0two\0", 11);
    own_folder_put_text("f/.hidden", "no");
    own_folder_put_text("f/empty", "");
    ck_assert_int_eq(symlink("..", "f/loop"), 0);
    ck_assert_int_eq(mkfifo("f/pipe", 0666), 0);
    open_one(&d, "f/");
    ck_assert_uint_eq(d.sources[0].n_documents, 3);
    ck_assert_uint_eq(d.sources[0].n_bytes, 23);
    data_source_read(&d.sources[0], 0, bytes, 23);
    ck_assert_mem_eq(bytes, "first\0second\0two\0third\0", 23);
    for (size_t begin = 0; begin < 23; begin++) {
        uint8_t part[23];
        data_source_read(&d.sources[0], begin, part, 23 - begin);
        ck_assert_mem_eq(part, bytes + begin, 23 - begin);
    }
    dataset_close(&d);
}
END_TEST

START_TEST(large_files_are_mapped)
{
    size_t n = 300000;
    uint8_t *bytes = malloc(n), *back = malloc(n);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(i * i >> 5 | 1);
    own_folder_put("large", bytes, n);
    struct dataset d;
    open_one(&d, "large=2.5");
    ck_assert_double_eq(d.sources[0].weight, 2.5);
    ck_assert_str_eq(d.sources[0].name, "large");
    ck_assert(d.sources[0].documents[0].is_mapped);
    ck_assert_uint_eq(d.sources[0].n_bytes, n + 1);
    data_source_read(&d.sources[0], 0, back, n);
    ck_assert_mem_eq(back, bytes, n);
    dataset_close(&d);
    free(bytes);
    free(back);
}
END_TEST

START_TEST(a_name_may_hold_an_equals_sign)
{
    struct dataset d;
    own_folder_put_text("a=3", "x");
    open_one(&d, "a=3");
    ck_assert_double_eq(d.sources[0].weight, 0);
    dataset_close(&d);
    open_one(&d, "a=3=7");
    ck_assert_double_eq(d.sources[0].weight, 7);
    dataset_close(&d);
    open_one(&d, "a=3=5e-1");
    ck_assert_double_eq(d.sources[0].weight, 0.5);
    dataset_close(&d);
}
END_TEST

START_TEST(what_is_not_there_is_refused)
{
    ck_assert_int_eq(mkdir("none", 0777), 0);
    own_folder_put_text("empty", "");
    assert_refused("nowhere", E_IO, "nowhere: No such file or directory");
    assert_refused("none", E_IO, "none: there are no bytes to learn from");
    assert_refused("empty", E_IO, "empty: there are no bytes to learn from");
    assert_refused("empty=x", E_USAGE,
                   "'empty=x': the weight is not a number from 1e-30 to 1e30");
    assert_refused("empty=0", E_USAGE,
                   "'empty=0': the weight is not a number from 1e-30 to 1e30");
    assert_refused(
        "empty=nan", E_USAGE,
        "'empty=nan': the weight is not a number from 1e-30 to 1e30");
    assert_refused("empty=1e31", E_USAGE,
                   "'empty=1e31': the weight is not a number from 1e-30 to "
                   "1e30");
}
END_TEST

START_TEST(data_that_change_are_noticed)
{
    struct dataset d;
    own_folder_put_text("x", "some text");
    open_one(&d, "x");
    uint64_t before = dataset_fingerprint(&d, false);
    dataset_close(&d);
    open_one(&d, "x=3");
    ck_assert_uint_eq(dataset_fingerprint(&d, false), before);
    dataset_close(&d);
    own_folder_put_text("x", "some test");
    open_one(&d, "x");
    ck_assert_uint_ne(dataset_fingerprint(&d, false), before);
    dataset_close(&d);
}
END_TEST

/* ---- windows ------------------------------------------------------------ */

enum { N_WINDOWS = 5, LENGTH = 7, CARRY = 4 };

/* A file in which each byte and the three after it tell where they are. */
static void write_counter(const char *path, size_t n)
{
    uint8_t *bytes = malloc(n);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(1 + (i * 7 + i / 250) % 250);
    own_folder_put(path, bytes, n);
    free(bytes);
}

static void open_counter(struct dataset *d, struct loader *l, int begin_byte)
{
    struct loader_options options = {N_WINDOWS,  LENGTH, CARRY,
                                     begin_byte, 3,      1 << 20};
    write_counter("counter", 60000);
    open_one(d, "counter");
    ck_assert_msg(loader_open(l, d, &options) == OK, "%s", status_message());
}

/* Windows follow each other: the last byte of one is the first of the next,
 * unless that starts a passage. */
START_TEST(windows_follow_each_other)
{
    struct dataset d;
    struct loader l;
    uint8_t last[N_WINDOWS] = {0};
    int n_begins = 0;
    int begin_byte = _i == 0 ? 0 : -1;
    open_counter(&d, &l, begin_byte);
    for (uint64_t step = 0; step < 40; step++) {
        struct windows windows = loader_windows(&l, step);
        for (int w = 0; w < N_WINDOWS; w++) {
            const uint8_t *bytes = windows.bytes + w * (LENGTH + 1);
            n_begins += windows.begins[w];
            if (!windows.begins[w])
                ck_assert_uint_eq(bytes[0], last[w]);
            else if (begin_byte >= 0)
                ck_assert_uint_eq(bytes[0], 0);
            last[w] = bytes[LENGTH];
        }
        ck_assert(step > 0 || n_begins == N_WINDOWS);
    }
    /* ten passages a stream, and those for which the shorter first ones leave
     * room */
    ck_assert_int_ge(n_begins, 40 / CARRY * N_WINDOWS);
    ck_assert_int_le(n_begins, (40 / CARRY + 1) * N_WINDOWS);
    loader_close(&l);
    dataset_close(&d);
}
END_TEST

START_TEST(a_step_has_the_same_windows_always)
{
    struct dataset d;
    struct loader l;
    uint8_t first[N_WINDOWS * (LENGTH + 1)];
    open_counter(&d, &l, 0);
    memcpy(first, loader_windows(&l, 17).bytes, sizeof first);
    loader_windows(&l, 3);
    ck_assert_mem_eq(loader_windows(&l, 17).bytes, first, sizeof first);
    ck_assert(memcmp(loader_windows(&l, 21).bytes, first, sizeof first) != 0);
    loader_close(&l);
    dataset_close(&d);
}
END_TEST

/* Of 60001 bytes the last 4096 are never seen; what was drawn goes on at the
 * start. */
START_TEST(held_out_bytes_are_not_dealt)
{
    struct dataset d;
    struct loader_options options = {4, 5000, 16, 0, 3, 1 << 20};
    struct loader l;
    uint8_t *bytes = malloc(60000);
    memset(bytes, 'a', 60000);
    memset(bytes + (60001 - 4096), 'b', 4095);
    own_folder_put("x", bytes, 60000);
    open_one(&d, "x");
    ck_assert_int_eq(loader_open(&l, &d, &options), OK);
    ck_assert_uint_eq(l.n_bytes[0], 60001 - 4096);
    for (uint64_t step = 0; step < 40; step++) {
        struct windows windows = loader_windows(&l, step);
        ck_assert_ptr_null(memchr(windows.bytes, 'b', 4 * 5001));
    }
    loader_close(&l);
    dataset_close(&d);
    free(bytes);
}
END_TEST

START_TEST(weights_are_shares)
{
    const char *const operands[] = {"x=3", "y"};
    struct dataset d;
    struct loader l;
    struct loader_options options = {100, 10, 1, -1, 5, 0};
    uint8_t bytes[3000];
    int n_x = 0;
    memset(bytes, 'x', sizeof bytes);
    own_folder_put("x", bytes, 100);
    memset(bytes, 'y', sizeof bytes);
    own_folder_put("y", bytes, 3000);
    ck_assert_int_eq(dataset_open(&d, operands, 2, &none), OK);
    ck_assert_int_eq(loader_open(&l, &d, &options), OK);
    for (uint64_t step = 0; step < 20; step++) {
        struct windows windows = loader_windows(&l, step);
        for (int w = 0; w < 100; w++)
            n_x += memchr(windows.bytes + w * 11, 'x', 11) != NULL;
    }
    ck_assert_int_ge(n_x, 1400);
    ck_assert_int_le(n_x, 1600);
    loader_close(&l);
    dataset_close(&d);
}
END_TEST

START_TEST(data_shorter_than_a_window_are_refused)
{
    struct dataset d;
    struct loader l;
    struct loader_options options = {1, 512, 1, 0, 0, 1 << 18};
    own_folder_put_text("short", "not much");
    open_one(&d, "short");
    ck_assert_int_eq(loader_open(&l, &d, &options), E_IO);
    ck_assert_str_eq(status_message(),
                     "short: has 9 bytes to learn from, less than a window of "
                     "512");
    dataset_close(&d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loader");
    TCase *data = tcase_create("data");
    tcase_add_checked_fixture(data, own_folder_enter, own_folder_leave);
    tcase_add_test(data, a_folder_is_its_files_in_order);
    tcase_add_test(data, large_files_are_mapped);
    tcase_add_test(data, a_name_may_hold_an_equals_sign);
    tcase_add_test(data, what_is_not_there_is_refused);
    tcase_add_test(data, data_that_change_are_noticed);
    tcase_add_loop_test(data, windows_follow_each_other, 0, 2);
    tcase_add_test(data, a_step_has_the_same_windows_always);
    tcase_add_test(data, held_out_bytes_are_not_dealt);
    tcase_add_test(data, weights_are_shares);
    tcase_add_test(data, data_shorter_than_a_window_are_refused);
    suite_add_tcase(suite, data);
    return run_suite(suite);
}
