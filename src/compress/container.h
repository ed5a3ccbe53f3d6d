/* container.h -- the parts of a compressed file, to and from bytes.
 *
 *     stream     stream header, blocks, end
 *     header     magic, versions, the model's fingerprint and name
 *     block      block header (kind, lengths, checksums), packed bytes
 *     end        the lengths of all blocks, and a mark
 *
 * A file is one or more streams, one after another.  mambyte.5 has the
 * layout to the byte.  Parsing refuses whatever formatting does not make.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CONTAINER_H
#define MAMBYTE_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "compress/block.h"
#include "model/model.h"

enum {
    STREAM_HEADER_BYTES = 44,
    BLOCK_HEADER_BYTES = 25,
    END_KIND = 0,        /* in place of a block's kind                 */
    END_ENTRY_BYTES = 8, /* the end: kind, entries, foot                   */
    END_FOOT_BYTES = 16,
    MODEL_NAME_BYTES = 16
};

struct stream_header {
    struct fingerprint model;
    char model_name[MODEL_NAME_BYTES + 1]; /* a hint for people; cut        */
};

struct block_header {
    enum block_kind kind;
    uint32_t n_plain, n_packed;
    uint64_t plain_checksum;  /* XXH3-64                                   */
    uint32_t packed_checksum; /* its lower half                            */
};

struct index_entry {
    uint32_t n_plain, n_packed;
};

/* The lengths of blocks, in order, and a digest of their headers. */
struct index {
    struct index_entry *entries; /* [n], owned */
    size_t n, room;
    uint64_t n_plain, n_packed; /* sums */
    uint32_t digest;            /* chained checksum of the headers */
};

uint64_t checksum64(const void *bytes, size_t n);
uint32_t checksum32(const void *bytes, size_t n);

/* name: that of the model's file. */
void stream_header_make(struct stream_header *header,
                        const struct fingerprint *model, const char *name);
void stream_header_format(uint8_t bytes[STREAM_HEADER_BYTES],
                          const struct stream_header *header);

/* Whether bytes start as a header does. */
bool stream_header_has_magic(const uint8_t bytes[STREAM_HEADER_BYTES]);

/* E_FORMAT when the bytes are no header, or damaged, or of another version of
 * the format or of the arithmetic. */
enum status stream_header_parse(struct stream_header *header,
                                const uint8_t bytes[STREAM_HEADER_BYTES]);

void block_header_format(uint8_t bytes[BLOCK_HEADER_BYTES],
                         const struct block_header *header);
enum status block_header_parse(struct block_header *header,
                               const uint8_t bytes[BLOCK_HEADER_BYTES]);

/* Adds a block by its header, as it stands in the file. */
enum status index_add(struct index *index,
                      const uint8_t bytes[BLOCK_HEADER_BYTES]);
void index_free(struct index *index);

size_t index_end_bytes(const struct index *index);
void index_format_end(const struct index *index, uint8_t *bytes);

/* The last bytes of an end. */
struct end_foot {
    uint32_t n_blocks;
    uint32_t digest;
    uint32_t checksum; /* of the end before it */
};

enum status end_foot_parse(struct end_foot *foot,
                           const uint8_t bytes[END_FOOT_BYTES]);

/* Reads an end, bytes[0..n), into an empty index. */
enum status index_parse_end(struct index *index, const uint8_t *bytes,
                            size_t n);

#endif
