/* predictor_state.h -- what a predictor keeps: for predictor.c, which makes it,
 * and predictor_code.c, which codes with it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_PREDICTOR_STATE_H
#define MAMBYTE_PREDICTOR_STATE_H

#include "compress/odds_tree.h"
#include "compress/predictor.h"

enum { N_ORDERS = 5 };

/* By how many bytes before it a byte is counted. */
static const int predictor_orders[N_ORDERS] = {1, 2, 3, 4, 6};

/* ---- counters -----------------------------------------------------------
 *
 * The upper 22 bits are the probability of a one.  The lower 10 say how much
 * the counter has seen: the more, up to a limit, the less it moves.
 */
enum {
    SEEN_BITS = 10,
    SEEN_MASK = (1 << SEEN_BITS) - 1,
    SEEN_LIMIT = 255,
    COUNTER_ONE = 1 << (32 - SEEN_BITS)
};

#define COUNTER_FRESH (1u << 31) /* even odds, nothing seen */

/* ---- contexts -----------------------------------------------------------
 *
 * A line holds the counters of the four bits of half a byte, in one context:
 * those of its nodes 1 to 15.  Contexts find their lines by hash; in place of
 * node 0 is a check of the context.
 */
enum { LINE_NODES = 16 };

struct counter_line {
    uint32_t check; /* never 0 in use */
    uint32_t counters[LINE_NODES - 1];
};

struct contexts {
    struct counter_line *lines[N_ORDERS]; /* [1 << log2_lines] each */
    int log2_lines;
};

/* ---- all ---------------------------------------------------------------- */

enum {
    MATCH_KINDS = 25, /* by length: see match_kind() */
    MATCH_LOG2_SLOTS = 16,

    /* The model, the orders, the match; the eighth place is empty. */
    MODEL_INPUT = 0,
    ORDER_INPUT = 1,
    MATCH_INPUT = ORDER_INPUT + N_ORDERS,
    N_INPUTS = MATCH_INPUT + 1,
    N_PLACES = 8,

    WEIGHT_BITS = 16,
    N_LENGTHS = 5 /* see match_weights() */
};

/* An integer for each input. */
typedef int32_t ints __attribute__((vector_size(4 * N_PLACES)));

struct predictor {
    const struct predictor_level *level;
    uint8_t *bytes; /* the caller's */
    uint32_t n, stride;
    struct contexts contexts;
    uint32_t match_slots[1 << MATCH_LOG2_SLOTS]; /* hash -> what follows    */
    uint32_t match_counters[MATCH_KINDS];        /* that it went on so      */
    /* The weight of an input is the sum of three, chosen by the length of the
     * match, by the bits of the byte so far, and by the byte before. */
    ints by_length[N_LENGTHS];
    ints by_node[256];
    ints by_last[256];
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
