/* example_sets.h -- which examples to fit to, and which to hold out.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_EXAMPLE_SETS_H
#define MAMBYTE_EXAMPLE_SETS_H

#include <stddef.h>

#include "base/status.h"
#include "classify/examples.h"

/* One record in HELD_OUT of each label is held out: the HELD_FIRST-th, and
 * every HELD_OUT-th after it; none of a label that has fewer. */
enum { HELD_OUT = 10, HELD_FIRST = 5 };

/* An example that is cut short keeps 1 to CUT_MOST eighths, in turn; it is left
 * out when that is below CUT_BYTES. */
enum { CUT_MOST = 4, CUT_BYTES = 4 };

#define CUT_WEIGHT 0.1f /* in a fit, of an example that was cut short */

/* Moves the held-out records to the end, after *n_fit others; otherwise the
 * order stays. */
enum status sets_hold_out(struct examples *examples, size_t *n_fit);

/* Adds copies of the examples that are cut short: a classifier has to learn
 * from short records, too. */
enum status sets_add_cuts(struct examples *examples);

#endif
