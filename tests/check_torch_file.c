/* check_torch_file.c -- files of torch.save are read, hostile ones refused.
 *
 * Archives are made here with libzip around the pickles that torch_write.c
 * and this file write.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zip.h>

#include "base/memlimit.h"
#include "import/torch_file.h"
#include "import/torch_write.h"

#include "runner.h" /* last */

#define PATH "check_torch_file.bin"

/* ---- archives ----------------------------------------------------------- */

struct entry {
    const char *name;
    const void *bytes;
    size_t n;
    int method; /* ZIP_CM_STORE is 0 */
};

static void write_zip(const struct entry *entries, size_t n)
{
    zip_t *zip = zip_open(PATH, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    ck_assert_ptr_nonnull(zip);
    for (size_t i = 0; i < n; i++) {
        const struct entry *e = &entries[i];
        zip_source_t *source = zip_source_buffer(zip, e->bytes, e->n, 0);
        zip_int64_t at = zip_file_add(zip, e->name, source, 0);
        ck_assert_int_ge(at, 0);
        zip_set_file_compression(zip, (zip_uint64_t)at, e->method, 0);
    }
    ck_assert_int_eq(zip_close(zip), 0);
}

/* A dict of one tensor "w" of n elements of storage 0 at an offset, of the
 * shape [rows][2] with strides. */
struct view {
    uint8_t n, offset, rows, row_stride, column_stride;
};

static size_t make_pickle(uint8_t bytes[512], struct view v)
{
    static const uint8_t head[] = "\x80\x02}X\x01\0\0\0w"
                                  "ctorch._utils\n_rebuild_tensor_v2\n(("
                                  "X\x07\0\0\0storage"
                                  "ctorch\nFloatStorage\n"
                                  "X\x01\0\0\0"
                                  "0X\x03\0\0\0cpu";
    const uint8_t tail[] = {
        'K', v.n,  't', 'Q',          'K', v.offset,        'K',  v.rows, 'K',
        2,   0x86, 'K', v.row_stride, 'K', v.column_stride, 0x86, 0x89,   '}',
        't', 'R',  's', '.'};
    memcpy(bytes, head, sizeof head - 1);
    memcpy(bytes + sizeof head - 1, tail, sizeof tail);
    return sizeof head - 1 + sizeof tail;
}

static struct torch_file *file;

static enum status open_view(struct view v, size_t n_floats)
{
    float storage[64];
    uint8_t pickle[512];
    for (size_t i = 0; i < 64; i++)
        storage[i] = (float)i;
    struct entry entries[] = {
        {"a/data.pkl", pickle, make_pickle(pickle, v), ZIP_CM_STORE},
        {"a/data/0", storage, n_floats * sizeof *storage, ZIP_CM_STORE},
    };
    write_zip(entries, 2);
    return torch_file_open(&file, PATH);
}

static void refused(enum status status, const char *part)
{
    ck_assert_int_eq(status, E_MODEL);
    ck_assert_msg(strstr(status_message(), part) != NULL, "%s",
                  status_message());
    ck_assert_msg(strncmp(status_message(), PATH ": ", sizeof PATH + 1) == 0,
                  "%s", status_message());
    ck_assert_ptr_null(file);
}

/* ---- what is read ------------------------------------------------------- */

START_TEST(what_is_written_is_read)
{
    float w[6] = {1, 2, 3, 4, 5, 6}, b[2] = {7, 8};
    const struct tensor list[] = {
        {.name = "w",
         .dtype = DTYPE_F32,
         .n_dims = 2,
         .shape = {3, 2},
         .data = w},
        {.name = "b", .dtype = DTYPE_F32, .n_dims = 1, .shape = {2}, .data = b},
        {.name = "tied",
         .dtype = DTYPE_F32,
         .n_dims = 2,
         .shape = {3, 2},
         .data = w},
    };
    FILE *out = fopen(PATH, "w");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_eq(torch_write(out, list, 3), OK);
    ck_assert_int_eq(fclose(out), 0);
    enum status status = torch_file_open(&file, PATH);
    ck_assert_msg(status == OK, "%s", status_message());
    ck_assert_uint_eq(torch_file_count(file), 3);
    for (size_t i = 0; i < 3; i++) {
        const struct tensor *t = torch_file_at(file, i);
        ck_assert_str_eq(t->name, list[i].name);
        ck_assert_int_eq(t->n_dims, list[i].n_dims);
        ck_assert_mem_eq(t->shape, list[i].shape, sizeof t->shape);
        ck_assert_mem_eq(t->data, list[i].data, t->n_bytes);
    }
    ck_assert_ptr_eq(torch_file_at(file, 0)->data,
                     torch_file_at(file, 2)->data);
    torch_file_close(file);
}
END_TEST

START_TEST(a_view_is_gathered)
{
    static const struct {
        struct view view;
        float first, second, third;
    } cases[] = {
        {{16, 0, 8, 2, 1}, 0, 1, 2},
        {{16, 4, 3, 2, 1}, 4, 5, 6},
        {{16, 0, 8, 1, 8}, 0, 8, 1}, /* transposed */
        {{16, 1, 2, 4, 2}, 1, 3, 5},
        {{16, 0, 1, 99, 1}, 0, 1, -1}, /* the stride of one row is free */
    };
    ck_assert_int_eq(open_view(cases[_i].view, 16), OK);
    const struct tensor *t = torch_file_at(file, 0);
    const float *x = t->data;
    ck_assert(x[0] == cases[_i].first && x[1] == cases[_i].second);
    if (t->n_elements > 2)
        ck_assert(x[2] == cases[_i].third);
    torch_file_close(file);
}
END_TEST

/* ---- what is refused ---------------------------------------------------- */

START_TEST(a_view_stays_in_its_storage)
{
    static const struct view views[] = {
        {16, 0, 9, 2, 1},  {16, 15, 1, 2, 1},  {16, 16, 1, 1, 0},
        {16, 0, 8, 3, 1},  {16, 0, 1, 1, 16},  {16, 0, 0, 2, 1},
        {16, 0, 16, 0, 0}, {16, 255, 1, 2, 1},
    };
    refused(open_view(views[_i], 16), "reach beyond its storage");
}
END_TEST

START_TEST(a_storage_is_as_large_as_it_says)
{
    struct view v = {16, 0, 2, 2, 1};
    refused(open_view(v, 15), "its storage has 60 bytes, the pickle says 16");
    refused(open_view(v, 17), "its storage has 68 bytes, the pickle says 16");
}
END_TEST

START_TEST(a_compressed_archive_is_refused)
{
    static uint8_t zeros[1 << 20];
    struct entry bomb = {"a/data/0", zeros, sizeof zeros, ZIP_CM_DEFLATE};
    write_zip(&bomb, 1);
    refused(torch_file_open(&file, PATH), "is compressed");
}
END_TEST

START_TEST(an_archive_without_a_pickle_is_refused)
{
    struct entry none = {"a/data/0", "abcd", 4, ZIP_CM_STORE};
    struct entry two[] = {{"a/data.pkl", "}.", 2, ZIP_CM_STORE},
                          {"b/data.pkl", "}.", 2, ZIP_CM_STORE}};
    struct entry bad = {"a/data.pkl", "cos\nsystem\n.", 12, ZIP_CM_STORE};
    uint8_t pickle[512];
    struct view v = {16, 0, 2, 2, 1};
    struct entry alone = {"a/data.pkl", pickle, make_pickle(pickle, v), 0};
    struct entry big[] = {{"a/data.pkl", "}.", 2, ZIP_CM_STORE},
                          {"a/byteorder", "big", 3, ZIP_CM_STORE}};
    write_zip(&none, 1);
    refused(torch_file_open(&file, PATH), "without /data.pkl");
    write_zip(two, 2);
    refused(torch_file_open(&file, PATH), "two /data.pkl");
    write_zip(&bad, 1);
    refused(torch_file_open(&file, PATH), "names os.system");
    write_zip(&alone, 1);
    refused(torch_file_open(&file, PATH), "has no data/0");
    write_zip(big, 2);
    refused(torch_file_open(&file, PATH), "big-endian");
}
END_TEST

/* Every byte of a small archive changed, every length cut. */
START_TEST(damage_is_refused)
{
    uint8_t bytes[4096];
    ck_assert_int_eq(open_view((struct view){16, 0, 8, 2, 1}, 16), OK);
    torch_file_close(file);
    FILE *in = fopen(PATH, "rb");
    size_t n = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(torch_file_open_memory(&file, PATH, bytes, i),
                         E_MODEL);
        bytes[i] ^= 0x55;
        if (torch_file_open_memory(&file, PATH, bytes, n) == OK)
            torch_file_close(file); /* a date, say */
        bytes[i] ^= 0x55;
    }
    ck_assert_int_eq(torch_file_open_memory(&file, PATH, bytes, n), OK);
    torch_file_close(file);
}
END_TEST

