/* check_atomic_file.c -- a file is written whole, or everything is as it was.
 *
 * Each test runs twice: with files that have no name until they are whole,
 * where the system has such, and with temporary names.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/file_group.h"
#include "base/signals.h"
#include "base/temporary.h"
#include "own_folder.h"

#include "runner.h" /* last */

enum { USES_NAMES = 1, WAYS };

/* ---- what the writer asks of the system, in order ----------------------- */

/* f: a file is brought to the disk; d: a folder is; n: a file gets a name. */
static char calls[64];

static void note_call(char call)
{
    size_t n = strlen(calls);
    if (n + 1 < sizeof calls)
        calls[n] = call;
}

int fsync(int fd)
{
    struct stat info;
    fstat(fd, &info);
    note_call(S_ISDIR(info.st_mode) ? 'd' : 'f');
    return (int)syscall(SYS_fsync, fd);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    int result = (int)syscall(SYS_linkat, from, old, to, new, flags);
    if (result == 0 && new[0] != '.')
        note_call('n');
    return result;
}

int renameat(int from, const char *old, int to, const char *new)
{
    note_call('n');
    return (int)syscall(SYS_renameat2, from, old, to, new, 0);
}

/* ---- files -------------------------------------------------------------- */

static void set_up(void)
{
    own_folder_enter();
    memset(calls, 0, sizeof calls);
    umask(022);
}

static void choose_way(int way)
{
    atomic_file_use_names(way == USES_NAMES);
}

static void assert_text(const char *path, const char *text)
{
    char got[64] = "";
    FILE *in = fopen(path, "r");
    ck_assert_ptr_nonnull(in);
    size_t n = fread(got, 1, sizeof got - 1, in);
    got[n] = '\0';
    fclose(in);
    ck_assert_str_eq(got, text);
}

static mode_t mode_of(const char *path)
{
    struct stat info;
    ck_assert_int_eq(stat(path, &info), 0);
    return info.st_mode & 07777;
}

static enum status write_text(const char *path, const char *text)
{
    return atomic_file_write(path, text, strlen(text));
}

static void begin(struct atomic_file *file, const char *path,
                  enum atomic_target kind)
{
    ck_assert_int_eq(atomic_file_open(file, path, kind), OK);
    fputs("new", file->stream);
    fflush(file->stream);
}

static void assert_fails(enum status status, enum status expected,
                         const char *sentence)
{
    ck_assert_int_eq(status, expected);
    ck_assert_str_eq(status_message(), sentence);
}

/* ---- whole files -------------------------------------------------------- */

START_TEST(a_file_appears_whole)
{
    struct atomic_file file;
    choose_way(_i);
    umask(027);
    begin(&file, "a", ATOMIC_FOLLOW);
    ck_assert_int_eq(access("a", F_OK), -1);
    ck_assert_int_eq(atomic_file_commit(&file), OK);
    assert_text("a", "new");
    ck_assert_uint_eq(mode_of("a"), 0640);
    ck_assert_int_eq(own_folder_count(), 1);
}
END_TEST

START_TEST(an_unfinished_file_is_ours_alone)
{
    struct atomic_file file;
    struct stat info;
    choose_way(_i);
    umask(0);
    begin(&file, "a", ATOMIC_NEW);
    ck_assert_int_eq(fstat(file.fd, &info), 0);
    ck_assert_uint_eq(info.st_mode & 07777, 0600);
    ck_assert_int_eq(own_folder_count(), file.temporary ? 1 : 0);
    atomic_file_abandon(&file);
    ck_assert_int_eq(own_folder_count(), 0);
    atomic_file_abandon(&file);
}
END_TEST

START_TEST(names_are_short_and_differ)
{
    struct temporary *a = temporary_new(AT_FDCWD), *b = temporary_new(AT_FDCWD);
    ck_assert_uint_le(strlen(temporary_name(a)), 32);
    ck_assert_str_ne(temporary_name(a), temporary_name(b));
    temporary_remove(a);
    temporary_remove(b);
}
END_TEST

START_TEST(a_long_name_works)
{
    char name[251];
    choose_way(_i);
    memset(name, 'x', 250);
    name[250] = '\0';
    ck_assert_int_eq(write_text(name, "one"), OK);
    ck_assert_int_eq(write_text(name, "two"), OK);
    assert_text(name, "two");
    ck_assert_int_eq(own_folder_count(), 1);
}
END_TEST

START_TEST(it_is_on_the_disk_before_it_has_its_name)
{
    choose_way(_i);
    ck_assert_int_eq(write_text("a", "one"), OK);
    ck_assert_str_eq(calls, "fnd");
    memset(calls, 0, sizeof calls);
    ck_assert_int_eq(write_text("a", "two"), OK);
    ck_assert_str_eq(calls, "fnd");
}
END_TEST

