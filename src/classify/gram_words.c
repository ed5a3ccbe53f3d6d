/* gram_words.c -- the words, pairs and shapes of a table of grams, packed in
 * blocks.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_words.h"

#include <stdlib.h>

#include "base/large_pages.h"
#include "classify/gram_contexts.h"
#include "classify/gram_pairs.h"

enum { SIZE_GROUPS = 5, GROUP_BITS = 7 };

int gram_words_block_bits(size_t n)
{
    int n_bits = 0;
    while (n_bits < GRAM_BLOCK_BITS_MAX && n >> n_bits > GRAM_BLOCK_WORDS)
        n_bits++;
    return n_bits;
}

/* ---- opening ------------------------------------------------------------ */

/* A size of the index; *at: where it stands, then where the next one does. */
static enum status read_size(const uint8_t *bytes, size_t n, size_t *at,
                             uint32_t *size)
{
    uint64_t x = 0;
    for (int i = 0; i < SIZE_GROUPS; i++) {
        if (*at == n)
            return E_MODEL;
        uint8_t byte = bytes[(*at)++];
        x |= (uint64_t)(byte & 0x7f) << GROUP_BITS * i;
        if (byte < 0x80) {
            *size = (uint32_t)x;
            return x <= UINT32_MAX ? OK : E_MODEL;
        }
    }
    return E_MODEL;
}

static enum status read_index(struct gram_words *w, size_t n)
{
    size_t at = 0;
    uint32_t n_blocks = (uint32_t)1 << w->block_bits;
    for (uint32_t i = 0; i < n_blocks; i++)
        TRY(read_size(w->bytes, n, &at, &w->blocks[i].size));
    for (uint32_t i = 0; i < n_blocks; i++) {
        struct gram_block *block = &w->blocks[i];
        block->first = GRAM_NONE;
        block->at = (uint32_t)at;
        if (block->size > n - at)
            return E_MODEL;
        at += block->size;
    }
    return at == n ? OK : E_MODEL;
}

static enum status open_words(struct gram_words *w, size_t n)
{
    uint32_t n_words = w->list.end - w->first;
    w->block_bits = gram_words_block_bits(n_words);
    w->blocks = calloc((size_t)1 << w->block_bits, sizeof *w->blocks);
    w->words = large_pages_calloc((size_t)n_words + 1, sizeof *w->words);
    if (!w->blocks || !w->words)
        return fail_memory("the grams");
    return read_index(w, n);
}

enum status gram_words_open(struct gram_words **words, struct grams *grams,
                            const struct gram_contexts *contexts,
                            struct gram_list list, const uint8_t *bytes,
                            size_t n)
{
    struct gram_words *w = *words = calloc(1, sizeof *w);
    if (!w)
        return fail_memory("the grams");
    w->grams = grams;
    w->contexts = contexts;
    w->bytes = bytes;
    w->first = list.n;
    w->list = list;
    return open_words(w, n);
}

void gram_words_close(struct gram_words *words)
{
    if (!words)
        return;
    free(words->blocks);
    free(words->words);
    free(words);
}

/* ---- decoding ----------------------------------------------------------- */

uint32_t gram_words_code_distance(struct gram_coder *coder, uint32_t distance)
{
    return gram_number(coder, CONTEXTS_WORD, distance);
}

static enum status decode_block(struct gram_words *w, uint32_t number)
{
    struct gram_block *block = &w->blocks[number];
    int n_bits = GRAM_WORD_BITS - w->block_bits;
    uint32_t key = 0;
    struct gram_coder coder =
        gram_decoder(w->contexts, w->bytes + block->at, block->size);
    block->first = w->list.n;
    for (;; w->list.n++) {
        uint32_t distance = gram_words_code_distance(&coder, 0);
        if (distance == 0)
            break;
        if (w->list.n == w->list.end ||
            distance > ((uint32_t)1 << n_bits) - key)
            return E_MODEL;
        key += distance;
        w->words[w->list.n - w->first] = (number << n_bits) + key - 1;
        TRY(pairs_code_alone(&coder, w->grams, w->list.n, w->list.pairs_end,
                             true));
    }
    block->end = w->list.n;
    return OK;
}

uint32_t gram_words_find(struct gram_words *words, uint32_t word)
{
    struct gram_words *w = words;
    uint32_t number = word >> (GRAM_WORD_BITS - w->block_bits);
    const struct gram_block *block = &w->blocks[number];
    if (block->first == GRAM_NONE && w->status == OK)
        w->status = decode_block(w, number);
    if (w->status != OK)
        return GRAM_NONE;
    uint32_t n = block->end - block->first;
    uint32_t i =
        gram_find_rising(w->words + (block->first - w->first), n, word);
    return i < n ? block->first + i : GRAM_NONE;
}
