/* gram_tree.c -- the sequences of a table of grams, packed in groups.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_tree.h"

#include <stdlib.h>

#include "base/large_pages.h"
#include "classify/gram_contexts.h"

/* The ones in each 4 bits. */
static uint64_t count_fours(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    return (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
}

static int count_bits(uint64_t x, uint64_t y)
{
    uint64_t n = count_fours(x) + count_fours(y); /* at most 8 each */
    n = (n & 0x0f0f0f0f0f0f0f0fu) + (n >> 4 & 0x0f0f0f0f0f0f0f0fu);
    return (int)(n * 0x0101010101010101u >> 56);
}

/* ---- nodes -------------------------------------------------------------- */

/* About twice the logarithm of base 2: 2 w from 2^w on, and 2 w + 1 from one
 * and a half times that on; but 1 for 1. */
static uint8_t twice_log2(uint64_t x)
{
    int whole = 63 - __builtin_clzll(x);
    return (uint8_t)(2 * whole + (x >= (3ull << whole) / 2));
}

/* Sets the members of a node that follow from its pairs. */
static void measure(const struct gram_tree *t, uint32_t i)
{
    struct gram_node *node = &t->nodes[i];
    struct pair_list list = pairs_of(t->grams, i);
    uint64_t total = 1;
    for (uint32_t j = 0; j < list.n; j++) {
        uint16_t label = list.pairs[j].label;
        node->labels[label / 64 % 2] |= (uint64_t)1 << label % 64;
        total += (uint64_t)1 << list.pairs[j].level;
        if (list.pairs[j].level > node->most)
            node->most = list.pairs[j].level;
    }
    node->n_labels = (uint8_t)count_bits(node->labels[0], node->labels[1]);
    node->total = twice_log2(total);
}

/* Whether the longest sequences, which are no nodes, grow from a node. */
static bool is_next_to_last(const struct gram_node *node)
{
    return node->length == GRAM_CHARACTERS - 1;
}

void gram_tree_add(struct gram_tree *tree, uint32_t prefix, uint32_t suffix)
{
    struct gram_tree *t = tree;
    const struct gram_node *p = &t->nodes[prefix];
    if (is_next_to_last(p)) {
        t->leaves.n++;
        return;
    }
    uint32_t i = t->list.n++;
    bool is_space = t->characters[i] == 0 && prefix != GRAM_ROOT;
    t->nodes[i] = (struct gram_node){.suffix = suffix,
                                     .first = GRAM_NONE,
                                     .end = GRAM_NONE,
                                     .length = (p->length + 1) & 7,
                                     .is_spaced = p->is_spaced || is_space};
    measure(t, i);
}

/* Both have every label, at the level of the sum of all characters. */
void gram_tree_end_characters(struct gram_tree *tree)
{
    struct gram_tree *t = tree;
    struct grams *g = t->grams;
    uint32_t n_labels = (uint32_t)g->n_labels;
    uint64_t sums[LABELS_MAX] = {0};
    for (uint32_t i = GRAM_TREE_FIRST; i < t->list.n; i++) {
        struct pair_list list = pairs_of(g, i);
        for (uint32_t j = 0; j < list.n; j++)
            sums[list.pairs[j].label] += (uint64_t)1 << list.pairs[j].level;
    }
    for (uint32_t k = 0; k < 2 * n_labels; k++) {
        int level = twice_log2(sums[k % n_labels] + 1) / 2;
        g->pairs[k].label = (uint16_t)(k % n_labels);
        g->pairs[k].level =
            (uint8_t)(level < GRAM_LEVELS ? level : GRAM_LEVELS - 1);
    }
    g->starts[GRAM_SPACE] = n_labels;
    measure(t, GRAM_ROOT);
    measure(t, GRAM_SPACE);
    t->nodes[GRAM_ROOT].first = GRAM_SPACE;
    t->nodes[GRAM_ROOT].end = t->list.n;
    t->nodes[GRAM_ROOT].has_grown = true;
}

uint32_t gram_tree_cut(const struct gram_tree *tree, uint32_t first,
                       uint32_t end)
{
    const uint32_t *starts = tree->grams->starts;
    uint32_t i = first;
    while (i < end && i - first < GRAM_GROUP_PAIRS &&
           starts[i] - starts[first] < GRAM_GROUP_PAIRS)
        i++;
    return i;
}

/* ---- opening ------------------------------------------------------------ */

static enum status allocate(struct gram_tree *t)
{
    t->nodes = large_pages_calloc(t->list.end, sizeof *t->nodes);
    t->groups = calloc(t->list.end, sizeof *t->groups);
    t->characters = large_pages_calloc(t->leaves.end, sizeof *t->characters);
    return t->nodes && t->groups && t->characters ? OK
                                                  : fail_memory("the grams");
}

enum status gram_tree_open(struct gram_tree **tree, struct grams *grams,
                           const struct gram_contexts *contexts,
                           struct gram_tree_size size)
{
    struct gram_tree *t = *tree = calloc(1, sizeof *t);
    if (!t)
        return fail_memory("the grams");
    uint32_t first_pair = 2 * (uint32_t)grams->n_labels;
    t->grams = grams;
    t->contexts = contexts;
    t->parted_is_of = GRAM_NONE;
    t->list = (struct gram_list){GRAM_TREE_FIRST, GRAM_TREE_FIRST + size.n,
                                 first_pair + size.n_pairs};
    t->leaves =
        (struct gram_list){t->list.end + 1, t->list.end + 1 + size.n_leaves,
                           t->list.pairs_end + size.n_leaf_pairs};
    grams->starts[t->list.n] = first_pair;
    grams->starts[t->leaves.n] = t->list.pairs_end;
    TRY(allocate(t));
    t->nodes[GRAM_SPACE].length = 1;
    return OK;
}

void gram_tree_close(struct gram_tree *tree)
{
    if (!tree)
        return;
    free(tree->nodes);
    free(tree->groups);
    free(tree->characters);
    free(tree);
}

/* ---- characters --------------------------------------------------------- */

/* Each as its distance from the one before; then 0. */
enum status gram_tree_code_characters(struct gram_tree *tree,
                                      struct gram_coder *coder)
{
    struct gram_tree *t = tree;
    bool is_decoder = coder->is_decoder;
    uint32_t before = 0, end = is_decoder ? 0 : t->nodes[GRAM_ROOT].end;
    for (uint32_t i = GRAM_TREE_FIRST;; i++) {
        uint32_t distance = i < end ? t->characters[i] - before : 0;
        distance = gram_number(coder, CONTEXTS_CHARACTER, distance);
        if (distance == 0)
            break;
        before += distance;
        if (before > GRAM_CHARACTER_END || i >= t->list.end ||
            i >= GRAM_ALPHABET_MAX)
            return E_MODEL;
        TRY(pairs_code_alone(coder, t->grams, i, t->list.pairs_end, false));
        t->characters[i] = before;
        if (is_decoder)
            gram_tree_add(t, GRAM_ROOT, GRAM_ROOT);
    }
    if (is_decoder)
        gram_tree_end_characters(t);
    return OK;
}

/* ---- longer sequences --------------------------------------------------- */

static size_t at_most(int x, int most)
{
    return (size_t)(x < most ? x : most);
}

/* The context of the bit that says whether two nodes meet, which overlap in the
 * middle. */
static size_t find_meeting(const struct gram_node *prefix,
                           const struct gram_node *suffix,
                           const struct gram_node *middle)
{
    int both = count_bits(prefix->labels[0] & suffix->labels[0],
                          prefix->labels[1] & suffix->labels[1]);
    int fewer = prefix->n_labels < suffix->n_labels ? prefix->n_labels
                                                    : suffix->n_labels;
    int most = prefix->most < suffix->most ? prefix->most : suffix->most;
    int expected = prefix->total + suffix->total - middle->total;
    int labels = (both > 3) + (both > 7) + (both > 15);
    int cover = (both == fewer) + (2 * both >= fewer) + (4 * both >= fewer);
    size_t i = (size_t)(prefix->length - 1) * CONTEXT_TOTALS +
               at_most(expected > 0 ? expected : 0, CONTEXT_TOTALS - 1);
    i = (i * CONTEXT_LABELS + (size_t)labels) * CONTEXT_COVERS + (size_t)cover;
    return CONTEXTS_MEETING + i * CONTEXT_MOST +
           at_most(most, CONTEXT_MOST - 1);
}

/* The context of the bit that says whether a node meets any of n others. */
static size_t find_growth(const struct gram_node *node, uint32_t n)
{
    size_t i = (size_t)(node->length - 1) * CONTEXT_TOTALS +
               at_most(node->total, CONTEXT_TOTALS - 1);
    return CONTEXTS_GROWTH + i * CONTEXT_TRIES +
           at_most(twice_log2(n), CONTEXT_TRIES - 1);
}

static bool has_labels_of(const struct gram_node *a, const struct gram_node *b)
{
    return (a->labels[0] & b->labels[0]) | (a->labels[1] & b->labels[1]);
}

bool gram_tree_may_meet(const struct gram_tree *tree, uint32_t prefix,
                        uint32_t suffix)
{
    return has_labels_of(&tree->nodes[prefix], &tree->nodes[suffix]);
}

const struct shared_pairs *gram_tree_share(struct gram_tree *tree,
                                           uint32_t prefix, uint32_t suffix)
{
    struct gram_tree *t = tree;
    const struct gram_node *p = &t->nodes[prefix];
    if (!has_labels_of(p, &t->nodes[suffix]))
        return NULL;
    if (t->parted_is_of != prefix)
        pairs_part(&t->parted, pairs_of(t->grams, prefix),
                   pairs_of(t->grams, p->suffix));
    t->parted_is_of = prefix;
    pairs_share(&t->shared, &t->parted, pairs_of(t->grams, suffix));
    return &t->shared;
}

bool gram_tree_may_grow(const struct gram_tree *tree, uint32_t prefix,
                        uint32_t *first, uint32_t *n)
{
    const struct gram_node *p = &tree->nodes[prefix];
    const struct gram_node *suffix = &tree->nodes[p->suffix];
    *first = suffix->first;
    *n = suffix->end - suffix->first;
    return *n > 0 && (p->length < GRAM_ACROSS || !p->is_spaced);
}

/* The list that takes the grams that grow from a node. */
static struct gram_list *find_list(struct gram_tree *t,
                                   const struct gram_node *node)
{
    return is_next_to_last(node) ? &t->leaves : &t->list;
}

/* Codes the gram that two nodes make, which is gram [i]. */
static enum status code_met(struct gram_tree *t, struct gram_coder *coder,
                            uint32_t prefix, uint32_t suffix, uint32_t i)
{
    const struct gram_list *list = find_list(t, &t->nodes[prefix]);
    if (i == list->end)
        return E_MODEL;
    TRY(pairs_code_shared(coder, t->grams, i, list->pairs_end,
                          gram_tree_share(t, prefix, suffix)));
    if (!coder->is_decoder)
        return OK;
    t->characters[i] = t->characters[suffix];
    gram_tree_add(t, prefix, suffix);
    return OK;
}

/* Codes which of n nodes a node meets, and what they make, from gram [i] on. */
static enum status code_all_met(struct gram_tree *t, struct gram_coder *coder,
                                uint32_t prefix, uint32_t first, uint32_t n,
                                uint32_t i)
{
    const struct gram_node *p = &t->nodes[prefix];
    const struct gram_node *middle = &t->nodes[p->suffix];
    for (uint32_t suffix = first; suffix < first + n; suffix++) {
        const struct gram_node *s = &t->nodes[suffix];
        int meets = !coder->is_decoder && i < p->end &&
                    t->characters[i] == t->characters[suffix];
        if (has_labels_of(p, s) &&
            gram_bit(coder, find_meeting(p, s, middle), meets))
            TRY(code_met(t, coder, prefix, suffix, i++));
    }
    return OK;
}

/* Codes what grows from a node. */
static enum status grow(struct gram_tree *t, struct gram_coder *coder,
                        uint32_t prefix)
{
    struct gram_node *p = &t->nodes[prefix];
    const struct gram_list *list = find_list(t, p);
    uint32_t first, n;
    if (coder->is_decoder) {
        p->first = p->end = list->n;
        p->has_grown = true;
    }
    if (!gram_tree_may_grow(t, prefix, &first, &n) ||
        !gram_bit(coder, find_growth(p, n), p->first < p->end))
        return OK;
    TRY(code_all_met(t, coder, prefix, first, n, p->first));
    if (coder->is_decoder)
        p->end = list->n;
    return OK;
}

enum status gram_tree_code(struct gram_tree *tree, struct gram_coder *coder,
                           uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++)
        TRY(grow(tree, coder, i));
    return OK;
}

