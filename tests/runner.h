/* runner.h -- where a test program finds its data, and how it ends: its suite
 * is run.
 *
 * To be included last, in place of check.h, which has a macro named fail.
 * The environment has a say as check.h gives it: CK_FORK, CK_RUN_CASE,
 * CK_VERBOSITY and others.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_RUNNER_H
#define MAMBYTE_RUNNER_H

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Where tests/ is, as make check says. */
static inline const char *source_folder(void)
{
    const char *folder = getenv("srcdir");
    return folder ? folder : ".";
}

enum { DATA_PATH_CHARS = 4096 };

/* The path of the file in tests/data whose name printf would print. */
__attribute__((format(printf, 2, 3))) static inline const char *
data_path(char path[DATA_PATH_CHARS], const char *format, ...)
{
    va_list args;
    int n = snprintf(path, DATA_PATH_CHARS, "%s/tests/data/", source_folder());
    ck_assert_int_lt(n, DATA_PATH_CHARS);
    va_start(args, format);
    vsnprintf(path + n, (size_t)(DATA_PATH_CHARS - n), format, args);
    va_end(args);
    return path;
}

/* Frees the suite.  Returns the exit status: whether a test failed. */
static inline int run_suite_as(Suite *suite, enum fork_status fork_status)
{
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, fork_status);
    srunner_run_all(runner, CK_ENV);
    int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Each test in a process of its own, unless CK_FORK=no. */
static inline int run_suite(Suite *suite)
{
    return run_suite_as(suite, CK_FORK_GETENV);
}

/* All in this process. */
static inline int run_suite_here(Suite *suite)
{
    return run_suite_as(suite, CK_NOFORK);
}

/* The exit status of a program that is there for GPUs, where there is none:
 * skipped, or failed with MAMBYTE_REQUIRE_GPU.  why: a sentence. */
static inline int end_without_gpu(const char *program, const char *why)
{
    fprintf(stderr, "%s: %s\n", program, why);
    return getenv("MAMBYTE_REQUIRE_GPU") ? EXIT_FAILURE : 77;
}

#endif
