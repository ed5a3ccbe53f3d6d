/* gram_pack.c -- packs a table of grams that was counted.
 *
 * The tree is made whole, then all is coded twice: first to count the bits, by
 * which the probabilities are chosen, then by these.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/gram_pack.h"

#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"
#include "base/lzma2.h"
#include "base/signals.h"
#include "classify/gram_contexts.h"
#include "classify/gram_file.h"
#include "classify/gram_tree.h"
#include "classify/gram_words.h"

struct buffer {
    uint8_t *bytes; /* [room] */
    size_t n, room;
};

struct gram_packing {
    struct grams grams;     /* what is packed */
    struct grams sequences; /* those of the tree, by its numbers */
    struct gram_tree *tree;
    uint64_t *hashes; /* of the tree's nodes */
    bool *is_taken;   /* [grams.n]: by the tree */
    struct gram_contexts contexts;
    bool is_counting;
    struct buffer out, index, code; /* the file; of words */
};

static enum status append(struct buffer *buffer, const void *bytes, size_t n)
{
    if (buffer->room - buffer->n < n) {
        size_t room = 2 * buffer->room + n;
        uint8_t *more = realloc(buffer->bytes, room);
        if (!more)
            return fail_memory("the grams");
        buffer->bytes = more;
        buffer->room = room;
    }
    if (n > 0)
        memcpy(buffer->bytes + buffer->n, bytes, n);
    buffer->n += n;
    return OK;
}

/* ---- the tree ----------------------------------------------------------- */

/* Adds a gram to the tree; list: which of its lists that is. */
static void add(struct gram_packing *p, struct gram_list *list, uint32_t gram,
                uint32_t prefix, uint32_t suffix, uint32_t character)
{
    struct grams *to = &p->sequences;
    const struct grams *from = &p->grams;
    uint32_t i = list->n, start = from->starts[gram], at = to->starts[i];
    uint32_t n = from->starts[gram + 1] - start;
    memcpy(to->pairs + at, from->pairs + start, n * sizeof *to->pairs);
    to->starts[i + 1] = at + n;
    p->tree->characters[i] = character;
    p->is_taken[gram] = true;
    gram_tree_add(p->tree, prefix, suffix);
}

/* The gram of a sequence if it is there and not in the tree, or -1. */
static int64_t find_gram(const struct gram_packing *p, uint64_t hash,
                         int length)
{
    int64_t gram = grams_find(&p->grams, gram_sequence_key(hash, length));
    return gram >= 0 && !p->is_taken[gram] ? gram : -1;
}

static void add_characters(struct gram_packing *p)
{
    struct gram_list *list = &p->tree->list;
    p->hashes[GRAM_ROOT] = GRAM_SEQUENCE_START;
    p->hashes[GRAM_SPACE] = gram_sequence_extend(GRAM_SEQUENCE_START, ' ');
    for (size_t i = 0; i < p->grams.n_characters; i++) {
        uint32_t c = p->grams.characters[i];
        uint64_t hash = gram_sequence_extend(GRAM_SEQUENCE_START, c);
        int64_t gram = find_gram(p, hash, 1);
        if (gram < 0 || list->n == GRAM_ALPHABET_MAX)
            continue;
        p->hashes[list->n] = hash;
        add(p, list, (uint32_t)gram, GRAM_ROOT, GRAM_ROOT,
            gram_tree_character(c));
    }
    gram_tree_end_characters(p->tree);
}

/* Lets two nodes meet if the table has what they make. */
static void try_to_meet(struct gram_packing *p, struct gram_list *list,
                        uint32_t prefix, uint32_t suffix)
{
    struct gram_tree *t = p->tree;
    int length = t->nodes[prefix].length + 1;
    uint32_t c = t->characters[suffix];
    uint64_t hash =
        gram_sequence_extend(p->hashes[prefix], c > 0 ? c - 1 : ' ');
    int64_t gram = find_gram(p, hash, length);
    if (gram < 0)
        return;
    const struct shared_pairs *shared = gram_tree_share(t, prefix, suffix);
    if (!shared ||
        !pairs_are_shared(pairs_of(&p->grams, (uint32_t)gram), shared))
        return;
    if (length < GRAM_CHARACTERS)
        p->hashes[list->n] = hash;
    add(p, list, (uint32_t)gram, prefix, suffix, c);
}

static void grow(struct gram_packing *p, uint32_t i)
{
    struct gram_tree *t = p->tree;
    struct gram_node *node = &t->nodes[i];
    bool is_last = node->length == GRAM_CHARACTERS - 1;
    struct gram_list *list = is_last ? &t->leaves : &t->list;
    uint32_t first, n;
    node->first = node->end = list->n;
    if (!gram_tree_may_grow(t, i, &first, &n))
        return;
    for (uint32_t suffix = first; suffix < first + n; suffix++) {
        if (gram_tree_may_meet(t, i, suffix))
            try_to_meet(p, list, i, suffix);
    }
    node->end = list->n;
}