/* ---- what is replaced --------------------------------------------------- */

START_TEST(what_it_replaces_is_not_truncated)
{
    choose_way(_i);
    own_folder_put_text("a", "old");
    ck_assert_int_eq(link("a", "other name"), 0);
    ck_assert_int_eq(chmod("a", 0640), 0);
    ck_assert_int_eq(write_text("a", "new"), OK);
    assert_text("a", "new");
    assert_text("other name", "old");
    ck_assert_uint_eq(mode_of("a"), 0640);
    ck_assert_int_eq(own_folder_count(), 2);
}
END_TEST

START_TEST(a_failure_leaves_what_was_there)
{
    struct atomic_file file;
    choose_way(_i);
    own_folder_put_text("a", "old");
    begin(&file, "a", ATOMIC_REPLACE);
    atomic_file_abandon(&file);
    assert_text("a", "old");
    ck_assert_int_eq(own_folder_count(), 1);
}
END_TEST

START_TEST(setuid_does_not_pass_on)
{
    choose_way(_i);
    own_folder_put_text("a", "old");
    ck_assert_int_eq(chmod("a", 07751), 0);
    ck_assert_int_eq(write_text("a", "new"), OK);
    ck_assert_uint_eq(mode_of("a"), 0751);
}
END_TEST

START_TEST(mode_and_times_are_those_of_the_source)
{
    struct atomic_file file;
    struct stat info = {.st_uid = geteuid(),
                        .st_gid = getegid(),
                        .st_mode = S_IFREG | 06604,
                        .st_atim = {1000, 1},
                        .st_mtim = {2000, 2}};
    choose_way(_i);
    begin(&file, "a", ATOMIC_NEW);
    atomic_file_like(&file, &info);
    ck_assert_int_eq(atomic_file_commit(&file), OK);
    ck_assert_int_eq(stat("a", &info), 0);
    ck_assert_uint_eq(info.st_mode & 07777, 0604);
    ck_assert_int_eq(info.st_mtim.tv_sec, 2000);
    ck_assert_int_eq(info.st_mtim.tv_nsec, 2);
    ck_assert_int_eq(info.st_atim.tv_sec, 1000);
}
END_TEST

/* Only root can give files away. */
START_TEST(the_owner_stays)
{
    struct stat info;
    choose_way(_i);
    if (geteuid() != 0)
        return;
    own_folder_put_text("a", "old");
    ck_assert_int_eq(chown("a", 12345, 12346), 0);
    ck_assert_int_eq(write_text("a", "new"), OK);
    ck_assert_int_eq(stat("a", &info), 0);
    ck_assert_uint_eq(info.st_uid, 12345);
    ck_assert_uint_eq(info.st_gid, 12346);
}
END_TEST

/* 0654 without its group: what r-x and r-- have in common. */
START_TEST(a_group_that_is_not_ours_costs_its_rights)
{
    struct atomic_file file;
    struct stat info;
    choose_way(_i);
    if (geteuid() != 0)
        return;
    own_folder_put_text("a", "old");
    ck_assert_int_eq(chown("a", 12345, 12346), 0);
    ck_assert_int_eq(chmod("a", 0654), 0);
    ck_assert_int_eq(stat("a", &info), 0);
    ck_assert_int_eq(chmod(".", 0777), 0);
    ck_assert_int_eq(setegid(54321), 0);
    ck_assert_int_eq(seteuid(54321), 0);
    begin(&file, "b", ATOMIC_NEW);
    atomic_file_like(&file, &info);
    ck_assert_int_eq(atomic_file_commit(&file), OK);
    ck_assert_int_eq(seteuid(0), 0);
    ck_assert_int_eq(setegid(0), 0);
    ck_assert_uint_eq(mode_of("b"), 0644);
}
END_TEST

/* ---- what may not be there ---------------------------------------------- */

START_TEST(a_new_file_replaces_nothing)
{
    struct atomic_file file;
    choose_way(_i);
    own_folder_put_text("a", "old");
    assert_fails(atomic_file_open(&file, "a", ATOMIC_NEW), E_SKIPPED,
                 "a: exists already, skipped");
    begin(&file, "b", ATOMIC_NEW);
    own_folder_put_text("b", "appeared");
    assert_fails(atomic_file_commit(&file), E_SKIPPED,
                 "b: exists already, skipped");
    assert_text("b", "appeared");
    ck_assert_int_eq(own_folder_count(), 2);
}
END_TEST

START_TEST(a_file_that_appeared_is_replaced_when_it_may_be)
{
    struct atomic_file file;
    choose_way(_i);
    begin(&file, "a", ATOMIC_REPLACE);
    own_folder_put_text("a", "appeared");
    ck_assert_int_eq(atomic_file_commit(&file), OK);
    assert_text("a", "new");
    ck_assert_int_eq(own_folder_count(), 1);
}
END_TEST

