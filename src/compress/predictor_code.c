/* predictor_code.c -- codes a byte by the model's prediction, mixed with what
 * the data so far have taught.
 *
 * Compiled once for each level of instructions; PREDICTOR_LEVEL is the name of
 * its table.  The text is the same for all: vectors of eight numbers, for which
 * the compiler uses what instructions there are.  All are integers; where a
 * float helps, it is exact or computed as exact.h says.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>

#include "compress/predictor_state.h"

#ifndef PREDICTOR_LEVEL
#define PREDICTOR_LEVEL      predictor_plain
#define PREDICTOR_LEVEL_NAME "plain"
#endif

/* Vectors as long as ints. */
typedef uint32_t counts __attribute__((vector_size(sizeof(ints))));
typedef float floats __attribute__((vector_size(sizeof(ints))));

#define TO_INTS(x)   __builtin_convertvector(x, ints)
#define TO_FLOATS(x) __builtin_convertvector(x, floats)

static inline ints choose(ints condition, ints yes, ints no)
{
    return (condition & yes) | (~condition & no);
}

static inline ints clamp_all(ints x, int limit)
{
    x = choose(x < -limit, (ints){0} - limit, x);
    return choose(x > limit, (ints){0} + limit, x);
}

static inline int sum_of(ints x)
{
    return ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7]));
}

/* ---- counters ----------------------------------------------------------- */

enum { ODDS_FLOOR = 4 /* keeps log-odds finite */ };

/* logistic_log2() of each, 1 <= x < 2^24.  A float holds such an x exactly; its
 * exponent and mantissa give the logarithm. */
static inline ints logs_of(ints x)
{
    ints u = (ints)TO_FLOATS(x);
    ints i = (u >> (23 - LOG_BITS)) & ((1 << LOG_BITS) - 1);
    const int32_t *logs = logistic_logs;
    ints mantissa = {logs[i[0]], logs[i[1]], logs[i[2]], logs[i[3]],
                     logs[i[4]], logs[i[5]], logs[i[6]], logs[i[7]]};
    return ((u >> 23) - 127) * STRETCH_ONE + mantissa;
}

/* The log-odds of counters. */
static inline ints counters_stretch(counts counters)
{
    ints one = (ints)(counters >> SEEN_BITS) + ODDS_FLOOR;
    return logs_of(one) - logs_of(COUNTER_ONE + 2 * ODDS_FLOOR - one);
}

/* Counters after bits, each 0 or -1.  A counter moves by its error times
 * 2 / (2 seen + 3), which is rounded down to a multiple of 2^-16; the product
 * is rounded down, too. */
static inline counts counters_update(counts counters, ints bits)
{
    enum { RATE_BITS = 16, HALF = RATE_BITS / 2 };
    ints seen = (ints)(counters & SEEN_MASK);
    ints p = (ints)(counters >> SEEN_BITS);
    ints error = (bits & (COUNTER_ONE - 1)) - p;
    /* a float holds the quotient too well to reach the next integer */
    ints rate = TO_INTS((float)(2 << RATE_BITS) / TO_FLOATS(2 * seen + 3));
    ints low = (error & ((1 << HALF) - 1)) * rate;
    p += ((error >> HALF) * rate + (low >> HALF)) >> HALF;
    seen -= seen < SEEN_MASK;
    return (counts)p << SEEN_BITS | (counts)seen;
}

/* ---- contexts ----------------------------------------------------------- */

static inline uint64_t last_bytes(uint64_t last, int n)
{
    return last & ((1ull << (8 * n)) - 1);
}

/* The contexts of the next byte. */
static void make_contexts(const struct predictor *p,
                          struct predictor_slice *slice)
{
    const struct text_place *place = &slice->place;
    uint32_t next = slice->start + slice->t;
    uint64_t last = slice->last;
    uint64_t byte = last_bytes(last, 1);
    uint64_t field = place->field, hash = place->field_hash;
    uint64_t column = text_above(place, p->bytes, next);
    uint64_t above = text_field_above(place, p->bytes);
    slice->contexts[0] = byte;
    slice->contexts[1] = last_bytes(last, 3);
    slice->contexts[2] = last_bytes(last, 4);
    slice->contexts[3] = last_bytes(last, 6);
    slice->contexts[4] = column | byte << 8 | field << 16;
    slice->contexts[5] = above | byte << 16 | field << 24;
    slice->contexts[6] = hash | (above & 0xff) << 32;
    slice->contexts[7] = hash | field << 32;
    slice->contexts[8] = place->skeleton | (uint64_t)place->n_digits << 32;
}

/* ---- matches ------------------------------------------------------------ */

/* Bytes that make a match, of each sort. */
enum { MATCH_MIN_SHORT = 5, MATCH_MIN_LONG = 16 };

