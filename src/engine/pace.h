/* pace.h -- how many bytes to give the engine at a time.
 *
 * Engines differ in speed by five orders of magnitude.  A call should last
 * long enough to be worth its cost, and end soon enough for a live pipe, a
 * progress line and an interrupt: so the number of bytes follows the clock.
 * No result depends on it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PACE_H
#define MAMBYTE_PACE_H

#include <stddef.h>

struct pace {
    size_t n; /* bytes to ask for next */
    size_t max;
    double aim; /* seconds that a call should last */
    double started;
};

/* n: bytes to ask for first; max: at most.  Both are powers of two. */
struct pace pace_make(size_t n, size_t max, double aim);

/* To be called before and after a call that does n bytes. */
void pace_begin(struct pace *pace);
void pace_end(struct pace *pace, size_t n);

#endif
