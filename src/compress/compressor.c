/* compressor.c -- whole inputs to and from compressed streams.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/compressor.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/message.h"
#include "base/signals.h"

/* Bytes of the room for a block until more have been read. */
enum { FIRST_ROOM = 1 << 16 };

struct buffer {
    uint8_t *bytes; /* [room], owned */
    size_t room;
};

struct compressor {
    struct block_coder *coder;
    struct header header; /* of our model                               */
    struct buffer plain, packed;
    struct traffic traffic;

    /* For the progress line. */
    const struct source *source;
    uint64_t n_done; /* bytes of the source, before this block     */
    size_t n_block;  /* bytes of the source, of this block         */
};

static enum status make_room(struct buffer *buffer, size_t n)
{
    if (n <= buffer->room)
        return OK;
    uint8_t *bytes = realloc(buffer->bytes, n);
    if (!bytes)
        return fail_memory("a block");
    buffer->bytes = bytes;
    buffer->room = n;
    return OK;
}

static enum status show_progress(void *context, double part)
{
    const struct compressor *c = context;
    char name[96];
    double ratio = (double)c->traffic.n_packed / (double)c->traffic.n_plain;
    if (c->traffic.n_plain > 0)
        snprintf(name, sizeof name, "%.60s, ratio %.3f", c->source->name,
                 ratio);
    else
        snprintf(name, sizeof name, "%.60s", c->source->name);
    message_progress(name, c->n_done + (uint64_t)(part * (double)c->n_block),
                     c->source->size);
    return signals_check();
}

static enum status begin_block(struct compressor *c, size_t n_block)
{
    c->n_block = n_block;
    return show_progress(c, 0);
}

static void end_block(struct compressor *c, size_t n_plain, size_t n_packed)
{
    c->n_done += c->n_block;
    c->n_block = 0;
    c->traffic.n_plain += n_plain;
    c->traffic.n_packed += n_packed;
}

static void begin_source(struct compressor *c, const struct source *source)
{
    c->source = source;
    c->n_done = source->n_read;
    c->n_block = 0;
    c->traffic = (struct traffic){0, 0};
}

enum status compressor_open(struct compressor **compressor,
                            struct engine *engine, const char *name,
                            int n_threads)
{
    struct compressor *c = *compressor = calloc(1, sizeof *c);
    if (!c)
        return fail_memory("the compressor");
    struct fingerprint fingerprint;
    model_fingerprint(engine->model, &fingerprint);
    header_make(&c->header, &fingerprint, name);
    enum status status =
        block_coder_open(&c->coder, engine, n_threads, show_progress, c);
    if (status != OK) {
        compressor_close(c);
        *compressor = NULL;
    }
    return status;
}

void compressor_close(struct compressor *compressor)
{
    if (!compressor)
        return;
    block_coder_close(compressor->coder);
    free(compressor->plain.bytes);
    free(compressor->packed.bytes);
    free(compressor);
}

struct traffic compressor_traffic(const struct compressor *compressor)
{
    return compressor->traffic;
}

/* Reads n bytes into a buffer that grows as they come, so that a length that
 * lies costs no memory; *got of them are there. */
static enum status read_growing(struct source *source, struct buffer *buffer,
                                size_t n, size_t *got)
{
    size_t part = 1;
    for (*got = 0; *got < n && part > 0; *got += part) {
        size_t room = buffer->room < FIRST_ROOM ? FIRST_ROOM : buffer->room;
        if (*got == room)
            room *= 2;
        TRY(make_room(buffer, room));
        room = buffer->room < n ? buffer->room : n;
        TRY(source_read_full(source, buffer->bytes + *got, room - *got, &part));
    }
    return OK;
}

/* ---- compressing -------------------------------------------------------- */

static enum status write_block(struct compressor *c, struct sink *sink,
                               struct index *index, size_t n)
{
    size_t n_packed;
    struct block_head head;
    uint8_t head_bytes[BLOCK_HEAD_BYTES];
    TRY(make_room(&c->packed, n));
    TRY(begin_block(c, n));
    TRY(block_pack(c->coder, c->plain.bytes, n, c->packed.bytes, &n_packed,
                   &head.kind));
    head.n_plain = (uint32_t)n;
    head.n_packed = (uint32_t)n_packed;
    head.plain_checksum = checksum64(c->plain.bytes, n);
    head.packed_checksum = checksum32(c->packed.bytes, n_packed);
    block_head_format(head_bytes, &head);
    TRY(index_add(index, head_bytes));
    TRY(sink_write(sink, head_bytes, sizeof head_bytes));
    TRY(sink_write(sink, c->packed.bytes, n_packed));
    end_block(c, n, n_packed + BLOCK_HEAD_BYTES);
    return sink_flush(sink);
}

