/* fuzz_train_log.c -- any bytes as the log of a run that is resumed.
 *
 * The first byte is the step at which the run goes on; the log has to keep a
 * part of its start, in whole lines, or to get a header where it has none, and
 * to take another line.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "train/train_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int is_true)
{
    if (!is_true)
        abort();
}

/* What the log keeps of bytes without a whole line: nothing. */
static int is_header_alone(const char *text, size_t n)
{
    return n > 0 && strncmp(text, "step\t", 5) == 0 &&
           memchr(text, '\n', n) == text + n - 1;
}

/* What of bytes [n] is left in front of the last line of fd. */
static void check_kept(int fd, const uint8_t *bytes, size_t n)
{
    off_t end = lseek(fd, 0, SEEK_END);
    require(end > 0);
    size_t n_now = (size_t)end;
    char *now = malloc(n_now);
    require(now && pread(fd, now, n_now, 0) == end);
    require(now[n_now - 1] == '\n');
    size_t kept = n_now - 1;
    while (kept > 0 && now[kept - 1] != '\n')
        kept--;
    if (memchr(bytes, '\n', n))
        require(kept <= n && memcmp(now, bytes, kept) == 0);
    else
        require(is_header_alone(now, kept));
    require(strncmp(now + kept, "77\t5\t", 5) == 0);
    free(now);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char path[32];
    struct train_log log;
    const struct dataset none = {0};
    const struct train_log_row row = {.step = 77, .n_bytes = 5};
    if (n == 0)
        return 0;
    int fd = memfd_create("fuzz", 0);
    require(fd >= 0 && write(fd, bytes + 1, n - 1) == (ssize_t)n - 1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    require(train_log_open(&log, path, 1 + (uint64_t)bytes[0], &none) == OK);
    train_log_write(&log, &row);
    train_log_close(&log);
    require(!log.has_failed);
    check_kept(fd, bytes + 1, n - 1);
    close(fd);
    return 0;
}