START_TEST(a_check_leaves_everything)
{
    choose_way(_i);
    own_folder_put_text("a", "old");
    ck_assert_int_eq(atomic_file_check("a"), OK);
    ck_assert_int_eq(atomic_file_check("b"), OK);
    ck_assert_int_eq(atomic_file_check("/dev/full"), OK);
    ck_assert_int_eq(mkfifo("pipe", 0600), 0);
    ck_assert_int_eq(atomic_file_check("pipe"), OK); /* and does not wait */
    assert_fails(atomic_file_check("no/a"), E_IO,
                 "no/a: No such file or directory");
    assert_fails(atomic_file_check("."), E_IO, ".: Is a directory");
    assert_text("a", "old");
    ck_assert_int_eq(own_folder_count(), 2);
}
END_TEST

/* ---- several files ------------------------------------------------------ */

static void add(struct file_group *group, const char *name)
{
    struct atomic_file *file;
    ck_assert_int_eq(file_group_add(group, name, &file), OK);
    fputs("new", file->stream);
}

static void begin_group(struct file_group *group, const char *path)
{
    ck_assert_int_eq(file_group_open(group, path), OK);
    add(group, "weights");
    add(group, "config");
    file_group_drop(group, "obsolete");
    file_group_drop(group, "missing");
}

START_TEST(a_group_appears_together)
{
    struct file_group group;
    choose_way(_i);
    own_folder_put_text("weights", "old");
    own_folder_put_text("config", "old");
    own_folder_put_text("obsolete", "old");
    begin_group(&group, ".");
    assert_text("weights", "old");
    assert_text("config", "old");
    file_group_abandon(&group);
    assert_text("config", "old");
    ck_assert_int_eq(own_folder_count(), 3);
    begin_group(&group, ".");
    ck_assert_int_eq(file_group_commit(&group), OK);
    assert_text("weights", "new");
    assert_text("config", "new");
    ck_assert_int_eq(own_folder_count(), 2);
}
END_TEST

/* Where the weights cannot get their name, no old config lies beside them. */
START_TEST(a_group_that_fails_has_no_last_file)
{
    struct file_group group;
    choose_way(_i);
    own_folder_put_text("config", "old");
    begin_group(&group, ".");
    ck_assert_int_eq(mkdir("weights", 0700), 0);
    assert_fails(file_group_commit(&group), E_IO, "./weights: Is a directory");
    ck_assert_int_eq(own_folder_count(), 1);
}
END_TEST

START_TEST(a_folder_is_made_and_given_up)
{
    struct file_group group;
    choose_way(_i);
    begin_group(&group, "new");
    file_group_abandon(&group);
    ck_assert_int_eq(own_folder_count(), 0);
    begin_group(&group, "new");
    ck_assert_int_eq(file_group_commit(&group), OK);
    assert_text("new/config", "new");
    ck_assert_int_eq(unlink("new/config") + unlink("new/weights"), 0);
    own_folder_put_text("a", "old");
    assert_fails(file_group_open(&group, "a"), E_IO, "a: Not a directory");
    assert_fails(file_group_open(&group, "no/a"), E_IO,
                 "no/a: No such file or directory");
}
END_TEST

/* ---- links and devices -------------------------------------------------- */

static bool is_link(const char *path)
{
    struct stat info;
    ck_assert_int_eq(lstat(path, &info), 0);
    return S_ISLNK(info.st_mode);
}

START_TEST(links_are_followed_or_replaced)
{
    struct atomic_file file;
    choose_way(_i);
    own_folder_put_text("a", "old");
    ck_assert_int_eq(symlink("a", "link"), 0);
    ck_assert_int_eq(write_text("link", "new"), OK);
    ck_assert(is_link("link"));
    assert_text("a", "new");
    own_folder_put_text("a", "old");
    begin(&file, "link", ATOMIC_REPLACE);
    ck_assert_int_eq(atomic_file_commit(&file), OK);
    ck_assert(!is_link("link"));
    assert_text("link", "new");
    assert_text("a", "old");
}
END_TEST

/* A link that leads nowhere is neither written through nor replaced: it can be
 * /dev/stdout of a program whose output is closed. */
START_TEST(a_dangling_link_is_refused)
{
    choose_way(_i);
    ck_assert_int_eq(symlink("nowhere", "link"), 0);
    assert_fails(write_text("link", "new"), E_IO,
                 "link: is a link to a file that is not there");
    ck_assert(is_link("link"));
    ck_assert_int_eq(own_folder_count(), 1);
}
END_TEST