enum { N_MANY = 18000 };

/* n tensors, each with a storage of its own, of one element. */
static void write_many(int n_tensors)
{
    char *pickle;
    size_t n;
    static float element = 7;
    static char names[N_MANY + 1][24];
    static struct entry entries[N_MANY + 1];
    FILE *out = open_memstream(&pickle, &n);
    fputs("\x80\x02}(", out);
    for (int i = 0; i < n_tensors; i++) {
        fprintf(out, "X\x06%c%c%cw%05dctorch._utils\n_rebuild_tensor_v2\n((", 0,
                0, 0, i);
        fprintf(out, "X\x07%c%c%cstoragectorch\nFloatStorage\n", 0, 0, 0);
        fprintf(out, "X\x05%c%c%c%05dX\x03%c%c%ccpuK\x01tQ", 0, 0, 0, i, 0, 0,
                0);
        fprintf(out, "K%cK\x01\x85K\x01\x85\x89}tR", 0);
        snprintf(names[i], sizeof names[i], "a/data/%05d", i);
        entries[i] = (struct entry){names[i], &element, sizeof element, 0};
    }
    fputs("u.", out);
    ck_assert_int_eq(fclose(out), 0);
    entries[n_tensors] = (struct entry){"a/data.pkl", pickle, n, 0};
    write_zip(entries, (size_t)n_tensors + 1);
    free(pickle);
}

