/* number.h -- numbers as users write them, and as text files have them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_NUMBER_H
#define MAMBYTE_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* "16", "16M", "16MiB": a whole number with a factor of 1024 to some power. */
bool number_parse(const char *text, uint64_t *value);

/* Whether number_parse() refuses text only because 64 bits do not hold it. */
bool number_is_too_large(const char *text);

/* The number at the start of text: "0.5", "1e-9"; no "0x10", " 5" or "inf".
 * Returns where it ends, NULL when there is none. */
const char *number_parse_real(const char *text, double *value);

/* x, which is finite, in the fewest digits that are read back as x: 1e-05, not
 * 9.99999975e-06.  Returns text. */
const char *number_print(char text[32], float x);

#endif