static enum status write_end(struct compressor *c, struct sink *sink,
                             const struct index *index)
{
    size_t n = index_end_bytes(index);
    uint8_t *bytes = malloc(n);
    if (!bytes)
        return fail_memory("the index");
    index_format_end(index, bytes);
    enum status status = sink_write(sink, bytes, n);
    free(bytes);
    c->traffic.n_packed += n;
    return status == OK ? sink_flush(sink) : status;
}

static enum status compress_blocks(struct compressor *c, struct source *source,
                                   struct sink *sink, size_t block_bytes,
                                   struct index *index)
{
    for (;;) {
        size_t n;
        TRY(read_growing(source, &c->plain, block_bytes, &n));
        if (n == 0)
            return write_end(c, sink, index);
        TRY(write_block(c, sink, index, n));
    }
}

enum status compress(struct compressor *compressor, struct source *source,
                     struct sink *sink, size_t block_bytes)
{
    struct index index = {.n = 0};
    uint8_t header[HEADER_BYTES];
    begin_source(compressor, source);
    header_format(header, &compressor->header);
    TRY(sink_write(sink, header, sizeof header));
    compressor->traffic.n_packed = HEADER_BYTES;
    enum status status =
        compress_blocks(compressor, source, sink, block_bytes, &index);
    index_free(&index);
    message_progress_end();
    return status;
}

/* ---- decompressing ------------------------------------------------------ */

static enum status truncated(void)
{
    return fail(E_FORMAT, "truncated: the end is missing");
}

/* Exactly n bytes. */
static enum status read_exactly(struct source *source, uint8_t *bytes, size_t n)
{
    size_t got;
    TRY(source_read_full(source, bytes, n, &got));
    return got == n ? OK : truncated();
}

static enum status check_model(const struct compressor *c,
                               const struct header *header)
{
    if (memcmp(&header->model, &c->header.model, sizeof header->model) == 0)
        return OK;
    return fail(E_MODEL,
                "compressed with another model, by name '%s': give it with "
                "--model",
                header->model_name);
}

/* The block after a head, checked, into c->plain. */
static enum status read_block(struct compressor *c, struct source *source,
                              const struct block_head *head)
{
    size_t got;
    TRY(begin_block(c, head->n_packed + BLOCK_HEAD_BYTES));
    TRY(read_growing(source, &c->packed, head->n_packed, &got));
    if (got < head->n_packed)
        return truncated();
    if (checksum32(c->packed.bytes, got) != head->packed_checksum)
        return fail(E_FORMAT, "a block is damaged");
    TRY(make_room(&c->plain, head->n_plain));
    TRY(block_unpack(c->coder, c->plain.bytes, head->n_plain, c->packed.bytes,
                     head->n_packed, head->kind));
    if (checksum64(c->plain.bytes, head->n_plain) != head->plain_checksum)
        return fail(E_FORMAT, "a block is damaged: its checksum differs");
    end_block(c, head->n_plain, head->n_packed + BLOCK_HEAD_BYTES);
    return OK;
}

/* The end, whose first byte is read, of the stream that index tells of. */
static enum status read_end(struct compressor *c, struct source *source,
                            const struct index *index)
{
    size_t n = index_end_bytes(index);
    uint8_t *bytes = malloc(2 * n);
    if (!bytes)
        return fail_memory("the index");
    bytes[0] = END_KIND;
    index_format_end(index, bytes + n);
    enum status status = read_exactly(source, bytes + 1, n - 1);
    if (status == OK && memcmp(bytes, bytes + n, n) != 0)
        status = fail(E_FORMAT, "the end is damaged, or blocks are missing");
    free(bytes);
    c->traffic.n_packed += n;
    c->n_done += n;
    return status;
}

