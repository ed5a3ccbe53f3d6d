/* dedupe.c -- takes repeats out of a block.
 *
 * Windows at multiples of their size are kept by hash.  A rolling hash at every
 * position finds them again, and a repeat is then widened in both directions.
 * So every repeat as long as two windows is found.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/dedupe.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "compress/integer_coder.h"

enum {
    WINDOW = 64,
    COPY_MIN = 256, /* bytes; part of the format */
    LOG2_SLOTS_MIN = 8,
    LOG2_SLOTS_MAX = 20
};

#define ROLL_MULTIPLIER 0x2c9277b5u
#define HASH_MULTIPLIER 0x9e3779b1u

/* ---- finding ------------------------------------------------------------ */

/* A window.  Most that share its slot have another hash, so their bytes need
 * not be compared. */
struct slot {
    uint32_t at; /* 1 + where it starts, or 0 */
    uint32_t hash;
};

struct finder {
    const uint8_t *bytes;
    size_t n;
    size_t end;         /* of the last copy */
    uint32_t rolling;   /* the hash of a window */
    uint32_t leave;     /* ROLL_MULTIPLIER^WINDOW: takes the oldest byte out */
    struct slot *slots; /* [1 << log2_slots] */
    int log2_slots;
};

static void roll_anew(struct finder *finder, size_t at)
{
    finder->rolling = 0;
    for (size_t i = 0; i < WINDOW; i++)
        finder->rolling =
            finder->rolling * ROLL_MULTIPLIER + finder->bytes[at + i] + 1;
}

/* Moves the hash from the window at a place to the next. */
static void roll(struct finder *finder, size_t at)
{
    const uint8_t *bytes = finder->bytes + at;
    finder->rolling = finder->rolling * ROLL_MULTIPLIER + bytes[WINDOW] + 1 -
                      finder->leave * (bytes[0] + 1u);
}

static enum status finder_init(struct finder *finder, const uint8_t *bytes,
                               size_t n)
{
    *finder = (struct finder){.bytes = bytes, .n = n, .leave = 1};
    for (int i = 0; i < WINDOW; i++)
        finder->leave *= ROLL_MULTIPLIER;
    finder->log2_slots = LOG2_SLOTS_MIN;
    while (finder->log2_slots < LOG2_SLOTS_MAX &&
           n / WINDOW >> finder->log2_slots)
        finder->log2_slots++;
    finder->slots =
        calloc((size_t)1 << finder->log2_slots, sizeof *finder->slots);
    return finder->slots ? OK : fail_memory("a block");
}

static enum status append(struct copy_list *copies, struct copy copy)
{
    struct copy *all =
        array_grow(copies->all, copies->n, &copies->room, sizeof *all);
    if (!all)
        return fail_memory("a block");
    copies->all = all;
    copies->all[copies->n++] = copy;
    copies->n_copied += copy.length;
    return OK;
}

/* Takes the repeat, at one place, of the window at an earlier place, if it is a
 * repeat and long enough; *next is then the place to go on from. */
static enum status take(struct finder *finder, struct copy_list *copies,
                        size_t at, size_t earlier, size_t *next)
{
    const uint8_t *bytes = finder->bytes;
    if (memcmp(bytes + at, bytes + earlier, WINDOW) != 0)
        return OK;
    size_t distance = at - earlier, begin = at, end = at + WINDOW;
    while (end < finder->n && bytes[end] == bytes[end - distance])
        end++;
    while (begin > finder->end && begin > distance &&
           bytes[begin - 1] == bytes[begin - 1 - distance])
        begin--;
    if (end - begin < COPY_MIN)
        return OK;
    struct copy copy = {
        .run = (uint32_t)(begin - finder->end),
        .length = (uint32_t)(end - begin),
        .distance = (uint32_t)distance,
    };
    finder->end = *next = end;
    return append(copies, copy);
}

