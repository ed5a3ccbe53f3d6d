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

static const struct block_head model_head = {BLOCK_MODEL, 1 << 24, 3000000,
                                             0x0123456789abcdefu, 0xfedcba98u};

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
    struct header header, parsed;
    uint8_t bytes[HEADER_BYTES];
    header_make(&header, &model, names[_i].path);
    ck_assert_str_eq(header.model_name, names[_i].name);
    header_format(bytes, &header);
    ck_assert_int_eq(header_parse(&parsed, bytes), OK);
    ck_assert_str_eq(parsed.model_name, names[_i].name);
    ck_assert_mem_eq(&parsed.model, &model, sizeof model);
}
END_TEST

START_TEST(no_flipped_bit_is_missed)
{
    struct header header;
    struct block_head head;
    uint8_t header_bytes[HEADER_BYTES], head_bytes[BLOCK_HEAD_BYTES];
    header_make(&header, &model, "tiny");
    header_format(header_bytes, &header);
    block_head_format(head_bytes, &model_head);
    for (int i = 0; i < 8 * HEADER_BYTES; i++) {
        header_bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_eq(header_parse(&header, header_bytes), E_FORMAT);
        header_bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (int i = 0; i < 8 * BLOCK_HEAD_BYTES; i++) {
        head_bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_eq(block_head_parse(&head, head_bytes), E_FORMAT);
        head_bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}
END_TEST

START_TEST(a_block_head_comes_back)
{
    struct block_head parsed;
    uint8_t bytes[BLOCK_HEAD_BYTES];
    block_head_format(bytes, &model_head);
    ck_assert_int_eq(block_head_parse(&parsed, bytes), OK);
    ck_assert_int_eq(parsed.kind, model_head.kind);
    ck_assert_uint_eq(parsed.n_plain, model_head.n_plain);
    ck_assert_uint_eq(parsed.n_packed, model_head.n_packed);
    ck_assert_uint_eq(parsed.plain_checksum, model_head.plain_checksum);
    ck_assert_uint_eq(parsed.packed_checksum, model_head.packed_checksum);
}
END_TEST

/* With checksums that fit. */
START_TEST(a_head_that_makes_no_sense_is_refused)
{
    static const struct block_head heads[] = {
        {(enum block_kind)0, 10, 5, 0, 0},
        {(enum block_kind)5, 10, 5, 0, 0},
        {BLOCK_MODEL, 0, 0, 0, 0},
        {BLOCK_MODEL, BLOCK_MAX + 1, 5, 0, 0},
        {BLOCK_MODEL, 10, 11, 0, 0},
        {BLOCK_MODEL, 10, 10, 0, 0},
        {BLOCK_STORED, 10, 9, 0, 0},
    };
    struct block_head parsed;
    uint8_t bytes[BLOCK_HEAD_BYTES];
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        block_head_format(bytes, &heads[i]);
        ck_assert_int_eq(block_head_parse(&parsed, bytes), E_FORMAT);
    }
}
END_TEST

static void make_index(struct index *index, uint32_t n)
{
    uint8_t bytes[BLOCK_HEAD_BYTES];
    *index = (struct index){.n = 0};
    for (uint32_t i = 0; i < n; i++) {
        struct block_head head = {BLOCK_MODEL, 1000 + i, 100 + i, i, 7};
        block_head_format(bytes, &head);
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
    static const struct block_head heads[2] = {{BLOCK_MODEL, 10, 5, 1, 2},
                                               {BLOCK_MODEL, 10, 5, 3, 4}};
    struct index index[2] = {{.n = 0}, {.n = 0}};
    uint8_t bytes[BLOCK_HEAD_BYTES];
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 2; k++) {
            block_head_format(bytes, &heads[i ^ k]);
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
    tcase_add_test(parts, a_block_head_comes_back);
    tcase_add_test(parts, a_head_that_makes_no_sense_is_refused);
    tcase_add_loop_test(parts, an_end_comes_back_whole_or_not_at_all, 0, 20);
    tcase_add_test(parts, the_order_of_blocks_is_in_the_digest);
    suite_add_tcase(suite, parts);
    return run_suite(suite);
}
