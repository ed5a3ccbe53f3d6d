/* check_compressor.c -- everything comes back; nothing wrong comes out.
 *
 * Whole streams with a tiny random model: round trips, ranges, listing,
 * damage at every place, and the same bytes however the engine is used.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/little_endian.h"
#include "base/memlimit.h"
#include "base/random.h"
#include "compress/block.h"
#include "compress/compressor.h"
#include "compress/dedupe.h"
#include "engine/engine_ops.h"
#include "late_engine.h"
#include "scarce_engine.h"
#include "tiny_model.h"

#include "runner.h" /* last */

enum { TIMEOUT_S = 600, BIG = 1 << 24 };

static struct tiny_model tiny;
static struct engine *engine;
static struct compressor *compressor;

static void open_threads(int n_threads)
{
    struct tiny_spec spec = tiny_spec_make(8, 1, 5);
    struct engine_options options = {.device = DEVICE_CPU,
                                     .n_threads = n_threads};
    ck_assert_int_eq(tiny_model_open(&tiny, &spec), OK);
    ck_assert_int_eq(engine_open(&engine, tiny.model, &options), OK);
    ck_assert_int_eq(compressor_open(&compressor, engine, "tiny", n_threads),
                     OK);
}

static void open_all(void)
{
    open_threads(2);
}

static void open_one(void)
{
    open_threads(1);
}

static void close_all(void)
{
    compressor_close(compressor);
    engine_close(engine);
    tiny_model_close(&tiny);
}

/* ---- bytes as files ----------------------------------------------------- */

struct blob {
    uint8_t *bytes; /* [n], owned */
    size_t n;
};

static struct source open_blob(const struct blob *blob)
{
    struct source source = {.path = "blob",
                            .name = "blob",
                            .fd = memfd_create("blob", 0),
                            .is_regular = true};
    ck_assert_int_ge(source.fd, 0);
    ck_assert_int_eq(write(source.fd, blob->bytes, blob->n), (ssize_t)blob->n);
    ck_assert_int_eq(source_seek(&source, 0), OK);
    source.size = blob->n;
    return source;
}

static struct blob take_output(struct sink *sink)
{
    ck_assert_int_eq(sink_flush(sink), OK);
    off_t end = lseek(sink->fd, 0, SEEK_END);
    ck_assert(end >= 0);
    struct blob blob = {malloc((size_t)end + 1), (size_t)end};
    ck_assert_int_eq(pread(sink->fd, blob.bytes, blob.n, 0), end);
    close(sink->fd);
    return blob;
}

static struct blob compressed(const struct blob *plain, size_t block_bytes)
{
    static struct sink sink;
    struct source source = open_blob(plain);
    sink_init(&sink, memfd_create("out", 0));
    ck_assert_int_eq(compress(compressor, &source, &sink, block_bytes), OK);
    source_close(&source);
    return take_output(&sink);
}

static enum status decompressed(struct blob *plain, const struct blob *packed)
{
    static struct sink sink;
    struct source source = open_blob(packed);
    sink_init(&sink, memfd_create("out", 0));
    enum status status = decompress(compressor, &source, &sink);
    source_close(&source);
    *plain = take_output(&sink);
    return status;
}

static void check_same(const struct blob *a, const struct blob *b)
{
    ck_assert_uint_eq(a->n, b->n);
    ck_assert(a->n == 0 || memcmp(a->bytes, b->bytes, a->n) == 0);
}

static void check_decompresses(const struct blob *packed,
                               const struct blob *plain)
{
    struct blob back;
    ck_assert_int_eq(decompressed(&back, packed), OK);
    check_same(&back, plain);
    free(back.bytes);
}

/* ---- what to compress --------------------------------------------------- */

static uint8_t text_byte(size_t i)
{
    static const char words[] = "to be or not that is the question whether ";
    uint64_t word = random_at(1, i / 7);
    return (uint8_t)words[(word + i % 7) % (sizeof words - 1)];
}

static uint8_t random_byte(size_t i)
{
    return (uint8_t)random_at(2, i);
}

static uint8_t zero_byte(size_t i)
{
    (void)i;
    return 0;
}

static uint8_t twice_byte(size_t i)
{
    return random_byte(i % 3000);
}

static uint8_t mixed_byte(size_t i)
{
    return i / 10000 % 2 ? random_byte(i) : text_byte(i % 25000);
}

