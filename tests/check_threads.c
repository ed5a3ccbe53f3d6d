/* check_threads.c -- a team does all of its work, once, and waits as it should.
 *
 * SPDX-License-Identifier: MIT
 */
#include <time.h>

#include "base/clock.h"
#include "base/threads.h"

#include "runner.h" /* last */

enum { TEAM_MAX = 5, N_ROUNDS = 2000, TIMEOUT_S = 600 };

/* What a test shares with its team. */
struct work {
    struct threads *team;
    int n_calls[TEAM_MAX]; /* of each member */
    int turn[TEAM_MAX];    /* the round that a member is in */
    int n_behind;          /* members seen in an earlier round */
};

static void open_team(struct work *work, int n)
{
    *work = (struct work){0};
    ck_assert_int_eq(threads_open(&work->team, n), OK);
    ck_assert_int_eq(threads_count(work->team), n);
}

static void count_call(void *context, int index)
{
    struct work *work = context;
    work->n_calls[index]++;
}

/* Loop tests: _i is the size of the team. */
START_TEST(every_member_works_once_a_run)
{
    struct work work;
    open_team(&work, _i);
    for (int i = 0; i < N_ROUNDS; i++)
        threads_run(work.team, count_call, &work);
    for (int i = 0; i < TEAM_MAX; i++)
        ck_assert_int_eq(work.n_calls[i], i < _i ? N_ROUNDS : 0);
    threads_close(work.team);
}
END_TEST

/* Between two barriers everyone is in the same round. */
static void march(void *context, int index)
{
    struct work *work = context;
    for (int round = 1; round <= N_ROUNDS; round++) {
        work->turn[index] = round;
        threads_barrier(work->team);
        for (int i = 0; index == 0 && i < threads_count(work->team); i++)
            work->n_behind += work->turn[i] != round;
        threads_barrier(work->team);
    }
}

START_TEST(a_barrier_holds_all)
{
    struct work work;
    open_team(&work, _i);
    threads_run(work.team, march, &work);
    ck_assert_int_eq(work.n_behind, 0);
    for (int i = 0; i < _i; i++)
        ck_assert_int_eq(work.turn[i], N_ROUNDS);
    threads_close(work.team);
}
END_TEST

/* Long enough for the others to fall asleep at the barrier. */
static void come_late(void *context, int index)
{
    struct work *work = context;
    struct timespec while_others_sleep = {.tv_nsec = 3000000};
    for (int round = 0; round < 20; round++) {
        if (round % threads_count(work->team) == index)
            nanosleep(&while_others_sleep, NULL);
        threads_barrier(work->team);
        work->n_calls[index]++;
    }
}

START_TEST(who_sleeps_is_woken)
{
    struct work work;
    open_team(&work, _i);
    threads_run(work.team, come_late, &work);
    for (int i = 0; i < _i; i++)
        ck_assert_int_eq(work.n_calls[i], 20);
    threads_close(work.team);
}
END_TEST

/* Pauses as long as the one before, when members wake by themselves, and
 * shorter and longer ones: every member comes, whether awake or asleep. */
START_TEST(all_come_after_any_pause)
{
    const long pauses[] = {1000000, 1000000, 1000000, 100000,   3000000,
                           300000,  4000000, 0,       20000000, 250000};
    const int n = sizeof pauses / sizeof *pauses;
    struct work work;
    open_team(&work, _i);
    threads_keep_pace(work.team);
    for (int round = 0; round < 2 * n; round++) {
        nanosleep(&(struct timespec){.tv_nsec = pauses[round % n]}, NULL);
        threads_run(work.team, count_call, &work);
    }
    for (int i = 0; i < _i; i++)
        ck_assert_int_eq(work.n_calls[i], 2 * n);
    threads_close(work.team);
}
END_TEST

START_TEST(a_team_opens_and_closes_without_work)
{
    struct work work;
    for (int i = 0; i < 50; i++) {
        open_team(&work, _i);
        threads_close(work.team);
    }
}
END_TEST

static void pass_time(long milliseconds)
{
    nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000}, NULL);
}

/* As if the member had no core. */
static void wait_for_a_core(void *context, int index)
{
    (void)context;
    (void)index;
    pass_time(50);
}

static void lack_cores(struct work *work)
{
    threads_run(work->team, wait_for_a_core, work);
    ck_assert_int_eq(threads_count(work->team), 2);
    threads_adapt(work->team);
    ck_assert_int_eq(threads_count(work->team), 1);
}

START_TEST(who_has_no_cores_works_alone)
{
    struct work work;
    open_team(&work, 2);
    double before = clock_now();
    lack_cores(&work);
    threads_adapt(work.team);
    int n = threads_count(work.team);
    ck_assert(n == 1 || clock_now() - before > 0.25);
    pass_time(300);
    threads_adapt(work.team);
    ck_assert_int_eq(threads_count(work.team), 2);

    lack_cores(&work);
    threads_run(work.team, march, &work);
    ck_assert_int_eq(work.turn[0], N_ROUNDS);
    ck_assert_int_eq(work.turn[1], 0);
    ck_assert_int_eq(work.n_behind, 0);
    threads_close(work.team);
}
END_TEST

START_TEST(none_means_one_a_core)
{
    struct threads *team;
    ck_assert_int_eq(threads_open(&team, 0), OK);
    ck_assert_int_ge(threads_count(team), 1);
    ck_assert_int_le(threads_count(team), N_THREADS_MAX);
    threads_close(team);
    threads_close(NULL);
}
END_TEST

START_TEST(shares_are_even_and_whole)
{
    for (int n = 0; n < 70; n++) {
        for (int team = 1; team < 9; team++) {
            int at = 0;
            for (int i = 0; i < team; i++) {
                struct range share = threads_split(n, i, team);
                int n_share = share.end - share.begin;
                ck_assert_int_eq(share.begin, at);
                ck_assert_int_ge(n_share, n / team);
                ck_assert_int_le(n_share, (n + team - 1) / team);
                at = share.end;
            }
            ck_assert_int_eq(at, n);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("threads");
    TCase *team = tcase_create("team");
    tcase_set_timeout(team, TIMEOUT_S);
    tcase_add_loop_test(team, every_member_works_once_a_run, 1, TEAM_MAX + 1);
    tcase_add_loop_test(team, a_barrier_holds_all, 1, TEAM_MAX + 1);
    tcase_add_loop_test(team, who_sleeps_is_woken, 1, TEAM_MAX + 1);
    tcase_add_loop_test(team, all_come_after_any_pause, 1, TEAM_MAX + 1);
    tcase_add_loop_test(team, a_team_opens_and_closes_without_work, 1,
                        TEAM_MAX + 1);
    tcase_add_test(team, who_has_no_cores_works_alone);
    tcase_add_test(team, none_means_one_a_core);
    tcase_add_test(team, shares_are_even_and_whole);
    suite_add_tcase(suite, team);
    return run_suite(suite);
}
