/* check_sandbox.c -- what the sandbox bars, and what it leaves.
 *
 * Each case is a child, which never gets its rights back.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/sandbox.h"
#include "base/threads.h"
#include "own_folder.h"

#include "runner.h" /* last */

static void set_up(void)
{
    own_folder_enter();
    ck_assert_int_eq(mkdir("in", 0700), 0);
    ck_assert_int_eq(mkdir("out", 0700), 0);
    own_folder_put_text("in/this", "text");
    own_folder_put_text("in/other", "text");
    ck_assert_int_eq(symlink("in/this", "link"), 0);
}

/* The errno of opening path, or 0. */
static int try_open(const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    int error = fd < 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return error;
}

/* 0, or the line that is not true. */
#define REQUIRE(truth)                                                         \
    do {                                                                       \
        if (!(truth))                                                          \
            return __LINE__;                                                   \
    } while (0)

static bool has_landlock(void)
{
    struct sandbox sandbox;
    sandbox_open(&sandbox, SANDBOX_READS);
    bool has = sandbox.ruleset >= 0;
    if (has)
        close(sandbox.ruleset);
    return has;
}

static void enter(enum sandbox_kind kind, const char *in, const char *out)
{
    struct sandbox sandbox;
    sandbox_open(&sandbox, kind);
    if (in)
        sandbox_allow_reading(&sandbox, in);
    if (out)
        sandbox_allow_writing(&sandbox, out);
    if (sandbox_enter(&sandbox) != OK)
        exit(1);
}

static int reads_only_this(void)
{
    int open_before = open("in/other", O_RDONLY);
    char byte;
    enter(SANDBOX_READS, "link", NULL);
    REQUIRE(try_open("link", O_RDONLY) == 0);
    REQUIRE(try_open("in/this", O_RDONLY) == 0);
    REQUIRE(try_open("in/other", O_RDONLY) == EACCES);
    REQUIRE(try_open("in/missing", O_RDONLY) == ENOENT);
    REQUIRE(try_open("in/this", O_WRONLY) == EACCES);
    REQUIRE(try_open("in/new", O_WRONLY | O_CREAT) == EACCES);
    REQUIRE(unlink("in/this") != 0 && errno == EACCES);
    REQUIRE(read(open_before, &byte, 1) == 1);
    return 0;
}

static int write_new(void)
{
    struct atomic_file file;
    TRY(atomic_file_open(&file, "out/new", ATOMIC_REPLACE));
    fputs("whole", file.stream);
    return (int)atomic_file_commit(&file);
}

static int writes_beside(void)
{
    enter(SANDBOX_WRITES, NULL, "out/new");
    REQUIRE(write_new() == OK);
    REQUIRE(write_new() == OK);
    atomic_file_use_names(true);
    REQUIRE(write_new() == OK);
    REQUIRE(unlink("out/new") == 0);
    REQUIRE(try_open("in/other", O_RDONLY) == 0);
    REQUIRE(try_open("in/other", O_WRONLY) == EACCES);
    REQUIRE(try_open("in/new", O_WRONLY | O_CREAT) == EACCES);
    return 0;
}

static void work(void *context, int index)
{
    ((int *)context)[index] = index + 1;
}

static int computes_only(void)
{
    struct threads *team;
    int done[3] = {0};
    char *argv[] = {(char *)(uintptr_t) "true", NULL};
    enter(SANDBOX_READS, NULL, NULL);
    REQUIRE(socket(AF_INET, SOCK_STREAM, 0) == -1 && errno == EPERM);
    REQUIRE(execv("/bin/true", argv) == -1);
    REQUIRE(threads_open(&team, 3) == OK);
    threads_run(team, work, done);
    threads_close(team);
    REQUIRE(done[2] == 3);
    return 0;
}

static int (*const cases[])(void) = {reads_only_this, writes_beside,
                                     computes_only};

START_TEST(a_child_gives_up_rights)
{
    if (!has_landlock()) {
        fputs("skipped: Landlock is not in this kernel, or this build\n",
              stderr);
        return;
    }
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        int line = cases[_i]();
        if (line != 0)
            fprintf(stderr, "line %d: errno %d\n", line, errno);
        _exit(line != 0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sandbox");
    TCase *tcase = tcase_create("sandbox");
    tcase_add_checked_fixture(tcase, set_up, own_folder_leave);
    tcase_add_loop_test(tcase, a_child_gives_up_rights, 0,
                        sizeof cases / sizeof cases[0]);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
