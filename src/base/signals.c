/* signals.c -- what the program does about signals.
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
static void (*clean_up)(void); /* or NULL */

static void set_handler(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

/* The signal is blocked in here: it kills when this returns. */
static void die(int number)
{
    if (clean_up)
        clean_up();
    signal(number, SIG_DFL);
    raise(number);
}

static void note_signal(int number)
{
    int saved = errno;
    caught = number;
    ssize_t ignored = write(wake[1], "", 1);
    (void)ignored;
    set_handler(number, die);
    errno = saved;
}

static void mapping_shrank(int number)
{
    (void)number;
    if (clean_up)
        clean_up();
    message_last_words(mapped_path,
                       ": the file shrank or vanished while in use");
    _exit(1);
}

static void watch(int number, void (*handler)(int))
{
    struct sigaction old;
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
        set_handler(number, handler);
}

enum status signals_init(void)
{
    if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) < 0)
        return fail(E_IO, "cannot make a pipe: %s", strerror(errno));
    static const int asking[] = {SIGINT, SIGTERM, SIGHUP};
    static const int killing[] = {SIGPIPE, SIGXFSZ, SIGQUIT};
    for (int i = 0; i < 3; i++) {
        watch(asking[i], note_signal);
        watch(killing[i], die);
    }
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

void signals_before_death(void (*clean)(void))
{
    clean_up = clean;
}

void signals_guard_mapping(const char *path)
{
    mapped_path = path;
    set_handler(SIGBUS, mapping_shrank);
}

void signals_exit(void)
{
    if (!caught)
        return;
    signal(caught, SIG_DFL);
    raise(caught);
}
