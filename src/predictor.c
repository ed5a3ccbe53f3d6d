/* predictor.c -- what the model expects of a byte, mixed with what the data
 * at hand have taught.
 *
 * The constants were chosen by measuring on prose, code, logs, documents in
 * other encodings and programs; they are part of the format.
 *
 * SPDX-License-Identifier: MIT
 */
#include "predictor.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { N_ORDERS = 5 };

/* How many bytes before it the counts of a byte go by. */
static const int orders[N_ORDERS] = {1, 2, 3, 4, 6};

/* ---- counters -----------------------------------------------------------
 *
 * The probability of a one in the upper 22 bits, how much it has seen in the
 * lower 10: the more, up to a limit, the less it moves.
 */
enum {
    SEEN_BITS = 10,
    SEEN_MASK = (1 << SEEN_BITS) - 1,
    SEEN_LIMIT = 255,
    COUNTER_ONE = 1 << (32 - SEEN_BITS),
    RATE_BITS = 16,
    ODDS_FLOOR = 4 /* keeps log-odds finite */
};

#define COUNTER_FRESH (1u << 31) /* even odds, nothing seen */

static int32_t rates[SEEN_LIMIT + 1];

static void make_rates(void)
{
    for (int i = 0; i <= SEEN_LIMIT; i++)
        rates[i] = (2 << RATE_BITS) / (2 * i + 3);
}

static void counter_update(uint32_t *counter, int bit)
{
    uint32_t seen = *counter & SEEN_MASK;
    int32_t p = (int32_t)(*counter >> SEEN_BITS);
    int32_t error = (bit ? COUNTER_ONE - 1 : 0) - p;
    p += (int32_t)((int64_t)error * rates[seen] >> RATE_BITS);
    seen += seen < SEEN_LIMIT;
    *counter = (uint32_t)p << SEEN_BITS | seen;
}

static int counter_stretch(uint32_t counter)
{
    uint32_t one = counter >> SEEN_BITS;
    return stretch(one + ODDS_FLOOR, COUNTER_ONE - one + ODDS_FLOOR);
}

/* ---- contexts -----------------------------------------------------------
 *
 * A line holds the counters of the four bits of half a byte, in one context:
 * those of its nodes 1 to 15, and in place of 0 a check of the context, as
 * contexts come to their lines by hash.
 */
enum {
    LINE_NODES = 16,
    LOG2_LINES_MIN = 8,
    LOG2_LINES_MAX = 16,
    BYTES_A_LINE = 16 /* of the data, for each line of an order */
};

struct line {
    uint32_t check; /* never 0 in use */
    uint32_t counters[LINE_NODES - 1];
};

#define HASH_MULTIPLIER 0x9e3779b97f4a7c15u

struct contexts {
    struct line *lines[N_ORDERS]; /* [1 << log2_lines] each */
    int log2_lines;
};

/* The line of a hash, among two; the one that has seen less gives way when
 * it is in neither. */
static struct line *find_line(const struct contexts *contexts, int order,
                              uint64_t hash)
{
    uint32_t index = (uint32_t)(hash >> (64 - contexts->log2_lines));
    uint32_t check = (uint32_t)(hash >> 8) | 1;
    struct line *first = &contexts->lines[order][index];
    struct line *second = &contexts->lines[order][index ^ 1];
    if (first->check == check)
        return first;
    if (second->check == check)
        return second;
    bool keeps_first =
        (second->counters[0] & SEEN_MASK) < (first->counters[0] & SEEN_MASK);
    struct line *line = keeps_first ? second : first;
    line->check = check;
    for (int i = 0; i < LINE_NODES - 1; i++)
        line->counters[i] = COUNTER_FRESH;
    return line;
}

/* The line of the last bytes of a lane and the bits of the byte so far:
 * node is 1, or 16 to 31. */
static struct line *find_context(const struct contexts *contexts, int order,
                                 uint64_t last, int node)
{
    int drop = 64 - 8 * orders[order];
    uint64_t hash = ((last << drop) + (uint64_t)node) * HASH_MULTIPLIER;
    hash = (hash ^ hash >> 29) * HASH_MULTIPLIER;
    return find_line(contexts, order, hash);
}

/* ---- the predictor ------------------------------------------------------ */

enum {
    MATCH_MIN = 5,     /* bytes that a match begins with                */
    MATCH_VERIFY = 32, /* bytes that are compared then, at most         */
    MATCH_KINDS = 25,  /* by length: see match_kind()                   */
    MATCH_LOG2_HEADS = 16,

