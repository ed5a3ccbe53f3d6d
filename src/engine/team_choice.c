/* team_choice.c -- whether one thread or all of them read the short batches.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/team_choice.h"

/* Of a trial the first WAKING batches do not count: threads wake.  It takes at
 * least TEAM_TRIAL batches, and LEAST seconds; but it ends early when it has
 * taken TOO_LONG times what the other team needs for that.  The next one is due
 * after AFTER times what a trial takes, and after twice as long each time that
 * it changes nothing, up to 2^DOUBLED_MAX times; or after AFTER times, if the
 * team has become slower than the other was. */
enum { WAKING = 2, TOO_LONG = 2, AFTER = 32, DOUBLED_MAX = 9 };
#define LEAST 0.002

static int other_than(int team)
{
    return team == TEAM_ALL ? TEAM_ALONE : TEAM_ALL;
}

static void start_trial(struct team_choice *c)
{
    c->team = other_than(c->team);
    c->is_decided = false;
    c->n_tried = 0;
    c->tried = 0.0;
}

/* The seconds of a trial whose batches take so many seconds each. */
static double trial_seconds(double seconds)
{
    return seconds * TEAM_TRIAL > LEAST ? seconds * TEAM_TRIAL : LEAST;
}

static void decide(struct team_choice *c)
{
    bool is_better = c->mean[c->team] < c->mean[other_than(c->team)];
    if (!is_better)
        c->team = other_than(c->team);
    c->n_lost = is_better ? 0 : c->n_lost + (c->n_lost < DOUBLED_MAX);
    c->since = 0.0;
    c->is_decided = true;
}

static void try_team(struct team_choice *c, double seconds)
{
    double other = c->mean[other_than(c->team)];
    c->n_tried++;
    if (c->n_tried <= WAKING && !(seconds > LEAST))
        return;
    c->tried += seconds;
    int n = c->n_tried > WAKING ? c->n_tried - WAKING : c->n_tried;
    bool is_too_long =
        other > 0.0 && c->tried > TOO_LONG * trial_seconds(other);
    if ((n < TEAM_TRIAL || c->tried < LEAST) && !is_too_long)
        return;
    c->mean[c->team] = c->tried / n;
    if (other > 0.0)
        decide(c);
    else
        start_trial(c);
}

static void use_team(struct team_choice *c, double seconds)
{
    double *mean = &c->mean[c->team], other = c->mean[other_than(c->team)];
    *mean += (seconds - *mean) / 16.0;
    c->since += seconds;
    double most = TOO_LONG * *mean;
    double due = AFTER * trial_seconds(other < most ? other : most);
    if (c->since > (*mean > other ? due : due * (1 << c->n_lost)))
        start_trial(c);
}

void team_choice_learn(struct team_choice *choice, double seconds)
{
    if (choice->is_decided)
        use_team(choice, seconds);
    else
        try_team(choice, seconds);
}
