/* check_snapshot.c -- a state survives a file; a damaged, foreign or
 * unfinished file is refused, and a failed write leaves what was there.
 *
 * SPDX-License-Identifier: MIT
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/exact.h"
#include "engine/snapshot.h"
#include "own_folder.h"

#include "runner.h" /* last */

enum { N_FLOATS = 5, FILE_BYTES = 56 + 4 * N_FLOATS + 8 };

static const struct fingerprint model = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};

/* 0, -0, 1.5, infinity, a NaN with a payload: all come back as they were. */
static const uint32_t float_bits[N_FLOATS] = {0, 0x80000000u, 0x3fc00000u,
                                              0x7f800000u, 0x7fc12345u};

static void save(const char *path)
{
    float floats[N_FLOATS];
    memcpy(floats, float_bits, sizeof floats);
    struct snapshot snapshot = {model, 123456789012345u, N_FLOATS, 0, floats};
    ck_assert_msg(snapshot_save(path, &snapshot) == OK, "%s", status_message());
}

static enum status try_save(const char *path)
{
    float floats[N_FLOATS] = {0};
    struct snapshot snapshot = {model, 1, N_FLOATS, 0, floats};
    return snapshot_save(path, &snapshot);
}

/* The bytes of a file, room for some more. */
static size_t read_bytes(uint8_t bytes[FILE_BYTES + 8], const char *path)
{
    FILE *in = fopen(path, "rb");
    ck_assert_ptr_nonnull(in);
    size_t n = fread(bytes, 1, FILE_BYTES + 8, in);
    fclose(in);
    return n;
}

static void assert_as_saved(const char *path)
{
    struct snapshot snapshot;
    enum status status = snapshot_load(&snapshot, path, &model, N_FLOATS, 0);
    ck_assert_msg(status == OK, "%s", status_message());
    ck_assert_mem_eq(snapshot.model.bytes, model.bytes, sizeof model.bytes);
    ck_assert_uint_eq(snapshot.n_bytes, 123456789012345u);
    ck_assert_uint_eq(snapshot.n_floats, N_FLOATS);
    ck_assert_mem_eq(snapshot.floats, float_bits, sizeof float_bits);
    snapshot_free(&snapshot);
    ck_assert_ptr_null(snapshot.floats);
}

static void assert_refused(const char *path, const char *sentence)
{
    struct snapshot snapshot;
    ck_assert_int_eq(snapshot_load(&snapshot, path, &model, N_FLOATS, 0),
                     E_FORMAT);
    ck_assert_ptr_null(snapshot.floats);
    ck_assert_int_eq(strncmp(status_message(), path, strlen(path)), 0);
    ck_assert_str_eq(status_message() + strlen(path), sentence);
}

/* ---- round trips ------------------------------------------------------- */

START_TEST(a_state_comes_back_bit_for_bit)
{
    save("s");
    assert_as_saved("s");
    ck_assert_int_eq(own_folder_count(), 1);
    save("s");
    assert_as_saved("s");
    ck_assert_int_eq(own_folder_count(), 1);
}
END_TEST

START_TEST(the_bytes_are_as_specified)
{
    uint8_t bytes[FILE_BYTES + 8];
    static const uint8_t begin[16] = {'M', 'B', 'Y', 'T', 'S',
                                      'T', 'A', 'T', 1};
    static const uint8_t counts[16] = {0x79, 0xdf, 0x0d, 0x86,    0x48,
                                       0x70, 0,    0,    N_FLOATS};
    save("s");
    ck_assert_uint_eq(read_bytes(bytes, "s"), FILE_BYTES);
    ck_assert_mem_eq(bytes, begin, 16);
    ck_assert_mem_eq(bytes + 16, model.bytes, 16);
    ck_assert_mem_eq(bytes + 32, counts, 16);
    static const uint8_t floats[12] = {0, 0,    0, 0, 0,    0,
                                       0, 0x80, 0, 0, 0xc0, 0x3f};
    ck_assert_mem_eq(bytes + 56, floats, 12);
}
END_TEST

/* What version 1 wrote is read by every later version. */
START_TEST(the_golden_file_is_read)
{
    char path[DATA_PATH_CHARS];
    assert_as_saved(data_path(path, "good-v1.state"));
}
END_TEST

