/* threads.c -- a team that computes together.
 *
 * One barrier does everything.  The team meets at it twice a run: at the
 * start, when the work is set, and at the end.  Between runs the members wait
 * at it for the caller.
 *
 * The last to arrive opens the barrier by counting the generation up.  A
 * waiter that has spun long enough announces itself in n_asleep and then sleeps
 * on the generation, a futex, if that is still the old one; the opener counts
 * the generation up and then looks at n_asleep.  Both are sequentially
 * consistent, so one of the two sees the other, and nobody sleeps through an
 * opening.
 *
 * Waking a team can take longer than a run (200 us for 16 members).  In a team
 * that keeps pace, members wake by themselves shortly before the next run is
 * due, and spin.
 *
 * On a busy machine a member that wakes waits for a core, 10 ms or more each
 * time, and at the next barrier the others wait for it: a team of two can take
 * a hundred times as long as one thread.  So threads_adapt() lets the caller
 * work alone while that is so.  The others stay at the barrier before a run.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/threads.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cpu_relax.h"
#include "base/clock.h"
#include "base/message.h"
#include "base/text.h"

/* How many turns a waiter spins when each member has a core: some 40 us for the
 * next run, which may be far off; a millisecond for the others in a run, since
 * waking many costs more than most waits.  And after how many turns it offers
 * its core to another member, which the system may have put on the same one. */
enum {
    N_SPINS = 2048,
    N_SPINS_IN_RUN = 32 * N_SPINS,
    N_SPINS_A_YIELD = 64,
    CACHE_LINE = 64
};

/* Seconds.  A pause between runs is expected to last as long as the one before,
 * unless that was longer than PAUSE_MAX: then the time to wake hardly counts.
 * Members wake EARLY before the pause should end, and spin about as long after
 * that. */
#define PAUSE_MAX 0.005
#define EARLY     0.0002
enum { N_SPINS_DUE = 10 * N_SPINS };

/* Seconds.  A team is judged by runs that took JUDGED in all.  If the process
 * had less than ENOUGH of a core in that time, the caller works alone for
 * ALONE_MIN; if it is so again, for twice as long, and so on up to ALONE_MAX.
 * It goes on alone as long as it has less than that itself. */
#define JUDGED    0.02
#define ENOUGH    0.75
#define ALONE_MIN 0.25
#define ALONE_MAX 16.0

/* What a member knows. */
struct member {
    struct threads *threads;
    pthread_t thread;
    int index;
};

struct threads {
    int n, n_active; /* members; of whom work, 1 or n */
    bool spins;      /* each member has a core */
    bool keeps_pace;
    struct member *members; /* [n]; the first is the caller */
    int n_started;          /* members that exist, the caller included */
    threads_work *work;     /* of the current run; NULL: the end */
    void *context;
    double run_end, pause; /* of the last run; before the current one */

    /* See threads_adapt. */
    double run_seconds; /* of the runs that are judged */
    double cores;       /* clock_cores() before them */
    bool is_starved;    /* the caller works alone */
    double alone_until; /* when the team may work again */
    double alone_seconds;

    /* Each on a cache line of its own. */
    _Alignas(CACHE_LINE) atomic_int n_arrived;
    _Alignas(CACHE_LINE) atomic_uint generation;
    atomic_int n_asleep;
};

int threads_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    return CPU_COUNT(&set);
}

static void barrier_open(struct threads *threads)
{
    atomic_store_explicit(&threads->n_arrived, 0, memory_order_relaxed);
    atomic_fetch_add(&threads->generation, 1);
    if (atomic_load(&threads->n_asleep) > 0)
        syscall(SYS_futex, &threads->generation, FUTEX_WAKE_PRIVATE, INT_MAX);
}

/* Spins for at most n_spins turns; returns whether the barrier opened. */
static bool barrier_spin(struct threads *threads, unsigned generation,
                         int n_spins)
{
    for (int i = 1; threads->spins && i <= n_spins; i++) {
        if (atomic_load_explicit(&threads->generation, memory_order_acquire) !=
            generation)
            return true;
        cpu_relax();
        if (i % N_SPINS_A_YIELD == 0)
            sched_yield();
    }
    return false;
}

/* Sleeps until the barrier opens; for at most these seconds, unless they are
 * 0. */
static void barrier_sleep(struct threads *threads, unsigned generation,
                          double seconds)
{
    struct timespec most = {.tv_nsec = (long)(seconds * 1e9)};
    long status = 0;
    atomic_fetch_add(&threads->n_asleep, 1);
    while (atomic_load(&threads->generation) == generation &&
           !(status != 0 && errno == ETIMEDOUT))
        status = syscall(SYS_futex, &threads->generation, FUTEX_WAIT_PRIVATE,
                         generation, seconds > 0.0 ? &most : NULL);
    atomic_fetch_sub(&threads->n_asleep, 1);
}

/* due: when it is expected to open, in seconds from now, or 0. */
static void barrier(struct threads *threads, int n_spins, double due)
{
    unsigned generation = atomic_load(&threads->generation);
    if (atomic_fetch_add(&threads->n_arrived, 1) == threads->n - 1) {
        barrier_open(threads);
        return;
    }
    if (barrier_spin(threads, generation, n_spins))
        return;
    if (threads->spins && due > EARLY) {
        barrier_sleep(threads, generation, due - EARLY);
        if (barrier_spin(threads, generation, N_SPINS_DUE))
            return;
    }
    barrier_sleep(threads, generation, 0.0);
}

