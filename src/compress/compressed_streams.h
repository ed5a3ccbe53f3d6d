/* compressed_streams.h -- the streams of a compressed file, found from its end.
 *
 * The end of a stream has the lengths of all its blocks: so the header and the
 * blocks of the last stream can be found, then those of the stream before it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_COMPRESSED_STREAMS_H
#define MAMBYTE_COMPRESSED_STREAMS_H

#include <stdint.h>

#include "base/byteio.h"
#include "base/status.h"
#include "compress/container.h"

/* Bytes before and after packing. */
struct traffic {
    uint64_t n_plain, n_packed;
};

struct compressed_stream {
    uint64_t start; /* of its header, in the file */
    struct stream_header header;
    struct index index;
};

typedef enum status visit_stream(void *context,
                                 const struct compressed_stream *stream);

/* Calls visit for every stream of a regular file, from the last to the first.
 * E_FORMAT, without the name of the file, when they do not fill it. */
enum status compressed_streams_visit(struct source *source, visit_stream *visit,
                                     void *context);

/* What the ends of the streams say. */
struct listing {
    uint64_t n_streams, n_blocks;
    struct traffic traffic;
    struct stream_header header; /* of the first stream */
};

/* Makes the listing of a regular file. */
enum status compressed_streams_list(struct listing *listing,
                                    struct source *source);

/* Reads exactly n bytes; E_FORMAT when there are fewer. */
enum status compressed_read(struct source *source, uint8_t *bytes, size_t n);

/* The same, from an offset of a regular file. */
enum status compressed_read_at(struct source *source, uint64_t offset,
                               uint8_t *bytes, size_t n);

/* Fails with E_FORMAT: the end is missing. */
enum status compressed_truncated(void);

#endif
