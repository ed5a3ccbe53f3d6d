/* check_byteio.c -- short calls, interruptions, full disks; and JSON, which is
 * written with a sink.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/byteio.h"
#include "base/signals.h"
#include "cmd/json.h"

#include "runner.h" /* last */

static struct sink sink;
static char path[] = "/tmp/check_byteio.XXXXXX";

static int open_scratch(void)
{
    strcpy(path + strlen(path) - 6, "XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* ---- sources ------------------------------------------------------------ */

START_TEST(a_source_reads_to_the_end)
{
    int fd = open_scratch();
    ck_assert_int_eq(write(fd, "abcdef", 6), 6);
    close(fd);
    struct source source;
    uint8_t bytes[4];
    size_t n;
    ck_assert_int_eq(source_open(&source, path), OK);
    ck_assert_uint_eq(source.size, 6);
    ck_assert_int_eq(source_read(&source, bytes, 4, &n), OK);
    ck_assert_uint_eq(n, 4);
    ck_assert_uint_eq(source_peek(&source, bytes, 1), 1);
    ck_assert_mem_eq(bytes, "e", 1);
    ck_assert_uint_eq(source_peek(&source, bytes, 4), 2);
    ck_assert_int_eq(source_read(&source, bytes, 4, &n), OK);
    ck_assert_uint_eq(n, 2);
    ck_assert_mem_eq(bytes, "ef", 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(source_read(&source, bytes, 4, &n), OK);
        ck_assert_uint_eq(n, 0);
    }
    ck_assert_uint_eq(source_peek(&source, bytes, 4), 0);
    ck_assert_uint_eq(source.n_read, 6);
    source_close(&source);
    source_close(&source);
    unlink(path);
}
END_TEST

START_TEST(a_bad_source_is_refused)
{
    struct source source;
    ck_assert_int_eq(source_open(&source, "/nonexistent/x"), E_IO);
    ck_assert_str_eq(status_message(),
                     "/nonexistent/x: No such file or directory");
    ck_assert_int_eq(source.fd, -1);
    ck_assert_int_eq(source_open(&source, "/"), E_IO);
    ck_assert_str_eq(status_message(), "/: is a directory, not a file");
    ck_assert_int_eq(source.fd, -1);
    source_close(&source);
}
END_TEST

/* ---- sinks -------------------------------------------------------------- */

struct drain {
    int fd;
    uint64_t n, sum;
};

/* Reads slowly, in odd parts; adds up bytes times positions. */
static void *drain_pipe(void *context)
{
    struct drain *drain = context;
    uint8_t bytes[777];
    for (ssize_t r; (r = read(drain->fd, bytes, sizeof bytes)) > 0;) {
        for (ssize_t i = 0; i < r; i++)
            drain->sum += bytes[i] * (drain->n++ % 251 + 1);
    }
    return NULL;
}

START_TEST(a_sink_writes_all_through_a_pipe)
{
    int ends[2];
    pthread_t thread;
    uint8_t bytes[100000];
    uint64_t n = 0, sum = 0;
    ck_assert_int_eq(pipe(ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    struct drain drain = {.fd = ends[0]};
    pthread_create(&thread, NULL, drain_pipe, &drain);
    sink_init(&sink, ends[1]);
    for (size_t part = 1; part < sizeof bytes; part = part * 3 + 1) {
        for (size_t i = 0; i < part; i++) {
            bytes[i] = (uint8_t)(i * i >> 3 ^ part);
            sum += bytes[i] * (n++ % 251 + 1);
        }
        ck_assert_int_eq(sink_write(&sink, bytes, part), OK);
    }
    ck_assert_int_eq(sink_close(&sink), OK);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(drain.n, n);
    ck_assert_uint_eq(drain.sum, sum);
    close(ends[0]);
}
END_TEST

START_TEST(a_full_disk_is_noticed)
{
    sink_init(&sink, open("/dev/full", O_WRONLY));
    ck_assert_int_eq(sink_text(&sink, "x"), OK);
    ck_assert_int_eq(sink_flush(&sink), E_IO);
    ck_assert_str_eq(status_message(), "write error: No space left on device");
    ck_assert_int_eq(sink_flush(&sink), OK); /* it was dropped */
    ck_assert_int_eq(sink_text(&sink, "y"), OK);
    ck_assert_int_eq(sink_close(&sink), E_IO);
}
END_TEST

START_TEST(a_reader_that_left_is_no_error_of_ours)
{
    int ends[2];
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(pipe(ends), 0);
    close(ends[0]);
    sink_init(&sink, ends[1]);
    ck_assert_int_eq(sink_text(&sink, "x"), OK);
    ck_assert_int_eq(sink_close(&sink), E_CLOSED);
}
END_TEST

/* ---- JSON --------------------------------------------------------------- */

/* What json wrote since sink_init. */
static void wrote(const char *expected)
{
    ck_assert_uint_eq(sink.n, strlen(expected));
    ck_assert_mem_eq(sink.bytes, expected, sink.n);
}

START_TEST(objects_have_commas_between)
{
    sink_init(&sink, -1);
    json_begin(&sink);
    json_put_integer(&sink, "a", UINT64_MAX);
    json_put_number(&sink, "b", 0.1);
    json_put_number(&sink, "c", INFINITY);
    json_put_number(&sink, "d", 1e20);
    json_put_string(&sink, "e", "{", 1);
    json_put_string(&sink, "f", "", 0);
    json_end(&sink);
    wrote("{\"a\":18446744073709551615,\"b\":0.100000,\"c\":null,"
          "\"d\":1.000000e+20,\"e\":\"{\",\"f\":\"\"}\n");
}
END_TEST

START_TEST(strings_are_utf8_and_harmless)
{
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"plain", "plain"},
        {"\" \\ /", "\\\" \\\\ /"},
        {"\n\r\t\b\x1b\x7f", "\\n\\r\\t\\u0008\\u001b\\u007f"},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
         "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xff", "\xef\xbf\xbd"},
        {"\xc3", "\xef\xbf\xbd"},
        {"\xe2\x82x", "\xef\xbf\xbd\xef\xbf\xbdx"},
        {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x90\x80\x80",
         "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    };
    char expected[128];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sink_init(&sink, -1);
        json_begin(&sink);
        json_put_string(&sink, "k", cases[i].bytes, strlen(cases[i].bytes));
        snprintf(expected, sizeof expected, "{\"k\":\"%s\"", cases[i].text);
        wrote(expected);
    }
}
END_TEST

/* ---- signals: last, because they stay ----------------------------------- */

static void *interrupt_soon(void *context)
{
    (void)context;
    usleep(100000);
    kill(getpid(), SIGTERM);
    return NULL;
}

START_TEST(a_signal_ends_a_wait)
{
    int ends[2];
    uint8_t byte;
    size_t n;
    pthread_t thread;
    ck_assert_int_eq(signals_init(), OK);
    ck_assert_int_eq(pipe(ends), 0);
    struct source source = {.name = "pipe", .fd = ends[0]};
    pthread_create(&thread, NULL, interrupt_soon, NULL);
    ck_assert_int_eq(source_read(&source, &byte, 1, &n), E_INTERRUPTED);
    pthread_join(thread, NULL);
    ck_assert_int_eq(signals_check(), E_INTERRUPTED);

    /* One that came before the wait ends it, too. */
    ck_assert_int_eq(source_read(&source, &byte, 1, &n), E_INTERRUPTED);

    /* A sink that can write still does. */
    sink_init(&sink, ends[1]);
    sink_text(&sink, "x");
    ck_assert_int_eq(sink_close(&sink), OK);
    close(ends[0]);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("byteio");
    tcase_add_test(cases, a_source_reads_to_the_end);
    tcase_add_test(cases, a_bad_source_is_refused);
    tcase_add_test(cases, a_sink_writes_all_through_a_pipe);
    tcase_add_test(cases, a_full_disk_is_noticed);
    tcase_add_test(cases, a_reader_that_left_is_no_error_of_ours);
    tcase_add_test(cases, objects_have_commas_between);
    tcase_add_test(cases, strings_are_utf8_and_harmless);
    tcase_add_test(cases, a_signal_ends_a_wait);
    tcase_set_timeout(cases, 60);
    Suite *suite = suite_create("byteio");
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
