/* threads.h -- a team that computes together.
 *
 * The caller is member 0.  Work is split by index, statically, so that no
 * result depends on the size of the team.  A member that waits, for a barrier
 * or for work, spins for some microseconds and then sleeps.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_THREADS_H
#define MAMBYTE_THREADS_H

#include <stdbool.h>

#include "base/status.h"

enum { N_THREADS_MAX = 1024, N_THREADS_A_CORE = 4 };

struct threads;

/* One member of a team at work. */
typedef void threads_work(void *context, int index);

/* How many cores this process may run on. */
int threads_cores(void);

/* How many threads to start where a user asks for n: at most N_THREADS_A_CORE
 * for each core, with a warning.  More only wait for each other: a thousand on
 * two cores take hundreds of times as long as two. */
int threads_cut(int n);

/* A team of n members, at most N_THREADS_MAX; n 0: one for each core that we
 * may run on.  On failure *threads is NULL. */
enum status threads_open(struct threads **threads, int n);

/* Ends and joins the team.  NULL is accepted. */
void threads_close(struct threads *threads);

/* Changes in threads_set_alone and threads_adapt only. */
int threads_count(const struct threads *threads);

/* Between runs: the next ones are the caller's alone, as of a team of one, or
 * those of the team, but for threads_adapt. */
void threads_set_alone(struct threads *threads, bool is_alone);

/* Between runs: lets the caller work alone for a while, as a team of one, where
 * other programs leave the team so few cores that its members wait for each
 * other; or lets the team work again. */
void threads_adapt(struct threads *threads);

/* Calls work(context, index) once for every index below threads_count, all
 * at the same time, and returns when all have returned. */
void threads_run(struct threads *threads, threads_work *work, void *context);

/* From now on members expect each pause between runs to be as long as the last
 * one: they wake shortly before it ends, and spin until the run starts.  For a
 * caller that needs no core in its pauses: it waits for a GPU, say. */
void threads_keep_pace(struct threads *threads);

/* Within work: returns when all members are here.  What any of them wrote
 * before, all of them see afterwards. */
void threads_barrier(struct threads *threads);

/* [begin, end) of rows, channels, heads, .. */
struct range {
    int begin, end;
};

/* The share of member index of a team in n units.  Shares differ by at most one
 * unit. */
static inline struct range threads_split(int n, int index, int team)
{
    struct range share;
    share.begin = (int)((long long)n * index / team);
    share.end = (int)((long long)n * (index + 1) / team);
    return share;
}

#endif
