/* threads.h -- a fixed team that computes together.
 *
 * The caller is member 0.  Work is split by index, statically, so that no
 * result depends on the size of the team.  Who waits (for a barrier or for
 * work) spins for some microseconds and then sleeps.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_THREADS_H
#define MAMBYTE_THREADS_H

#include "base/status.h"

enum { N_THREADS_MAX = 1024 };

struct threads;

/* One member of a team at work. */
typedef void threads_work(void *context, int index);

/* A team of n, of one a core that we may run on when n is 0; at most
 * N_THREADS_MAX.  On failure *threads is NULL. */
enum status threads_open(struct threads **threads, int n);

/* Ends and joins the team.  NULL is accepted. */
void threads_close(struct threads *threads);

int threads_count(const struct threads *threads);

/* Calls work(context, index) once for every index below threads_count, all
 * at the same time, and returns when all have returned. */
void threads_run(struct threads *threads, threads_work *work, void *context);

/* Members are to be awake when the next run is due, as long after the last one
 * as that was after the one before.  For a caller that waits between runs for
 * something that needs no core, a GPU say: they spin then. */
void threads_keep_pace(struct threads *threads);

/* Within work: returns when all members have come here.  What any of them
 * wrote before is seen by all of them afterwards. */
void threads_barrier(struct threads *threads);

/* The share of member index of team in n units: [*begin, *end), differing
 * between members by at most one. */
static inline void threads_split(int *begin, int *end, int n, int index,
                                 int team)
{
    *begin = (int)((long long)n * index / team);
    *end = (int)((long long)n * (index + 1) / team);
}

#endif
