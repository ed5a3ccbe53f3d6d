/* check_file_pair.c -- a source is removed only if it is what was read.
 *
 * SPDX-License-Identifier: MIT
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_pair.h"

#include "runner.h" /* last */

static char folder[] = "check_file_pair.XXXXXX";
static struct sink sink;

static void put(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");
    ck_assert_ptr_nonnull(out);
    fputs(text, out);
    ck_assert_int_eq(fclose(out), 0);
}

static void enter_folder(void)
{
    strcpy(strrchr(folder, '.'), ".XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
    put("source", "old");
}

static void leave_folder(void)
{
    remove("source");
    remove("target");
    remove("other");
    ck_assert_int_eq(chdir(".."), 0);
    ck_assert_int_eq(rmdir(folder), 0);
}

static void begin(struct file_pair *pair)
{
    ck_assert_int_eq(file_pair_open(pair, "source", "target", false, &sink),
                     OK);
    ck_assert_int_eq(sink_text(&sink, "new"), OK);
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

START_TEST(a_source_becomes_a_target)
{
    struct file_pair pair;
    begin(&pair);
    ck_assert_int_eq(file_pair_finish(&pair, false), OK);
    ck_assert(!is_there("source") && is_there("target"));
}
END_TEST

START_TEST(a_source_is_kept)
{
    struct file_pair pair;
    begin(&pair);
    ck_assert_int_eq(file_pair_finish(&pair, true), OK);
    ck_assert(is_there("source") && is_there("target"));
}
END_TEST

static void grow(void)
{
    FILE *out = fopen("source", "a");
    fputs("er", out);
    fclose(out);
}

static void write_over(void)
{
    put("source", "OLD");
}

/* The times of the contents may lie; that of the file itself does not. */
static void write_over_secretly(void)
{
    struct stat info;
    ck_assert_int_eq(stat("source", &info), 0);
    const struct timespec times[2] = {info.st_atim, info.st_mtim};
    write_over();
    ck_assert_int_eq(utimensat(AT_FDCWD, "source", times, 0), 0);
}

static void exchange(void)
{
    put("other", "old");
    ck_assert_int_eq(rename("other", "source"), 0);
}

static const struct {
    void (*change)(void);
    const char *sentence;
} changes[] = {
    {grow, "source: has changed since it was read, not removed"},
    {write_over, "source: has changed since it was read, not removed"},
    {write_over_secretly, "source: has changed since it was read, not removed"},
    {exchange, "source: is now another file, not removed"},
};

START_TEST(a_source_that_changed_is_not_removed)
{
    struct file_pair pair;
    begin(&pair);
    usleep(20000); /* longer than clocks of files take to go on */
    changes[_i].change();
    ck_assert_int_eq(file_pair_finish(&pair, false), E_IO);
    ck_assert_str_eq(status_message(), changes[_i].sentence);
    ck_assert(is_there("source") && is_there("target"));
}
END_TEST

START_TEST(a_target_that_appeared_stays)
{
    struct file_pair pair;
    begin(&pair);
    put("target", "another's");
    ck_assert_int_eq(file_pair_finish(&pair, false), E_SKIPPED);
    ck_assert_str_eq(status_message(), "target: exists already, skipped");
    struct stat info;
    ck_assert_int_eq(stat("target", &info), 0);
    ck_assert_int_eq(info.st_size, (off_t)strlen("another's"));
    ck_assert(is_there("source"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file_pair");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, enter_folder, leave_folder);
    tcase_add_test(all, a_source_becomes_a_target);
    tcase_add_test(all, a_source_is_kept);
    tcase_add_loop_test(all, a_source_that_changed_is_not_removed, 0,
                        sizeof changes / sizeof changes[0]);
    tcase_add_test(all, a_target_that_appeared_stays);
    suite_add_tcase(suite, all);
    return run_suite(suite);
}
