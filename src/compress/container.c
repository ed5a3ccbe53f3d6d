/* container.c -- the parts of a compressed file, to and from bytes.
 *
 * Stream header                 Block header                 End
 *  0  6  magic                   0  1  kind                   0  1  0
 *  6  1  version                 1  4  plain bytes            1  8n  n times
 *  7  1  arithmetic              5  4  packed bytes              4  plain
 *  8 16  fingerprint             9  8  checksum of plain         4  packed
 * 24 16  name, NUL-padded       17  4  checksum of packed     foot:
 * 40  4  checksum of 0 to 39    21  4  checksum of 0 to 20    0  4  n
 *                                                             4  4  digest
 * Numbers are little-endian.  Checksums are                   8  4  checksum
 * XXH3-64; those of 4 bytes are its lower half.              12  4  end mark
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/container.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/array.h"
#include "base/exact.h"
#include "base/little_endian.h"

enum { VERSION = 2, MAGIC_BYTES = 6, MARK_BYTES = 4 };

static const uint8_t magic[MAGIC_BYTES] = {0xf5, 'm', 'b', 'z', '\r', '\n'};
static const uint8_t end_mark[MARK_BYTES] = {'z', 'b', 'm', 0xf5};

static uint32_t load32(const uint8_t *p)
{
    return (uint32_t)load_le(p, 4);
}

uint64_t checksum64(const void *bytes, size_t n)
{
    return XXH3_64bits(bytes, n);
}

uint32_t checksum32(const void *bytes, size_t n)
{
    return (uint32_t)XXH3_64bits(bytes, n);
}

/* ---- stream header ------------------------------------------------------ */

enum {
    AT_VERSION = 6,
    AT_ARITHMETIC = 7,
    AT_MODEL = 8,
    AT_NAME = 24,
    AT_HEADER_CHECKSUM = 40
};

void stream_header_make(struct stream_header *header,
                        const struct fingerprint *model, const char *name)
{
    const char *base = strrchr(name, '/');
    base = base ? base + 1 : name;
    size_t n = strcspn(base, ".");
    *header = (struct stream_header){.model = *model};
    for (size_t i = 0; i < n && i < MODEL_NAME_BYTES; i++)
        header->model_name[i] = base[i] > ' ' && base[i] <= '~' ? base[i] : '_';
}

void stream_header_format(uint8_t bytes[STREAM_HEADER_BYTES],
                          const struct stream_header *header)
{
    memcpy(bytes, magic, MAGIC_BYTES);
    bytes[AT_VERSION] = VERSION;
    bytes[AT_ARITHMETIC] = EXACT_VERSION;
    memcpy(bytes + AT_MODEL, header->model.bytes, sizeof header->model.bytes);
    memcpy(bytes + AT_NAME, header->model_name, MODEL_NAME_BYTES);
    store_le(bytes + AT_HEADER_CHECKSUM, checksum32(bytes, AT_HEADER_CHECKSUM),
             4);
}

/* The name goes into messages: it must not command a terminal. */
static bool is_name(const char *name)
{
    for (; *name; name++) {
        if (*name <= ' ' || *name > '~')
            return false;
    }
    return true;
}

bool stream_header_has_magic(const uint8_t bytes[STREAM_HEADER_BYTES])
{
    return memcmp(bytes, magic, MAGIC_BYTES) == 0;
}

enum status stream_header_parse(struct stream_header *header,
                                const uint8_t bytes[STREAM_HEADER_BYTES])
{
    if (!stream_header_has_magic(bytes))
        return fail(E_FORMAT, "not compressed by mambyte");
    if (bytes[AT_VERSION] != VERSION)
        return fail(E_FORMAT,
                    "compressed in version %d of the format, this program "
                    "reads version %d",
                    bytes[AT_VERSION], VERSION);
    if (load32(bytes + AT_HEADER_CHECKSUM) !=
        checksum32(bytes, AT_HEADER_CHECKSUM))
        return fail(E_FORMAT, "the header is damaged");
    if (bytes[AT_ARITHMETIC] != EXACT_VERSION)
        return fail(E_FORMAT,
                    "compressed with version %d of the arithmetic, this "
                    "program has version %d",
                    bytes[AT_ARITHMETIC], EXACT_VERSION);
    *header = (struct stream_header){.model_name = ""};
    memcpy(header->model.bytes, bytes + AT_MODEL, sizeof header->model.bytes);
    memcpy(header->model_name, bytes + AT_NAME, MODEL_NAME_BYTES);
    if (!is_name(header->model_name))
        return fail(E_FORMAT, "the header names no model");
    return OK;
}

/* ---- block header ------------------------------------------------------- */

enum {
    AT_PLAIN = 1,
    AT_PACKED = 5,
    AT_PLAIN_CHECKSUM = 9,
    AT_PACKED_CHECKSUM = 17,
    AT_BLOCK_CHECKSUM = 21
};