typedef uint8_t byte_at(size_t i);
static byte_at *const kinds[] = {text_byte, random_byte, zero_byte, twice_byte,
                                 mixed_byte};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static struct blob make(byte_at *at, size_t n)
{
    struct blob blob = {malloc(n + 1), n};
    for (size_t i = 0; i < n; i++)
        blob.bytes[i] = at(i);
    return blob;
}

static const size_t sizes[] = {0, 1, 2, 100, 4096, 32767, 32768, 70001};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

START_TEST(everything_comes_back)
{
    for (size_t i = 0; i < N_SIZES; i++) {
        for (size_t block = 4096; block <= BIG; block *= 64) {
            struct blob plain = make(kinds[_i], sizes[i]);
            struct blob packed = compressed(&plain, block);
            size_t n_blocks = (plain.n + block - 1) / block;
            ck_assert_uint_le(packed.n, plain.n + 61 + 33 * n_blocks);
            check_decompresses(&packed, &plain);
            free(plain.bytes);
            free(packed.bytes);
        }
    }
}
END_TEST

START_TEST(what_repeats_costs_nothing)
{
    struct blob once = make(random_byte, 50000);
    struct blob twice = make(random_byte, 100000);
    memcpy(twice.bytes + 50000, once.bytes, 50000);
    struct blob packed_once = compressed(&once, BIG);
    struct blob packed_twice = compressed(&twice, BIG);
    ck_assert_uint_le(packed_twice.n, packed_once.n + 200);
    check_decompresses(&packed_twice, &twice);
    free(once.bytes);
    free(twice.bytes);
    free(packed_once.bytes);
    free(packed_twice.bytes);
}
END_TEST

/* Letters that follow from the one before, mostly: no two long stretches are
 * alike, and a mixer learns it. */
static struct blob make_letters(size_t n)
{
    struct blob blob = make(random_byte, n);
    for (size_t i = 1; i < n; i++) {
        uint64_t usual = random_at(4, blob.bytes[i - 1] % 32u);
        blob.bytes[i] =
            (blob.bytes[i] < 64 ? random_at(5, i) : usual) % 32 + 64;
    }
    return blob;
}

/* More slices than one group has, and nothing to copy. */
static struct blob make_two_groups(void)
{
    return make_letters(66 * 16384 + 5);
}

/* In waves of one group and of all; with an asynchronous engine, which reads
 * ahead, and with one that is late. */
static void check_every_engine_packs(const struct blob *plain,
                                     enum block_kind kind)
{
    static const int streams[] = {0, 1, 40, 1000, 1000, 1000};
    const struct engine_ops *ops = engine->ops;
    struct blob first = compressed(plain, BIG);
    ck_assert_int_eq(first.bytes[STREAM_HEADER_BYTES], kind);
    for (size_t i = 1; i < sizeof streams / sizeof streams[0]; i++) {
        engine->busy_streams = streams[i];
        engine->is_asynchronous = i == 4;
        if (i == 5)
            late_engine_make(engine);
        struct blob other = compressed(plain, BIG);
        check_same(&other, &first);
        free(other.bytes);
    }
    check_decompresses(&first, plain);
    engine->busy_streams = 0;
    engine->is_asynchronous = false;
    engine->ops = ops;
    check_decompresses(&first, plain);
    free(first.bytes);
}

START_TEST(the_bytes_do_not_depend_on_who_makes_them)
{
    struct blob plain = make_two_groups();
    check_every_engine_packs(&plain, BLOCK_MODEL);
    free(plain.bytes);
}
END_TEST

/* With room for the states of no slice but those of one group, of one and a
 * half, and of two. */
START_TEST(nor_on_how_much_memory_there_is)
{
    static const int states[] = {33, 34, 50, 65, 66};
    const struct engine_ops *ops = engine->ops;
    struct blob plain = make_two_groups();
    struct blob first = compressed(&plain, BIG);
    engine->busy_streams = 1000;
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        compressor_close(compressor);
        scarce_engine_make(engine, states[i]);
        ck_assert_int_eq(compressor_open(&compressor, engine, "tiny", 2), OK);
        struct blob other = compressed(&plain, BIG);
        check_same(&other, &first);
        check_decompresses(&other, &plain);
        free(other.bytes);
    }
    compressor_close(compressor);
    engine->ops = ops;
    engine->busy_streams = 0;
    ck_assert_int_eq(compressor_open(&compressor, engine, "tiny", 2), OK);
    free(first.bytes);
    free(plain.bytes);
}
END_TEST

