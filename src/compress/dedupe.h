/* dedupe.h -- takes repeats out of a block.
 *
 * A block becomes literals, which are coded, and copies, which repeat earlier
 * bytes of the block.  Only long repeats are taken out: short ones are cheap to
 * predict, and without them the bytes around them are predicted worse.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DEDUPE_H
#define MAMBYTE_DEDUPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/range_coder.h"
#include "base/status.h"

/* After run literals come length bytes from distance back; they may overlap
 * their source. */
struct copy {
    uint32_t run, length, distance;
};

/* In the order of the block. */
struct copy_list {
    struct copy *all; /* [n], owned */
    size_t n, room;
    size_t n_copied; /* bytes that they make */
};

/* Finds the copies in bytes[0..n), n < 2^32.  On failure there are none. */
enum status dedupe_find(struct copy_list *copies, const uint8_t *bytes,
                        size_t n);

/* Gathers the bytes that are in no copy: literals [n - n_copied]. */
void dedupe_take(const struct copy_list *copies, uint8_t *literals,
                 const uint8_t *bytes, size_t n);

/* Puts bytes[0..n) together again, from copies that dedupe_code() gave. */
void dedupe_put(const struct copy_list *copies, const uint8_t *literals,
                uint8_t *bytes, size_t n);

/* Codes the copies.  A decoder makes them, and fails with E_FORMAT when they do
 * not fit a block of n bytes. */
enum status dedupe_code(struct copy_list *copies, struct range_coder *coder,
                        size_t n);

void dedupe_free(struct copy_list *copies);

#endif
