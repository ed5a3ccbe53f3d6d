/* dedupe.h -- takes out of a block what it says twice.
 *
 * A block becomes literals, which are coded, and copies, which repeat what
 * came before them in the block.  Only long repeats are taken: short ones
 * are cheap to predict, and what surrounds them is predicted worse where
 * they are missing.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DEDUPE_H
#define MAMBYTE_DEDUPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "compress/range_coder.h"

/* After run literals, length bytes from distance back, which may overlap
 * what they make. */
struct copy {
    uint32_t run, length, distance;
};

/* In the order of the block. */
struct copy_list {
    struct copy *all; /* [n], owned                                         */
    size_t n;
    size_t n_allocated;
    size_t n_copied; /* bytes that they make                               */
};

enum { DEDUPE_MAX = 1 << 30 }; /* bytes of a block */

/* Finds the copies in bytes[0..n).  On failure there are none. */
enum status dedupe_find(struct copy_list *copies, const uint8_t *bytes,
                        size_t n);

/* Gathers what is no copy: literals [n - n_copied]. */
void dedupe_take(const struct copy_list *copies, uint8_t *literals,
                 const uint8_t *bytes, size_t n);

/* Puts bytes[0..n) together again; copies as dedupe_code() gave them. */
void dedupe_put(const struct copy_list *copies, const uint8_t *literals,
                uint8_t *bytes, size_t n);

/* Codes the copies; a decoder makes them, checked to fit a block of n bytes:
 * E_FORMAT when they do not. */
enum status dedupe_code(struct copy_list *copies, struct range_coder *coder,
                        size_t n);

void dedupe_free(struct copy_list *copies);

#endif
