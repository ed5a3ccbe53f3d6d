/* block.c -- packs a block of bytes in the way that makes it smallest.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/block.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"
#include "base/lzma2.h"
#include "compress/dedupe.h"
#include "compress/samples.h"
#include "compress/slices.h"

enum {
    LZMA_ALWAYS = 1 << 20, /* bytes of a block that are quick to try on    */
    LZMA_RATIO = 4,        /* literals / packed, below which it is tried   */
    SIDE_LENGTH_BYTES = 4
};

struct block_coder {
    struct slices *slices;
    block_tick *tick;
    void *context;
    size_t n_done, n_literals; /* of the block under way */
    bool is_sampling;          /* before it */
    struct copy_list copies;   /* of bytes that block_cut left whole */
    bool has_copies;           /* until they are packed */
};

static enum status slices_went_on(void *context, size_t n_bytes)
{
    struct block_coder *coder = context;
    if (coder->is_sampling)
        return coder->tick(coder->context, 0);
    coder->n_done += n_bytes;
    return coder->tick(coder->context,
                       (double)coder->n_done / (double)coder->n_literals);
}

enum status block_coder_open(struct block_coder **coder, struct engine *engine,
                             int n_threads, block_tick *tick, void *context)
{
    struct block_coder *c = *coder = calloc(1, sizeof *c);
    if (!c)
        return fail_memory("the coder");
    c->tick = tick;
    c->context = context;
    enum status status =
        slices_open(&c->slices, engine, n_threads, slices_went_on, c);
    if (status != OK) {
        block_coder_close(c);
        *coder = NULL;
    }
    return status;
}

void block_coder_close(struct block_coder *coder)
{
    if (coder) {
        slices_close(coder->slices);
        dedupe_free(&coder->copies);
    }
    free(coder);
}

/* ---- copies and literals ------------------------------------------------
 *
 *     0 4   length of what follows
 *     4     the copies (dedupe_code) and, of BLOCK_MODEL, the lengths of the
 *           slices' codes (slices_encode), in one range code
 *           the slices' codes, or the literals
 */

/* What block_pack works with and frees. */
struct packing {
    struct copy_list copies;
    size_t n_literals;
    struct range_coder side;
    uint8_t *literals; /* [n_literals]                                      */
    uint8_t *code;     /* [n], of which n_code are used                     */
    size_t n_code;
};

static size_t literals_most(size_t n_packed)
{
    return LITERALS_A_BYTE * (n_packed + LITERALS_FREE);
}

/* Puts the parts together; SIZE_MAX bytes when there is no room, or when the
 * block would be one of the model with too many literals. */
static size_t assemble(uint8_t *packed, size_t room,
                       const struct packing *packing, enum block_kind kind)
{
    const struct range_coder *side = &packing->side;
    size_t n_before = SIDE_LENGTH_BYTES + side->n;
    if (n_before > room || packing->n_code > room - n_before)
        return SIZE_MAX;
    if (kind == BLOCK_MODEL &&
        packing->n_literals > literals_most(n_before + packing->n_code))
        return SIZE_MAX;
    store_le(packed, side->n, SIDE_LENGTH_BYTES);
    if (side->n > 0)
        memcpy(packed + SIDE_LENGTH_BYTES, side->code, side->n);
    memcpy(packed + n_before, packing->code, packing->n_code);
    return n_before + packing->n_code;
}

static enum status code_literals(struct block_coder *coder,
                                 struct packing *packing,
                                 const struct block_part *part,
                                 enum block_kind kind)
{
    if (kind == BLOCK_COPIES) {
        packing->n_code = packing->n_literals;
        memcpy(packing->code, packing->literals, packing->n_literals);
        return OK;
    }
    coder->n_literals = packing->n_literals;
    coder->n_done = 0;
    return slices_encode(coder->slices, packing->literals, packing->n_literals,
                         &packing->side, packing->code, part->n,
                         &packing->n_code);
}

