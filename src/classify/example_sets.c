/* example_sets.c -- which examples to fit to, and which to hold out.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/example_sets.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum status sets_hold_out(struct examples *examples, size_t *n_fit)
{
    struct examples *e = examples;
    size_t *n_seen = calloc((size_t)e->n_labels, sizeof *n_seen);
    struct example *held = malloc(e->n * sizeof *held);
    size_t n_held = 0;
    *n_fit = 0;
    for (size_t i = 0; n_seen && held && i < e->n; i++) {
        if (n_seen[e->items[i].label]++ % HELD_OUT == HELD_FIRST - 1)
            held[n_held++] = e->items[i];
        else
            e->items[(*n_fit)++] = e->items[i];
    }
    bool is_done = n_seen && held;
    if (is_done)
        memcpy(e->items + *n_fit, held, n_held * sizeof *held);
    free(held);
    free(n_seen);
    return is_done ? OK : fail_memory("the examples");
}

enum status sets_add_cuts(struct examples *examples)
{
    struct examples *e = examples;
    struct example *items = realloc(e->items, (2 * e->n + 1) * sizeof *items);
    if (!items)
        return fail_memory("the examples");
    e->items = items;
    size_t n = e->n;
    for (size_t i = 0; i < n; i++) {
        struct example cut = items[i];
        cut.n = cut.n * (1 + i % CUT_MOST) / 8;
        cut.weight = CUT_WEIGHT;
        if (cut.n >= CUT_BYTES)
            items[e->n++] = cut;
    }
    return OK;
}
