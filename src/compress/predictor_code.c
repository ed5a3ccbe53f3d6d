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

static inline int clamp(int x, int limit)
{
    x = x < -limit ? -limit : x;
    return x > limit ? limit : x;
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
    seen -= seen < SEEN_LIMIT;
    return (counts)p << SEEN_BITS | (counts)seen;
}

/* ---- contexts ----------------------------------------------------------- */

#define HASH_MULTIPLIER 0x9e3779b97f4a7c15u

/* The hash of the last bytes of a slice and the bits of the byte so far: node
 * is 1, or 16 to 31. */
static inline uint64_t context_hash(int order, uint64_t last, int node)
{
    int drop = 64 - 8 * predictor_orders[order];
    uint64_t hash = ((last << drop) + (uint64_t)node) * HASH_MULTIPLIER;
    return (hash ^ hash >> 29) * HASH_MULTIPLIER;
}

static inline struct counter_line *context_line(const struct contexts *contexts,
                                                int order, uint64_t hash)
{
    return &contexts->lines[order][hash >> (64 - contexts->log2_lines)];
}

/* Fetches the lines of a context into the cache, ahead of their use.  A context
 * may be in two lines; this fetches the first, and many CPUs fetch its
 * neighbour along with it. */
static inline void contexts_ahead(const struct contexts *contexts,
                                  uint64_t last, int node)
{
    for (int i = 0; i < N_ORDERS; i++)
        __builtin_prefetch(
            context_line(contexts, i, context_hash(i, last, node)), 1);
}

static struct counter_line *renew_line(struct counter_line *line,
                                       uint32_t check)
{
    line->check = check;
    for (int i = 0; i < LINE_NODES - 1; i++)
        line->counters[i] = COUNTER_FRESH;
    return line;
}

/* Finds the line of a context among two.  When it is in neither, the line that
 * has seen less gives way. */
static inline struct counter_line *find_line(const struct contexts *contexts,
                                             int order, uint64_t last, int node)
{
    uint64_t hash = context_hash(order, last, node);
    uint32_t check = (uint32_t)(hash >> 8) | 1;
    struct counter_line *first = context_line(contexts, order, hash);
    struct counter_line *lines = contexts->lines[order];
    struct counter_line *second = &lines[(first - lines) ^ 1];
    if (first->check == check)
        return first;
    if (second->check == check)
        return second;
    bool keeps_first =
        (second->counters[0] & SEEN_MASK) < (first->counters[0] & SEEN_MASK);
    return renew_line(keeps_first ? second : first, check);
}

/* ---- matches ------------------------------------------------------------ */

enum {
    MATCH_MIN = 5,    /* bytes that make a match               */
    MATCH_VERIFY = 32 /* bytes that are compared then, at most */
};

/* Whether bytes[position] is known when a slice has coded t bytes: then every
 * slice has coded t, and some t + 1. */
static bool is_known(const struct predictor *p, uint32_t position, uint32_t t)
{
    return position < p->n && position % p->stride < t;
}

static int match_kind(uint32_t length)
{
    if (length < 16)
        return (int)length;
    if (length < 32)
        return 16 + (int)(length - 16) / 4;
    if (length < 64)
        return 20 + (int)(length - 32) / 8;
    return MATCH_KINDS - 1;
}

