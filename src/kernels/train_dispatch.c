/* train_dispatch.c -- which levels of train_kernels.c this CPU has.
 *
 * They follow those of the engine: if it may use some instructions, so may we.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>

#include "kernels/cpu_kernels.h"
#include "kernels/train_kernels.h"

enum { N_LEVELS_MAX = 3 };

static const struct train_kernels *levels[N_LEVELS_MAX + 1];
static pthread_once_t levels_once = PTHREAD_ONCE_INIT;

static void find_levels(void)
{
    int n = 0;
#if defined(__x86_64__)
    if (cpu_has(&cpu_avx512))
        levels[n++] = &train_avx512;
    if (cpu_has(&cpu_avx2))
        levels[n++] = &train_avx2;
#endif
    levels[n] = &train_plain;
}

const struct train_kernels *const *train_kernels_all(void)
{
    pthread_once(&levels_once, find_levels);
    return levels;
}

const struct train_kernels *train_kernels_find(void)
{
    return train_kernels_all()[0];
}
