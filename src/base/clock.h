/* clock.h -- the time that has passed.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CLOCK_H
#define MAMBYTE_CLOCK_H

/* Seconds of a clock that only goes forward. */
double clock_now(void);

/* Seconds of a core that this process has had. */
double clock_cores(void);

#endif
