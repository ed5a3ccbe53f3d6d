/* check_trainer.c -- forty steps of a recorded run, the schedule, and the
 * optimisers one by one.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>

#include "recorded_run.h"
#include "train/adamw.h"
#include "train/muon.h"
#include "train/schedule.h"

#include "runner.h" /* last */

START_TEST(forty_steps_are_those_of_the_reference)
{
    struct trainer_options options = {.imitates_int8 = true,
                                      .device = DEVICE_CPU};
    recorded_check(&recorded_runs[_i], &options,
                   (struct recorded_tolerance){2e-3, 0.02, 0.1});
}
END_TEST

/* ---- parts -------------------------------------------------------------- */

START_TEST(the_rate_rises_stays_and_falls)
{
    const struct schedule s = {1.0, 4, 0.5};
    static const double expected[] = {0.25, 0.5, 0.75, 1,   1,
                                      1,    0.8, 0.6,  0.4, 0.2};
    for (uint64_t i = 0; i < 10; i++)
        ck_assert_double_eq_tol(schedule_rate(&s, i, (double)i / 10),
                                expected[i], 1e-12);
}
END_TEST

/* The first step of AdamW is the rate along the sign of the gradient, and
 * what decays shrinks besides. */
START_TEST(adamw_begins_with_the_sign)
{
    struct parameter p = {.n = 3, .decays = true};
    float w[3] = {1, 1, 1}, m[3] = {0}, v[3] = {0}, g[3] = {3, -0.01f, 0};
    struct update update = {0.1, 1, 0.5, 1};
    adamw_update(&p, w, m, v, g, &update);
    ck_assert_float_eq_tol(w[0], 0.85f, 1e-5f);
    ck_assert_float_eq_tol(w[1], 1.05f, 1e-5f);
    ck_assert_float_eq_tol(w[2], 0.95f, 1e-6f);
}
END_TEST

/* What Muon adds, over 0.2 sqrt(larger side), has singular values near 1,
 * whichever side is larger. */
START_TEST(muon_moves_orthogonally)
{
    struct model_config config = recorded_runs[RECORDED_MAMBA1].shape;
    struct parameters p;
    struct threads *team;
    struct muon *muon;
    ck_assert_int_eq(parameters_open(&p, &config), OK);
    ck_assert_int_eq(threads_open(&team, 3), OK);
    ck_assert_int_eq(muon_open(&muon, &p, team), OK);
    const struct parameter *at =
        parameters_at(&p, 0, _i == 0 ? P_IN_PROJ : P_OUT_PROJ);
    float *w = calloc(3 * p.n_floats, sizeof *w);
    float *m = w + p.n_floats, *g = m + p.n_floats;
    for (size_t i = 0; i < at->n; i++)
        g[at->offset + i] = (float)((i * 2654435761u >> 7) % 1000) - 500;
    struct update update = {1, 1, 0, 1};
    muon_update(muon, at, w, m, g, &update);

    int rows = at->muon_rows, cols = at->shape[1];
    double scale = 0.2 * sqrt(rows > cols ? rows : cols), sum = 0;
    size_t n = (size_t)rows * (size_t)cols;
    for (size_t i = 0; i < n; i++)
        sum += pow((double)w[at->offset + i] / scale, 2);
    /* the sum of squared singular values, each from 0.7 to 1.2 */
    int least = rows < cols ? rows : cols;
    ck_assert_double_gt(sum, 0.5 * least);
    ck_assert_double_lt(sum, 1.5 * least);
    free(w);
    muon_close(muon);
    threads_close(team);
    parameters_close(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer");
    TCase *steps = tcase_create("steps");
    tcase_set_timeout(steps, 120);
    tcase_add_loop_test(steps, forty_steps_are_those_of_the_reference, 0,
                        N_RECORDED);
    tcase_add_test(steps, the_rate_rises_stays_and_falls);
    tcase_add_test(steps, adamw_begins_with_the_sign);
    tcase_add_loop_test(steps, muon_moves_orthogonally, 0, 2);
    suite_add_tcase(suite, steps);
    return run_suite(suite);
}
