/* kernels_selftest.c -- every level of this CPU against cpu_scalar.
 *
 * Without a test library, so that it builds and runs where there is none: for
 * another architecture, under an emulator.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <string.h>

#include "kernels_compare.h"

enum { N_SEEDS = 300 };

static int failures_of(const struct cpu_kernels *level)
{
    int n_failures = 0;
    for (const struct kernels_test *test = kernels_tests; test->name; test++) {
        int n_differ = 0;
        for (uint64_t seed = 0; seed < N_SEEDS; seed++)
            n_differ += !test->compare(level, seed);
        printf("%s: %s: %d of %d differ\n", level->name, test->name, n_differ,
               N_SEEDS);
        n_failures += n_differ;
    }
    return n_failures;
}

int main(void)
{
    int n_failures = 0;
    for (const struct cpu_kernels *const *level = cpu_kernels_all(); *level;
         level++)
        n_failures += failures_of(*level);
    return n_failures > 0;
}
