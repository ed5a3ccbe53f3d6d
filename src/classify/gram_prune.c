/* gram_prune.c -- makes a table of grams smaller.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_prune.h"

/* Leaves out the grams that no label has often enough. */
static void drop_rare(struct grams *g)
{
    uint32_t n = 0, n_pairs = 0;
    for (uint32_t i = 0; i < g->n; i++) {
        uint32_t start = g->starts[i], end = g->starts[i + 1];
        if (!grams_has_without(g, i, -1, 0))
            continue;
        g->keys[n] = g->keys[i];
        g->starts[n++] = n_pairs;
        for (uint32_t j = start; j < end; j++, n_pairs++) {
            g->pairs[n_pairs] = g->pairs[j];
            g->times[n_pairs] = g->times[j];
        }
    }
    g->starts[n] = n_pairs;
    g->n = n;
    g->n_pairs = n_pairs;
}

void gram_prune(struct grams *grams, size_t n_most)
{
    while (grams->n_pairs > n_most) {
        grams->least++;
        drop_rare(grams);
    }
    grams_index(grams);
}
