/* predictor_dispatch.c -- which levels of predictor_code.c this CPU has.
 *
 * They follow the levels of the engine: if it may use some instructions, so may
 * we.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>

#include "compress/predictor_state.h"
#include "kernels/cpu_kernels.h"

enum { N_LEVELS_MAX = 2 };

static const struct predictor_level *levels[N_LEVELS_MAX + 1];
static pthread_once_t levels_once = PTHREAD_ONCE_INIT;

static void find_levels(void)
{
    int n = 0;
#if defined(__x86_64__)
    if (cpu_has(&cpu_avx2))
        levels[n++] = &predictor_avx2;
#endif
    levels[n] = &predictor_plain;
}

const struct predictor_level *const *predictor_levels(void)
{
    pthread_once(&levels_once, find_levels);
    return levels;
}
