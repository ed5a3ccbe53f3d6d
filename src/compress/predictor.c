/* predictor.c -- makes predictors, for the best level that the CPU has.
 *
 * The constants here, in predictor_state.h and in predictor_code.c are part of
 * the format.  They are the best that was measured on prose, code, logs,
 * documents in other encodings, and programs.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/predictor.h"

#include <stdlib.h>
#include <string.h>

#include "compress/predictor_state.h"

enum {
    LOG2_LINES_MIN = 8,
    LOG2_LINES_MAX = 16,
    BYTES_A_LINE = 16, /* of the data, for each line of an order */
    N_CHOICES = 3,     /* of weights, which are added            */
    CACHE_LINE = 64
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

static void make_weights(ints *weights, int n)
{
    for (int i = 0; i < n; i++) {
        weights[i][MODEL_INPUT] = (1 << WEIGHT_BITS) / N_CHOICES;
        for (int k = 0; k < N_ORDERS; k++)
            weights[i][ORDER_INPUT + k] = (1 << WEIGHT_BITS) / 16 / N_CHOICES;
        weights[i][MATCH_INPUT] = (1 << WEIGHT_BITS) / 4 / N_CHOICES;
    }
}

enum status predictor_new(struct predictor **predictor, uint8_t *bytes,
                          uint32_t n, uint32_t stride)
{
    size_t size = (sizeof **predictor + CACHE_LINE - 1) & -(size_t)CACHE_LINE;
    struct predictor *p = *predictor = aligned_alloc(CACHE_LINE, size);
    if (!p)
        return fail_memory("the predictor");
    memset(p, 0, size);
    logistic_init();
    p->level = predictor_levels()[0];
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

void predictor_code(struct predictor *predictor, struct predictor_slice *slice,
                    struct range_coder *coder, const float logits[256])
{
    predictor->level->code(predictor, slice, coder, logits);
}