/* Slices of the first group start with noise: whether the model is given up
 * must not depend on what else has been coded by then. */
START_TEST(nor_does_giving_up)
{
    struct blob plain = make_two_groups();
    const size_t slice = (plain.n + 65) / 66;
    for (size_t i = 0; i < 33 * slice; i++)
        plain.bytes[i] = i % slice < 2200 ? random_byte(i) : plain.bytes[i];
    check_every_engine_packs(&plain, BLOCK_LZMA);
    free(plain.bytes);
}
END_TEST

/* ---- what is for the model ---------------------------------------------- */

/* Numbers of 8 bytes each, with a stop that ends neither a line nor a field:
 * liblzma knows where in a number it is. */
static uint8_t number_byte(size_t i)
{
    size_t number = i / 8;
    for (size_t k = i % 8; k < 6; k++)
        number /= 10;
    return i % 8 == 7 ? '.' : (uint8_t)('0' + number % 10);
}

/* Letters, then as many numbers. */
enum { HALF = (1 << 20) + 50000 };

static struct blob make_halves(void)
{
    struct blob blob = make_letters(2 * HALF);
    for (size_t i = HALF; i < blob.n; i++)
        blob.bytes[i] = number_byte(i);
    return blob;
}

/* What the compressor does with bytes at once. */
struct packed_parts {
    struct block_part parts[PARTS_MAX];
    enum block_kind kinds[PARTS_MAX];
    size_t n;
    bool was_modelled; /* more than samples */
};

static enum status note_part_done(void *context, double part)
{
    struct packed_parts *packed = context;
    packed->was_modelled |= part > 0;
    return OK;
}

static struct packed_parts cut_and_pack(const struct blob *plain,
                                        bool is_packed)
{
    struct packed_parts p = {.n = 0};
    struct block_coder *coder;
    uint8_t *packed = malloc(plain->n), *at = plain->bytes;
    size_t n_packed;
    ck_assert_int_eq(block_coder_open(&coder, engine, 1, note_part_done, &p),
                     OK);
    ck_assert_int_eq(block_cut(coder, plain->bytes, plain->n, p.parts, &p.n),
                     OK);
    ck_assert(!p.was_modelled);
    for (size_t i = 0; i < p.n; at += p.parts[i++].n)
        if (is_packed)
            ck_assert_int_eq(block_pack(coder, at, &p.parts[i], packed,
                                        &n_packed, &p.kinds[i]),
                             OK);
    ck_assert_ptr_eq(at, plain->bytes + plain->n);
    block_coder_close(coder);
    free(packed);
    return p;
}

static struct packed_parts cut(const struct blob *plain)
{
    return cut_and_pack(plain, false);
}

START_TEST(what_liblzma_packs_better_is_not_modelled)
{
    static const size_t lengths[] = {1 << 16, 100000, 2 * HALF};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct blob plain = make(number_byte, lengths[i]);
        struct packed_parts p = cut_and_pack(&plain, true);
        ck_assert_uint_eq(p.n, 1);
        ck_assert_int_eq(p.kinds[0], BLOCK_LZMA);
        ck_assert(!p.was_modelled);
        free(plain.bytes);
    }
}
END_TEST

START_TEST(text_is_modelled)
{
    struct blob plain = make_letters(300000);
    struct packed_parts p = cut_and_pack(&plain, true);
    ck_assert_uint_eq(p.n, 1);
    ck_assert_int_eq(p.kinds[0], BLOCK_MODEL);
    free(plain.bytes);
}
END_TEST

/* Whatever the engine has use for. */
static void check_every_engine_cuts(const struct blob *plain,
                                    const struct packed_parts *p)
{
    static const int streams[] = {0, 1, 1000};
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        engine->busy_streams = streams[i];
        engine->is_asynchronous = i == 2;
        struct packed_parts other = cut(plain);
        ck_assert_uint_eq(other.n, p->n);
        for (size_t k = 0; k < p->n; k++)
            ck_assert_uint_eq(other.parts[k].n, p->parts[k].n);
    }
    engine->busy_streams = 0;
    engine->is_asynchronous = false;
}

