/* example_sets.h -- which examples are learnt from, and which are held out.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_EXAMPLE_SETS_H
#define MAMBYTE_EXAMPLE_SETS_H

#include <stddef.h>

#include "base/status.h"
#include "classify/examples.h"

/* Of the records of a label one in HELD_OUT is held out, the HELD_FIRST-th
 * and every one HELD_OUT after it: none where there are fewer. */
enum { HELD_OUT = 10, HELD_FIRST = 5 };

/* What is left of an example that is cut short: 1 to CUT_MOST eighths, in
 * turn, where that is at least CUT_BYTES. */
enum { CUT_MOST = 4, CUT_BYTES = 4 };

#define CUT_WEIGHT 0.1f /* in a fit, of an example that was cut short */

/* The held-out records go to the end, after *n_fit others; the order stays
 * otherwise. */
enum status sets_hold_out(struct examples *examples, size_t *n_fit);

/* After the examples copies of them are put that are cut short: a classifier
 * of short records needs to have seen some. */
enum status sets_add_cuts(struct examples *examples);

#endif
