/* check_kernels.c -- every level that this CPU has against cpu_scalar.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "kernels_compare.h"

#include "runner.h" /* last */

enum { N_SEEDS = 400, TIMEOUT_S = 300 };

static void hold_to_scalar(const struct cpu_kernels *level, int index)
{
    const struct kernels_test *test = &kernels_tests[index];
    for (uint64_t seed = 0; seed < N_SEEDS; seed++)
        ck_assert_msg(test->compare(level, seed), "%s: %s: seed %d differs",
                      level->name, test->name, (int)seed);
}

/* Loop test: _i is the comparison. */
START_TEST(levels_equal_scalar)
{
    const struct cpu_kernels *const *level = cpu_kernels_all();
    for (; *level; level++)
        hold_to_scalar(*level, _i);
}
END_TEST

START_TEST(levels_are_found_by_name)
{
    const struct cpu_kernels *const *level = cpu_kernels_all();
    ck_assert_ptr_eq(cpu_kernels_find(NULL), *level);
    for (; *level; level++)
        ck_assert_ptr_eq(cpu_kernels_find((*level)->name), *level);
    ck_assert_ptr_eq(level[-1], &cpu_scalar);
    ck_assert_ptr_null(cpu_kernels_find("abacus"));
    ck_assert_ptr_null(cpu_kernels_find(""));
}
END_TEST

/* Threads begin at multiples of these, for which panels and vectors fit. */
START_TEST(units_are_whole)
{
    const struct cpu_kernels *const *level = cpu_kernels_all();
    for (; *level; level++) {
        ck_assert_int_ge((*level)->rows_unit, 1);
        ck_assert_int_ge((*level)->channels_unit, 1);
        ck_assert_int_eq(CPU_PAD % (*level)->rows_unit, 0);
        ck_assert_int_eq(CPU_PAD % (*level)->channels_unit, 0);
    }
}
END_TEST

static int count_comparisons(void)
{
    int n = 0;
    while (kernels_tests[n].name)
        n++;
    return n;
}

int main(void)
{
    Suite *suite = suite_create("kernels");
    TCase *levels = tcase_create("levels");
    tcase_set_timeout(levels, TIMEOUT_S);
    tcase_add_loop_test(levels, levels_equal_scalar, 0, count_comparisons());
    tcase_add_test(levels, levels_are_found_by_name);
    tcase_add_test(levels, units_are_whole);
    suite_add_tcase(suite, levels);
    return run_suite(suite);
}