START_TEST(bytes_are_cut_where_their_kind_changes)
{
    struct blob plain = make_halves();
    struct packed_parts p = cut(&plain);
    ck_assert_uint_eq(p.n, 2);
    ck_assert(p.parts[0].is_for_model && !p.parts[1].is_for_model);
    ck_assert_uint_eq(p.parts[0].n, HALF);
    check_every_engine_cuts(&plain, &p);
    struct blob packed = compressed(&plain, BIG);
    check_decompresses(&packed, &plain);
    free(plain.bytes);
    free(packed.bytes);
}
END_TEST

/* Else they would have to be packed twice. */
START_TEST(bytes_are_not_cut_between_repeats)
{
    struct blob once = make_halves(), twice = make_halves();
    twice.n = 2 * once.n;
    twice.bytes = realloc(twice.bytes, twice.n);
    memcpy(twice.bytes + once.n, once.bytes, once.n);
    ck_assert_uint_eq(cut(&once).n, 2);
    ck_assert_uint_eq(cut(&twice).n, 1);
    free(once.bytes);
    free(twice.bytes);
}
END_TEST

/* ---- streams ------------------------------------------------------------ */

/* Streams of 0, 9000 and 5000 bytes in blocks of 4096. */
static struct blob make_streams(struct blob *plain)
{
    static const size_t parts[] = {0, 9000, 5000, 0};
    *plain = make(mixed_byte, 14000);
    struct blob all = {malloc(100000), 0};
    size_t at = 0;
    for (size_t i = 0; i < 4; i++) {
        struct blob part = {plain->bytes + at, parts[i]};
        struct blob packed = compressed(&part, 4096);
        memcpy(all.bytes + all.n, packed.bytes, packed.n);
        all.n += packed.n;
        at += parts[i];
        free(packed.bytes);
    }
    return all;
}

START_TEST(streams_one_after_another_are_one)
{
    struct blob plain, packed = make_streams(&plain);
    check_decompresses(&packed, &plain);
    struct source source = open_blob(&packed);
    struct listing listing;
    ck_assert_int_eq(compressed_streams_list(&listing, &source), OK);
    ck_assert_uint_eq(listing.n_streams, 4);
    ck_assert_uint_eq(listing.n_blocks, 5);
    ck_assert_uint_eq(listing.traffic.n_plain, plain.n);
    ck_assert_uint_eq(listing.traffic.n_packed, packed.n);
    ck_assert_str_eq(listing.header.model_name, "tiny");
    source_close(&source);
    free(plain.bytes);
    free(packed.bytes);
}
END_TEST

START_TEST(a_range_is_that_part)
{
    static const uint64_t ranges[][2] = {
        {0, 14000}, {0, 0},     {0, 1},        {4095, 2}, {8999, 2},
        {13999, 1}, {14000, 5}, {1u << 31, 1}, {5000, 1}, {1, UINT64_MAX}};
    struct blob plain, packed = make_streams(&plain);
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        static struct sink sink;
        struct source source = open_blob(&packed);
        uint64_t offset = ranges[i][0], length = ranges[i][1];
        sink_init(&sink, memfd_create("out", 0));
        ck_assert_int_eq(
            decompress_range(compressor, &source, &sink, offset, length), OK);
        source_close(&source);
        struct blob part = take_output(&sink);
        uint64_t left = offset < plain.n ? plain.n - offset : 0;
        ck_assert_uint_eq(part.n, length < left ? length : left);
        if (part.n > 0)
            ck_assert_mem_eq(part.bytes, plain.bytes + offset, part.n);
        free(part.bytes);
    }
    free(plain.bytes);
    free(packed.bytes);
}
END_TEST

START_TEST(another_model_is_named)
{
    struct blob plain = make(text_byte, 1000), back;
    struct blob packed = compressed(&plain, BIG);
    close_all();
    struct tiny_spec spec = tiny_spec_make(8, 1, 6);
    struct engine_options options = {.device = DEVICE_CPU, .n_threads = 1};
    ck_assert_int_eq(tiny_model_open(&tiny, &spec), OK);
    ck_assert_int_eq(engine_open(&engine, tiny.model, &options), OK);
    ck_assert_int_eq(compressor_open(&compressor, engine, "other", 1), OK);
    ck_assert_int_eq(decompressed(&back, &packed), E_MODEL);
    ck_assert_ptr_nonnull(strstr(status_message(), "'tiny'"));
    ck_assert_uint_eq(back.n, 0);
    free(plain.bytes);
    free(packed.bytes);
    free(back.bytes);
}
END_TEST

/* ---- damage ------------------------------------------------------------- */

