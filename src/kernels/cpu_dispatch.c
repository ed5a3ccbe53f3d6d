/* cpu_dispatch.c -- which levels this CPU has, best first.
 *
 * A level counts when the CPU has its instructions and the system keeps its
 * registers.  train_dispatch.c and predictor_dispatch.c follow what is found
 * here.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>

#include "kernels/cpu_kernels.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

enum { N_LEVELS_MAX = 4 };

static const struct cpu_kernels *levels[N_LEVELS_MAX + 1];
static pthread_once_t levels_once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)

static int add_levels(int n)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni"))
        levels[n++] = &cpu_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        levels[n++] = &cpu_avx2;
    return n;
}

#elif defined(__aarch64__)

#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1ul << 20)
#endif

static int add_levels(int n)
{
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
        levels[n++] = &cpu_neon;
    return n;
}

#else

static int add_levels(int n)
{
    return n;
}

#endif

static void find_levels(void)
{
    levels[add_levels(0)] = &cpu_scalar;
}

const struct cpu_kernels *const *cpu_kernels_all(void)
{
    pthread_once(&levels_once, find_levels);
    return levels;
}

bool cpu_has(const struct cpu_kernels *kernels)
{
    const struct cpu_kernels *const *level = cpu_kernels_all();
    while (*level && *level != kernels)
        level++;
    return *level != NULL;
}

const struct cpu_kernels *cpu_kernels_find(const char *name)
{
    const struct cpu_kernels *const *level = cpu_kernels_all();
    while (name && *level && strcmp((*level)->name, name) != 0)
        level++;
    return *level;
}