/* Whether bytes[position] is known when a slice has coded t bytes: then every
 * slice has coded t, and some t + 1. */
static bool is_known(const struct predictor *p, uint32_t position, uint32_t t)
{
    return position < p->n && position % p->stride < t;
}

/* How many bytes before two positions are alike, in their slices. */
static uint32_t common_length(const struct predictor *p,
                              const struct predictor_slice *slice,
                              uint32_t other)
{
    uint32_t most = other % p->stride;
    if (most > slice->t)
        most = slice->t;
    if (most > MATCH_VERIFY)
        most = MATCH_VERIFY;
    const uint8_t *a = p->bytes + slice->start + slice->t,
                  *b = p->bytes + other;
    uint32_t n = 0;
    while (n < most && a[-1 - (int)n] == b[-1 - (int)n])
        n++;
    return n;
}

/* Notes where the last bytes, at least minimum, are; a match that wants another
 * gets the one that was noted before. */
static void match_find(struct predictor *p, const struct predictor_slice *slice,
                       struct match *match, uint32_t *slot, uint32_t minimum)
{
    if (slice->t < minimum)
        return;
    if (*slot > 0 && match_wants_another(match)) {
        uint32_t length = common_length(p, slice, *slot);
        if (length >= minimum)
            *match = (struct match){.at = *slot, .length = length};
    }
    *slot = slice->start + slice->t;
}

/* After a byte of the slice. */
static void matches_update(struct predictor *p, struct predictor_slice *slice,
                           uint8_t byte)
{
    int shift = 64 - p->log2_slots;
    uint64_t short_hash = slice->last << (64 - 8 * MATCH_MIN_SHORT);
    uint64_t long_hash = slice->last * HASH_MULTIPLIER + slice->before_last;
    struct match *matches = slice->matches;
    for (int i = 0; i < N_MATCHES; i++)
        match_follow(&matches[i], p->bytes[matches[i].at] == byte,
                     i == LONG_MATCH);
    match_find(
        p, slice, &matches[SHORT_MATCH],
        &p->match_slots[SHORT_MATCH][short_hash * HASH_MULTIPLIER >> shift],
        MATCH_MIN_SHORT);
    match_find(
        p, slice, &matches[LONG_MATCH],
        &p->match_slots[LONG_MATCH][long_hash * HASH_MULTIPLIER >> shift],
        MATCH_MIN_LONG);
}

/* The byte that a match predicts, under a leading 1; 0: there is none. */
static int match_expects(const struct predictor *p,
                         const struct predictor_slice *slice,
                         struct match *match)
{
    if (match->at > 0 && !is_known(p, match->at, slice->t))
        *match = (struct match){0};
    return match->at > 0 ? 256 | p->bytes[match->at] : 0;
}

/* ---- bits --------------------------------------------------------------- */

enum {
    INPUT_MAX = 12 * STRETCH_ONE,
    WEIGHT_MAX = 1 << 24,
    LEARN_SHIFT = 20,
    ERROR_SHIFT = 8
};

/* A byte that is being coded. */
struct coding {
    struct predictor *predictor;
    const struct predictor_slice *slice;
    struct range_coder *coder;
    int byte;                /* an encoder's                              */
    int expected[N_MATCHES]; /* see match_expects()                       */
    uint32_t *matches[N_MATCHES];
    struct history_line *lines[N_CONTEXTS];
};

/* The inputs of the prediction of a bit, which the bit then updates. */
struct bit_inputs {
    ints x[N_VECTORS];
    counts counters[N_VECTORS];
    uint8_t *histories[N_CONTEXTS];
    uint32_t *contexts[N_CONTEXTS]; /* counters of the histories           */
    uint32_t *matches[N_MATCHES];   /* counters; NULL: there is no match   */
    int expected[N_MATCHES];        /* bits                                */
    ints *by_match, *by_node, *by_last; /* weights                         */
    int match_state;
};

static inline int long_match_state(const struct match *match)
{
    int state = match->length < 16 ? 1 : match->length < 32 ? 2 : 3;
    return match->misses > 0 ? state + 3 : state;
}

static inline int short_match_state(const struct match *match)
{
    uint32_t n = match->length;
    return n < 8 ? 7 : n < 16 ? 8 : n < 32 ? 9 : 10;
}

/* Which matches there are: none; a long one, without or with misses, by its
 * length; a short one; both, which agree or do not. */
static inline int match_state(const struct bit_inputs *in,
                              const struct match *matches)
{
    bool is_long = in->matches[LONG_MATCH], is_short = in->matches[SHORT_MATCH];
    if (is_long && is_short)
        return in->expected[SHORT_MATCH] == in->expected[LONG_MATCH] ? 11 : 12;
    if (is_long)
        return long_match_state(&matches[LONG_MATCH]);
    return is_short ? short_match_state(&matches[SHORT_MATCH]) : 0;
}

