/* check_file_pair.c -- a source is removed only if it is what was read.
 *
 * SPDX-License-Identifier: MIT
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_pair.h"
#include "own_folder.h"

#include "runner.h" /* last */

static struct sink sink;

static void set_up(void)
{
    own_folder_enter();
    own_folder_put_text("source", "old");
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
    own_folder_put_text("source", "OLD");
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
    own_folder_put_text("other", "old");
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
    own_folder_put_text("target", "another's");
    ck_assert_int_eq(file_pair_finish(&pair, false), E_SKIPPED);
    ck_assert_str_eq(status_message(), "target: exists already, skipped");
    struct stat info;
    ck_assert_int_eq(stat("target", &info), 0);
    ck_assert_int_eq(info.st_size, (off_t)strlen("another's"));
    ck_assert(is_there("source"));
}
END_TEST

START_TEST(a_full_disk_leaves_the_source)
{
    struct file_pair pair;
    struct rlimit was, none = {0, RLIM_INFINITY};
    begin(&pair);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
    none.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    enum status status = file_pair_finish(&pair, false);
    setrlimit(RLIMIT_FSIZE, &was);
    signal(SIGXFSZ, SIG_DFL);
    ck_assert_int_eq(status, E_IO);
    ck_assert_str_eq(status_message(), "target: write error: File too large");
    ck_assert(is_there("source") && !is_there("target"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file_pair");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, set_up, own_folder_leave);
    tcase_add_test(all, a_source_becomes_a_target);
    tcase_add_test(all, a_source_is_kept);
    tcase_add_loop_test(all, a_source_that_changed_is_not_removed, 0,
                        sizeof changes / sizeof changes[0]);
    tcase_add_test(all, a_target_that_appeared_stays);
    tcase_add_test(all, a_full_disk_leaves_the_source);
    suite_add_tcase(suite, all);
    return run_suite(suite);
}
