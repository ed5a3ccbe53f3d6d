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

/* A part that is being packed. */
struct block_packing {
    const uint8_t *bytes; /* [part->n] */
    const struct block_part *part;
    enum block_kind kind; /* BLOCK_LZMA when nothing is coded here */
    struct copy_list copies;
    uint8_t *literals; /* [n_literals], the bytes that are in no copy */
    size_t n_literals;
    struct range_coder side;
    uint8_t *code; /* [part->n], of which n_code are used */
    size_t n_code;
};

static size_t literals_most(size_t n_packed)
{
    return LITERALS_A_BYTE * (n_packed + LITERALS_FREE);
}

/* Puts the pieces together, into part->n bytes; SIZE_MAX bytes when they do not
 * fit, or when the block would be one of the model with too many literals. */
static size_t assemble(uint8_t *packed, const struct block_packing *p)
{
    const struct range_coder *side = &p->side;
    size_t n_before = SIDE_LENGTH_BYTES + side->n, room = p->part->n;
    if (n_before > room || p->n_code > room - n_before)
        return SIZE_MAX;
    if (p->kind == BLOCK_MODEL &&
        p->n_literals > literals_most(n_before + p->n_code))
        return SIZE_MAX;
    store_le(packed, side->n, SIDE_LENGTH_BYTES);
    if (side->n > 0)
        memcpy(packed + SIDE_LENGTH_BYTES, side->code, side->n);
    memcpy(packed + n_before, p->code, p->n_code);
    return n_before + p->n_code;
}

static enum status code_literals(struct block_coder *coder,
                                 struct block_packing *p)
{
    if (p->kind == BLOCK_COPIES) {
        p->n_code = p->n_literals;
        memcpy(p->code, p->literals, p->n_literals);
        return OK;
    }
    coder->n_literals = p->n_literals;
    coder->n_done = 0;
    return slices_encode(coder->slices, p->literals, p->n_literals, &p->side,
                         p->code, p->part->n, &p->n_code);
}

/* Those that block_cut has found, or new ones. */
static enum status find_copies(struct block_coder *coder,
                               struct block_packing *p)
{
    if (!coder->has_copies)
        return dedupe_find(&p->copies, p->bytes, p->part->n);
    p->copies = coder->copies;
    coder->copies = (struct copy_list){.n = 0};
    coder->has_copies = false;
    return OK;
}

static enum status code_part(struct block_coder *coder, struct block_packing *p)
{
    size_t n = p->part->n;
    TRY(find_copies(coder, p));
    p->n_literals = n - p->copies.n_copied;
    p->literals = malloc(p->n_literals);
    p->code = malloc(n);
    if (!p->literals || !p->code)
        return fail_memory("a block");
    dedupe_take(&p->copies, p->literals, p->bytes, n);
    if (samples_look_random(p->literals, p->n_literals))
        p->kind = BLOCK_COPIES;
    else
        p->kind = p->part->is_for_model ? BLOCK_MODEL : BLOCK_LZMA;
    if (p->kind == BLOCK_LZMA)
        return OK;
    TRY(dedupe_code(&p->copies, &p->side, n));
    TRY(code_literals(coder, p));
    return range_finish(&p->side);
}

/* *n_packed is SIZE_MAX when it would be more than the bytes, and when the part
 * is for liblzma. */
static enum status pack_literals(struct block_coder *coder,
                                 struct block_packing *p, uint8_t *packed,
                                 size_t *n_packed)
{
    enum status status = code_part(coder, p);
    if (status == OK)
        *n_packed = p->kind == BLOCK_LZMA ? SIZE_MAX : assemble(packed, p);
    dedupe_free(&p->copies);
    range_free(&p->side);
    free(p->literals);
    free(p->code);
    return status;
}

/* A block of the model, or of copies, that is being unpacked. */
struct block_unpacking {
    uint8_t *bytes; /* [n] */
    size_t n;
    const uint8_t *packed; /* [n_packed] */
    size_t n_packed;
    enum block_kind kind;
    struct copy_list copies;
    uint8_t *literals; /* [n] */
};

static enum status decode_literals(struct block_coder *coder,
                                   const struct block_unpacking *u,
                                   struct range_coder *side,
                                   const uint8_t *code)
{
    size_t n_code = (size_t)(u->packed + u->n_packed - code);
    if (u->kind == BLOCK_MODEL)
        return slices_decode(coder->slices, u->literals, coder->n_literals,
                             side, code, n_code);
    if (n_code != coder->n_literals)
        return fail(E_FORMAT, "a block does not fit its literals");
    memcpy(u->literals, code, n_code);
    return OK;
}

static enum status decode_block(struct block_coder *coder,
                                struct block_unpacking *u)
{
    const uint8_t *code = u->packed + SIDE_LENGTH_BYTES;
    if (u->n_packed < SIDE_LENGTH_BYTES ||
        load_le(u->packed, SIDE_LENGTH_BYTES) > u->n_packed - SIDE_LENGTH_BYTES)
        return fail(E_FORMAT, "a block is shorter than its copies");
    size_t n_side = (size_t)load_le(u->packed, SIDE_LENGTH_BYTES);
    struct range_coder side = range_decoder(code, n_side);
    TRY(dedupe_code(&u->copies, &side, u->n));
    coder->n_literals = u->n - u->copies.n_copied;
    coder->n_done = 0;
    if (coder->n_literals == 0)
        return fail(E_FORMAT, "a block has nothing to copy from");
    if (u->kind == BLOCK_MODEL &&
        coder->n_literals > literals_most(u->n_packed))
        return fail(E_FORMAT,
                    "a block claims %zu modelled bytes in %zu, more than is "
                    "possible",
                    coder->n_literals, u->n_packed);
    u->literals = calloc(u->n, 1);
    if (!u->literals)
        return fail_memory("a block");
    TRY(decode_literals(coder, u, &side, code + n_side));
    dedupe_put(&u->copies, u->literals, u->bytes, u->n);
    return OK;
}

static enum status unpack_literals(struct block_coder *coder,
                                   struct block_unpacking *u)
{
    enum status status = decode_block(coder, u);
    dedupe_free(&u->copies);
    free(u->literals);
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

/* Packs by liblzma where that makes *n_packed less. */
static enum status try_lzma(const uint8_t *bytes, size_t n, uint8_t *packed,
                            size_t *n_packed, enum block_kind *kind)
{
    size_t n_lzma;
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
    return status;
}

enum status block_pack(struct block_coder *coder, const uint8_t *bytes,
                       const struct block_part *part, uint8_t *packed,
                       size_t *n_packed, enum block_kind *kind)
{
    size_t n = part->n;
    struct block_packing packing = {
        .bytes = bytes, .part = part, .side = range_encoder()};
    TRY(pack_literals(coder, &packing, packed, n_packed));
    *kind = packing.kind;
    if (n <= LZMA_ALWAYS || *n_packed > packing.n_literals / LZMA_RATIO)
        TRY(try_lzma(bytes, n, packed, n_packed, kind));
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
    struct block_unpacking unpacking = {.bytes = bytes,
                                        .n = n,
                                        .packed = packed,
                                        .n_packed = n_packed,
                                        .kind = kind};
    switch (kind) {
    case BLOCK_MODEL:
    case BLOCK_COPIES:
        return unpack_literals(coder, &unpacking);
    case BLOCK_LZMA:
        return unpack_lzma(bytes, n, packed, n_packed);
    default:
        if (n_packed != n)
            return fail(E_FORMAT, "a stored block has another length");
        memcpy(bytes, packed, n);
        return OK;
    }
}
