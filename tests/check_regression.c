/* check_regression.c -- the search finds known minima, and the regression
 * the optimum of its definition, with any team.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/random.h"
#include "classify/lbfgs.h"
#include "classify/regression.h"

#include "runner.h" /* last */

enum { N = 300, INPUTS = 7, CLASSES = 17, WEIGHTS = (INPUTS + 1) * CLASSES };

static double ease = 1.75; /* of the offset */

static float x[N][INPUTS];
static int labels[N];
static float weights[N];
static float offset[N][CLASSES];

/* In [-1, 1). */
static double draw(uint64_t index)
{
    return (double)(random_at(7, index) >> 11) * 0x1p-52 - 1;
}

/* Classes that overlap: the fit has a finite optimum even without penalty. */
static void make_data(void)
{
    for (int i = 0; i < N; i++) {
        labels[i] = i % CLASSES;
        weights[i] = i % 4 == 0 ? 0.25f : 1;
        for (int j = 0; j < INPUTS; j++)
            x[i][j] = (float)(draw((uint64_t)(i * INPUTS + j)) +
                              (j == labels[i] ? 0.5 : 0));
    }
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < CLASSES; k++)
            offset[i][k] = (float)draw((uint64_t)(i * CLASSES + k + 10000));
    }
}

/* ---- the search --------------------------------------------------------- */

/* sum of (i + 1) (x[i] - i)^2 */
static double bowl(void *context, const double *at, double *gradient)
{
    double sum = 0;
    ++*(int *)context;
    for (int i = 0; i < 20; i++) {
        double d = at[i] - i;
        sum += (i + 1) * d * d;
        gradient[i] = 2 * (i + 1) * d;
    }
    return sum;
}

/* Rosenbrock's valley, least at (1, 1). */
static double valley(void *context, const double *at, double *gradient)
{
    double a = 1 - at[0], b = at[1] - at[0] * at[0];
    ++*(int *)context;
    gradient[0] = -2 * a - 400 * at[0] * b;
    gradient[1] = 200 * b;
    return a * a + 100 * b * b;
}

START_TEST(the_search_finds_known_minima)
{
    double at[20] = {0}, in_valley[2] = {-1.2, 1};
    int n_calls = 0, n_steps;
    struct lbfgs problem = {bowl, &n_calls, 20, 1e-9, 200, NULL};
    ck_assert_int_eq(lbfgs_minimise(&problem, at, &n_steps), OK);
    for (int i = 0; i < 20; i++)
        ck_assert_double_eq_tol(at[i], i, 1e-8);
    ck_assert_int_lt(n_calls, 60);

    problem = (struct lbfgs){valley, &n_calls, 2, 1e-9, 500, NULL};
    ck_assert_int_eq(lbfgs_minimise(&problem, in_valley, &n_steps), OK);
    ck_assert_double_eq_tol(in_valley[0], 1, 1e-6);
    ck_assert_double_eq_tol(in_valley[1], 1, 1e-6);
}
END_TEST

START_TEST(the_search_stops_where_it_is_told)
{
    double at[20] = {0};
    int n_calls = 0, n_steps;
    struct lbfgs problem = {bowl, &n_calls, 20, 0, 3, NULL};
    ck_assert_int_eq(lbfgs_minimise(&problem, at, &n_steps), OK);
    ck_assert_int_eq(n_steps, 3);
    problem.max_steps = 100000; /* until rounding is all that is left */
    ck_assert_int_eq(lbfgs_minimise(&problem, at, &n_steps), OK);
    ck_assert_int_lt(n_steps, 1000);
}
END_TEST

/* ---- the regression ----------------------------------------------------- */

/* The definition in regression.h, in doubles. */
static double define(const double *w, double penalty, bool is_weighted)
{
    double sum = 0, squares = 0, sum_weights = 0;
    for (int i = 0; i < N; i++) {
        double logits[CLASSES], total = 0;
        for (int k = 0; k < CLASSES; k++) {
            logits[k] = w[INPUTS * CLASSES + k] + ease * (double)offset[i][k];
            for (int j = 0; j < INPUTS; j++)
                logits[k] += (double)x[i][j] * w[j * CLASSES + k];
            total += exp(logits[k]);
        }
        double weight = is_weighted ? (double)weights[i] : 1;
        sum += weight * (log(total) - logits[labels[i]]);
        sum_weights += weight;
    }
    for (int j = 0; j < INPUTS * CLASSES; j++)
        squares += w[j] * w[j];
    return sum / sum_weights + penalty / 2 * squares;
}

