/* fuzz_container.c -- any bytes as a compressed file.
 *
 * The first byte says what the rest is: a file; the inside of a block of some
 * kind and length, with checksums that fit, as no fuzzer guesses one; or bytes
 * to compress, which have to come back.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "compress/compressor.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum { AS_IT_IS, BLOCK, COMPRESS, PLAIN_BYTES_MAX = 6000, SIZE_BYTES = 2 };

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

static void unpack(const uint8_t *bytes, size_t n)
{
    uint8_t plain[PLAIN_BYTES_MAX];
    if (n < SIZE_BYTES + 1)
        return;
    size_t n_plain = 1 + (bytes[0] | bytes[1] << 8) % (PLAIN_BYTES_MAX - 1);
    enum block_kind kind = (enum block_kind)(BLOCK_STORED + bytes[2] % 4);
    block_unpack(coder, plain, n_plain, bytes + 3, n - 3, kind);
}

static void round_trip(const uint8_t *bytes, size_t n)
{
    uint8_t packed[PLAIN_BYTES_MAX], plain[PLAIN_BYTES_MAX];
    enum block_kind kind;
    size_t n_packed;
    if (n == 0 || n > PLAIN_BYTES_MAX)
        return;
    if (block_pack(coder, bytes, n, packed, &n_packed, &kind) != OK ||
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
    switch (bytes[0] % 3) {
    case AS_IT_IS:
        read_any_way(bytes + 1, n - 1);
        break;
    case BLOCK:
        unpack(bytes + 1, n - 1);
        break;
    default:
        round_trip(bytes + 1, n - 1);
    }
    return 0;
}