/* Nodes come in the order of their length, so that suffixes have grown. */
static enum status grow_all(struct gram_packing *p)
{
    for (uint32_t i = GRAM_SPACE; i < p->tree->list.n; i++) {
        if (i % 1024 == 0)
            TRY(signals_check());
        grow(p, i);
    }
    return OK;
}

static enum status make_tree(struct gram_packing *p)
{
    uint32_t n = (uint32_t)p->grams.n, n_pairs = (uint32_t)p->grams.n_pairs;
    struct gram_tree_size size = {n, n_pairs, n, n_pairs};
    int n_labels = p->grams.n_labels;
    TRY(grams_open_packed(&p->sequences, gram_tree_grams(size),
                          gram_tree_pairs(size, n_labels), n_labels));
    TRY(gram_tree_open(&p->tree, &p->sequences, &p->contexts, size));
    p->hashes = calloc((size_t)n + GRAM_TREE_FIRST, sizeof *p->hashes);
    p->is_taken = calloc((size_t)n + 1, sizeof *p->is_taken);
    if (!p->hashes || !p->is_taken)
        return fail_memory("the grams");
    add_characters(p);
    return grow_all(p);
}

/* ---- sequences ---------------------------------------------------------- */

static struct gram_coder open_coder(const struct gram_packing *p)
{
    return (struct gram_coder){.range = range_encoder(),
                               .contexts = &p->contexts,
                               .is_counting = p->is_counting};
}

/* A group's code, and what comes after it. */
struct branch {
    struct gram_coder coder;
    struct buffer sizes, rest; /* sizes: of 4 bytes */
};

static enum status code_group(struct gram_packing *p, uint32_t first,
                              uint32_t end, struct buffer *out);

/* Codes what grows from nodes that are all of one length. */
static enum status code_groups(struct gram_packing *p, struct branch *b,
                               uint32_t first, uint32_t end)
{
    while (first < end) {
        uint32_t next = gram_tree_cut(p->tree, first, end);
        size_t before = b->rest.n;
        uint8_t size[4];
        TRY(code_group(p, first, next, &b->rest));
        store_le(size, b->rest.n - before, 4);
        TRY(append(&b->sizes, size, sizeof size));
        first = next;
    }
    return OK;
}

/* Ends the code, and writes it before the rest. */
static enum status write_branch(struct branch *b, struct buffer *out)
{
    if (b->coder.is_counting)
        return OK;
    for (size_t i = 0; i < b->sizes.n; i += 4)
        gram_even_number(&b->coder, (uint32_t)load_le(b->sizes.bytes + i, 4));
    TRY(range_finish_before(&b->coder.range));
    TRY(append(out, b->coder.range.code, b->coder.range.n));
    return append(out, b->rest.bytes, b->rest.n);
}

static void close_branch(struct branch *b)
{
    range_free(&b->coder.range);
    free(b->sizes.bytes);
    free(b->rest.bytes);
}

static enum status code_group(struct gram_packing *p, uint32_t first,
                              uint32_t end, struct buffer *out)
{
    const struct gram_node *nodes = p->tree->nodes;
    struct branch b = {.coder = open_coder(p)};
    enum status status = gram_tree_code(p->tree, &b.coder, first, end);
    if (status == OK && nodes[first].length < GRAM_CHARACTERS - 1)
        status = code_groups(p, &b, nodes[first].first, nodes[end - 1].end);
    if (status == OK)
        status = write_branch(&b, out);
    close_branch(&b);
    return status;
}

static enum status code_sequences(struct gram_packing *p, struct buffer *out)
{
    struct branch b = {.coder = open_coder(p)};
    enum status status = gram_tree_code_characters(p->tree, &b.coder);
    if (status == OK)
        status = code_groups(p, &b, GRAM_SPACE, p->tree->nodes[GRAM_ROOT].end);
    if (status == OK)
        status = write_branch(&b, out);
    close_branch(&b);
    return status;
}

/* ---- words -------------------------------------------------------------- */

