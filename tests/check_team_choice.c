/* check_team_choice.c -- the quicker team is found, soon after it changes, and
 * trials of the other cost little.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/team_choice.h"

#include "runner.h" /* last */

/* Batches until this many seconds have passed, as a team takes them; returns
 * the share of the time in which `best' was the team. */
static double pass(struct team_choice *choice, const double seconds[N_TEAMS],
                   int best, double until)
{
    double all = 0.0, of_best = 0.0;
    while (all < until) {
        double taken = seconds[choice->team];
        all += taken;
        of_best += choice->team == best ? taken : 0.0;
        team_choice_learn(choice, taken);
    }
    return of_best / all;
}

/* Milliseconds of a batch; and of both after that. */
static const struct {
    double before[N_TEAMS], after[N_TEAMS];
} cases[] = {
    {{0.6e-3, 0.4e-3}, {0.6e-3, 0.9e-3}}, /* another program comes */
    {{0.6e-3, 0.9e-3}, {0.6e-3, 0.4e-3}}, /* and goes */
    {{0.1e-3, 10e-3}, {0.1e-3, 0.05e-3}}, {{1e-3, 0.1e-3}, {10e-3, 5e-3}},
    {{1e-3, 1e-3}, {1e-3, 0.9e-3}},
};

START_TEST(the_quicker_team_is_taken)
{
    const double *before = cases[_i].before, *after = cases[_i].after;
    int best = before[TEAM_ALL] < before[TEAM_ALONE] ? TEAM_ALL : TEAM_ALONE;
    int then = after[TEAM_ALL] < after[TEAM_ALONE] ? TEAM_ALL : TEAM_ALONE;
    struct team_choice choice = {0};
    pass(&choice, before, best, 1.0);
    ck_assert_double_gt(pass(&choice, before, best, 10.0), 0.95);
    pass(&choice, after, then, 30.0);
    ck_assert_double_gt(pass(&choice, after, then, 10.0), 0.95);
}
END_TEST

/* One batch of a team that has no cores ends its trial. */
START_TEST(a_trial_ends_early)
{
    struct team_choice choice = {0};
    while (choice.team == TEAM_ALONE)
        team_choice_learn(&choice, 1e-3);
    team_choice_learn(&choice, 1.0);
    ck_assert_int_eq(choice.team, TEAM_ALONE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("team_choice");
    TCase *tests = tcase_create("tests");
    tcase_add_loop_test(tests, the_quicker_team_is_taken, 0,
                        sizeof cases / sizeof *cases);
    tcase_add_test(tests, a_trial_ends_early);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