/* Seconds of a core to open as many. */
static double time_many(int n)
{
    write_many(n);
    clock_t started = clock();
    ck_assert_msg(torch_file_open(&file, PATH) == OK, "%s", status_message());
    ck_assert_uint_eq(torch_file_count(file), (size_t)n);
    torch_file_close(file);
    return (double)(clock() - started) / CLOCKS_PER_SEC;
}

/* Nine times as many take some nine times as long, not 81 times. */
START_TEST(many_storages_are_found_quickly)
{
    double few = time_many(N_MANY / 9), many = time_many(N_MANY);
    ck_assert_msg(many < 30 * few + 0.1, "%g s, then %g s", few, many);
    memlimit_set(1 << 20);
    ck_assert_int_eq(torch_file_open(&file, PATH), E_LIMIT);
    memlimit_set(0);
    ck_assert_ptr_null(file);
}
END_TEST

/* ---- before PyTorch 1.6 ------------------------------------------------- */

#define OLD_START                                                              \
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."                \
    "\x80\x02M\xe9\x03."                                                       \
    "\x80\x02}X\x0d\0\0\0little_endian"
#define OLD_STORAGE(type, key)                                                 \
    "((X\x07\0\0\0storagectorch\n" type "\nX\x02\0\0\0" key                    \
    "X\x03\0\0\0cpuK\x04NtQ"
#define OLD_REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"