START_TEST(a_large_state_comes_back)
{
    enum { N = 1000003 };
    float *floats = malloc(N * sizeof *floats);
    for (uint32_t i = 0; i < N; i++)
        floats[i] = exact_float(i * 2654435761u);
    struct snapshot snapshot = {model, UINT64_MAX, N, 0, floats}, back;
    ck_assert_int_eq(snapshot_save("s", &snapshot), OK);
    ck_assert_int_eq(snapshot_load(&back, "s", &model, N, 0), OK);
    ck_assert_uint_eq(back.n_bytes, UINT64_MAX);
    ck_assert_mem_eq(back.floats, floats, N * sizeof *floats);
    snapshot_free(&back);
    free(floats);
}
END_TEST

/* ---- what is refused ---------------------------------------------------- */

static const struct {
    const char *name;
    const char *sentence;
} bad_files[] = {
    {"bad-empty.state", ": not a state snapshot"},
    {"bad-magic.state", ": not a state snapshot"},
    {"bad-truncated.state", ": state snapshot is truncated: 83 bytes, "
                            "expected 84"},
    {"bad-truncated-header.state", ": state snapshot is truncated: 55 bytes"},
    {"bad-trailing.state", ": state snapshot is followed by other bytes"},
    {"bad-version.state", ": state snapshot has version 3 of the format, "
                          "newer than this program's, 2"},
    {"bad-flipped-header.state",
     ": state snapshot is damaged: checksum of the header differs"},
    {"bad-flipped-float.state", ": state snapshot is damaged: checksum "
                                "differs"},
};

START_TEST(a_bad_file_is_refused)
{
    char path[DATA_PATH_CHARS];
    assert_refused(data_path(path, "%s", bad_files[_i].name),
                   bad_files[_i].sentence);
}
END_TEST

START_TEST(another_model_is_refused)
{
    struct snapshot snapshot;
    struct fingerprint other = model;
    other.bytes[15] ^= 1;
    save("s");
    ck_assert_int_eq(snapshot_load(&snapshot, "s", &other, N_FLOATS, 0),
                     E_FORMAT);
    ck_assert_str_eq(status_message(),
                     "s: state snapshot was made by another model, of "
                     "fingerprint 000102030405060708090a0b0c0d0e0f (see "
                     "--info)");
    ck_assert_int_eq(snapshot_load(&snapshot, "s", &other, 2, 0), E_FORMAT);
    ck_assert_str_eq(status_message(),
                     "s: state snapshot was made by another model, of "
                     "fingerprint 000102030405060708090a0b0c0d0e0f (see "
                     "--info)");
    ck_assert_int_eq(snapshot_load(&snapshot, "s", &model, 4, 0), E_FORMAT);
    ck_assert_str_eq(status_message(), "s: state snapshot holds 5 numbers, "
                                       "the model's state has 4");
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    uint8_t bytes[FILE_BYTES + 8];
    struct snapshot snapshot;
    save("s");
    ck_assert_uint_eq(read_bytes(bytes, "s"), FILE_BYTES);
    for (size_t n = 0; n < FILE_BYTES; n++) {
        own_folder_put("t", bytes, n);
        ck_assert_int_eq(snapshot_load(&snapshot, "t", &model, N_FLOATS, 0),
                         E_FORMAT);
    }
}
END_TEST

