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

#include "base/array.h"
#include "base/memlimit.h"
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
    struct stream_header header; /* of our model */
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

static enum status start_block(struct compressor *c, size_t n_block)
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

static void start_source(struct compressor *c, const struct source *source)
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
    model_fingerprint(engine_model(engine), &fingerprint);
    stream_header_make(&c->header, &fingerprint, name);
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

/* Reads n bytes into a buffer that grows as they come, so that a false length
 * costs no memory; *got of them are there. */
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
                               struct index *index, const uint8_t *plain,
                               const struct block_part *part)
{
    size_t n = part->n, n_packed;
    struct block_header header;
    uint8_t bytes[BLOCK_HEADER_BYTES];
    TRY(start_block(c, n));
    TRY(block_pack(c->coder, plain, part, c->packed.bytes, &n_packed,
                   &header.kind));
    header.n_plain = (uint32_t)n;
    header.n_packed = (uint32_t)n_packed;
    header.plain_checksum = checksum64(plain, n);
    header.packed_checksum = checksum32(c->packed.bytes, n_packed);
    block_header_format(bytes, &header);
    TRY(index_add(index, bytes));
    TRY(sink_write(sink, bytes, sizeof bytes));
    TRY(sink_write(sink, c->packed.bytes, n_packed));
    end_block(c, n, n_packed + BLOCK_HEADER_BYTES);
    return sink_flush(sink);
}

/* Writes n bytes as blocks, each of bytes of a kind. */
static enum status write_blocks(struct compressor *c, struct sink *sink,
                                struct index *index, size_t n)
{
    struct block_part parts[PARTS_MAX];
    size_t n_parts;
    const uint8_t *plain = c->plain.bytes;
    TRY(make_room(&c->packed, n));
    TRY(start_block(c, n));
    TRY(block_cut(c->coder, plain, n, parts, &n_parts));
    for (size_t i = 0; i < n_parts; i++) {
        TRY(write_block(c, sink, index, plain, &parts[i]));
        plain += parts[i].n;
    }
    return OK;
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
        TRY(write_blocks(c, sink, index, n));
    }
}

enum status compress(struct compressor *compressor, struct source *source,
                     struct sink *sink, size_t block_bytes)
{
    struct index index = {.n = 0};
    uint8_t header[STREAM_HEADER_BYTES];
    start_source(compressor, source);
    stream_header_format(header, &compressor->header);
    TRY(sink_write(sink, header, sizeof header));
    compressor->traffic.n_packed = STREAM_HEADER_BYTES;
    enum status status =
        compress_blocks(compressor, source, sink, block_bytes, &index);
    index_free(&index);
    message_progress_end();
    return status;
}

/* ---- decompressing ------------------------------------------------------ */

static enum status check_model(const struct compressor *c,
                               const struct stream_header *header)
{
    if (memcmp(&header->model, &c->header.model, sizeof header->model) == 0)
        return OK;
    char fingerprint[FINGERPRINT_CHARS];
    fingerprint_text(fingerprint, &header->model);
    return fail(E_MODEL,
                "compressed with another model, '%s' of fingerprint %s (see "
                "--info): give it with --model",
                header->model_name, fingerprint);
}

/* Reads the block after a header, and checks it, into c->plain. */
static enum status read_block(struct compressor *c, struct source *source,
                              const struct block_header *header)
{
    size_t got;
    TRY(start_block(c, header->n_packed + BLOCK_HEADER_BYTES));
    TRY(memlimit_check(block_memory(header->n_plain, header->n_packed),
                       "a block"));
    TRY(read_growing(source, &c->packed, header->n_packed, &got));
    if (got < header->n_packed)
        return compressed_truncated();
    if (checksum32(c->packed.bytes, got) != header->packed_checksum)
        return fail(E_FORMAT, "a block is damaged");
    TRY(make_room(&c->plain, header->n_plain));
    TRY(block_unpack(c->coder, c->plain.bytes, header->n_plain, c->packed.bytes,
                     header->n_packed, header->kind));
    if (checksum64(c->plain.bytes, header->n_plain) != header->plain_checksum)
        return fail(E_FORMAT, "a block is damaged: its checksum differs");
    end_block(c, header->n_plain, header->n_packed + BLOCK_HEADER_BYTES);
    return OK;
}

/* Reads the end of a stream, but for its first byte, which is read already: it
 * has to be what index makes. */
static enum status read_end(struct compressor *c, struct source *source,
                            const struct index *index)
{
    size_t n = index_end_bytes(index);
    uint8_t *bytes = malloc(2 * n);
    if (!bytes)
        return fail_memory("the index");
    bytes[0] = END_KIND;
    index_format_end(index, bytes + n);
    enum status status = compressed_read(source, bytes + 1, n - 1);
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
        struct block_header header;
        uint8_t bytes[BLOCK_HEADER_BYTES];
        TRY(compressed_read(source, bytes, 1));
        if (bytes[0] == END_KIND)
            return read_end(c, source, index);
        TRY(compressed_read(source, bytes + 1, sizeof bytes - 1));
        TRY(block_header_parse(&header, bytes));
        TRY(index_add(index, bytes));
        TRY(read_block(c, source, &header));
        if (sink) {
            TRY(sink_write(sink, c->plain.bytes, header.n_plain));
            TRY(sink_flush(sink));
        }
    }
}

