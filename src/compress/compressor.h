/* compressor.h -- whole inputs to and from compressed streams.
 *
 * Reads from a source and writes to a sink, a block at a time: in constant
 * memory, from a pipe as well as from a file.  Nothing is written before a
 * checksum has confirmed it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_COMPRESSOR_H
#define MAMBYTE_COMPRESSOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/byteio.h"
#include "base/status.h"
#include "compress/compressed_streams.h"
#include "engine/engine.h"

struct compressor;

/* On failure *compressor is NULL.  The engine must outlive it.  name: that of
 * the model's file. */
enum status compressor_open(struct compressor **compressor,
                            struct engine *engine, const char *name,
                            int n_threads);
void compressor_close(struct compressor *compressor); /* NULL is accepted */

/* The bytes of the last call. */
struct traffic compressor_traffic(const struct compressor *compressor);

/* Compresses all of source to one stream, in blocks of block_bytes at most. */
enum status compress(struct compressor *compressor, struct source *source,
                     struct sink *sink, size_t block_bytes);

/* Decompresses all streams of source to sink, or, when sink is NULL, to
 * nowhere.  E_FORMAT when anything is wrong; what was written until then is
 * right. */
enum status decompress(struct compressor *compressor, struct source *source,
                       struct sink *sink);

/* Decompresses bytes [offset, offset + length) of the plain text of a regular
 * file, or as many of them as there are.  Reads only the blocks that have
 * them. */
enum status decompress_range(struct compressor *compressor,
                             struct source *source, struct sink *sink,
                             uint64_t offset, uint64_t length);

#endif
