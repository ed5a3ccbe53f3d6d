/* lower_case.h -- letters in lower case, the same everywhere.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_LOWER_CASE_H
#define MAMBYTE_LOWER_CASE_H

#include <stdint.h>

/* The small letter of a capital one of Latin, Greek, Cyrillic and Armenian;
 * any other character stays.  The dotted capital I becomes i. */
uint32_t lower_case(uint32_t c);

#endif