/* *kind is BLOCK_LZMA when nothing was coded. */
static enum status pack_parts(struct block_coder *coder,
                              struct packing *packing, const uint8_t *bytes,
                              const struct block_part *part,
                              enum block_kind *kind)
{
    size_t n = part->n;
    packing->n_literals = n - packing->copies.n_copied;
    packing->literals = malloc(packing->n_literals);
    packing->code = malloc(n);
    if (!packing->literals || !packing->code)
        return fail_memory("a block");
    dedupe_take(&packing->copies, packing->literals, bytes, n);
    if (samples_look_random(packing->literals, packing->n_literals))
        *kind = BLOCK_COPIES;
    else
        *kind = part->is_for_model ? BLOCK_MODEL : BLOCK_LZMA;
    if (*kind == BLOCK_LZMA)
        return OK;
    TRY(dedupe_code(&packing->copies, &packing->side, n));
    TRY(code_literals(coder, packing, part, *kind));
    return range_finish(&packing->side);
}

/* Those that block_cut has found, or new ones. */
static enum status find_copies(struct block_coder *coder,
                               struct copy_list *copies, const uint8_t *bytes,
                               size_t n)
{
    if (!coder->has_copies)
        return dedupe_find(copies, bytes, n);
    *copies = coder->copies;
    coder->copies = (struct copy_list){.n = 0};
    coder->has_copies = false;
    return OK;
}

/* *n_packed is SIZE_MAX when it would be more than the bytes, and when the part
 * is for liblzma.  *n_literals: the bytes that are in no copy. */
static enum status pack_literals(struct block_coder *coder,
                                 const uint8_t *bytes,
                                 const struct block_part *part, uint8_t *packed,
                                 size_t *n_packed, size_t *n_literals,
                                 enum block_kind *kind)
{
    struct packing packing = {.side = range_encoder()};
    enum status status = find_copies(coder, &packing.copies, bytes, part->n);
    if (status == OK)
        status = pack_parts(coder, &packing, bytes, part, kind);
    if (status == OK)
        *n_packed = *kind == BLOCK_LZMA
                        ? SIZE_MAX
                        : assemble(packed, part->n, &packing, *kind);
    *n_literals = packing.n_literals;
    dedupe_free(&packing.copies);
    range_free(&packing.side);
    free(packing.literals);
    free(packing.code);
    return status;
}

/* What block_unpack works with and frees. */
struct unpacking {
    struct copy_list copies;
    uint8_t *literals; /* [n] */
};

static enum status decode_literals(struct block_coder *coder,
                                   struct unpacking *unpacking,
                                   struct range_coder *side,
                                   const uint8_t *code, size_t n_code,
                                   enum block_kind kind)
{
    if (kind == BLOCK_MODEL)
        return slices_decode(coder->slices, unpacking->literals,
                             coder->n_literals, side, code, n_code);
    if (n_code != coder->n_literals)
        return fail(E_FORMAT, "a block does not fit its literals");
    memcpy(unpacking->literals, code, n_code);
    return OK;
}

