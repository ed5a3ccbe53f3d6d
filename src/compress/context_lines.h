/* context_lines.h -- what contexts have seen, found by hash.
 *
 * A line holds the histories of the four bits of half a byte, in one context:
 * those of its nodes 1 to 15.  In place of node 0 is a check of the context.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CONTEXT_LINES_H
#define MAMBYTE_CONTEXT_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "compress/bit_history.h"

enum { N_CONTEXTS = 9 };

enum { LINE_NODES = 16 };

struct history_line {
    uint8_t check;
    uint8_t histories[LINE_NODES - 1];
};

struct contexts {
    struct history_line *lines[N_CONTEXTS]; /* [1 << log2_lines] each */
    int log2_lines;
};

#define HASH_MULTIPLIER 0x9e3779b97f4a7c15u
#define NODE_MULTIPLIER 0x2545f4914f6cdd1du

/* The hash of a context and the bits of the byte so far: node is 1, or 16 to
 * 31. */
static inline uint64_t context_hash(uint64_t context, int node)
{
    uint64_t hash =
        (context + (uint64_t)node * NODE_MULTIPLIER) * HASH_MULTIPLIER;
    return (hash ^ hash >> 29) * HASH_MULTIPLIER;
}

static inline size_t line_index(const struct contexts *contexts, uint64_t hash)
{
    return hash >> (64 - contexts->log2_lines);
}

/* Fetches the lines of contexts into the cache, ahead of their use. */
static inline void contexts_ahead(const struct contexts *contexts,
                                  const uint64_t values[N_CONTEXTS], int node)
{
    for (int i = 0; i < N_CONTEXTS; i++) {
        uint64_t hash = context_hash(values[i], node);
        __builtin_prefetch(&contexts->lines[i][line_index(contexts, hash)], 1);
    }
}

static inline int line_seen(const struct history_line *line)
{
    const struct bit_history *first = &bit_histories[line->histories[0]];
    return first->zeros + first->ones;
}

static inline struct history_line *renew_line(struct history_line *line,
                                              uint8_t check)
{
    *line = (struct history_line){.check = check};
    return line;
}

/* Finds the line of a context among three, which share a cache line.  When it
 * is in none, the first of those that have seen least gives way. */
static inline struct history_line *find_line(const struct contexts *contexts,
                                             int i, uint64_t hash)
{
    enum { N_WAYS = 3 };
    struct history_line *lines = contexts->lines[i], *least;
    size_t index = line_index(contexts, hash);
    uint8_t check = (uint8_t)(hash >> 8);
    least = &lines[index];
    for (size_t way = 0; way < N_WAYS; way++) {
        struct history_line *line = &lines[index ^ way];
        if (line->check == check)
            return line;
        if (line_seen(line) < line_seen(least))
            least = line;
    }
    return renew_line(least, check);
}

#endif