/* Damaged bytes give a failure, after some first bytes that are right. */
static void check_refused(const struct blob *damaged, const struct blob *plain)
{
    struct blob back;
    ck_assert_int_eq(decompressed(&back, damaged), E_FORMAT);
    ck_assert_uint_le(back.n, plain->n);
    ck_assert(memcmp(back.bytes, plain->bytes, back.n) == 0);
    free(back.bytes);
}

/* A block of each kind, and a second stream. */
static struct blob make_victim(struct blob *plain)
{
    *plain = make(text_byte, 5000);
    memcpy(plain->bytes + 4096, "\1\2\3", 3);
    struct blob packed = compressed(plain, 4096);
    struct blob victim = {malloc(2 * packed.n), 2 * packed.n};
    memcpy(victim.bytes, packed.bytes, packed.n);
    memcpy(victim.bytes + packed.n, packed.bytes, packed.n);
    plain->bytes = realloc(plain->bytes, 10000);
    memcpy(plain->bytes + 5000, plain->bytes, 5000);
    plain->n = 10000;
    free(packed.bytes);
    return victim;
}

START_TEST(every_truncation_is_noticed)
{
    struct blob plain, victim = make_victim(&plain);
    check_decompresses(&victim, &plain);
    for (size_t n = 0; n < victim.n; n++) {
        struct blob part = {victim.bytes, n};
        if (2 * n != victim.n) /* one stream of the two is whole */
            check_refused(&part, &plain);
    }
    free(victim.bytes);
    free(plain.bytes);
}
END_TEST

