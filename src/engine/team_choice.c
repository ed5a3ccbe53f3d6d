/* team_choice.c -- whether one thread or all of them read the short batches.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/team_choice.h"

#include <stdbool.h>

/* A trial ends early when it has taken TOO_LONG times what the other team needs
 * for all of it.  The next one is due after AFTER times what a trial takes, and
 * after twice as long each time that it changes nothing, up to 2^DOUBLED_MAX
 * times; or after SOON times, if the team has become slower than the other was.
 */
enum { TOO_LONG = 2, AFTER = 100, SOON = 20, DOUBLED_MAX = 6 };

static void start_trial(struct team_choice *c)
{
    c->team = c->team == TEAM_ALL ? TEAM_ALONE : TEAM_ALL;
    c->n_tried = 0;
    c->tried = 0.0;
}

static void try_team(struct team_choice *c, double seconds)
{
    int other_team = c->team == TEAM_ALL ? TEAM_ALONE : TEAM_ALL;
    double other = c->mean[other_team];
    c->tried += seconds;
    c->n_tried++;
    bool is_too_long = other > 0.0 && c->tried > TOO_LONG * TEAM_TRIAL * other;
    if (c->n_tried < TEAM_TRIAL && !is_too_long)
        return;
    c->mean[c->team] = c->tried / c->n_tried;
    if (other == 0.0) {
        start_trial(c);
        return;
    }
    bool is_better = c->mean[c->team] < other;
    c->n_lost = is_better ? 0 : c->n_lost + (c->n_lost < DOUBLED_MAX);
    c->team = is_better ? c->team : other_team;
    c->n_tried = TEAM_TRIAL;
    c->since = 0.0;
}

static void use_team(struct team_choice *c, double seconds)
{
    double *mean = &c->mean[c->team];
    double other = c->mean[c->team == TEAM_ALL ? TEAM_ALONE : TEAM_ALL];
    *mean += (seconds - *mean) / 16.0;
    c->since += seconds;
    double trial =
        TEAM_TRIAL * (other < TOO_LONG * *mean ? other : TOO_LONG * *mean);
    bool is_slower = *mean > other && c->since > SOON * trial;
    if (is_slower || c->since > AFTER * trial * (1 << c->n_lost))
        start_trial(c);
}

void team_choice_learn(struct team_choice *choice, double seconds)
{
    if (choice->n_tried < TEAM_TRIAL)
        try_team(choice, seconds);
    else
        use_team(choice, seconds);
}
