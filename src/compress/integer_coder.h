/* integer_coder.h -- whole numbers through a range coder.
 *
 * A number is coded as its length in bits, by probabilities that adapt to
 * the lengths seen, and its bits below the leading one, as they are.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_INTEGER_CODER_H
#define MAMBYTE_INTEGER_CODER_H

#include <stdint.h>

#include "compress/range_coder.h"

enum { NUMBER_LENGTH_BITS = 6 };

/* Numbers of one kind. */
struct numbers {
    uint32_t p[1 << NUMBER_LENGTH_BITS]; /* of the bits of the length */
};

void numbers_init(struct numbers *numbers);

/* value < 2^63.  As range_code(): a decoder ignores value and returns its
 * own. */
uint64_t numbers_code(struct numbers *numbers, struct range_coder *coder,
                      uint64_t value);

#endif
