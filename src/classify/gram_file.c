/* gram_file.c -- a table of grams from bytes: those of a tensor in a file.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"
#include "base/lzma2.h"
#include "base/memlimit.h"
#include "classify/gram_contexts.h"
#include "classify/gram_tree.h"
#include "classify/gram_words.h"

/* Memory that is taken for each, at most; NODE_BYTES for sequences that may
 * grow. */
enum {
    NODE_BYTES = 64,
    LEAF_BYTES = 12,
    WORD_BYTES = 16,
    PAIR_BYTES = 4,
    CONTEXT_BYTES = 6
};

/* What the numbers say. */
struct sizes {
    struct gram_tree_size tree;
    uint32_t n_words, n_word_pairs;
    uint32_t contexts, sequences; /* bytes */
};

static enum status is_no_table(void)
{
    return fail(E_MODEL, "grams is not a table of grams");
}

static bool read_sizes(struct sizes *s, const uint8_t *bytes, size_t n)
{
    uint32_t numbers[GRAM_FILE_NUMBERS];
    if (n < sizeof numbers || n > UINT32_MAX)
        return false;
    for (int i = 0; i < GRAM_FILE_NUMBERS; i++)
        numbers[i] = (uint32_t)load_le(bytes + 4 * i, 4);
    *s = (struct sizes){
        .tree = {numbers[0], numbers[1], numbers[2], numbers[3]},
        .n_words = numbers[4],
        .n_word_pairs = numbers[5],
        .contexts = numbers[6],
        .sequences = numbers[7],
    };
    uint64_t n_grams = (uint64_t)numbers[0] + numbers[2] + numbers[4];
    uint64_t n_pairs = (uint64_t)numbers[1] + numbers[3] + numbers[5];
    return n_grams <= GRAMS_MAX && n_pairs <= GRAM_PAIRS_MAX &&
           (uint64_t)s->contexts + s->sequences <= n - sizeof numbers;
}

static enum status read_contexts(struct gram_contexts *contexts,
                                 const uint8_t *packed, size_t n_packed)
{
    bool is_whole = false;
    uint8_t *bytes = malloc(contexts->n);
    if (!bytes)
        return fail_memory("the grams");
    enum status status =
        lzma2_unpack(bytes, contexts->n, packed, n_packed, &is_whole);
    is_whole = is_whole && gram_contexts_read(contexts, bytes);
    free(bytes);
    return status == OK && !is_whole ? E_MODEL : status;
}

/* bytes: those of the table, from the probabilities on. */
static enum status unpack(struct grams *g, const struct sizes *s,
                          const uint8_t *bytes, size_t n)
{
    uint32_t first_word = (uint32_t)gram_tree_grams(s->tree);
    size_t words = (size_t)s->contexts + s->sequences;
    TRY(gram_contexts_open(&g->contexts, contexts_count(g->n_labels), false));
    TRY(read_contexts(&g->contexts, bytes, s->contexts));
    TRY(gram_tree_open(&g->tree, g, &g->contexts, s->tree));
    TRY(gram_tree_start(g->tree, bytes + s->contexts, s->sequences));
    g->starts[first_word] = (uint32_t)gram_tree_pairs(s->tree, g->n_labels);
    g->first_word = first_word;
    struct gram_list list = {first_word, first_word + s->n_words,
                             (uint32_t)g->n_pairs};
    return gram_words_open(&g->words, g, &g->contexts, list, bytes + words,
                           n - words);
}

/* All that is taken for a table, but for its own bytes. */
static uint64_t memory_for(const struct sizes *s, uint64_t n_pairs,
                           int n_labels)
{
    return (uint64_t)NODE_BYTES * (s->tree.n + GRAM_TREE_FIRST) +
           (uint64_t)LEAF_BYTES * s->tree.n_leaves +
           (uint64_t)WORD_BYTES * s->n_words + PAIR_BYTES * n_pairs +
           CONTEXT_BYTES * contexts_count(n_labels);
}

enum status grams_unpack(struct grams *grams, const uint8_t *bytes, size_t n,
                         int n_labels)
{
    struct sizes s;
    if (!read_sizes(&s, bytes, n))
        return is_no_table();
    uint64_t n_grams = gram_tree_grams(s.tree) + s.n_words;
    uint64_t n_pairs = gram_tree_pairs(s.tree, n_labels) + s.n_word_pairs;
    TRY(memlimit_check(memory_for(&s, n_pairs, n_labels) + n, "a head"));
    TRY(grams_open_packed(grams, n_grams, n_pairs, n_labels));
    grams->bytes = malloc(n);
    enum status status = grams->bytes ? OK : fail_memory("the grams");
    if (status == OK) {
        memcpy(grams->bytes, bytes, n);
        status = unpack(grams, &s, grams->bytes + 4 * GRAM_FILE_NUMBERS,
                        n - 4 * GRAM_FILE_NUMBERS);
    }
    if (status != OK)
        grams_close(grams);
    return status == E_MODEL ? is_no_table() : status;
}
