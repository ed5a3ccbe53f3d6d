/* fuzz_container.c -- any bytes as a compressed file.
 *
 * The first byte says what the rest is: a file; a file whose headers are
 * mended first, so that its lengths fit it and its checksums its blocks, as no
 * fuzzer guesses one; the inside of a block of some kind and length; or bytes
 * to compress, which have to come back.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/little_endian.h"
#include "compress/block.h"
#include "compress/compressor.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum {
    AS_IT_IS,
    BLOCK,
    COMPRESS,
    MENDED,
    N_KINDS,
    PLAIN_BYTES_MAX = 700, /* more than two copies; few, so that it is quick */
    SIZE_BYTES = 2
};

static struct tiny_model tiny;
static struct engine *engine;
static struct compressor *compressor;
static struct block_coder *coder;

static enum status tick(void *context, double part)
{
    (void)context;
    (void)part;
    return OK;
}

static void open_all(void)
{
    struct tiny_spec spec = tiny_spec_make(4, 1, 5);
    struct engine_options options = {.device = DEVICE_CPU, .n_threads = 1};
    if (tiny_model_open(&tiny, &spec) != OK ||
        engine_open(&engine, tiny.model, &options) != OK ||
        compressor_open(&compressor, engine, "tiny", 1) != OK ||
        block_coder_open(&coder, engine, 1, tick, NULL) != OK)
        abort();
}

static struct source open_bytes(const uint8_t *bytes, size_t n)
{
    struct source source = {.path = "fuzz",
                            .name = "fuzz",
                            .fd = memfd_create("fuzz", 0),
                            .is_regular = true};
    if (write(source.fd, bytes, n) != (ssize_t)n ||
        source_seek(&source, 0) != OK)
        abort();
    source.size = n;
    return source;
}

/* Whatever it is, reading it ends, with success or with a sentence. */
static void read_any_way(const uint8_t *bytes, size_t n)
{
    static struct sink sink;
    struct listing listing;
    struct source source = open_bytes(bytes, n);
    enum status status = decompress(compressor, &source, NULL);
    if (status != OK && !*status_message())
        abort();
    compressed_streams_list(&listing, &source);
    sink_init(&sink, memfd_create("out", 0));
    decompress_range(compressor, &source, &sink, n / 2, n);
    close(sink.fd);
    source_close(&source);
}

/* ---- a file that is mended ---------------------------------------------- */

/* Where it is written. */
struct mended {
    uint8_t *bytes; /* [n] */
    size_t n;
    struct index index;
};

/* What follows a header in the input: lengths that fit, a checksum of what
 * unpacking gives.  Returns how many packed bytes that takes. */
static size_t mend_block(struct mended *to, const uint8_t *from, size_t n)
{
    uint8_t plain[PLAIN_BYTES_MAX], bytes[BLOCK_HEADER_BYTES];
    struct block_header header = {
        .kind = (enum block_kind)(BLOCK_STORED + from[0] % 4),
        .n_plain = 1 + (uint32_t)load_le(from + 1, 2) % PLAIN_BYTES_MAX,
        .n_packed = (uint32_t)load_le(from + 3, 2),
    };
    const uint8_t *packed = from + BLOCK_HEADER_BYTES;
    size_t room = n - BLOCK_HEADER_BYTES;
    if (header.kind == BLOCK_STORED)
        header.n_packed = header.n_plain;
    else
        header.n_packed %= header.n_plain;
    if (header.n_packed > room)
        header.n_packed = (uint32_t)room;
    memset(plain, 0, sizeof plain);
    block_unpack(coder, plain, header.n_plain, packed, header.n_packed,
                 header.kind);
    header.plain_checksum = checksum64(plain, header.n_plain);
    header.packed_checksum = checksum32(packed, header.n_packed);
    block_header_format(bytes, &header);
    if (index_add(&to->index, bytes) != OK)
        abort();
    memcpy(to->bytes + to->n, bytes, sizeof bytes);
    memcpy(to->bytes + to->n + sizeof bytes, packed, header.n_packed);
    to->n += sizeof bytes + header.n_packed;
    return header.n_packed;
}

static void read_mended(const uint8_t *bytes, size_t n)
{
    struct fingerprint model;
    struct stream_header header;
    size_t room = STREAM_HEADER_BYTES + 2 * n + END_FOOT_BYTES + 1;
    struct mended to = {.bytes = malloc(room), .n = STREAM_HEADER_BYTES};
    if (!to.bytes)
        abort();
    model_fingerprint(tiny.model, &model);
    stream_header_make(&header, &model, "tiny");
    stream_header_format(to.bytes, &header);
    for (size_t i = 0; n - i > BLOCK_HEADER_BYTES;)
        i += BLOCK_HEADER_BYTES + mend_block(&to, bytes + i, n - i);
    index_format_end(&to.index, to.bytes + to.n);
    to.n += index_end_bytes(&to.index);
    read_any_way(to.bytes, to.n);
    index_free(&to.index);
    free(to.bytes);
}

/* ---- blocks ------------------------------------------------------------- */

static void unpack(const uint8_t *bytes, size_t n)
{
    uint8_t plain[PLAIN_BYTES_MAX];
    if (n < SIZE_BYTES + 1)
        return;
    size_t n_plain = 1 + (bytes[0] | bytes[1] << 8) % PLAIN_BYTES_MAX;
    enum block_kind kind = (enum block_kind)(BLOCK_STORED + bytes[2] % 4);
    block_unpack(coder, plain, n_plain, bytes + 3, n - 3, kind);
}

static void round_trip(const uint8_t *bytes, size_t n)
{
    uint8_t packed[PLAIN_BYTES_MAX], plain[PLAIN_BYTES_MAX];
    enum block_kind kind;
    size_t n_packed;
    if (n == 0)
        return;
    if (n > PLAIN_BYTES_MAX)
        n = PLAIN_BYTES_MAX;
    struct block_part part = {n, true};
    if (block_pack(coder, bytes, &part, packed, &n_packed, &kind) != OK ||
        n_packed > n ||
        block_unpack(coder, plain, n, packed, n_packed, kind) != OK ||
        memcmp(plain, bytes, n) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    if (!engine)
        open_all();
    if (n == 0)
        return 0;
    switch (bytes[0] % N_KINDS) {
    case AS_IT_IS:
        read_any_way(bytes + 1, n - 1);
        break;
    case BLOCK:
        unpack(bytes + 1, n - 1);
        break;
    case MENDED:
        read_mended(bytes + 1, n - 1);
        break;
    default:
        round_trip(bytes + 1, n - 1);
    }
    return 0;
}
