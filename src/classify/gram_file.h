/* gram_file.h -- a table of grams as bytes: those of a tensor in a file.
 *
 * Numbers of 4 bytes, little-endian: how many sequences of up to 4 characters
 * there are, and how many pairs they have; the same of the longest sequences,
 * and of words, pairs and shapes; and how many bytes the probabilities and the
 * sequences take.  Then come the probabilities, a byte for each context
 * (gram_contexts.h), packed by LZMA2; the sequences (gram_tree.h); and the
 * words (gram_words.h).  mambyte.5 has every detail.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_FILE_H
#define MAMBYTE_GRAM_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "classify/grams.h"

enum { GRAM_FILE_NUMBERS = 8 };

/* Opens grams.  E_MODEL when the bytes are no table for n_labels; but most of
 * it is decoded when it is needed.  The shifts are zero. */
enum status grams_unpack(struct grams *grams, const uint8_t *bytes, size_t n,
                         int n_labels);

#endif