static inline uint32_t match_counter(const struct bit_inputs *in, int i)
{
    return in->matches[i] ? *in->matches[i] : COUNTER_FRESH;
}

/* The counters for bit n of the byte, after node. */
static inline void gather_counters(struct bit_inputs *in,
                                   const struct coding *coding, int node, int n)
{
    struct predictor *p = coding->predictor;
    int place = n < 4 ? node : (node & ((1 << (n - 4)) - 1)) | 1 << (n - 4);
    for (int i = 0; i < N_CONTEXTS; i++) {
        in->histories[i] = &coding->lines[i]->histories[place - 1];
        in->contexts[i] = &p->counters[i][*in->histories[i]];
    }
    for (int i = 0; i < N_MATCHES; i++) {
        bool matches = coding->expected[i] >> (8 - n) == node;
        in->expected[i] = coding->expected[i] >> (7 - n) & 1;
        in->matches[i] = matches ? coding->matches[i] : NULL;
    }
    uint32_t *const *c = in->contexts;
    in->counters[0] = (counts){COUNTER_FRESH, *c[0], *c[1], *c[2],
                               *c[3],         *c[4], *c[5], *c[6]};
    in->counters[1] = (counts){*c[7],
                               *c[8],
                               match_counter(in, SHORT_MATCH),
                               match_counter(in, LONG_MATCH),
                               COUNTER_FRESH,
                               COUNTER_FRESH,
                               COUNTER_FRESH,
                               COUNTER_FRESH};
}

#define INPUT(v, i) (v)[(i) / N_PLACES][(i) % N_PLACES]

/* Gathers the inputs for bit n of the byte, after node. */
static inline void gather(struct bit_inputs *in, const struct coding *coding,
                          int node, int n)
{
    struct predictor *p = coding->predictor;
    gather_counters(in, coding, node, n);
    for (int v = 0; v < N_VECTORS; v++)
        in->x[v] = clamp_all(counters_stretch(in->counters[v]), INPUT_MAX);
    INPUT(in->x, MODEL_INPUT) =
        clamp(odds_tree_stretch(&p->tree, node), STRETCH_MAX);
    for (int i = 0; i < N_MATCHES; i++) {
        if (!in->expected[i])
            INPUT(in->x, MATCH_INPUT + i) = -INPUT(in->x, MATCH_INPUT + i);
    }
    in->match_state = match_state(in, coding->slice->matches);
    in->by_match = p->by_match[in->match_state];
    in->by_node = p->by_node[node];
    in->by_last = p->by_last[(uint8_t)coding->slice->last];
}

/* The log-odds of a one.  A weight is at most 3 * 2^24: weights are cut in two,
 * so that products and their sums fit in 32 bits. */
static inline int mix(const struct bit_inputs *in)
{
    enum { CUT = 13, INPUTS_MAX = (N_INPUTS - 1) * INPUT_MAX + STRETCH_MAX };
    _Static_assert(INPUTS_MAX <= INT32_MAX >> CUT, "sums fit");
    _Static_assert(3 * WEIGHT_MAX >> CUT <= 1 << CUT, "so do the upper parts'");
    ints high = {0}, low = {0};
    for (int v = 0; v < N_VECTORS; v++) {
        ints w = in->by_match[v] + in->by_node[v] + in->by_last[v];
        high += (w >> CUT) * in->x[v];
        low += (w & ((1 << CUT) - 1)) * in->x[v];
    }
    int64_t sum =
        ((int64_t)sum_of(high) * (1 << CUT) + sum_of(low)) / (1 << WEIGHT_BITS);
    sum = sum > STRETCH_MAX ? STRETCH_MAX : sum;
    sum = sum < -STRETCH_MAX ? -STRETCH_MAX : sum;
    return (int)sum;
}

/* p: what the weights made of the inputs. */
static inline void learn_weights(const struct bit_inputs *in, int bit,
                                 uint32_t p)
{
    int error = ((bit << PROBABILITY_BITS) - (int)p) / (1 << ERROR_SHIFT);
    for (int v = 0; v < N_VECTORS; v++) {
        ints step =
            (in->x[v] * error + (1 << (LEARN_SHIFT - 1))) >> LEARN_SHIFT;
        in->by_match[v] = clamp_all(in->by_match[v] + step, WEIGHT_MAX);
        in->by_node[v] = clamp_all(in->by_node[v] + step, WEIGHT_MAX);
        in->by_last[v] = clamp_all(in->by_last[v] + step, WEIGHT_MAX);
    }
}