static enum status
decompress_stream(struct compressor *c, struct source *source,
                  struct sink *sink,
                  const uint8_t header_bytes[STREAM_HEADER_BYTES])
{
    struct stream_header header;
    struct index index = {.n = 0};
    TRY(stream_header_parse(&header, header_bytes));
    TRY(check_model(c, &header));
    c->traffic.n_packed += STREAM_HEADER_BYTES;
    c->n_done += STREAM_HEADER_BYTES;
    enum status status = decompress_blocks(c, source, sink, &index);
    index_free(&index);
    return status;
}

static enum status decompress_streams(struct compressor *c,
                                      struct source *source, struct sink *sink)
{
    for (bool is_first = true;; is_first = false) {
        uint8_t header[STREAM_HEADER_BYTES] = {0};
        size_t got;
        TRY(source_read_full(source, header, sizeof header, &got));
        if (got == 0 && !is_first)
            return OK;
        if (got == 0)
            return fail(E_FORMAT, "is empty, not compressed by mambyte");
        if (got < sizeof header ||
            !(is_first || stream_header_has_magic(header)))
            return fail(E_FORMAT, is_first ? "truncated, or not compressed "
                                             "by mambyte"
                                           : "truncated, or followed by "
                                             "other bytes");
        TRY(decompress_stream(c, source, sink, header));
    }
}

/* A failure that is the file's names it. */
static enum status name_source(enum status status, const struct source *source)
{
    return status == E_FORMAT || status == E_MODEL || status == E_LIMIT
               ? status_prefix(status, source->name)
               : status;
}

enum status decompress(struct compressor *compressor, struct source *source,
                       struct sink *sink)
{
    start_source(compressor, source);
    enum status status = decompress_streams(compressor, source, sink);
    message_progress_end();
    return name_source(status, source);
}

/* ---- a range ------------------------------------------------------------ */

struct block_place {
    uint64_t offset;    /* of its header in the file */
    uint64_t from_last; /* plain bytes from its first to the last of all: the
                         * streams are visited from the last */
    uint32_t n_plain;
};

/* Where the blocks of a file are. */
struct block_map {
    struct compressor *compressor;
    struct block_place *blocks; /* [n], owned, the last one first */
    size_t n, room;
    uint64_t n_plain; /* of all blocks so far */
};

static enum status add_block(struct block_map *map, struct block_place block)
{
    struct block_place *blocks =
        array_grow(map->blocks, map->n, &map->room, sizeof *blocks);
    if (!blocks)
        return fail_memory("the index");
    map->blocks = blocks;
    map->blocks[map->n++] = block;
    return OK;
}

static enum status add_to_map(void *context,
                              const struct compressed_stream *stream)
{
    struct block_map *map = context;
    uint64_t offset = stream->start + STREAM_HEADER_BYTES +
                      stream->index.n_packed +
                      (uint64_t)BLOCK_HEADER_BYTES * stream->index.n;
    TRY(check_model(map->compressor, &stream->header));
    for (size_t i = stream->index.n; i-- > 0;) {
        const struct index_entry *entry = &stream->index.entries[i];
        offset -= entry->n_packed + BLOCK_HEADER_BYTES;
        map->n_plain += entry->n_plain;
        TRY(add_block(
            map, (struct block_place){offset, map->n_plain, entry->n_plain}));
    }
    return OK;
}

static enum status decompress_at(struct compressor *c, struct source *source,
                                 const struct block_place *block)
{
    uint8_t bytes[BLOCK_HEADER_BYTES];
    struct block_header header;
    TRY(compressed_read_at(source, block->offset, bytes, sizeof bytes));
    TRY(block_header_parse(&header, bytes));
    if (header.n_plain != block->n_plain)
        return fail(E_FORMAT, "the end does not fit the blocks");
    return read_block(c, source, &header);
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
static enum status write_range(const struct block_map *map,
                               struct source *source, struct sink *sink,
                               uint64_t begin, uint64_t end)
{
    struct compressor *c = map->compressor;
    for (size_t i = map->n; i-- > 0;) {
        const struct block_place *block = &map->blocks[i];
        uint64_t at = map->n_plain - block->from_last;
        uint64_t from = larger(begin, at);
        uint64_t to = smaller(end, at + block->n_plain);
        if (from >= to)
            continue;
        TRY(decompress_at(c, source, block));
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
    struct block_map map = {.compressor = compressor};
    uint64_t end = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
    start_source(compressor, source);
    enum status status = compressed_streams_visit(source, add_to_map, &map);
    if (status == OK)
        status = write_range(&map, source, sink, offset, end);
    free(map.blocks);
    message_progress_end();
    return name_source(status, source);
}
