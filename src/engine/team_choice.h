/* team_choice.h -- whether one thread or all of them read the short batches, by
 * the time that each takes.
 *
 * What threads save, and what it costs them to meet at barriers, depends on the
 * model, on the machine and on what else it does: where another program has one
 * of the cores, or where cores are virtual, one thread can be several times as
 * fast as two.  So both are tried, a few batches each, and then again now and
 * then.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TEAM_CHOICE_H
#define MAMBYTE_TEAM_CHOICE_H

#include <stdbool.h>

enum { TEAM_ALONE, TEAM_ALL, N_TEAMS };

/* For batches of one size.  All zero at first. */
struct team_choice {
    int team;             /* to take: TEAM_ALONE or TEAM_ALL */
    bool is_decided;      /* or else it is on trial */
    double mean[N_TEAMS]; /* seconds of a batch; 0: not known */
    int n_tried;          /* batches of the trial */
    double tried;         /* the seconds of those that count */
    double since;         /* seconds of batches since the last trial */
    int n_lost;           /* trials in a row that changed nothing */
};

enum { TEAM_TRIAL = 8 }; /* batches */

/* Learns that a batch took so long. */
void team_choice_learn(struct team_choice *choice, double seconds);

#endif