START_TEST(ten_thousand_flipped_bits_are_noticed)
{
    struct blob plain, victim = make_victim(&plain);
    for (uint64_t i = 0; i < 10000; i++) {
        uint64_t bit = random_at(7, i) % (8 * victim.n);
        victim.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        check_refused(&victim, &plain);
        victim.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    check_decompresses(&victim, &plain);
    free(victim.bytes);
    free(plain.bytes);
}
END_TEST

START_TEST(what_follows_is_noticed)
{
    struct blob plain = make(text_byte, 100);
    struct blob packed = compressed(&plain, BIG);
    for (size_t n = 1; n < 100; n++) {
        struct blob more = {calloc(packed.n + n, 1), packed.n + n};
        memcpy(more.bytes, packed.bytes, packed.n);
        check_refused(&more, &plain);
        free(more.bytes);
    }
    free(plain.bytes);
    free(packed.bytes);
}
END_TEST

/* ---- repeats ------------------------------------------------------------ */

START_TEST(copies_make_what_they_replaced)
{
    for (size_t i = 0; i < N_SIZES; i++) {
        struct blob plain = make(kinds[_i], sizes[i]);
        struct blob literals = {malloc(plain.n + 1), 0};
        struct blob back = {malloc(plain.n + 1), plain.n};
        struct copy_list copies, coded = {.n = 0};
        ck_assert_int_eq(dedupe_find(&copies, plain.bytes, plain.n), OK);
        dedupe_take(&copies, literals.bytes, plain.bytes, plain.n);
        struct range_coder encoder = range_encoder();
        ck_assert_int_eq(dedupe_code(&copies, &encoder, plain.n), OK);
        ck_assert_int_eq(range_finish(&encoder), OK);
        struct range_coder decoder = range_decoder(encoder.code, encoder.n);
        ck_assert_int_eq(dedupe_code(&coded, &decoder, plain.n), OK);
        ck_assert_uint_eq(coded.n, copies.n);
        ck_assert_uint_eq(coded.n_copied, copies.n_copied);
        dedupe_put(&coded, literals.bytes, back.bytes, back.n);
        check_same(&back, &plain);
        range_free(&encoder);
        dedupe_free(&copies);
        dedupe_free(&coded);
        free(plain.bytes);
        free(literals.bytes);
        free(back.bytes);
    }
}
END_TEST

START_TEST(copies_that_do_not_fit_are_refused)
{
    static const struct copy bad[] = {
        {0, 300, 1}, {5, 300, 6}, {900, 300, 1}, {1001, 300, 1}, {1, 1000, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct copy copy = bad[i];
        struct copy_list copies = {.all = &copy, .n = 1}, coded = {.n = 0};
        struct range_coder encoder = range_encoder();
        ck_assert_int_eq(dedupe_code(&copies, &encoder, 1000), OK);
        ck_assert_int_eq(range_finish(&encoder), OK);
        struct range_coder decoder = range_decoder(encoder.code, encoder.n);
        ck_assert_int_eq(dedupe_code(&coded, &decoder, 1000), E_FORMAT);
        range_free(&encoder);
        dedupe_free(&coded);
    }
}
END_TEST

/* ---- hostile sizes ------------------------------------------------------ */

static enum status tick(void *context, double part)
{
    (void)context;
    (void)part;
    return OK;
}

/* A block of 4 KiB that claims n bytes of the model would take hours. */
static enum status unpack_bomb(size_t n)
{
    static uint8_t packed[4096];
    struct block_coder *coder;
    struct copy_list none = {.n = 0};
    struct range_coder side = range_encoder();
    uint8_t *plain = malloc(n); /* of which nothing is touched */
    ck_assert_ptr_nonnull(plain);
    ck_assert_int_eq(block_coder_open(&coder, engine, 1, tick, NULL), OK);
    ck_assert_int_eq(dedupe_code(&none, &side, n), OK);
    ck_assert_int_eq(range_finish(&side), OK);
    store_le(packed, side.n, 4);
    memcpy(packed + 4, side.code, side.n);
    enum status status =
        block_unpack(coder, plain, n, packed, sizeof packed, BLOCK_MODEL);
    range_free(&side);
    free(plain);
    block_coder_close(coder);
    return status;
}

START_TEST(more_than_the_model_makes_is_refused)
{
    static const size_t claims[] = {1 << 21, 1 << 24, 1 << 28};
    for (size_t i = 0; i < sizeof claims / sizeof claims[0]; i++) {
        ck_assert_int_eq(unpack_bomb(claims[i]), E_FORMAT);
        ck_assert_msg(strstr(status_message(), "more than is possible"), "%s",
                      status_message());
    }
}
END_TEST

START_TEST(a_block_beyond_the_limit_is_refused)
{
    struct blob plain = {calloc(BIG, 1), BIG}, out;
    struct blob packed = compressed(&plain, BIG);
    memlimit_set(BIG);
    ck_assert_int_eq(decompressed(&out, &packed), E_LIMIT);
    ck_assert_str_eq(status_message(),
                     "blob: a block needs 33 MiB of memory, the limit is 16 "
                     "MiB: --memlimit=33M allows it");
    ck_assert_uint_eq(out.n, 0);
    free(out.bytes);
    memlimit_set(33 << 20);
    check_decompresses(&packed, &plain);
    memlimit_set(0);
    free(packed.bytes);
    free(plain.bytes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compressor");
    TCase *streams = tcase_create("streams");
    tcase_set_timeout(streams, TIMEOUT_S);
    tcase_add_checked_fixture(streams, open_all, close_all);
    tcase_add_loop_test(streams, everything_comes_back, 0, N_KINDS);
    tcase_add_test(streams, what_repeats_costs_nothing);
    tcase_add_test(streams, the_bytes_do_not_depend_on_who_makes_them);
    tcase_add_test(streams, nor_on_how_much_memory_there_is);
    tcase_add_test(streams, nor_does_giving_up);
    tcase_add_test(streams, streams_one_after_another_are_one);
    tcase_add_test(streams, a_range_is_that_part);
    tcase_add_test(streams, another_model_is_named);
    tcase_add_test(streams, every_truncation_is_noticed);
    tcase_add_test(streams, ten_thousand_flipped_bits_are_noticed);
    tcase_add_test(streams, what_follows_is_noticed);
    tcase_add_test(streams, more_than_the_model_makes_is_refused);
    tcase_add_test(streams, a_block_beyond_the_limit_is_refused);
    suite_add_tcase(suite, streams);
    TCase *cuts = tcase_create("cuts");
    tcase_set_timeout(cuts, TIMEOUT_S);
    tcase_add_checked_fixture(cuts, open_one, close_all);
    tcase_add_test(cuts, what_liblzma_packs_better_is_not_modelled);
    tcase_add_test(cuts, text_is_modelled);
    tcase_add_test(cuts, bytes_are_cut_where_their_kind_changes);
    tcase_add_test(cuts, bytes_are_not_cut_between_repeats);
    suite_add_tcase(suite, cuts);
    TCase *copies = tcase_create("copies");
    tcase_add_loop_test(copies, copies_make_what_they_replaced, 0, N_KINDS);
    tcase_add_test(copies, copies_that_do_not_fit_are_refused);
    suite_add_tcase(suite, copies);
    return run_suite(suite);
}
