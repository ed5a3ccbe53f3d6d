/* predictor.c -- makes predictors, for the best level that the CPU has.
 *
 * The constants here, in predictor_code.c and in the headers are part of the
 * format.  They are the best that was measured on prose, code, logs and data.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/predictor.h"

#include <stdlib.h>
#include <string.h>

#include "base/carver.h"
#include "compress/predictor_state.h"

enum {
    LOG2_LINES_MIN = 8,
    LOG2_LINES_MAX = 17,
    BYTES_A_LINE = 8, /* of the data, for each line of a context   */
    LOG2_SLOTS_MAX = 18,
    N_CHOICES = 3, /* of weights, which are added               */
    HISTORY_TRUST = 6
};

static int log2_at_least(uint32_t n, int least, int most)
{
    int log2 = least;
    while (log2 < most && n >> log2)
        log2++;
    return log2;
}

/* Tables for n bytes of data. */
struct tables {
    struct contexts contexts;
    uint32_t *match_slots[N_MATCHES];
    int log2_slots;
};

static struct tables carve_tables(struct carver *carver, uint32_t n)
{
    struct tables t;
    t.contexts.log2_lines =
        log2_at_least(n / BYTES_A_LINE, LOG2_LINES_MIN, LOG2_LINES_MAX);
    t.log2_slots = log2_at_least(n, LOG2_LINES_MIN, LOG2_SLOTS_MAX);
    for (int i = 0; i < N_CONTEXTS; i++)
        t.contexts.lines[i] = carve(carver, (size_t)1 << t.contexts.log2_lines,
                                    sizeof **t.contexts.lines);
    for (int i = 0; i < N_MATCHES; i++)
        t.match_slots[i] =
            carve(carver, (size_t)1 << t.log2_slots, sizeof **t.match_slots);
    return t;
}

/* A predictor and its tables, all zeros.  The system makes a page of them when
 * it is first used: mostly by the thread that codes, beside the others. */
static struct predictor *make_predictor(uint32_t n)
{
    struct carver carver = {NULL, 0};
    carve(&carver, 1, sizeof(struct predictor));
    carve_tables(&carver, n);
    char *memory = calloc(1, carver.n_bytes + CARVER_ALIGNMENT);
    if (!memory)
        return NULL;
    uintptr_t beyond = (uintptr_t)memory % CARVER_ALIGNMENT;
    carver = (struct carver){memory + CARVER_ALIGNMENT - beyond, 0};
    struct predictor *p = carve(&carver, 1, sizeof *p);
    struct tables tables = carve_tables(&carver, n);
    p->memory = memory;
    p->contexts = tables.contexts;
    p->log2_slots = tables.log2_slots;
    memcpy(p->match_slots, tables.match_slots, sizeof p->match_slots);
    return p;
}

/* Of a history of z zeros and o ones: (o + 2/5) / (z + o + 4/5). */
static uint32_t history_counter(const struct bit_history *history)
{
    uint32_t ones = 5u * history->ones + 2, all = 5u * history->zeros + ones;
    return counter_make((uint32_t)((uint64_t)ones * COUNTER_ONE / (all + 2)),
                        HISTORY_TRUST);
}

static void make_counters(struct predictor *p)
{
    for (int i = 0; i < N_MATCHES; i++) {
        for (int k = 0; k < MATCH_KINDS; k++)
            p->match_counters[i][k] = COUNTER_FRESH;
    }
    for (int i = 0; i < N_CONTEXTS; i++) {
        for (int k = 0; k < N_HISTORIES; k++)
            p->counters[i][k] = history_counter(&bit_histories[k]);
    }
}

static void make_corrections(correction *corrections, int n)
{
    correction first;
    for (int k = 0; k < CORRECTION_POINTS; k++) {
        uint32_t one = squash(k * CORRECTION_STEP - CORRECTION_MAX);
        first[k] = counter_make(one >> (PROBABILITY_BITS - COUNTER_BITS), 0);
    }
    for (int i = 0; i < n; i++)
        memcpy(corrections[i], first, sizeof first);
}

static int first_weight(int input)
{
    enum { ONE = (1 << WEIGHT_BITS) / N_CHOICES };
    if (input == MODEL_INPUT)
        return ONE;
    return input < MATCH_INPUT ? ONE / 16 : ONE / 4;
}

static void make_weights(weights *all, int n)
{
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < N_INPUTS; k++)
            all[i][k / N_PLACES][k % N_PLACES] = first_weight(k);
    }
}

enum status predictor_new(struct predictor **predictor, uint8_t *bytes,
                          uint32_t n, uint32_t stride)
{
    struct predictor *p = *predictor = make_predictor(n);
    if (!p)
        return fail_memory("the predictor");
    logistic_init();
    bit_history_init();
    p->level = predictor_levels()[0];
    p->bytes = bytes;
    p->n = n;
    p->stride = stride;
    make_counters(p);
    make_corrections(p->corrections[0], N_MATCH_STATES * 256);
    make_corrections(p->corrections_last, 1 << LOG2_CORRECTIONS);
    make_weights(p->by_match, N_MATCH_STATES);
    make_weights(p->by_node, 256);
    make_weights(p->by_last, 256);
    return OK;
}

void predictor_free(struct predictor *predictor)
{
    if (predictor)
        free(predictor->memory);
}

struct predictor_slice predictor_slice_make(uint32_t start)
{
    return (struct predictor_slice){
        .start = start,
        .place = {.line = start, .line_above = start},
    };
}

void predictor_code(struct predictor *predictor, struct predictor_slice *slice,
                    struct range_coder *coder, const float logits[256])
{
    predictor->level->code(predictor, slice, coder, logits);
}