static enum status search(struct finder *finder, struct copy_list *copies)
{
    size_t at = 0;
    roll_anew(finder, at);
    while (at + WINDOW < finder->n) {
        struct slot *slot = &finder->slots[finder->rolling * HASH_MULTIPLIER >>
                                           (32 - finder->log2_slots)];
        size_t next = at;
        if (slot->hash == finder->rolling && slot->at > 0)
            TRY(take(finder, copies, at, slot->at - 1, &next));
        if (next > at) {
            at = next;
            if (at + WINDOW < finder->n)
                roll_anew(finder, at);
            continue;
        }
        if (at % WINDOW == 0)
            *slot = (struct slot){(uint32_t)at + 1, finder->rolling};
        roll(finder, at);
        at++;
    }
    return OK;
}

enum status dedupe_find(struct copy_list *copies, const uint8_t *bytes,
                        size_t n)
{
    struct finder finder;
    *copies = (struct copy_list){.n = 0};
    if (n < COPY_MIN)
        return OK;
    enum status status = finder_init(&finder, bytes, n);
    if (status == OK)
        status = search(&finder, copies);
    free(finder.slots);
    if (status != OK)
        dedupe_free(copies);
    return status;
}

/* ---- literals ----------------------------------------------------------- */

void dedupe_take(const struct copy_list *copies, uint8_t *literals,
                 const uint8_t *bytes, size_t n)
{
    const uint8_t *end = bytes + n;
    for (size_t i = 0; i < copies->n; i++) {
        const struct copy *copy = &copies->all[i];
        memcpy(literals, bytes, copy->run);
        literals += copy->run;
        bytes += copy->run + copy->length;
    }
    memcpy(literals, bytes, (size_t)(end - bytes));
}

void dedupe_put(const struct copy_list *copies, const uint8_t *literals,
                uint8_t *bytes, size_t n)
{
    const uint8_t *end = bytes + n;
    for (size_t i = 0; i < copies->n; i++) {
        const struct copy *copy = &copies->all[i];
        memcpy(bytes, literals, copy->run);
        literals += copy->run;
        bytes += copy->run;
        for (uint32_t k = 0; k < copy->length; k++, bytes++)
            *bytes = bytes[-(ptrdiff_t)copy->distance];
    }
    memcpy(bytes, literals, (size_t)(end - bytes));
}

void dedupe_free(struct copy_list *copies)
{
    free(copies->all);
    *copies = (struct copy_list){.n = 0};
}

/* ---- coding ------------------------------------------------------------- */

struct copy_coder {
    struct integer_coder count, run, length, distance;
};

static struct copy code_copy(struct copy_coder *integers,
                             struct range_coder *coder, struct copy copy,
                             bool *fits)
{
    uint64_t run = integer_coder_code(&integers->run, coder, copy.run);
    uint64_t length =
        COPY_MIN + integer_coder_code(&integers->length, coder,
                                      (uint64_t)copy.length - COPY_MIN);
    uint64_t distance = 1 + integer_coder_code(&integers->distance, coder,
                                               (uint64_t)copy.distance - 1);
    *fits = run <= UINT32_MAX && length <= UINT32_MAX && distance <= UINT32_MAX;
    return (struct copy){(uint32_t)run, (uint32_t)length, (uint32_t)distance};
}

static enum status decode(struct copy_list *copies, struct range_coder *coder,
                          struct copy_coder *integers, uint64_t n_copies,
                          size_t n)
{
    size_t at = 0;
    for (uint64_t i = 0; i < n_copies; i++) {
        struct copy none = {0, COPY_MIN, 1};
        bool fits;
        struct copy copy = code_copy(integers, coder, none, &fits);
        if (!fits || copy.run > n - at || copy.length > n - at - copy.run ||
            copy.distance > at + copy.run)
            return fail(E_FORMAT, "a copy does not fit its block");
        at += copy.run + copy.length;
        TRY(append(copies, copy));
    }
    return OK;
}

enum status dedupe_code(struct copy_list *copies, struct range_coder *coder,
                        size_t n)
{
    struct copy_coder integers;
    bool fits;
    integer_coder_init(&integers.count);
    integer_coder_init(&integers.run);
    integer_coder_init(&integers.length);
    integer_coder_init(&integers.distance);
    uint64_t n_copies = integer_coder_code(&integers.count, coder, copies->n);
    if (coder->is_decoder)
        return decode(copies, coder, &integers, n_copies, n);
    for (size_t i = 0; i < copies->n; i++)
        code_copy(&integers, coder, copies->all[i], &fits);
    return OK;
}
