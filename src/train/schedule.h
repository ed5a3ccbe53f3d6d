/* schedule.h -- the learning rate over a run: up, level, down.
 *
 * It rises linearly over the first warmup steps, stays at its peak, and falls
 * linearly to zero over the last share of the run.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SCHEDULE_H
#define MAMBYTE_SCHEDULE_H

#include <stdint.h>

struct schedule {
    double peak;
    uint64_t warmup;    /* steps */
    double decay_share; /* of the run, 0 to 1 */
};

/* For a step, counted from 0.  done: the share of the run, of its steps or of
 * its time, that is over before this step: 0 <= done < 1. */
static inline double schedule_rate(const struct schedule *schedule,
                                   uint64_t step, double done)
{
    double rate = schedule->peak;
    double left = 1 - done;
    if (step < schedule->warmup)
        rate *= (double)(step + 1) / (double)schedule->warmup;
    if (left < schedule->decay_share)
        rate *= left / schedule->decay_share;
    return rate;
}

#endif