/* Codes the grams from [first] to the end of the block, *end. */
static enum status code_words(struct gram_packing *p, struct gram_coder *coder,
                              uint32_t block, uint32_t first, uint32_t *end)
{
    struct grams *g = &p->grams;
    int n_bits = GRAM_WORD_BITS - gram_words_block_bits(g->n - g->first_word);
    uint32_t before = block << n_bits, limit = (uint32_t)g->n_pairs, i = first;
    for (; i < g->n && gram_word_of(g->keys[i]) >> n_bits == block; i++) {
        uint32_t word = gram_word_of(g->keys[i]) + 1;
        gram_words_code_distance(coder, word - before);
        before = word;
        TRY(pairs_code_alone(coder, g, i, limit, true));
    }
    gram_words_code_distance(coder, 0);
    *end = i;
    return OK;
}

static enum status write_size(struct buffer *buffer, size_t size)
{
    uint8_t bytes[10];
    size_t n = 0;
    for (; size >= 0x80; size >>= 7)
        bytes[n++] = (uint8_t)(size | 0x80);
    bytes[n++] = (uint8_t)size;
    return append(buffer, bytes, n);
}

static enum status write_block(struct gram_packing *p, struct gram_coder *coder)
{
    if (p->is_counting)
        return OK;
    TRY(range_finish(&coder->range));
    TRY(write_size(&p->index, coder->range.n));
    return append(&p->code, coder->range.code, coder->range.n);
}

static enum status code_all_words(struct gram_packing *p)
{
    uint32_t first = p->grams.first_word;
    uint32_t n_blocks = (uint32_t)1
                        << gram_words_block_bits(p->grams.n - first);
    for (uint32_t block = 0; block < n_blocks; block++) {
        struct gram_coder coder = open_coder(p);
        enum status status = code_words(p, &coder, block, first, &first);
        if (status == OK)
            status = write_block(p, &coder);
        range_free(&coder.range);
        TRY(status);
    }
    return OK;
}

/* ---- all ---------------------------------------------------------------- */

static enum status count(struct gram_packing *p)
{
    p->is_counting = true;
    TRY(code_sequences(p, &p->out));
    TRY(code_all_words(p));
    p->is_counting = false;
    return OK;
}

static enum status write_contexts(struct gram_packing *p)
{
    size_t n = p->contexts.n, room = 2 * n + 4096, n_packed = 0;
    uint8_t *bytes = malloc(n), *packed = malloc(room);
    enum status status = bytes && packed ? OK : fail_memory("the grams");
    if (status == OK) {
        gram_contexts_learn(&p->contexts, bytes);
        status = lzma2_pack(bytes, n, packed, room, &n_packed);
    }
    if (status == OK)
        status = append(&p->out, packed, n_packed);
    free(bytes);
    free(packed);
    return status;
}

static void write_numbers(struct gram_packing *p, size_t n_contexts,
                          size_t n_sequences)
{
    const struct gram_tree *t = p->tree;
    const struct grams *g = &p->grams;
    const uint32_t *starts = p->sequences.starts;
    uint32_t n = t->list.n, leaf = t->list.end + 1, first = g->first_word;
    size_t numbers[GRAM_FILE_NUMBERS] = {
        n - GRAM_TREE_FIRST, starts[n] - starts[GRAM_TREE_FIRST],
        t->leaves.n - leaf,  starts[t->leaves.n] - starts[leaf],
        g->n - first,        g->n_pairs - g->starts[first],
        n_contexts,          n_sequences,
    };
    for (int i = 0; i < GRAM_FILE_NUMBERS; i++)
        store_le(p->out.bytes + 4 * i, numbers[i], 4);
}

static enum status pack(struct gram_packing *p)
{
    static const uint8_t numbers[4 * GRAM_FILE_NUMBERS];
    TRY(gram_contexts_open(&p->contexts, contexts_count(p->grams.n_labels),
                           true));
    TRY(make_tree(p));
    TRY(count(p));
    TRY(append(&p->out, numbers, sizeof numbers));
    TRY(write_contexts(p));
    size_t n_contexts = p->out.n - sizeof numbers;
    TRY(code_sequences(p, &p->out));
    TRY(code_all_words(p));
    write_numbers(p, n_contexts, p->out.n - n_contexts - sizeof numbers);
    TRY(append(&p->out, p->index.bytes, p->index.n));
    return append(&p->out, p->code.bytes, p->code.n);
}

enum status grams_pack(const struct grams *grams, uint8_t **bytes, size_t *n)
{
    struct gram_packing p = {.grams = *grams};
    enum status status = pack(&p);
    *bytes = p.out.bytes;
    *n = p.out.n;
    if (status != OK) {
        free(p.out.bytes);
        *bytes = NULL;
    }
    free(p.index.bytes);
    free(p.code.bytes);
    free(p.hashes);
    free(p.is_taken);
    gram_tree_close(p.tree);
    gram_contexts_close(&p.contexts);
    grams_close(&p.sequences);
    return status;
}