static inline void learn_counters(const struct bit_inputs *in, int bit)
{
    counts after[N_VECTORS];
    for (int v = 0; v < N_VECTORS; v++) {
        ints bits = (ints){0} - bit;
        if (v == MATCH_INPUT / N_PLACES) {
            for (int i = 0; i < N_MATCHES; i++)
                bits[MATCH_INPUT % N_PLACES + i] = -(bit == in->expected[i]);
        }
        after[v] = counters_update(in->counters[v], bits);
    }
    for (int i = 0; i < N_CONTEXTS; i++) {
        *in->contexts[i] = INPUT(after, CONTEXT_INPUT + i);
        *in->histories[i] = bit_histories[*in->histories[i]].next[bit];
    }
    for (int i = 0; i < N_MATCHES; i++) {
        if (in->matches[i])
            *in->matches[i] = INPUT(after, MATCH_INPUT + i);
    }
}

/* Codes bit n of the byte, after node. */
static inline int code_bit(const struct coding *coding, int node, int n)
{
    struct predictor *p = coding->predictor;
    struct bit_inputs in;
    gather(&in, coding, node, n);
    int log_odds = mix(&in);
    uint32_t row =
        (uint32_t)(context_hash(last_bytes(coding->slice->last, 2), node) >>
                   (64 - LOG2_CORRECTIONS));
    struct corrected by_match =
        correct(p->corrections[in.match_state][node], log_odds);
    struct corrected by_last = correct(p->corrections_last[row], log_odds);
    uint32_t mixed = squash(log_odds);
    uint32_t one =
        (6 * mixed + corrected_one(by_match) + corrected_one(by_last)) / 8;
    one = one < 1 ? 1 : one;
    one = one > PROBABILITY_ONE - 1 ? PROBABILITY_ONE - 1 : one;
    int bit = range_code(coding->coder, coding->byte >> (7 - n) & 1, one);
    learn_weights(&in, bit, mixed);
    learn_counters(&in, bit);
    corrected_learn(by_match, bit);
    corrected_learn(by_last, bit);
    return bit;
}

/* Codes bits [n, n + 4) of the byte, from node on; returns the node after them.
 */
static inline int code_half(struct coding *coding, int node, int n)
{
    for (int i = 0; i < N_CONTEXTS; i++)
        coding->lines[i] =
            find_line(&coding->predictor->contexts, i,
                      context_hash(coding->slice->contexts[i], node));
    for (int end = n + 4; n < end; n++)
        node = 2 * node + code_bit(coding, node, n);
    return node;
}

/* Fetches the lines of the second half, by a guess of the first. */
static void guess_ahead(const struct coding *coding)
{
    const int *expected = coding->expected;
    int node = 1;
    for (int i = 0; i < 4; i++)
        node = odds_tree_guess(&coding->predictor->tree, node);
    if (expected[SHORT_MATCH] > 0)
        node = expected[SHORT_MATCH] >> 4;
    if (expected[LONG_MATCH] > 0)
        node = expected[LONG_MATCH] >> 4;
    contexts_ahead(&coding->predictor->contexts, coding->slice->contexts, node);
}

/* Sets what the matches predict.  Where both go on from the same place, only
 * the long one counts. */
static void expect(struct coding *coding, struct predictor_slice *slice)
{
    struct predictor *p = coding->predictor;
    for (int i = 0; i < N_MATCHES; i++) {
        struct match *match = &slice->matches[i];
        coding->expected[i] = match_expects(p, slice, match);
        coding->matches[i] = &p->match_counters[i][match_kind(match)];
    }
    if (slice->matches[SHORT_MATCH].at == slice->matches[LONG_MATCH].at)
        coding->expected[SHORT_MATCH] = 0;
}

static void advance(struct predictor *p, struct predictor_slice *slice,
                    uint8_t byte)
{
    slice->before_last = slice->before_last << 8 | slice->last >> 56;
    slice->last = slice->last << 8 | byte;
    slice->t++;
    matches_update(p, slice, byte);
    text_advance(&slice->place, byte, slice->start + slice->t);
    make_contexts(p, slice);
    contexts_ahead(&p->contexts, slice->contexts, 1);
}

static void code(struct predictor *predictor, struct predictor_slice *slice,
                 struct range_coder *coder, const float logits[256])
{
    uint8_t *byte = predictor->bytes + slice->start + slice->t;
    struct coding coding = {
        .predictor = predictor, .slice = slice, .coder = coder, .byte = *byte};
    odds_tree_make(&predictor->tree, logits);
    expect(&coding, slice);
    guess_ahead(&coding);
    int node = code_half(&coding, 1, 0);
    node = code_half(&coding, node, 4);
    *byte = (uint8_t)node;
    advance(predictor, slice, *byte);
}

const struct predictor_level PREDICTOR_LEVEL = {PREDICTOR_LEVEL_NAME, code};