/* ---- decoding ----------------------------------------------------------- */

/* Cuts the nodes from first on into groups, whose codes end at code_end. */
static enum status cut_groups(struct gram_tree *t, struct gram_coder *coder,
                              uint32_t first, uint32_t at, uint32_t code_end)
{
    uint32_t before = t->n_groups;
    uint64_t all = 0;
    for (uint32_t i = first; i < t->list.n;) {
        uint32_t end = gram_tree_cut(t, i, t->list.n), group = t->n_groups++;
        uint32_t size = gram_even_number(coder, 0);
        t->groups[group] = (struct gram_group){i, end, 0, size};
        all += size;
        for (; i < end; i++)
            t->nodes[i].first = group;
    }
    if (all > code_end - at)
        return E_MODEL;
    at = code_end - (uint32_t)all;
    for (uint32_t i = before; i < t->n_groups; i++) {
        t->groups[i].at = at;
        at += t->groups[i].size;
    }
    return OK;
}

enum status gram_tree_start(struct gram_tree *tree, const uint8_t *bytes,
                            size_t n)
{
    struct gram_tree *t = tree;
    t->bytes = bytes;
    struct gram_coder coder = gram_decoder(t->contexts, bytes, n);
    TRY(gram_tree_code_characters(t, &coder));
    return cut_groups(t, &coder, GRAM_SPACE, 0, (uint32_t)n);
}

