/* odds.h -- a prediction as integers: how often each byte, out of 2^24.
 *
 * Logits become integers before they are used as probabilities, so that every
 * machine draws the same byte and finds the same cost.  The compressor has
 * integers of its own (compress/odds_tree.h).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ODDS_H
#define MAMBYTE_ODDS_H

#include <stdint.h>

/* logits: [256].  frequency: [256], each at least 1, sum EXACT_TOTAL. */
void odds_from_logits(uint32_t frequency[256], const float logits[256],
                      float inverse_temperature);

/* The cost of a byte under logits, in bits: -log2 of its softmax. */
float odds_cost(const float logits[256], uint8_t byte);

/* The byte with the largest logit, the first of equals. */
uint8_t odds_most_likely(const float logits[256]);

#endif
