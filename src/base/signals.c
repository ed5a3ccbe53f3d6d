/* signals.c -- what the program does about signals.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/escape.h"
#include "base/message.h"

static const int asking[] = {SIGINT, SIGTERM, SIGHUP};
static const int killing[] = {SIGPIPE, SIGXFSZ, SIGQUIT};

enum {
    N_ASKING = sizeof asking / sizeof asking[0],
    N_KILLING = sizeof killing / sizeof killing[0],
    PATH_BYTES = 1024
};

static volatile sig_atomic_t caught; /* the number of the signal, or 0 */
static volatile sig_atomic_t is_patient, is_hasty;
static int wake[2] = {-1, -1};       /* a pipe: readable once one came */
static char mapped_path[PATH_BYTES]; /* escaped */
static void (*clean_up)(void);       /* or NULL */

/* The text that a terminal gets before we leave it. */
static struct {
    int fd; /* -1: nothing */
    const char *text;
} farewell = {.fd = -1};
static volatile sig_atomic_t n_stops;

static void set_handler(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

/* Not where that would have to wait: the reader of a pipe may be gone. */
static void say_farewell(void)
{
    struct pollfd p = {.fd = farewell.fd, .events = POLLOUT};
    if (farewell.fd >= 0 && poll(&p, 1, 0) > 0) {
        ssize_t ignored =
            write(farewell.fd, farewell.text, strlen(farewell.text));
        (void)ignored;
    }
}

/* The signal is blocked in here: it kills when this returns. */
static void die(int number)
{
    if (clean_up)
        clean_up();
    say_farewell();
    signal(number, SIG_DFL);
    raise(number);
}

static void come_again(int number)
{
    if (!is_patient)
        die(number);
}

/* The first signal ends what waits; later ones interrupt nothing. */
static void note_signal(int number)
{
    int saved = errno;
    if (is_hasty) {
        die(number);
        return;
    }
    caught = number;
    ssize_t ignored = write(wake[1], "", 1);
    (void)ignored;
    for (int i = 0; i < N_ASKING; i++) {
        struct sigaction old;
        if (sigaction(asking[i], NULL, &old) == 0 &&
            old.sa_handler == note_signal)
            set_handler(asking[i], come_again, SA_RESTART);
    }
    errno = saved;
}

/* Stops as if we did nothing about the signal, and returns when we go on. */
static void stop(int number)
{
    int saved = errno;
    sigset_t only, before;
    say_farewell();
    n_stops++;
    signal(number, SIG_DFL);
    raise(number);
    sigemptyset(&only);
    sigaddset(&only, number);
    pthread_sigmask(SIG_UNBLOCK, &only, &before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    set_handler(number, stop, 0);
    errno = saved;
}

static void mapping_shrank(int number)
{
    (void)number;
    if (clean_up)
        clean_up();
    say_farewell();
    message_last_words(mapped_path,
                       ": the file shrank or vanished while in use");
    _exit(1);
}

static void watch(int number, void (*handler)(int))
{
    struct sigaction old;
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
        set_handler(number, handler, 0);
}

enum status signals_init(void)
{
    if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) < 0)
        return fail(E_IO, "cannot make a pipe: %s", strerror(errno));
    for (int i = 0; i < N_ASKING; i++)
        watch(asking[i], note_signal);
    for (int i = 0; i < N_KILLING; i++)
        watch(killing[i], die);
    return OK;
}

enum status signals_check(void)
{
    return caught ? fail(E_INTERRUPTED, "interrupted") : OK;
}

void signals_be_patient(bool patient)
{
    is_patient = patient;
}

void signals_be_hasty(bool hasty)
{
    is_hasty = hasty;
}

void signals_fail_writes(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

int signals_fd(void)
{
    return wake[0];
}

void signals_before_death(void (*clean)(void))
{
    clean_up = clean;
}

void signals_set_farewell(int fd, const char *text)
{
    farewell.text = text;
    farewell.fd = fd;
    if (fd >= 0)
        watch(SIGTSTP, stop);
}

unsigned signals_count_stops(void)
{
    return (unsigned)n_stops;
}

void signals_guard_mapping(const char *path)
{
    escape_into(mapped_path, sizeof mapped_path, path);
    set_handler(SIGBUS, mapping_shrank, 0);
}

void signals_exit(void)
{
    if (!caught)
        return;
    signal(caught, SIG_DFL);
    raise(caught);
}