static enum status decompress_blocks(struct compressor *c,
                                     struct source *source, struct sink *sink,
                                     struct index *index)
{
    for (;;) {
        struct block_head head;
        uint8_t bytes[BLOCK_HEAD_BYTES];
        TRY(read_exactly(source, bytes, 1));
        if (bytes[0] == END_KIND)
            return read_end(c, source, index);
        TRY(read_exactly(source, bytes + 1, sizeof bytes - 1));
        TRY(block_head_parse(&head, bytes));
        TRY(index_add(index, bytes));
        TRY(read_block(c, source, &head));
        if (sink) {
            TRY(sink_write(sink, c->plain.bytes, head.n_plain));
            TRY(sink_flush(sink));
        }
    }
}

static enum status decompress_stream(struct compressor *c,
                                     struct source *source, struct sink *sink,
                                     const uint8_t header_bytes[HEADER_BYTES])
{
    struct header header;
    struct index index = {.n = 0};
    TRY(header_parse(&header, header_bytes));
    TRY(check_model(c, &header));
    c->traffic.n_packed += HEADER_BYTES;
    c->n_done += HEADER_BYTES;
    enum status status = decompress_blocks(c, source, sink, &index);
    index_free(&index);
    return status;
}

static enum status decompress_streams(struct compressor *c,
                                      struct source *source, struct sink *sink)
{
    for (bool is_first = true;; is_first = false) {
        uint8_t header[HEADER_BYTES] = {0};
        size_t got;
        TRY(source_read_full(source, header, sizeof header, &got));
        if (got == 0 && !is_first)
            return OK;
        if (got == 0)
            return fail(E_FORMAT, "is empty, not compressed by mambyte");
        if (got < sizeof header)
            return fail(E_FORMAT, is_first ? "truncated, or not compressed "
                                             "by mambyte"
                                           : "truncated, or followed by "
                                             "other bytes");
        TRY(decompress_stream(c, source, sink, header));
    }
}

enum status decompress(struct compressor *compressor, struct source *source,
                       struct sink *sink)
{
    begin_source(compressor, source);
    enum status status = decompress_streams(compressor, source, sink);
    message_progress_end();
    return status == E_FORMAT || status == E_MODEL
               ? status_prefix(status, source->name)
               : status;
}

/* ---- from the ends ------------------------------------------------------ */

/* A stream of a file. */
struct place {
    uint64_t begin; /* of its header */
    struct header header;
    struct index index;
};

static enum status read_at(struct source *source, uint64_t offset,
                           uint8_t *bytes, size_t n)
{
    TRY(source_seek(source, offset));
    return read_exactly(source, bytes, n);
}

static enum status read_index(struct source *source, struct index *index,
                              uint64_t begin, size_t n)
{
    uint8_t *bytes = malloc(n);
    if (!bytes)
        return fail_memory("the index");
    enum status status = read_at(source, begin, bytes, n);
    if (status == OK)
        status = index_parse_end(index, bytes, n);
    free(bytes);
    return status;
}

/* The stream that ends at end. */
static enum status find_stream(struct source *source, uint64_t end,
                               struct place *place)
{
    uint8_t bytes[HEADER_BYTES];
    struct end_foot foot;
    uint64_t least = HEADER_BYTES + 1 + END_FOOT_BYTES;
    if (end < least)
        return fail(E_FORMAT, "truncated, or not compressed by mambyte");
    TRY(read_at(source, end - END_FOOT_BYTES, bytes, END_FOOT_BYTES));
    TRY(end_foot_parse(&foot, bytes));
    uint64_t n_end =
        1 + (uint64_t)END_ENTRY_BYTES * foot.n_blocks + END_FOOT_BYTES;
    if (n_end > end - HEADER_BYTES)
        return fail(E_FORMAT, "the end is damaged");
    TRY(read_index(source, &place->index, end - n_end, (size_t)n_end));
    uint64_t n = HEADER_BYTES + place->index.n_packed +
                 (uint64_t)BLOCK_HEAD_BYTES * place->index.n + n_end;
    if (n > end)
        return fail(E_FORMAT, "truncated: blocks are missing");
    place->begin = end - n;
    TRY(read_at(source, place->begin, bytes, HEADER_BYTES));
    return header_parse(&place->header, bytes);
}

/* Calls visit for every stream, from the last to the first. */
typedef enum status visit_stream(void *context, const struct place *place);