START_TEST(every_flipped_bit_is_refused)
{
    uint8_t bytes[FILE_BYTES + 8];
    struct snapshot snapshot;
    save("s");
    ck_assert_uint_eq(read_bytes(bytes, "s"), FILE_BYTES);
    for (size_t i = 0; i < 8 * FILE_BYTES; i++) {
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_eq(
            snapshot_parse(&snapshot, bytes, FILE_BYTES, &model, N_FLOATS, 0),
            E_FORMAT);
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}
END_TEST

START_TEST(what_is_no_file_is_refused)
{
    struct snapshot snapshot;
    ck_assert_int_eq(snapshot_load(&snapshot, "none", &model, N_FLOATS, 0),
                     E_IO);
    ck_assert_str_eq(status_message(), "none: No such file or directory");
    ck_assert_int_eq(snapshot_load(&snapshot, ".", &model, N_FLOATS, 0), E_IO);
    ck_assert_str_eq(status_message(), ".: is a directory, not a file");
    assert_refused("/dev/null", ": not a state snapshot");
    assert_refused("/dev/zero", ": not a state snapshot");
}
END_TEST

/* ---- writing ------------------------------------------------------------ */

START_TEST(a_failed_write_says_why)
{
    ck_assert_int_eq(try_save("no/folder"), E_IO);
    ck_assert_str_eq(status_message(), "no/folder: No such file or directory");
    ck_assert_int_eq(try_save("."), E_IO);
    ck_assert_str_eq(status_message(), ".: Is a directory");
    ck_assert_int_eq(try_save("/dev/full"), E_IO);
    ck_assert_str_eq(status_message(), "/dev/full: No space left on device");
    ck_assert_int_eq(own_folder_count(), 0);
}
END_TEST

START_TEST(a_failed_write_leaves_the_old_file)
{
    save("s");
    struct rlimit was, small = {40, RLIM_INFINITY};
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
    small.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum status status = try_save("s");
    setrlimit(RLIMIT_FSIZE, &was);
    signal(SIGXFSZ, SIG_DFL);
    ck_assert_int_eq(status, E_IO);
    ck_assert_str_eq(status_message(), "s: File too large");
    assert_as_saved("s");
    ck_assert_int_eq(own_folder_count(), 1);
}
END_TEST

START_TEST(links_and_modes_stay)
{
    struct stat info;
    ck_assert_int_eq(mkdir("there", 0700), 0);
    ck_assert_int_eq(symlink("there/s", "link"), 0);
    own_folder_put("there/s", model.bytes, 1);
    ck_assert_int_eq(chmod("there/s", 0640), 0);
    save("link");
    assert_as_saved("there/s");
    ck_assert_int_eq(lstat("link", &info), 0);
    ck_assert(S_ISLNK(info.st_mode));
    ck_assert_int_eq(stat("there/s", &info), 0);
    ck_assert_uint_eq(info.st_mode & 07777, 0640);
    ck_assert_int_eq(remove("there/s"), 0);
}
END_TEST

START_TEST(a_pipe_is_written_directly)
{
    int ends[2];
    char path[64];
    uint8_t bytes[FILE_BYTES + 1];
    ck_assert_int_eq(pipe(ends), 0);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[1]);
    save(path);
    close(ends[1]);
    ck_assert_int_eq(read(ends[0], bytes, sizeof bytes), FILE_BYTES);
    close(ends[0]);
    own_folder_put("s", bytes, FILE_BYTES);
    assert_as_saved("s");
}
END_TEST

/* ---- version 2: floats and int8 ---------------------------------------- */

enum { N_INT8S = 3, FILE_2_BYTES = 64 + 4 * N_FLOATS + N_INT8S + 8 };

static const int8_t int8s[N_INT8S] = {-127, 0, 63};

static void save_2(const char *path)
{
    float floats[N_FLOATS + 1];
    memcpy(floats, float_bits, sizeof float_bits);
    memcpy(floats + N_FLOATS, int8s, sizeof int8s);
    struct snapshot snapshot = {model, 123456789012345u, N_FLOATS, N_INT8S,
                                floats};
    ck_assert_msg(snapshot_save(path, &snapshot) == OK, "%s", status_message());
}

static void assert_as_saved_2(const char *path)
{
    struct snapshot snapshot;
    enum status status =
        snapshot_load(&snapshot, path, &model, N_FLOATS, N_INT8S);
    ck_assert_msg(status == OK, "%s", status_message());
    ck_assert_uint_eq(snapshot.n_bytes, 123456789012345u);
    ck_assert_uint_eq(snapshot.n_int8s, N_INT8S);
    ck_assert_mem_eq(snapshot.floats, float_bits, sizeof float_bits);
    ck_assert_mem_eq(snapshot.floats + N_FLOATS, int8s, sizeof int8s);
    snapshot_free(&snapshot);
}

START_TEST(int8_come_back_behind_the_floats)
{
    save_2("s");
    assert_as_saved_2("s");
}
END_TEST