/* "w": [2][2] of storage 12, "v": [2] from element 1 of it, "n": of Long. */
#define OLD_DICT                                                               \
    "\x80\x02}(X\x01\0\0\0w" OLD_REBUILD OLD_STORAGE(                          \
        "FloatStorage",                                                        \
        "12") "K\0K\x02K\x02\x86K\x02K\x01\x86\x89}tRX\x01\0\0\0v" OLD_REBUILD \
        OLD_STORAGE("FloatStorage",                                            \
                    "12") "K\x01K\x02\x85K\x01\x85\x89}tRX\x04\0\0\0meta}"     \
                          "X\x01\0\0\0n" OLD_REBUILD OLD_STORAGE(              \
                              "LongStorage",                                   \
                              "11") "K\0K\x04\x85K\x01\x85\x89}tRsu."
#define OLD_LIST                                                               \
    "\x80\x02](X\x02\0\0\0"                                                    \
    "11X\x02\0\0\0"                                                            \
    "12e."

static size_t make_old(uint8_t bytes[1024], bool is_little)
{
    static const float w[4] = {1, 2, 3, 4};
    static const uint8_t longs[32];
    size_t n = 0;
    const uint8_t order[] = {is_little ? 0x88 : 0x89, 's', '.'};
#define PUT_OLD(from, size) memcpy(bytes + n, from, size), n += (size)
    PUT_OLD(OLD_START, sizeof OLD_START - 1);
    PUT_OLD(order, sizeof order);
    PUT_OLD(OLD_DICT, sizeof OLD_DICT - 1);
    PUT_OLD(OLD_LIST, sizeof OLD_LIST - 1);
    PUT_OLD("\4\0\0\0\0\0\0\0", 8);
    PUT_OLD(longs, sizeof longs);
    PUT_OLD("\4\0\0\0\0\0\0\0", 8);
    PUT_OLD(w, sizeof w);
#undef PUT_OLD
    return n;
}

static enum status open_old(const uint8_t *bytes, size_t n)
{
    FILE *out = fopen(PATH, "wb");
    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(fwrite(bytes, 1, n, out), n);
    fclose(out);
    return torch_file_open(&file, PATH);
}

START_TEST(old_files_are_read)
{
    uint8_t bytes[1024];
    size_t n = make_old(bytes, true);
    ck_assert_msg(open_old(bytes, n) == OK, "%s", status_message());
    ck_assert_uint_eq(torch_file_count(file), 2);
    const struct tensor *w = torch_file_at(file, 0),
                        *v = torch_file_at(file, 1);
    const float *x = w->data, *y = v->data;
    ck_assert_str_eq(w->name, "w");
    ck_assert_uint_eq(w->n_elements, 4);
    ck_assert(x[0] == 1 && x[3] == 4 && y[0] == 2 && y[1] == 3);
    torch_file_close(file);
    n = make_old(bytes, false);
    refused(open_old(bytes, n), "on a big-endian machine");
    unlink(PATH);
}
END_TEST

START_TEST(old_files_that_end_early_are_refused)
{
    uint8_t bytes[1024];
    size_t n = make_old(bytes, true);
    for (size_t part = 0; part < n; part++) {
        ck_assert_int_eq(open_old(bytes, part), E_MODEL);
        ck_assert_ptr_null(file);
    }
    bytes[n - 24] = 0xff; /* the count of the last storage */
    refused(open_old(bytes, n), "ends in the middle of storage 12");
    bytes[n - 17] = 0xff;
    refused(open_old(bytes, n), "ends in the middle of storage 12");
    unlink(PATH);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("torch_file");
    TCase *tcase = tcase_create("torch_file");
    tcase_add_test(tcase, what_is_written_is_read);
    tcase_add_loop_test(tcase, a_view_is_gathered, 0, 5);
    tcase_add_loop_test(tcase, a_view_stays_in_its_storage, 0, 8);
    tcase_add_test(tcase, a_storage_is_as_large_as_it_says);
    tcase_add_test(tcase, a_compressed_archive_is_refused);
    tcase_add_test(tcase, an_archive_without_a_pickle_is_refused);
    tcase_add_test(tcase, damage_is_refused);
    tcase_add_test(tcase, many_storages_are_found_quickly);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, old_files_are_read);
    tcase_add_test(tcase, old_files_that_end_early_are_refused);
    suite_add_tcase(suite, tcase);
    int status = run_suite(suite);
    unlink(PATH);
    return status;
}
