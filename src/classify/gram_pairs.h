/* gram_pairs.h -- the labels and levels of a gram, through a range coder.
 *
 * The pairs of a gram that stands alone are coded one after another.  Those of
 * a longer sequence are coded by means of its parts, the sequences without its
 * last and without its first character: a label that has the sequence has both
 * parts, each at least as often.
 *
 * One function encodes and decodes, as in gram_coder.h.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_GRAM_PAIRS_H
#define MAMBYTE_GRAM_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "classify/examples.h"
#include "classify/gram_coder.h"
#include "classify/grams.h"

/* Pairs of one gram: [n], their labels rising. */
struct pair_list {
    const struct gram_pair *pairs;
    uint32_t n;
};

/* What two parts of a sequence have in common: [n], the labels that have both,
 * the lower of their levels, and the level that the sequence would have if its
 * last character did not depend on its first. */
struct shared_pairs {
    uint16_t labels[LABELS_MAX];
    uint8_t most[LABELS_MAX];
    int8_t expected[LABELS_MAX];
    uint32_t n;
};

/* A prefix: its pairs; and by label, whether the prefix has it, at which level,
 * and how much higher that is than in the middle, the prefix without its first
 * character. */
struct parted_pairs {
    struct pair_list prefix;
    bool has[LABELS_MAX];
    uint8_t level[LABELS_MAX];
    int8_t rise[LABELS_MAX];
};

/* Code the pairs of a gram, which start at grams->starts[gram]: a decoder
 * writes them, and where they end.  They may have the pairs below limit.
 * E_MODEL, without a sentence, when a decoder finds what cannot be. */
enum status pairs_code_alone(struct gram_coder *coder, struct grams *grams,
                             uint32_t gram, uint32_t limit, bool is_word);
enum status pairs_code_shared(struct gram_coder *coder, struct grams *grams,
                              uint32_t gram, uint32_t limit,
                              const struct shared_pairs *shared);

/* middle: the pairs of the prefix without its first character. */
void pairs_part(struct parted_pairs *parted, struct pair_list prefix,
                struct pair_list middle);
void pairs_share(struct shared_pairs *shared, const struct parted_pairs *parted,
                 struct pair_list suffix);

/* Whether a gram can be made of such parts. */
bool pairs_are_shared(struct pair_list gram, const struct shared_pairs *shared);

struct pair_list pairs_of(const struct grams *grams, uint32_t gram);

#endif
