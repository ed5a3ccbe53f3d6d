/* signals.c -- a flag for signals that ask us to stop, and a true end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/message.h"

static volatile sig_atomic_t caught; /* the number of the signal, or 0 */
static int wake[2] = {-1, -1};       /* a pipe: readable once one came */
static const char *mapped_path;

static void note_signal(int number)
{
    int saved = errno;
    caught = number;
    ssize_t ignored = write(wake[1], "", 1);
    (void)ignored;
    errno = saved;
}

static void mapping_shrank(int number)
{
    (void)number;
    message_last_words(mapped_path,
                       ": the file shrank or vanished while in use");
    _exit(1);
}

static void watch(int number)
{
    struct sigaction old, action = {.sa_handler = note_signal};
    action.sa_flags = (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
        sigaction(number, &action, NULL);
}

enum status signals_init(void)
{
    if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) < 0)
        return fail(E_IO, "cannot make a pipe: %s", strerror(errno));
    watch(SIGINT);
    watch(SIGTERM);
    watch(SIGHUP);
    return OK;
}

enum status signals_check(void)
{
    return caught ? fail(E_INTERRUPTED, "interrupted") : OK;
}

int signals_fd(void)
{
    return wake[0];
}

void signals_guard_mapping(const char *path)
{
    struct sigaction action = {.sa_handler = mapping_shrank};
    sigemptyset(&action.sa_mask);
    mapped_path = path;
    sigaction(SIGBUS, &action, NULL);
}

void signals_exit(void)
{
    if (!caught)
        return;
    signal(caught, SIG_DFL);
    raise(caught);
}
