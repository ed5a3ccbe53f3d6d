/* block.h -- packs a block of bytes by the way that makes it smallest.
 *
 *     stored   as it is
 *     lzma     liblzma's LZMA2 (preset 9e, the dictionary as large as the
 *              block), for what the model cannot predict
 *     model    what repeats is taken out (dedupe.h), the rest is coded by
 *              the model in slices (slices.h)
 *     copies   what repeats is taken out, the rest looks random and is left
 *              as it is
 *
 * A block needs nothing but itself and the model.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BLOCK_H
#define MAMBYTE_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/engine.h"

enum block_kind {
    BLOCK_STORED = 1,
    BLOCK_LZMA = 2,
    BLOCK_MODEL = 3,
    BLOCK_COPIES = 4
};

enum {
    BLOCK_MIN = 1 << 12, /* bytes that a block is asked to have            */
    BLOCK_MAX = 1 << 28  /* ... and that it may have                       */
};

/* Called as the work goes on: part, from 0 to 1, of the block is done.  Any
 * status but OK ends it. */
typedef enum status block_tick(void *context, double part);

struct block_coder;

/* On failure *coder is NULL.  The engine must outlive the coder. */
enum status block_coder_open(struct block_coder **coder, struct engine *engine,
                             int n_threads, block_tick *tick, void *context);
void block_coder_close(struct block_coder *coder); /* NULL is accepted */

/* Packs bytes[0..n), 0 < n <= BLOCK_MAX, into packed, which has room for n.
 * *n_packed <= n; it is n exactly when the block is stored.  The result
 * depends on the bytes and the model alone. */
enum status block_pack(struct block_coder *coder, const uint8_t *bytes,
                       size_t n, uint8_t *packed, size_t *n_packed,
                       enum block_kind *kind);

/* Fills bytes[0..n); E_FORMAT when packed cannot be what block_pack made of
 * n bytes.  Other damage is for a checksum of bytes to tell. */
enum status block_unpack(struct block_coder *coder, uint8_t *bytes, size_t n,
                         const uint8_t *packed, size_t n_packed,
                         enum block_kind kind);

#endif