START_TEST(the_golden_file_of_version_2_is_read)
{
    char path[DATA_PATH_CHARS];
    assert_as_saved_2(data_path(path, "good-v2.state"));
}
END_TEST

START_TEST(damage_of_version_2_is_refused)
{
    uint8_t bytes[FILE_2_BYTES + 8];
    struct snapshot snapshot;
    save_2("s");
    FILE *in = fopen("s", "rb");
    ck_assert_uint_eq(fread(bytes, 1, sizeof bytes, in), FILE_2_BYTES);
    fclose(in);
    for (size_t i = 0; i < 8 * FILE_2_BYTES; i++) {
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_eq(snapshot_parse(&snapshot, bytes, FILE_2_BYTES, &model,
                                        N_FLOATS, N_INT8S),
                         E_FORMAT);
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (size_t n = 0; n < FILE_2_BYTES; n++)
        ck_assert_int_eq(
            snapshot_parse(&snapshot, bytes, n, &model, N_FLOATS, N_INT8S),
            E_FORMAT);
    ck_assert_int_eq(snapshot_parse(&snapshot, bytes, FILE_2_BYTES, &model,
                                    N_FLOATS, N_INT8S),
                     OK);
    snapshot_free(&snapshot);
}
END_TEST

/* A state without int8 is not taken for one with int8, nor the reverse. */
START_TEST(other_numbers_are_refused)
{
    struct snapshot snapshot;
    save("s");
    save_2("t");
    ck_assert_int_eq(snapshot_load(&snapshot, "s", &model, N_FLOATS, N_INT8S),
                     E_FORMAT);
    ck_assert_str_eq(status_message(), "s: state snapshot holds 5 numbers, the "
                                       "model's state has 8");
    ck_assert_int_eq(snapshot_load(&snapshot, "t", &model, N_FLOATS, 0),
                     E_FORMAT);
    ck_assert_int_eq(snapshot_load(&snapshot, "t", &model, N_FLOATS, 4),
                     E_FORMAT);
    ck_assert_int_eq(snapshot_load(&snapshot, "t", &model, N_FLOATS + 3, 0),
                     E_FORMAT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot");
    TCase *round_trip = tcase_create("round trip");
    tcase_add_checked_fixture(round_trip, own_folder_enter, own_folder_leave);
    tcase_add_test(round_trip, a_state_comes_back_bit_for_bit);
    tcase_add_test(round_trip, the_bytes_are_as_specified);
    tcase_add_test(round_trip, a_large_state_comes_back);
    suite_add_tcase(suite, round_trip);

    TCase *golden = tcase_create("files");
    tcase_add_test(golden, the_golden_file_is_read);
    tcase_add_test(golden, the_golden_file_of_version_2_is_read);
    tcase_add_loop_test(golden, a_bad_file_is_refused, 0,
                        sizeof bad_files / sizeof bad_files[0]);
    suite_add_tcase(suite, golden);

    TCase *refused = tcase_create("refused");
    tcase_add_checked_fixture(refused, own_folder_enter, own_folder_leave);
    tcase_add_test(refused, another_model_is_refused);
    tcase_add_test(refused, every_truncation_is_refused);
    tcase_add_test(refused, every_flipped_bit_is_refused);
    tcase_add_test(refused, what_is_no_file_is_refused);
    suite_add_tcase(suite, refused);

    TCase *version_2 = tcase_create("version 2");
    tcase_add_checked_fixture(version_2, own_folder_enter, own_folder_leave);
    tcase_add_test(version_2, int8_come_back_behind_the_floats);
    tcase_add_test(version_2, damage_of_version_2_is_refused);
    tcase_add_test(version_2, other_numbers_are_refused);
    suite_add_tcase(suite, version_2);

    TCase *writing = tcase_create("writing");
    tcase_add_checked_fixture(writing, own_folder_enter, own_folder_leave);
    tcase_add_test(writing, a_failed_write_says_why);
    tcase_add_test(writing, a_failed_write_leaves_the_old_file);
    tcase_add_test(writing, links_and_modes_stay);
    tcase_add_test(writing, a_pipe_is_written_directly);
    suite_add_tcase(suite, writing);
    return run_suite_here(suite);
}
