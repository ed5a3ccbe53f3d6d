/* gram_file.h -- a table of grams as bytes: those of a tensor in a file.
 *
 * The numbers of grams and of pairs, and the length of the text below: 4 bytes
 * each, little-endian.  Then the text, packed by LZMA2: for each gram its key
 * less the one before it, in groups of 7 bits, the lowest first, all but the
 * last with the upper bit set; for each gram, in the same form, its number of
 * pairs; for each pair, in the same form, its label, less 1 and the label
 * before it in its gram, if any; for each pair, a byte, its level.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_FILE_H
#define MAMBYTE_GRAM_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "classify/grams.h"

/* *bytes, [*n], are to be freed. */
enum status grams_pack(const struct grams *grams, uint8_t **bytes, size_t *n);

/* Opens grams.  E_MODEL when the bytes are no table for n_labels.  The shifts
 * are zero. */
enum status grams_unpack(struct grams *grams, const uint8_t *bytes, size_t n,
                         int n_labels);

#endif
