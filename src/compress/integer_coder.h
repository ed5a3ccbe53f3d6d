/* integer_coder.h -- codes integers, by a range coder.
 *
 * An integer is coded as its length in bits, by probabilities that adapt to
 * the lengths seen, and then the bits below its leading one, as they are.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_INTEGER_CODER_H
#define MAMBYTE_INTEGER_CODER_H

#include <stdint.h>

#include "base/range_coder.h"

enum { INTEGER_LENGTH_BITS = 6 };

/* For integers of one kind. */
struct integer_coder {
    uint32_t p[1 << INTEGER_LENGTH_BITS]; /* of the bits of a length */
};

void integer_coder_init(struct integer_coder *integers);

/* value < 2^63.  As with range_code(), a decoder ignores value and returns
 * its own. */
uint64_t integer_coder_code(struct integer_coder *integers,
                            struct range_coder *coder, uint64_t value);

#endif