static enum status unpack_parts(struct block_coder *coder,
                                struct unpacking *unpacking, uint8_t *bytes,
                                size_t n, const uint8_t *packed,
                                size_t n_packed, enum block_kind kind)
{
    if (n_packed < SIDE_LENGTH_BYTES ||
        load_le(packed, SIDE_LENGTH_BYTES) > n_packed - SIDE_LENGTH_BYTES)
        return fail(E_FORMAT, "a block is shorter than its copies");
    size_t n_side = (size_t)load_le(packed, SIDE_LENGTH_BYTES);
    const uint8_t *code = packed + SIDE_LENGTH_BYTES + n_side;
    struct range_coder side = range_decoder(packed + SIDE_LENGTH_BYTES, n_side);
    TRY(dedupe_code(&unpacking->copies, &side, n));
    coder->n_literals = n - unpacking->copies.n_copied;
    coder->n_done = 0;
    if (coder->n_literals == 0)
        return fail(E_FORMAT, "a block has nothing to copy from");
    if (kind == BLOCK_MODEL && coder->n_literals > literals_most(n_packed))
        return fail(E_FORMAT,
                    "a block claims %zu modelled bytes in %zu, more than is "
                    "possible",
                    coder->n_literals, n_packed);
    unpacking->literals = calloc(n, 1);
    if (!unpacking->literals)
        return fail_memory("a block");
    TRY(decode_literals(coder, unpacking, &side, code,
                        (size_t)(packed + n_packed - code), kind));
    dedupe_put(&unpacking->copies, unpacking->literals, bytes, n);
    return OK;
}

static enum status unpack_literals(struct block_coder *coder, uint8_t *bytes,
                                   size_t n, const uint8_t *packed,
                                   size_t n_packed, enum block_kind kind)
{
    struct unpacking unpacking = {.literals = NULL};
    enum status status =
        unpack_parts(coder, &unpacking, bytes, n, packed, n_packed, kind);
    dedupe_free(&unpacking.copies);
    free(unpacking.literals);
    return status;
}

/* ---- choosing ----------------------------------------------------------- */

enum status block_cut(struct block_coder *coder, const uint8_t *bytes, size_t n,
                      struct block_part parts[PARTS_MAX], size_t *n_parts)
{
    dedupe_free(&coder->copies);
    coder->has_copies = false;
    TRY(dedupe_find(&coder->copies, bytes, n));
    coder->is_sampling = true;
    enum status status =
        samples_cut(coder->slices, bytes, n, &coder->copies, parts, n_parts);
    coder->is_sampling = false;
    coder->has_copies = status == OK && *n_parts == 1;
    if (!coder->has_copies)
        dedupe_free(&coder->copies);
    return status;
}

enum status block_pack(struct block_coder *coder, const uint8_t *bytes,
                       const struct block_part *part, uint8_t *packed,
                       size_t *n_packed, enum block_kind *kind)
{
    size_t n = part->n, n_literals, n_lzma;
    TRY(pack_literals(coder, bytes, part, packed, n_packed, &n_literals, kind));
    if (n <= LZMA_ALWAYS || *n_packed > n_literals / LZMA_RATIO) {
        uint8_t *other = malloc(n);
        if (!other)
            return fail_memory("a block");
        enum status status = lzma2_pack(bytes, n, other, n, &n_lzma);
        if (status == OK && n_lzma < *n_packed) {
            memcpy(packed, other, n_lzma);
            *n_packed = n_lzma;
            *kind = BLOCK_LZMA;
        }
        free(other);
        TRY(status);
    }
    if (*n_packed >= n) {
        memcpy(packed, bytes, n);
        *n_packed = n;
        *kind = BLOCK_STORED;
    }
    return OK;
}

static enum status unpack_lzma(uint8_t *bytes, size_t n, const uint8_t *packed,
                               size_t n_packed)
{
    bool is_whole;
    TRY(lzma2_unpack(bytes, n, packed, n_packed, &is_whole));
    return is_whole ? OK : fail(E_FORMAT, "a block is not what LZMA2 made");
}

enum status block_unpack(struct block_coder *coder, uint8_t *bytes, size_t n,
                         const uint8_t *packed, size_t n_packed,
                         enum block_kind kind)
{
    switch (kind) {
    case BLOCK_MODEL:
    case BLOCK_COPIES:
        return unpack_literals(coder, bytes, n, packed, n_packed, kind);
    case BLOCK_LZMA:
        return unpack_lzma(bytes, n, packed, n_packed);
    default:
        if (n_packed != n)
            return fail(E_FORMAT, "a stored block has another length");
        memcpy(bytes, packed, n);
        return OK;
    }
}