static int match_weights(uint32_t length)
{
    if (length < 16)
        return length == 0 ? 0 : length < 8 ? 1 : 2;
    return length < 32 ? 3 : 4;
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

/* After a byte of the slice, follows the match or looks for one. */
static void match_update(struct predictor *p, struct predictor_slice *slice,
                         uint8_t byte)
{
    if (slice->length > 0 && p->bytes[slice->match] == byte) {
        slice->match++;
        slice->length++;
    } else {
        slice->length = 0;
    }
    if (slice->t < MATCH_MIN)
        return;
    uint64_t hash = (slice->last << (64 - 8 * MATCH_MIN)) * HASH_MULTIPLIER;
    uint32_t *slot = &p->match_slots[hash >> (64 - MATCH_LOG2_SLOTS)];
    if (slice->length == 0 && *slot > 0) {
        uint32_t length = common_length(p, slice, *slot);
        slice->match = *slot;
        slice->length = length >= MATCH_MIN ? length : 0;
    }
    *slot = slice->start + slice->t;
}

/* The byte that the match predicts, under a leading 1; 0: there is none. */
static int match_expects(const struct predictor *p,
                         struct predictor_slice *slice)
{
    if (slice->length > 0 && !is_known(p, slice->match, slice->t))
        slice->length = 0;
    return slice->length > 0 ? 256 | p->bytes[slice->match] : 0;
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
    uint32_t length; /* of the match                                      */
    int expected;    /* byte: see match_expects()                         */
    uint8_t last;    /* the byte before                                   */
    struct counter_line *lines[N_ORDERS];
};

/* What a bit is predicted from; then what the bit updates. */
struct bit_inputs {
    ints x;
    counts counters;
    uint32_t *orders[N_ORDERS];
    uint32_t *match; /* NULL: there is no match                           */
    int expected;    /* the bit by the match                              */
    ints *by_length, *by_node, *by_last; /* weights                       */
};

/* Gathers the inputs for bit n of the byte, after node. */
static inline void gather(struct bit_inputs *in, const struct coding *coding,
                          int node, int n)
{
    struct predictor *p = coding->predictor;
    int place = n < 4 ? node : (node & ((1 << (n - 4)) - 1)) | 1 << (n - 4);
    for (int i = 0; i < N_ORDERS; i++)
        in->orders[i] = &coding->lines[i]->counters[place - 1];
    bool matches = coding->expected >> (8 - n) == node;
    in->expected = coding->expected >> (7 - n) & 1;
    in->match = matches ? &p->match_counters[match_kind(coding->length)] : NULL;
    in->counters = (counts){COUNTER_FRESH,
                            *in->orders[0],
                            *in->orders[1],
                            *in->orders[2],
                            *in->orders[3],
                            *in->orders[4],
                            matches ? *in->match : COUNTER_FRESH,
                            COUNTER_FRESH};
    in->x = clamp_all(counters_stretch(in->counters), INPUT_MAX);
    in->x[MODEL_INPUT] = clamp(odds_tree_stretch(&p->tree, node), STRETCH_MAX);
    if (!in->expected)
        in->x[MATCH_INPUT] = -in->x[MATCH_INPUT];
    int kind = matches ? match_weights(coding->length) : 0;
    in->by_length = &p->by_length[kind];
    in->by_node = &p->by_node[node];
    in->by_last = &p->by_last[coding->last];
}

/* The probability of a one.  A weight is at most 3 * 2^24, an input less than
 * 2^15: weights are cut in two, so that products and their sums fit in 32
 * bits. */
static inline uint32_t mix(const struct bit_inputs *in)
{
    enum { CUT = 13 };
    ints w = *in->by_length + *in->by_node + *in->by_last;
    int64_t high = sum_of((w >> CUT) * in->x);
    int64_t low = sum_of((w & ((1 << CUT) - 1)) * in->x);
    int64_t sum = (high * (1 << CUT) + low) / (1 << WEIGHT_BITS);
    sum = sum > STRETCH_MAX ? STRETCH_MAX : sum;
    sum = sum < -STRETCH_MAX ? -STRETCH_MAX : sum;
    return squash((int)sum);
}

static inline void learn(const struct bit_inputs *in, int bit, uint32_t p)
{
    int error = ((bit << PROBABILITY_BITS) - (int)p) / (1 << ERROR_SHIFT);
    ints step = (in->x * error + (1 << (LEARN_SHIFT - 1))) >> LEARN_SHIFT;
    *in->by_length = clamp_all(*in->by_length + step, WEIGHT_MAX);
    *in->by_node = clamp_all(*in->by_node + step, WEIGHT_MAX);
    *in->by_last = clamp_all(*in->by_last + step, WEIGHT_MAX);
    ints bits = (ints){0} - bit;
    bits[MATCH_INPUT] = -(bit == in->expected);
    counts after = counters_update(in->counters, bits);
    for (int i = 0; i < N_ORDERS; i++)
        *in->orders[i] = after[ORDER_INPUT + i];
    if (in->match)
        *in->match = after[MATCH_INPUT];
}

/* Codes bits [n, n + 4) of the byte, from node on; returns the node after them.
 */
static inline int code_half(struct coding *coding, uint64_t last, int node,
                            int n, struct range_coder *coder, int byte)
{
    struct bit_inputs in;
    for (int i = 0; i < N_ORDERS; i++)
        coding->lines[i] =
            find_line(&coding->predictor->contexts, i, last, node);
    for (int end = n + 4; n < end; n++) {
        gather(&in, coding, node, n);
        uint32_t p = mix(&in);
        int bit = range_code(coder, byte >> (7 - n) & 1, p);
        learn(&in, bit, p);
        node = 2 * node + bit;
    }
    return node;
}

/* Fetches the lines of the second half, by a guess of the first. */
static void guess_ahead(const struct coding *coding, uint64_t last)
{
    int node = 1;
    for (int i = 0; i < 4; i++)
        node = odds_tree_guess(&coding->predictor->tree, node);
    contexts_ahead(&coding->predictor->contexts, last,
                   coding->expected > 0 ? coding->expected >> 4 : node);
}

static void code(struct predictor *predictor, struct predictor_slice *slice,
                 struct range_coder *coder, const float logits[256])
{
    struct predictor *p = predictor;
    uint8_t *byte = p->bytes + slice->start + slice->t;
    struct coding coding = {.predictor = p, .last = (uint8_t)slice->last};
    odds_tree_make(&p->tree, logits);
    coding.expected = match_expects(p, slice);
    coding.length = slice->length;
    guess_ahead(&coding, slice->last);
    int node = code_half(&coding, slice->last, 1, 0, coder, *byte);
    node = code_half(&coding, slice->last, node, 4, coder, *byte);
    *byte = (uint8_t)node;
    slice->last = slice->last << 8 | *byte;
    slice->t++;
    match_update(p, slice, *byte);
    contexts_ahead(&p->contexts, slice->last, 1);
}

const struct predictor_level PREDICTOR_LEVEL = {PREDICTOR_LEVEL_NAME, code};