static enum status each_stream(struct source *source, visit_stream *visit,
                               void *context)
{
    uint64_t end = source->size;
    if (end == 0)
        return fail(E_FORMAT, "is no regular file, or empty");
    while (end > 0) {
        struct place place = {.begin = 0};
        TRY(signals_check());
        enum status status = find_stream(source, end, &place);
        if (status == OK)
            status = visit(context, &place);
        index_free(&place.index);
        TRY(status);
        end = place.begin;
    }
    return OK;
}

static enum status add_to_listing(void *context, const struct place *place)
{
    struct listing *listing = context;
    listing->n_streams++;
    listing->n_blocks += place->index.n;
    listing->traffic.n_plain += place->index.n_plain;
    listing->header = place->header;
    return OK;
}

enum status compressed_list(struct listing *listing, struct source *source)
{
    *listing = (struct listing){.n_streams = 0};
    listing->traffic.n_packed = source->size;
    enum status status = each_stream(source, add_to_listing, listing);
    return status == E_FORMAT ? status_prefix(status, source->name) : status;
}

/* A block that has bytes of the range. */
struct wanted {
    uint64_t offset; /* of its head in the file                             */
    uint64_t begin;  /* of its bytes, from the end of all: the streams are
                      * visited in that order                               */
    uint32_t n_plain;
};

struct range {
    struct compressor *compressor;
    struct wanted *blocks; /* [n], owned, the last one first */
    size_t n, n_allocated;
    uint64_t n_plain; /* bytes of the blocks seen */
};

static enum status add_block(struct range *range, struct wanted block)
{
    if (range->n == range->n_allocated) {
        size_t n = range->n ? 2 * range->n : 16;
        struct wanted *blocks = realloc(range->blocks, n * sizeof *blocks);
        if (!blocks)
            return fail_memory("the index");
        range->blocks = blocks;
        range->n_allocated = n;
    }
    range->blocks[range->n++] = block;
    return OK;
}

static enum status add_to_range(void *context, const struct place *place)
{
    struct range *range = context;
    uint64_t offset = place->begin + HEADER_BYTES + place->index.n_packed +
                      (uint64_t)BLOCK_HEAD_BYTES * place->index.n;
    TRY(check_model(range->compressor, &place->header));
    for (size_t i = place->index.n; i-- > 0;) {
        const struct index_entry *entry = &place->index.entries[i];
        offset -= entry->n_packed + BLOCK_HEAD_BYTES;
        range->n_plain += entry->n_plain;
        TRY(add_block(range,
                      (struct wanted){offset, range->n_plain, entry->n_plain}));
    }
    return OK;
}

static enum status decompress_wanted(struct compressor *c,
                                     struct source *source,
                                     const struct wanted *block)
{
    uint8_t bytes[BLOCK_HEAD_BYTES];
    struct block_head head;
    TRY(read_at(source, block->offset, bytes, sizeof bytes));
    TRY(block_head_parse(&head, bytes));
    if (head.n_plain != block->n_plain)
        return fail(E_FORMAT, "the end does not fit the blocks");
    return read_block(c, source, &head);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Writes bytes [begin, end) of all. */
static enum status write_range(const struct range *range, struct source *source,
                               struct sink *sink, uint64_t begin, uint64_t end)
{
    struct compressor *c = range->compressor;
    for (size_t i = range->n; i-- > 0;) {
        const struct wanted *block = &range->blocks[i];
        uint64_t at = range->n_plain - block->begin;
        uint64_t from = larger(begin, at);
        uint64_t to = smaller(end, at + block->n_plain);
        if (from >= to)
            continue;
        TRY(decompress_wanted(c, source, block));
        TRY(sink_write(sink, c->plain.bytes + (from - at),
                       (size_t)(to - from)));
        TRY(sink_flush(sink));
    }
    return OK;
}

enum status decompress_range(struct compressor *compressor,
                             struct source *source, struct sink *sink,
                             uint64_t offset, uint64_t length)
{
    struct range range = {.compressor = compressor};
    uint64_t end = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
    begin_source(compressor, source);
    enum status status = each_stream(source, add_to_range, &range);
    if (status == OK)
        status = write_range(&range, source, sink, offset, end);
    free(range.blocks);
    message_progress_end();
    return status == E_FORMAT || status == E_MODEL
               ? status_prefix(status, source->name)
               : status;
}
