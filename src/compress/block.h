/* block.h -- packs a block of bytes in the way that makes it smallest.
 *
 *     stored   as it is
 *     lzma     liblzma's LZMA2 (preset 9e, the dictionary as large as the
 *              block), for what the model cannot predict
 *     model    repeats are taken out (dedupe.h), and the rest is coded by
 *              the model in slices (slices.h)
 *     copies   repeats are taken out; the rest looks random and is left as it
 *              is
 *
 * Samples show which parts the model does not make smaller (samples.h); it is
 * not tried on these.
 *
 * Unpacking a block takes the block and the model, no other block.
 *
 * A block of the model has at most LITERALS_A_BYTE literals for each of its
 * packed bytes, and as many for each of LITERALS_FREE more: otherwise a block
 * of a few bytes could keep a machine busy for days.  Text that people or
 * programs write does not come near that.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_BLOCK_H
#define MAMBYTE_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "compress/samples.h"
#include "engine/engine.h"

enum block_kind {
    BLOCK_STORED = 1,
    BLOCK_LZMA = 2,
    BLOCK_MODEL = 3,
    BLOCK_COPIES = 4
};

enum {
    BLOCK_MIN = 1 << 12, /* the least that a user may ask for, in bytes    */
    BLOCK_MAX = 1 << 28, /* the most bytes that a block has                */
    LITERALS_A_BYTE = 1 << 8,
    LITERALS_FREE = 1 << 5
};

/* Called now and then: part, from 0 to 1, of the block is done.  Any status but
 * OK ends the work. */
typedef enum status block_tick(void *context, double part);

/* Memory to unpack a block: at most 1 GiB. */
static inline uint64_t block_memory(size_t n_plain, size_t n_packed)
{
    return 2 * ((uint64_t)n_plain + n_packed);
}

struct block_coder;

/* On failure *coder is NULL.  The engine must outlive the coder. */
enum status block_coder_open(struct block_coder **coder, struct engine *engine,
                             int n_threads, block_tick *tick, void *context);
void block_coder_close(struct block_coder *coder); /* NULL is accepted */

/* Cuts bytes[0..n), 0 < n <= BLOCK_MAX, into parts to be packed as blocks of
 * their own: samples.h.  They are what block_pack gets next. */
enum status block_cut(struct block_coder *coder, const uint8_t *bytes, size_t n,
                      struct block_part parts[PARTS_MAX], size_t *n_parts);

/* Packs the bytes of a part into packed, which has room for part->n.  *n_packed
 * is at most that; it is exactly that when the block is stored.  The model is
 * not tried on a part that is not for it.  The result depends on the bytes, the
 * part and the model alone. */
enum status block_pack(struct block_coder *coder, const uint8_t *bytes,
                       const struct block_part *part, uint8_t *packed,
                       size_t *n_packed, enum block_kind *kind);

/* Fills bytes[0..n).  E_FORMAT when block_pack cannot have made packed of n
 * bytes; other damage shows only in a checksum of the bytes. */
enum status block_unpack(struct block_coder *coder, uint8_t *bytes, size_t n,
                         const uint8_t *packed, size_t n_packed,
                         enum block_kind kind);

#endif