void block_header_format(uint8_t bytes[BLOCK_HEADER_BYTES],
                         const struct block_header *header)
{
    bytes[0] = (uint8_t)header->kind;
    store_le(bytes + AT_PLAIN, header->n_plain, 4);
    store_le(bytes + AT_PACKED, header->n_packed, 4);
    store_le(bytes + AT_PLAIN_CHECKSUM, header->plain_checksum, 8);
    store_le(bytes + AT_PACKED_CHECKSUM, header->packed_checksum, 4);
    store_le(bytes + AT_BLOCK_CHECKSUM, checksum32(bytes, AT_BLOCK_CHECKSUM),
             4);
}

static bool is_sane(const struct block_header *header)
{
    bool is_stored = header->kind == BLOCK_STORED;
    return header->kind >= BLOCK_STORED && header->kind <= BLOCK_COPIES &&
           header->n_plain > 0 && header->n_plain <= BLOCK_MAX &&
           header->n_packed <= header->n_plain &&
           is_stored == (header->n_packed == header->n_plain);
}

enum status block_header_parse(struct block_header *header,
                               const uint8_t bytes[BLOCK_HEADER_BYTES])
{
    *header = (struct block_header){
        .kind = (enum block_kind)bytes[0],
        .n_plain = load32(bytes + AT_PLAIN),
        .n_packed = load32(bytes + AT_PACKED),
        .plain_checksum = load_le(bytes + AT_PLAIN_CHECKSUM, 8),
        .packed_checksum = load32(bytes + AT_PACKED_CHECKSUM),
    };
    if (load32(bytes + AT_BLOCK_CHECKSUM) !=
        checksum32(bytes, AT_BLOCK_CHECKSUM))
        return fail(E_FORMAT, "a block header is damaged");
    if (!is_sane(header))
        return fail(E_FORMAT, "a block header makes no sense");
    return OK;
}

/* ---- index and end ------------------------------------------------------ */

enum { AT_DIGEST = 4, AT_END_CHECKSUM = 8, AT_MARK = 12 };

static enum status append(struct index *index, struct index_entry entry)
{
    struct index_entry *entries =
        array_grow(index->entries, index->n, &index->room, sizeof *entries);
    if (!entries)
        return fail_memory("the index");
    index->entries = entries;
    index->entries[index->n++] = entry;
    index->n_plain += entry.n_plain;
    index->n_packed += entry.n_packed;
    return index->n <= UINT32_MAX ? OK : fail(E_FORMAT, "too many blocks");
}

enum status index_add(struct index *index,
                      const uint8_t bytes[BLOCK_HEADER_BYTES])
{
    uint8_t chained[4 + BLOCK_HEADER_BYTES];
    store_le(chained, index->digest, 4);
    memcpy(chained + 4, bytes, BLOCK_HEADER_BYTES);
    index->digest = checksum32(chained, sizeof chained);
    return append(index, (struct index_entry){load32(bytes + AT_PLAIN),
                                              load32(bytes + AT_PACKED)});
}

void index_free(struct index *index)
{
    free(index->entries);
    *index = (struct index){.n = 0};
}

size_t index_end_bytes(const struct index *index)
{
    return 1 + END_ENTRY_BYTES * index->n + END_FOOT_BYTES;
}

void index_format_end(const struct index *index, uint8_t *bytes)
{
    uint8_t *p = bytes;
    *p++ = END_KIND;
    for (size_t i = 0; i < index->n; i++, p += END_ENTRY_BYTES) {
        store_le(p, index->entries[i].n_plain, 4);
        store_le(p + 4, index->entries[i].n_packed, 4);
    }
    store_le(p, index->n, 4);
    store_le(p + AT_DIGEST, index->digest, 4);
    store_le(p + AT_END_CHECKSUM,
             checksum32(bytes, (size_t)(p + AT_END_CHECKSUM - bytes)), 4);
    memcpy(p + AT_MARK, end_mark, MARK_BYTES);
}

enum status end_foot_parse(struct end_foot *foot,
                           const uint8_t bytes[END_FOOT_BYTES])
{
    if (memcmp(bytes + AT_MARK, end_mark, MARK_BYTES) != 0)
        return fail(E_FORMAT, "the end is missing: truncated or damaged");
    *foot = (struct end_foot){
        .n_blocks = load32(bytes),
        .digest = load32(bytes + AT_DIGEST),
        .checksum = load32(bytes + AT_END_CHECKSUM),
    };
    return OK;
}

enum status index_parse_end(struct index *index, const uint8_t *bytes, size_t n)
{
    struct end_foot foot;
    size_t n_foot = n - END_FOOT_BYTES;
    if (n <= END_FOOT_BYTES)
        return fail(E_FORMAT, "the end is missing: truncated or damaged");
    TRY(end_foot_parse(&foot, bytes + n_foot));
    if (foot.checksum != checksum32(bytes, n_foot + AT_END_CHECKSUM) ||
        bytes[0] != END_KIND ||
        n_foot != 1 + END_ENTRY_BYTES * (size_t)foot.n_blocks)
        return fail(E_FORMAT, "the end is damaged");
    for (const uint8_t *p = bytes + 1; p < bytes + n_foot; p += END_ENTRY_BYTES)
        TRY(append(index, (struct index_entry){load32(p), load32(p + 4)}));
    index->digest = foot.digest;
    return OK;
}