void threads_barrier(struct threads *threads)
{
    if (threads->n_active > 1)
        barrier(threads, N_SPINS_IN_RUN, 0.0);
}

static void run_team(struct threads *threads, threads_work *work, void *context)
{
    threads->work = work;
    threads->context = context;
    barrier(threads, N_SPINS, 0.0);
    work(context, 0);
    barrier(threads, N_SPINS_IN_RUN, 0.0);
}

void threads_run(struct threads *threads, threads_work *work, void *context)
{
    const double start = clock_now(), pause = start - threads->run_end;
    threads->pause = threads->keeps_pace && pause <= PAUSE_MAX ? pause : 0.0;
    if (threads->n_active > 1)
        run_team(threads, work, context);
    else
        work(context, 0);
    threads->run_end = clock_now();
    threads->run_seconds += threads->run_end - start;
}

void threads_set_alone(struct threads *threads, bool is_alone)
{
    threads->n_active = is_alone || threads->is_starved ? 1 : threads->n;
}

static void judge_anew(struct threads *threads)
{
    threads->run_seconds = 0.0;
    threads->cores = clock_cores();
}

/* Whether the runs that are judged had enough of a core. */
static bool had_enough(const struct threads *threads)
{
    return clock_cores() - threads->cores >= ENOUGH * threads->run_seconds;
}

static void judge_team(struct threads *threads)
{
    double longer = 2.0 * threads->alone_seconds;
    if (had_enough(threads)) {
        threads->alone_seconds = 0.0;
        return;
    }
    threads->alone_seconds = longer < ALONE_MIN   ? ALONE_MIN
                             : longer > ALONE_MAX ? ALONE_MAX
                                                  : longer;
    threads->alone_until = clock_now() + threads->alone_seconds;
    threads->is_starved = true;
}

static void judge_caller(struct threads *threads)
{
    if (had_enough(threads))
        threads->is_starved = false;
    else
        threads->alone_until = clock_now() + threads->alone_seconds;
}

void threads_adapt(struct threads *threads)
{
    if (threads->n == 1)
        return;
    bool is_starved = threads->is_starved;
    if (is_starved ? clock_now() < threads->alone_until
                   : threads->run_seconds < JUDGED)
        return;
    if (is_starved)
        judge_caller(threads);
    else
        judge_team(threads);
    judge_anew(threads);
    threads_set_alone(threads, false);
}

void threads_keep_pace(struct threads *threads)
{
    threads->keeps_pace = true;
}

static void *member_main(void *argument)
{
    const struct member *member = argument;
    struct threads *threads = member->threads;
    double pause = 0.0;
    for (;;) {
        barrier(threads, N_SPINS, pause);
        if (!threads->work)
            return NULL;
        pause = threads->pause;
        threads->work(threads->context, member->index);
        barrier(threads, N_SPINS_IN_RUN, 0.0);
    }
}

/* Starts members 1 and up; n_started counts those that it could start. */
static enum status members_start(struct threads *threads)
{
    for (int i = 1; i < threads->n; i++) {
        struct member *member = &threads->members[i];
        *member = (struct member){.threads = threads, .index = i};
        int error = pthread_create(&member->thread, NULL, member_main, member);
        if (error != 0)
            return fail(E_MEMORY, "cannot start thread %d of %d: %s", i + 1,
                        threads->n, strerror(error));
        threads->n_started++;
    }
    return OK;
}

/* The same; the members block all signals, so that these interrupt reads and
 * writes of the caller. */
static enum status members_start_silent(struct threads *threads)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    enum status status = members_start(threads);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

int threads_cut(int n)
{
    int n_cores = threads_cores(), most = N_THREADS_A_CORE * n_cores;
    if (n <= most)
        return n;
    message_warning("%d threads are too many for %d core%s: starting %d", n,
                    n_cores, text_plural((uint64_t)n_cores), most);
    return most;
}

enum status threads_open(struct threads **out, int n)
{
    *out = NULL;
    int n_cores = threads_cores();
    if (n <= 0)
        n = n_cores;
    if (n > N_THREADS_MAX)
        n = N_THREADS_MAX;

    struct threads *threads = aligned_alloc(CACHE_LINE, sizeof *threads);
    if (!threads)
        return fail_memory("the threads");
    memset(threads, 0, sizeof *threads);
    threads->n = threads->n_active = n;
    threads->spins = n <= n_cores;
    threads->n_started = 1;
    judge_anew(threads);
    threads->members = calloc((size_t)n, sizeof *threads->members);
    enum status status = threads->members ? members_start_silent(threads)
                                          : fail_memory("the threads");
    if (status != OK) {
        threads_close(threads);
        return status;
    }
    *out = threads;
    return OK;
}

void threads_close(struct threads *threads)
{
    if (!threads)
        return;
    /* Those that never started count as arrived. */
    atomic_fetch_add(&threads->n_arrived, threads->n - threads->n_started);
    threads->work = NULL;
    barrier(threads, N_SPINS, 0.0);
    for (int i = 1; i < threads->n_started; i++)
        pthread_join(threads->members[i].thread, NULL);
    free(threads->members);
    free(threads);
}

int threads_count(const struct threads *threads)
{
    return threads->n_active;
}
