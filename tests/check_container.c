/* check_container.c -- the parts of a compressed file come back, and no
 * other bytes are taken for them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "compress/container.h"

#include "runner.h" /* last */

static const struct fingerprint model = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255}};

static const struct block_header model_header = {
    BLOCK_MODEL, 1 << 24, 3000000, 0x0123456789abcdefu, 0xfedcba98u};

START_TEST(a_header_comes_back)
{
    static const struct {
        const char *path, *name;
    } names[] = {
        {"/usr/share/tiny.safetensors", "tiny"},
        {"sixteen-letters-.safetensors", "sixteen-letters-"},
        {"a name that is far too long", "a_name_that_is_f"},
        {"caf\303\251\033[0m", "caf___[0m"},
        {"", ""},
    };
    struct stream_header header, parsed;
    uint8_t bytes[STREAM_HEADER_BYTES];
    stream_header_make(&header, &model, names[_i].path);
    ck_assert_str_eq(header.model_name, names[_i].name);
    stream_header_format(bytes, &header);
    ck_assert_int_eq(stream_header_parse(&parsed, bytes), OK);
    ck_assert_str_eq(parsed.model_name, names[_i].name);
    ck_assert_mem_eq(&parsed.model, &model, sizeof model);
}
END_TEST

START_TEST(no_flipped_bit_is_missed)
{
    struct stream_header header;
    struct block_header block;
    uint8_t header_bytes[STREAM_HEADER_BYTES], block_bytes[BLOCK_HEADER_BYTES];
    stream_header_make(&header, &model, "tiny");
    stream_header_format(header_bytes, &header);
    block_header_format(block_bytes, &model_header);
    for (int i = 0; i < 8 * STREAM_HEADER_BYTES; i++) {
        header_bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_eq(stream_header_parse(&header, header_bytes), E_FORMAT);
        header_bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (int i = 0; i < 8 * BLOCK_HEADER_BYTES; i++) {
        block_bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_eq(block_header_parse(&block, block_bytes), E_FORMAT);
        block_bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}
END_TEST

START_TEST(a_block_header_comes_back)
{
    struct block_header parsed;
    uint8_t bytes[BLOCK_HEADER_BYTES];
    block_header_format(bytes, &model_header);
    ck_assert_int_eq(block_header_parse(&parsed, bytes), OK);
    ck_assert_int_eq(parsed.kind, model_header.kind);
    ck_assert_uint_eq(parsed.n_plain, model_header.n_plain);
    ck_assert_uint_eq(parsed.n_packed, model_header.n_packed);
    ck_assert_uint_eq(parsed.plain_checksum, model_header.plain_checksum);
    ck_assert_uint_eq(parsed.packed_checksum, model_header.packed_checksum);
}
END_TEST

/* With checksums that fit. */
START_TEST(a_header_that_makes_no_sense_is_refused)
{
    static const struct block_header headers[] = {
        {(enum block_kind)0, 10, 5, 0, 0},
        {(enum block_kind)5, 10, 5, 0, 0},
        {BLOCK_MODEL, 0, 0, 0, 0},
        {BLOCK_MODEL, BLOCK_MAX + 1, 5, 0, 0},
        {BLOCK_MODEL, 10, 11, 0, 0},
        {BLOCK_MODEL, 10, 10, 0, 0},
        {BLOCK_STORED, 10, 9, 0, 0},
    };
    struct block_header parsed;
    uint8_t bytes[BLOCK_HEADER_BYTES];
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        block_header_format(bytes, &headers[i]);
        ck_assert_int_eq(block_header_parse(&parsed, bytes), E_FORMAT);
    }
}
END_TEST

static void make_index(struct index *index, uint32_t n)
{
    uint8_t bytes[BLOCK_HEADER_BYTES];
    *index = (struct index){.n = 0};
    for (uint32_t i = 0; i < n; i++) {
        struct block_header block = {BLOCK_MODEL, 1000 + i, 100 + i, i, 7};
        block_header_format(bytes, &block);
        ck_assert_int_eq(index_add(index, bytes), OK);
    }
}

/* Loop test: _i blocks. */
START_TEST(an_end_comes_back_whole_or_not_at_all)
{
    struct index index, parsed = {.n = 0};
    make_index(&index, (uint32_t)_i);
    size_t n = index_end_bytes(&index);
    uint8_t *bytes = malloc(n);
    index_format_end(&index, bytes);
    ck_assert_int_eq(index_parse_end(&parsed, bytes, n), OK);
    ck_assert_uint_eq(parsed.n, (size_t)_i);
    ck_assert_uint_eq(parsed.n_plain, index.n_plain);
    ck_assert_uint_eq(parsed.n_packed, index.n_packed);
    ck_assert_uint_eq(parsed.digest, index.digest);
    index_free(&parsed);
    for (size_t i = 0; i < 8 * n; i++) {
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_eq(index_parse_end(&parsed, bytes, n), E_FORMAT);
        index_free(&parsed);
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(index_parse_end(&parsed, bytes, i), E_FORMAT);
        index_free(&parsed);
    }
    index_free(&index);
    free(bytes);
}
END_TEST

START_TEST(the_order_of_blocks_is_in_the_digest)
{
    static const struct block_header headers[2] = {{BLOCK_MODEL, 10, 5, 1, 2},
                                                   {BLOCK_MODEL, 10, 5, 3, 4}};
    struct index index[2] = {{.n = 0}, {.n = 0}};
    uint8_t bytes[BLOCK_HEADER_BYTES];
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 2; k++) {
            block_header_format(bytes, &headers[i ^ k]);
            ck_assert_int_eq(index_add(&index[i], bytes), OK);
        }
    }
    ck_assert_uint_ne(index[0].digest, index[1].digest);
    index_free(&index[0]);
    index_free(&index[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("container");
    TCase *parts = tcase_create("parts");
    tcase_add_loop_test(parts, a_header_comes_back, 0, 5);
    tcase_add_test(parts, no_flipped_bit_is_missed);
    tcase_add_test(parts, a_block_header_comes_back);
    tcase_add_test(parts, a_header_that_makes_no_sense_is_refused);
    tcase_add_loop_test(parts, an_end_comes_back_whole_or_not_at_all, 0, 20);
    tcase_add_test(parts, the_order_of_blocks_is_in_the_digest);
    suite_add_tcase(suite, parts);
    return run_suite(suite);
}