    N_INPUTS = 1 + N_ORDERS + 1,
    INPUT_MAX = 12 * STRETCH_ONE
};

/* Three weights are added for each input, of sets chosen by the length of
 * the match, by the bits of the byte so far, and by the byte before. */
enum {
    N_CHOICES = 3,
    N_LENGTHS = 5, /* see match_weights() */
    WEIGHT_ONE = 1 << 16,
    WEIGHT_MAX = 1 << 24,
    LEARN_SHIFT = 20
};

struct weights {
    int32_t of[N_INPUTS];
};

struct predictor {
    uint8_t *bytes; /* the caller's */
    uint32_t n, stride;
    struct contexts contexts;
    uint32_t match_heads[1 << MATCH_LOG2_HEADS]; /* hash -> what follows    */
    uint32_t match_counters[MATCH_KINDS];        /* that it went on so      */
    struct weights by_length[N_LENGTHS];
    struct weights by_node[256];
    struct weights by_last[256];
    struct odds_tree tree;
};

/* The counters that a bit was predicted from, for their update. */
struct inputs {
    int x[N_INPUTS];
    uint32_t *counters[N_ORDERS];
    uint32_t *match; /* NULL: there is no match                          */
    int expected;    /* the bit by the match                             */
    struct weights *weights[N_CHOICES];
};

static enum status make_contexts(struct contexts *contexts, uint32_t n)
{
    int log2_lines = LOG2_LINES_MIN;
    while (log2_lines < LOG2_LINES_MAX && n / BYTES_A_LINE >> log2_lines)
        log2_lines++;
    contexts->log2_lines = log2_lines;
    for (int i = 0; i < N_ORDERS; i++) {
        contexts->lines[i] =
            calloc((size_t)1 << log2_lines, sizeof **contexts->lines);
        if (!contexts->lines[i])
            return fail_memory("the predictor");
    }
    return OK;
}

static void make_weights(struct weights *weights, int n)
{
    for (int i = 0; i < n; i++) {
        int32_t *of = weights[i].of;
        of[0] = WEIGHT_ONE / N_CHOICES;
        for (int k = 1; k <= N_ORDERS; k++)
            of[k] = WEIGHT_ONE / 16 / N_CHOICES;
        of[N_INPUTS - 1] = WEIGHT_ONE / 4 / N_CHOICES;
    }
}

enum status predictor_new(struct predictor **predictor, uint8_t *bytes,
                          uint32_t n, uint32_t stride)
{
    struct predictor *p = *predictor = calloc(1, sizeof *p);
    if (!p)
        return fail_memory("the predictor");
    logistic_init();
    make_rates();
    p->bytes = bytes;
    p->n = n;
    p->stride = stride;
    for (int i = 0; i < MATCH_KINDS; i++)
        p->match_counters[i] = COUNTER_FRESH;
    make_weights(p->by_length, N_LENGTHS);
    make_weights(p->by_node, 256);
    make_weights(p->by_last, 256);
    enum status status = make_contexts(&p->contexts, n);
    if (status != OK) {
        predictor_free(p);
        *predictor = NULL;
    }
    return status;
}

void predictor_free(struct predictor *predictor)
{
    if (!predictor)
        return;
    for (int i = 0; i < N_ORDERS; i++)
        free(predictor->contexts.lines[i]);
    free(predictor);
}

/* ---- matches ------------------------------------------------------------ */

/* Whether bytes[position] is known when a lane has coded t bytes: then every
 * lane has coded t, and some t + 1. */
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

/* How many bytes before two positions are alike, in their lanes. */
static uint32_t common_length(const struct predictor *p,
                              const struct predictor_lane *lane, uint32_t other)
{
    uint32_t most = other % p->stride;
    if (most > lane->t)
        most = lane->t;
    if (most > MATCH_VERIFY)
        most = MATCH_VERIFY;
    const uint8_t *a = p->bytes + lane->start + lane->t, *b = p->bytes + other;
    uint32_t n = 0;
    while (n < most && a[-1 - (int)n] == b[-1 - (int)n])
        n++;
    return n;
}