static enum status need_grown(struct gram_tree *t, uint32_t node);

static enum status decode_group(struct gram_tree *t, struct gram_group group)
{
    for (uint32_t i = group.first; i < group.end; i++)
        TRY(need_grown(t, t->nodes[i].suffix));
    uint32_t n_before = t->list.n;
    struct gram_coder coder =
        gram_decoder(t->contexts, t->bytes + group.at, group.size);
    TRY(gram_tree_code(t, &coder, group.first, group.end));
    return cut_groups(t, &coder, n_before, group.at, group.at + group.size);
}

/* Calls itself for shorter ones only. */
static enum status need_grown(struct gram_tree *t, uint32_t node)
{
    if (t->nodes[node].has_grown)
        return OK;
    return decode_group(t, t->groups[t->nodes[node].first]);
}

uint32_t gram_tree_find(struct gram_tree *tree, uint32_t node, uint32_t c)
{
    struct gram_tree *t = tree;
    const struct gram_node *p = &t->nodes[node];
    if (!p->has_grown && t->status == OK)
        t->status = need_grown(t, node);
    if (t->status != OK)
        return GRAM_NONE;
    uint32_t n = p->end - p->first;
    uint32_t i =
        gram_find_rising(t->characters + p->first, n, gram_tree_character(c));
    return i < n ? p->first + i : GRAM_NONE;
}
