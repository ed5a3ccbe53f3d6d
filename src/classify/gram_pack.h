/* gram_pack.h -- packs a table of grams that was counted.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_PACK_H
#define MAMBYTE_GRAM_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "classify/grams.h"

/* *bytes, [*n], are to be freed; gram_file.h says what they are.  A sequence is
 * left out that does not follow from shorter ones: when two have the same key,
 * which is rare, or when there are more characters than GRAM_ALPHABET_MAX. */
enum status grams_pack(const struct grams *grams, uint8_t **bytes, size_t *n);

#endif