/* Follows the match, or looks for one, after a byte of the lane. */
static void match_update(struct predictor *p, struct predictor_lane *lane,
                         uint8_t byte)
{
    if (lane->length > 0 && p->bytes[lane->match] == byte) {
        lane->match++;
        lane->length++;
    } else {
        lane->length = 0;
    }
    if (lane->t < MATCH_MIN)
        return;
    uint64_t hash = (lane->last << (64 - 8 * MATCH_MIN)) * HASH_MULTIPLIER;
    uint32_t *head = &p->match_heads[hash >> (64 - MATCH_LOG2_HEADS)];
    if (lane->length == 0 && *head > 0) {
        uint32_t length = common_length(p, lane, *head);
        lane->match = *head;
        lane->length = length >= MATCH_MIN ? length : 0;
    }
    *head = lane->start + lane->t;
}

/* ---- bits --------------------------------------------------------------- */

static int clamp(int x, int limit)
{
    return x < -limit ? -limit : x > limit ? limit : x;
}

/* The inputs for the bit after node; expected: the byte by the match under a
 * leading 1, or 0. */
static void gather(struct predictor *p, const struct predictor_lane *lane,
                   struct line *const lines[N_ORDERS], int node, int n_bits,
                   int expected, struct inputs *in)
{
    int place = n_bits < 4
                    ? node
                    : (node & ((1 << (n_bits - 4)) - 1)) | 1 << (n_bits - 4);
    in->x[0] = clamp(odds_tree_stretch(&p->tree, node), STRETCH_MAX);
    for (int i = 0; i < N_ORDERS; i++) {
        in->counters[i] = &lines[i]->counters[place - 1];
        in->x[1 + i] = clamp(counter_stretch(*in->counters[i]), INPUT_MAX);
    }
    bool matches = expected >> (8 - n_bits) == node;
    in->match = matches ? &p->match_counters[match_kind(lane->length)] : NULL;
    in->expected = expected >> (7 - n_bits) & 1;
    int x = matches ? clamp(counter_stretch(*in->match), INPUT_MAX) : 0;
    in->x[N_INPUTS - 1] = in->expected ? x : -x;
    in->weights[0] = &p->by_length[matches ? match_weights(lane->length) : 0];
    in->weights[1] = &p->by_node[node];
    in->weights[2] = &p->by_last[lane->last & 255];
}

static uint32_t mix(const struct inputs *in)
{
    int64_t sum = 0;
    for (int i = 0; i < N_INPUTS; i++)
        sum += (int64_t)(in->weights[0]->of[i] + in->weights[1]->of[i] +
                         in->weights[2]->of[i]) *
               in->x[i];
    sum /= WEIGHT_ONE;
    if (sum > STRETCH_MAX)
        sum = STRETCH_MAX;
    if (sum < -STRETCH_MAX)
        sum = -STRETCH_MAX;
    return squash((int)sum);
}

static void learn(struct inputs *in, int bit, uint32_t p)
{
    int error = ((bit << PROBABILITY_BITS) - (int)p) / (1 << 8);
    for (int i = 0; i < N_INPUTS; i++) {
        int step = (in->x[i] * error + (1 << (LEARN_SHIFT - 1))) >> LEARN_SHIFT;
        for (int k = 0; k < N_CHOICES; k++) {
            int32_t *weight = &in->weights[k]->of[i];
            *weight = clamp(*weight + step, WEIGHT_MAX);
        }
    }
    for (int i = 0; i < N_ORDERS; i++)
        counter_update(in->counters[i], bit);
    if (in->match)
        counter_update(in->match, bit == in->expected);
}

void predictor_code(struct predictor *predictor, struct predictor_lane *lane,
                    struct range_coder *coder, const float logits[256])
{
    struct predictor *p = predictor;
    uint8_t *byte = p->bytes + lane->start + lane->t;
    struct line *lines[N_ORDERS];
    struct inputs in;
    int node = 1, expected = 0;
    odds_tree_make(&p->tree, logits);
    if (lane->length > 0 && !is_known(p, lane->match, lane->t))
        lane->length = 0;
    if (lane->length > 0)
        expected = 256 | p->bytes[lane->match];
    for (int n_bits = 0; n_bits < 8; n_bits++) {
        if (n_bits % 4 == 0) {
            for (int i = 0; i < N_ORDERS; i++)
                lines[i] = find_context(&p->contexts, i, lane->last, node);
        }
        gather(p, lane, lines, node, n_bits, expected, &in);
        uint32_t probability = mix(&in);
        int bit = range_code(coder, *byte >> (7 - n_bits) & 1, probability);
        learn(&in, bit, probability);
        node = 2 * node + bit;
    }
    *byte = (uint8_t)node;
    lane->last = lane->last << 8 | *byte;
    lane->t++;
    match_update(p, lane, *byte);
}