START_TEST(failures_name_the_file)
{
    struct atomic_file file;
    choose_way(_i);
    assert_fails(write_text("no/a", ""), E_IO,
                 "no/a: No such file or "
                 "directory");
    assert_fails(write_text(".", ""), E_IO, ".: Is a directory");
    assert_fails(write_text("no/", ""), E_IO, "no/: Is a directory");
    assert_fails(atomic_file_open(&file, ".", ATOMIC_REPLACE), E_IO,
                 ".: exists and is not a regular file");
    assert_fails(write_text("/dev/full", "x"), E_IO,
                 "/dev/full: No space left on device");
    ck_assert_int_eq(write_text("/dev/null", "x"), OK);
    ck_assert_int_eq(own_folder_count(), 0);
}
END_TEST

START_TEST(what_may_not_be_written_is_refused)
{
    choose_way(_i);
    own_folder_put_text("a", "old");
    ck_assert_int_eq(chmod("a", 0444), 0);
    if (access("a", W_OK) == 0)
        return; /* root may */
    assert_fails(write_text("a", "new"), E_IO, "a: Permission denied");
    assert_text("a", "old");
}
END_TEST

/* ---- signals ------------------------------------------------------------ */

/* A child that dies of a signal in the middle of a file. */
static void die_writing(int number)
{
    struct atomic_file file;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(number, SIG_DFL);
    if (signals_init() != OK || atomic_file_open(&file, "a", ATOMIC_NEW) != OK)
        _exit(1);
    fputs("new", file.stream);
    fflush(file.stream);
    raise(number);
    raise(number); /* the first one may only ask us to stop */
    _exit(1);
}

static void assert_dies_of(int number)
{
    int status;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        die_writing(number);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), number);
}

START_TEST(signals_leave_nothing)
{
    static const int signals[] = {SIGINT,  SIGTERM, SIGHUP,
                                  SIGPIPE, SIGXFSZ, SIGQUIT};
    choose_way(_i);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        assert_dies_of(signals[i]);
        ck_assert_int_eq(own_folder_count(), 0);
    }
}
END_TEST

START_TEST(kill_leaves_nothing_that_had_no_name)
{
    struct atomic_file file;
    choose_way(0);
    begin(&file, "a", ATOMIC_NEW);
    bool has_name = file.temporary != NULL;
    atomic_file_abandon(&file);
    if (has_name)
        return; /* not on this system */
    assert_dies_of(SIGKILL);
    ck_assert_int_eq(own_folder_count(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("atomic_file");
    TCase *all = tcase_create("both ways");
    tcase_add_checked_fixture(all, set_up, own_folder_leave);
    tcase_add_loop_test(all, a_file_appears_whole, 0, WAYS);
    tcase_add_loop_test(all, an_unfinished_file_is_ours_alone, 0, WAYS);
    tcase_add_loop_test(all, a_long_name_works, 0, WAYS);
    tcase_add_loop_test(all, it_is_on_the_disk_before_it_has_its_name, 0, WAYS);
    tcase_add_loop_test(all, what_it_replaces_is_not_truncated, 0, WAYS);
    tcase_add_loop_test(all, a_failure_leaves_what_was_there, 0, WAYS);
    tcase_add_loop_test(all, setuid_does_not_pass_on, 0, WAYS);
    tcase_add_loop_test(all, mode_and_times_are_those_of_the_source, 0, WAYS);
    tcase_add_loop_test(all, the_owner_stays, 0, WAYS);
    tcase_add_loop_test(all, a_group_that_is_not_ours_costs_its_rights, 0,
                        WAYS);
    tcase_add_loop_test(all, a_new_file_replaces_nothing, 0, WAYS);
    tcase_add_loop_test(all, a_file_that_appeared_is_replaced_when_it_may_be, 0,
                        WAYS);
    tcase_add_loop_test(all, a_check_leaves_everything, 0, WAYS);
    tcase_add_loop_test(all, a_group_appears_together, 0, WAYS);
    tcase_add_loop_test(all, a_group_that_fails_has_no_last_file, 0, WAYS);
    tcase_add_loop_test(all, a_folder_is_made_and_given_up, 0, WAYS);
    tcase_add_loop_test(all, links_are_followed_or_replaced, 0, WAYS);
    tcase_add_loop_test(all, a_dangling_link_is_refused, 0, WAYS);
    tcase_add_loop_test(all, failures_name_the_file, 0, WAYS);
    tcase_add_loop_test(all, what_may_not_be_written_is_refused, 0, WAYS);
    tcase_add_loop_test(all, signals_leave_nothing, 0, WAYS);
    tcase_add_test(all, names_are_short_and_differ);
    tcase_add_test(all, kill_leaves_nothing_that_had_no_name);
    suite_add_tcase(suite, all);
    return run_suite(suite);
}
