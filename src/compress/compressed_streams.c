/* compressed_streams.c -- the streams of a compressed file, found from its end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/compressed_streams.h"

#include <stdlib.h>

#include "base/memlimit.h"
#include "base/signals.h"

enum { INDEX_MEMORY = 3 }; /* bytes, for each of an end */

enum status compressed_truncated(void)
{
    return fail(E_FORMAT, "truncated: the end is missing");
}

enum status compressed_read(struct source *source, uint8_t *bytes, size_t n)
{
    size_t got;
    TRY(source_read_full(source, bytes, n, &got));
    return got == n ? OK : compressed_truncated();
}

enum status compressed_read_at(struct source *source, uint64_t offset,
                               uint8_t *bytes, size_t n)
{
    TRY(source_seek(source, offset));
    return compressed_read(source, bytes, n);
}

static enum status read_index(struct source *source, struct index *index,
                              uint64_t begin, size_t n)
{
    TRY(memlimit_check(INDEX_MEMORY * (uint64_t)n, "the index"));
    uint8_t *bytes = malloc(n);
    if (!bytes)
        return fail_memory("the index");
    enum status status = compressed_read_at(source, begin, bytes, n);
    if (status == OK)
        status = index_parse_end(index, bytes, n);
    free(bytes);
    return status;
}

/* Finds the stream that ends at end. */
static enum status find_stream(struct source *source, uint64_t end,
                               struct compressed_stream *stream)
{
    uint8_t bytes[STREAM_HEADER_BYTES];
    struct end_foot foot;
    uint64_t least = STREAM_HEADER_BYTES + 1 + END_FOOT_BYTES;
    if (end < least)
        return fail(E_FORMAT, "truncated, or not compressed by mambyte");
    TRY(compressed_read_at(source, end - END_FOOT_BYTES, bytes,
                           END_FOOT_BYTES));
    TRY(end_foot_parse(&foot, bytes));
    uint64_t n_end =
        1 + (uint64_t)END_ENTRY_BYTES * foot.n_blocks + END_FOOT_BYTES;
    if (n_end > end - STREAM_HEADER_BYTES)
        return fail(E_FORMAT, "the end is damaged");
    TRY(read_index(source, &stream->index, end - n_end, (size_t)n_end));
    uint64_t n = STREAM_HEADER_BYTES + stream->index.n_packed +
                 (uint64_t)BLOCK_HEADER_BYTES * stream->index.n + n_end;
    if (n > end)
        return fail(E_FORMAT, "truncated: blocks are missing");
    stream->start = end - n;
    TRY(compressed_read_at(source, stream->start, bytes, STREAM_HEADER_BYTES));
    return stream_header_parse(&stream->header, bytes);
}

/* A file that is not ours is recognised by its start, without looking for an
 * end. */
static enum status check_start(struct source *source)
{
    uint8_t bytes[STREAM_HEADER_BYTES];
    struct stream_header header;
    if (!source->is_regular)
        return fail(E_FORMAT, "is not a regular file");
    if (source->size == 0)
        return fail(E_FORMAT, "is empty, not compressed by mambyte");
    if (source->size < sizeof bytes)
        return fail(E_FORMAT, "truncated, or not compressed by mambyte");
    TRY(compressed_read_at(source, 0, bytes, sizeof bytes));
    return stream_header_parse(&header, bytes);
}

enum status compressed_streams_visit(struct source *source, visit_stream *visit,
                                     void *context)
{
    uint64_t end = source->size;
    TRY(check_start(source));
    while (end > 0) {
        struct compressed_stream stream = {.start = 0};
        TRY(signals_check());
        enum status status = find_stream(source, end, &stream);
        if (status == OK)
            status = visit(context, &stream);
        index_free(&stream.index);
        TRY(status);
        end = stream.start;
    }
    return OK;
}

static enum status add_to_listing(void *context,
                                  const struct compressed_stream *stream)
{
    struct listing *listing = context;
    listing->n_streams++;
    listing->n_blocks += stream->index.n;
    listing->traffic.n_plain += stream->index.n_plain;
    listing->header = stream->header;
    return OK;
}

enum status compressed_streams_list(struct listing *listing,
                                    struct source *source)
{
    *listing = (struct listing){.n_streams = 0};
    listing->traffic.n_packed = source->size;
    enum status status =
        compressed_streams_visit(source, add_to_listing, listing);
    return status == E_FORMAT || status == E_LIMIT
               ? status_prefix(status, source->name)
               : status;
}
