/* pace.c -- how many bytes to give the engine at a time.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/pace.h"

#include "base/clock.h"

struct pace pace_make(size_t n, size_t max, double aim)
{
    return (struct pace){.n = n, .max = max, .aim = aim};
}

void pace_begin(struct pace *pace)
{
    pace->started = clock_now();
}

void pace_end(struct pace *pace, size_t n)
{
    double seconds = clock_now() - pace->started;
    if (n > pace->n / 2 && seconds < 0.5 * pace->aim && pace->n < pace->max)
        pace->n *= 2;
    else if (seconds > 2 * pace->aim && pace->n > 1)
        pace->n /= 2;
}
