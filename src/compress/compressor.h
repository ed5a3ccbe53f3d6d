/* compressor.h -- whole inputs to and from compressed streams.
 *
 * Reads from a source, writes to a sink, a block at a time: in constant
 * memory, from a pipe as from a file.  Nothing is written that a checksum
 * has not confirmed.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_COMPRESSOR_H
#define MAMBYTE_COMPRESSOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/byteio.h"
#include "base/status.h"
#include "compress/container.h"
#include "engine/engine.h"

struct compressor;

/* On failure *compressor is NULL.  The engine must outlive it.  name: of the
 * model's file. */
enum status compressor_open(struct compressor **compressor,
                            struct engine *engine, const char *name,
                            int n_threads);
void compressor_close(struct compressor *compressor); /* NULL is accepted */

/* What went through the last call, before and after packing. */
struct traffic {
    uint64_t n_plain, n_packed;
};
struct traffic compressor_traffic(const struct compressor *compressor);

/* All of source becomes one stream, in blocks of block_bytes. */
enum status compress(struct compressor *compressor, struct source *source,
                     struct sink *sink, size_t block_bytes);

/* All streams of source, to sink, or with NULL to nowhere.  E_FORMAT for
 * whatever is not wholly right; what went out before is right. */
enum status decompress(struct compressor *compressor, struct source *source,
                       struct sink *sink);

/* Bytes [offset, offset + length) of what is compressed in a regular file,
 * as far as there are such; other blocks are not read. */
enum status decompress_range(struct compressor *compressor,
                             struct source *source, struct sink *sink,
                             uint64_t offset, uint64_t length);

/* What the ends of the streams of a regular file say. */
struct listing {
    uint64_t n_streams, n_blocks;
    struct traffic traffic;
    struct header header; /* of the first stream                            */
};
enum status compressed_list(struct listing *listing, struct source *source);

#endif