static void fit(double *w, double penalty, int n_threads, bool is_weighted)
{
    struct threads *team;
    int n_steps = 0;
    ck_assert_int_eq(threads_open(&team, n_threads), OK);
    struct regression problem = {
        .x = &x[0][0],
        .labels = labels,
        .n = N,
        .n_inputs = INPUTS,
        .n_classes = CLASSES,
        .penalty = penalty,
        .team = team,
        .offset = &offset[0][0],
        .ease = ease,
        .weights = is_weighted ? weights : NULL,
    };
    memset(w, 0, WEIGHTS * sizeof *w);
    ck_assert_int_eq(regression_fit(&problem, w, &n_steps), OK);
    ck_assert_int_gt(n_steps, 2);
    threads_close(team);
}

/* Where the differences of the definition are 0 it is least: it is convex. */
START_TEST(the_fit_is_the_optimum)
{
    static const double all[] = {0.1, 0.01, 0.0001};
    double w[WEIGHTS], penalty = all[_i], step = 1e-4;
    fit(w, penalty, 1, _i % 2);
    for (int i = 0; i < WEIGHTS; i++) {
        double at = w[i], above, below;
        w[i] = at + step;
        above = define(w, penalty, _i % 2);
        w[i] = at - step;
        below = define(w, penalty, _i % 2);
        w[i] = at;
        ck_assert_double_eq_tol((above - below) / (2 * step), 0, 5e-4);
    }
}
END_TEST

/* Then the biases alone are fitted. */
START_TEST(there_may_be_no_inputs)
{
    double w[CLASSES] = {0}, shares[CLASSES] = {0};
    struct threads *team;
    int n_steps = 0;
    ck_assert_int_eq(threads_open(&team, 2), OK);
    struct regression problem = {.labels = labels,
                                 .n = N,
                                 .n_classes = CLASSES,
                                 .penalty = 1,
                                 .team = team};
    ck_assert_int_eq(regression_fit(&problem, w, &n_steps), OK);
    threads_close(team);
    for (int i = 0; i < N; i++)
        shares[labels[i]] += 1.0 / N;
    for (int k = 1; k < CLASSES; k++)
        ck_assert_double_eq_tol(w[k] - w[0], log(shares[k] / shares[0]), 0.02);
}
END_TEST

START_TEST(the_team_changes_no_bit)
{
    double one[WEIGHTS], three[WEIGHTS];
    fit(one, 0.01, 1, true);
    fit(three, 0.01, 3, true);
    ck_assert_mem_eq(one, three, sizeof one);
}
END_TEST

START_TEST(the_temperature_undoes_a_factor)
{
    double w[WEIGHTS];
    float floats[WEIGHTS], logits[N * CLASSES];
    ease =
        0; /* else the best temperature depends on what the offset is worth */
    fit(w, 0.0001, 1, false);
    for (int i = 0; i < WEIGHTS; i++)
        floats[i] = (float)w[i];
    regression_logits(logits, &x[0][0], floats, &offset[0][0], (float)ease, N,
                      INPUTS, CLASSES);
    double bits = regression_bits(logits, labels, N, CLASSES, 1);
    ck_assert_double_eq_tol(bits, define(w, 0, false) / log(2), 1e-5);
    double fitted = regression_temperature(logits, labels, N, CLASSES);
    ck_assert_double_eq_tol(fitted, 1, 0.02);
    for (int i = 0; i < N * CLASSES; i++)
        logits[i] *= 3;
    ck_assert_double_eq_tol(regression_temperature(logits, labels, N, CLASSES),
                            3 * fitted, 0.01);
    ck_assert_double_eq_tol(regression_bits(logits, labels, N, CLASSES, 3),
                            bits, 1e-5);
}
END_TEST

START_TEST(probabilities_sum_to_one)
{
    const float logits[] = {-1000, 3, 3, 2.5f, 0, -80};
    double p[6], sum = 0;
    softmax(p, logits, 6, 1);
    for (int i = 0; i < 6; i++)
        sum += p[i];
    ck_assert_double_eq_tol(sum, 1, 1e-15);
    ck_assert_double_eq(p[1], p[2]);
    ck_assert_double_eq_tol(p[3] / p[1], exp(-0.5), 1e-6);
}
END_TEST

int main(void)
{
    make_data();
    Suite *suite = suite_create("regression");
    TCase *tests = tcase_create("tests");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_search_finds_known_minima);
    tcase_add_test(tests, the_search_stops_where_it_is_told);
    tcase_add_loop_test(tests, the_fit_is_the_optimum, 0, 3);
    tcase_add_test(tests, there_may_be_no_inputs);
    tcase_add_test(tests, the_team_changes_no_bit);
    tcase_add_test(tests, the_temperature_undoes_a_factor);
    tcase_add_test(tests, probabilities_sum_to_one);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
