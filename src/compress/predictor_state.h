/* predictor_state.h -- what a predictor keeps: for predictor.c, which makes it,
 * and predictor_code.c, which codes with it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PREDICTOR_STATE_H
#define MAMBYTE_PREDICTOR_STATE_H

#include "compress/context_lines.h"
#include "compress/correction.h"
#include "compress/odds_tree.h"
#include "compress/predictor.h"

enum {
    /* The model, the contexts, the matches; other places are empty. */
    MODEL_INPUT = 0,
    CONTEXT_INPUT = 1,
    MATCH_INPUT = CONTEXT_INPUT + N_CONTEXTS,
    N_INPUTS = MATCH_INPUT + N_MATCHES,
    N_PLACES = 8, /* of a vector */
    N_VECTORS = 2,

    WEIGHT_BITS = 16,
    LOG2_CORRECTIONS = 12, /* by the two bytes before, and the node */
    N_MATCH_STATES = 13    /* see match_state() */
};

/* Integers for N_PLACES inputs; and for all. */
typedef int32_t ints __attribute__((vector_size(4 * N_PLACES)));
typedef ints weights[N_VECTORS];

struct predictor {
    const struct predictor_level *level;
    void *memory;   /* owned: of the predictor and its tables */
    uint8_t *bytes; /* the caller's */
    uint32_t n, stride;
    struct contexts contexts;
    uint32_t *match_slots[N_MATCHES]; /* [1 << log2_slots]: hash of bytes ->
                                       * what follows them                */
    int log2_slots;
    uint32_t match_counters[N_MATCHES][MATCH_KINDS]; /* that it is right  */
    uint32_t counters[N_CONTEXTS][N_HISTORIES];      /* of a one          */
    /* The weight of an input is the sum of three, chosen by the matches, by
     * the bits of the byte so far, and by the byte before. */
    weights by_match[N_MATCH_STATES];
    weights by_node[256];
    weights by_last[256];
    correction corrections[N_MATCH_STATES][256]; /* by the node */
    correction corrections_last[1 << LOG2_CORRECTIONS];
    struct odds_tree tree;
};

/* predictor_code.c, compiled for a level of instructions. */
struct predictor_level {
    const char *name;
    void (*code)(struct predictor *predictor, struct predictor_slice *slice,
                 struct range_coder *coder, const float logits[256]);
};

extern const struct predictor_level predictor_plain, predictor_avx2;

/* The levels that this CPU has, the best first; NULL follows the last. */
const struct predictor_level *const *predictor_levels(void);

#endif
