/* bit_history.h -- what a context has seen of a bit, in one byte.
 *
 * A history is how many zeros and ones there were, and which was the last; few
 * of each are told apart, and many of one make it forget some of the other.
 * What a history says of the next bit is learnt: see predictor_code.c.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BIT_HISTORY_H
#define MAMBYTE_BIT_HISTORY_H

#include <stdint.h>

enum { N_HISTORIES = 256 /* of which 231 are in use; 0: nothing seen */ };

struct bit_history {
    uint8_t next[2];     /* after a zero, after a one */
    uint8_t zeros, ones; /* how many there were       */
};

extern struct bit_history bit_histories[N_HISTORIES];

/* Makes the table; call it before all else here.  More than once is fine, but
 * not from two threads at a time. */
void bit_history_init(void);

#endif
