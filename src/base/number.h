/* number.h -- whole numbers as users write them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_NUMBER_H
#define MAMBYTE_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* "16", "16M", "16MiB": a whole number with a factor of 1024 to some power. */
bool number_parse(const char *text, uint64_t *value);

#endif
