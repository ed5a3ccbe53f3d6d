/* check_range_coder.c -- bits and integers come back, at their ideal cost.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/range_coder.h"
#include "classify/gram_coder.h"
#include "compress/integer_coder.h"

#include "runner.h" /* last */

enum { N_BITS = 200000, N_SHORT = 40, N_ROUNDS = 3000 };

static uint64_t counter;

static uint64_t draw(void)
{
    return random_at(1, counter++);
}

/* How probabilities are drawn, a loop test each. */
enum { EVEN, EXTREME, ONES, ZEROS, MIXED, N_KINDS };

static uint32_t draw_probability(int kind)
{
    uint32_t top = PROBABILITY_ONE - 1;
    switch (kind) {
    case EVEN:
        return PROBABILITY_ONE / 2;
    case EXTREME:
        return draw() % 2 ? 1 : top;
    case ONES:
        return top;
    case ZEROS:
        return 1;
    default:
        return 1 + (uint32_t)((draw() >> 40) >> draw() % 24) % top;
    }
}

/* As likely as p says; but the unlikely ones of EXTREME happen, too. */
static int draw_bit(int kind, uint32_t p)
{
    if (kind == EXTREME && draw() % 64 == 0)
        return p == 1;
    return (draw() >> 40) < p;
}

struct bits {
    int n;
    uint32_t p[N_BITS];
    uint8_t bit[N_BITS];
};

static void draw_bits(struct bits *bits, int n, int kind)
{
    bits->n = n;
    for (int i = 0; i < n; i++) {
        bits->p[i] = draw_probability(kind);
        bits->bit[i] = (uint8_t)draw_bit(kind, bits->p[i]);
    }
}

static double ideal_bits(const struct bits *bits)
{
    double sum = 0;
    for (int i = 0; i < bits->n; i++) {
        double p = (double)bits->p[i] / PROBABILITY_ONE;
        sum -= log2(bits->bit[i] ? p : 1 - p);
    }
    return sum;
}

static struct range_coder encode(const struct bits *bits)
{
    struct range_coder coder = range_encoder();
    for (int i = 0; i < bits->n; i++)
        ck_assert_int_eq(range_code(&coder, bits->bit[i], bits->p[i]),
                         bits->bit[i]);
    ck_assert_int_eq(range_finish(&coder), OK);
    return coder;
}

static void check_decodes(const struct bits *bits,
                          const struct range_coder *encoder)
{
    struct range_coder coder = range_decoder(encoder->code, encoder->n);
    for (int i = 0; i < bits->n; i++)
        ck_assert_int_eq(range_code(&coder, 2, bits->p[i]), bits->bit[i]);
}

static struct bits bits;

START_TEST(bits_come_back_at_their_price)
{
    draw_bits(&bits, N_BITS, _i);
    struct range_coder coder = encode(&bits);
    check_decodes(&bits, &coder);
    double ideal = ideal_bits(&bits);
    ck_assert_double_le(8.0 * (double)coder.n, ideal * 1.0001 + 16);
    range_free(&coder);
}
END_TEST

/* Every length, so that codes end in all ways there are. */
START_TEST(short_codes_come_back)
{
    for (int round = 0; round < N_ROUNDS; round++) {
        draw_bits(&bits, round % N_SHORT, _i);
        struct range_coder coder = encode(&bits);
        check_decodes(&bits, &coder);
        ck_assert_double_le(8.0 * (double)coder.n, ideal_bits(&bits) + 9);
        range_free(&coder);
    }
}
END_TEST

START_TEST(no_bits_need_no_code)
{
    struct range_coder coder = range_encoder();
    ck_assert_int_eq(range_finish(&coder), OK);
    ck_assert_uint_eq(coder.n, 0);
    range_free(&coder);
}
END_TEST

/* A decoder makes bits of any bytes, without end. */
START_TEST(any_bytes_decode_to_something)
{
    uint8_t code[9];
    for (int round = 0; round < N_ROUNDS; round++) {
        for (size_t i = 0; i < sizeof code; i++)
            code[i] = round % 3 == 0 ? 255 : (uint8_t)draw();
        struct range_coder coder = range_decoder(code, (size_t)round % 10);
        for (int i = 0; i < 300; i++)
            ck_assert_int_lt(range_code(&coder, 0, draw_probability(_i)), 2);
    }
}
END_TEST

START_TEST(integers_come_back)
{
    static const uint64_t special[] = {
        0, 1, 2, 3, 255, 256, 1u << 31, UINT32_MAX, (1ull << 63) - 1};
    enum { N_SPECIAL = sizeof special / sizeof special[0], N = 5000 };
    static uint64_t values[N];
    struct integer_coder integers;
    struct range_coder encoder = range_encoder();
    integer_coder_init(&integers);
    for (int i = 0; i < N; i++) {
        values[i] = i < N_SPECIAL ? special[i] : draw() >> (1 + draw() % 63);
        ck_assert_uint_eq(integer_coder_code(&integers, &encoder, values[i]),
                          values[i]);
    }
    ck_assert_int_eq(range_finish(&encoder), OK);
    struct range_coder decoder = range_decoder(encoder.code, encoder.n);
    integer_coder_init(&integers);
    for (int i = 0; i < N; i++)
        ck_assert_uint_eq(integer_coder_code(&integers, &decoder, 7),
                          values[i]);
    range_free(&encoder);
}
END_TEST

/* Numbers of all kinds, in turn. */
static void code_numbers(struct gram_coder *coder, uint32_t *values, int n)
{
    for (int i = 0; i < n; i++) {
        uint32_t *x = values + i;
        if (i % 4 == 0)
            *x = gram_number(coder, 0, *x);
        else if (i % 4 == 1)
            *x = gram_unary(coder, GRAM_NUMBER_CONTEXTS, 17, *x);
        else if (i % 4 == 2)
            *x = gram_bits(coder, GRAM_NUMBER_CONTEXTS + 16, 4, *x);
        else
            *x = gram_even_number(coder, *x);
    }
}

enum { N_NUMBERS = 20000, N_CONTEXTS = GRAM_NUMBER_CONTEXTS + 32 };

static void draw_numbers(uint32_t *values)
{
    for (int i = 0; i < N_NUMBERS; i++) {
        values[i] = (uint32_t)(draw() >> (33 + draw() % 31));
        values[i] %= i % 4 == 1 ? 17 : i % 4 == 2 ? 16 : INT32_MAX;
    }
    values[0] = INT32_MAX - 1;
}

/* First counted, then coded by what was counted. */
START_TEST(numbers_with_contexts_come_back)
{
    static uint32_t values[N_NUMBERS], coded[N_NUMBERS], decoded[N_NUMBERS];
    struct gram_contexts contexts;
    uint8_t bytes[N_CONTEXTS];
    ck_assert_int_eq(gram_contexts_open(&contexts, N_CONTEXTS, true), OK);
    struct gram_coder counting = {.contexts = &contexts, .is_counting = true};
    struct gram_coder encoder = {.contexts = &contexts,
                                 .range = range_encoder()};
    draw_numbers(values);
    memcpy(coded, values, sizeof values);
    code_numbers(&counting, coded, N_NUMBERS);
    gram_contexts_learn(&contexts, bytes);
    code_numbers(&encoder, coded, N_NUMBERS);
    ck_assert_mem_eq(coded, values, sizeof values);
    ck_assert_int_eq(range_finish(&encoder.range), OK);
    struct gram_coder decoder = {
        .contexts = &contexts,
        .range = range_decoder(encoder.range.code, encoder.range.n),
        .is_decoder = true};
    code_numbers(&decoder, decoded, N_NUMBERS);
    ck_assert_mem_eq(decoded, values, sizeof values);
    range_free(&encoder.range);
    gram_contexts_close(&contexts);
}
END_TEST

/* Ends a code of n bits, and has any bytes come after it. */
static void ends_before_others(int n, int follows)
{
    struct range_coder encoder = range_encoder();
    uint8_t code[256];
    int drawn[100];
    for (int i = 0; i < n; i++)
        drawn[i] = range_code(&encoder, draw() % 7 == 0, PROBABILITY_ONE / 7);
    ck_assert_int_eq(range_finish_before(&encoder), OK);
    ck_assert_uint_le(encoder.n + 16, sizeof code);
    memcpy(code, encoder.code, encoder.n);
    memset(code + encoder.n, follows, 16);
    struct range_coder decoder = range_decoder(code, encoder.n + 16);
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(range_code(&decoder, 0, PROBABILITY_ONE / 7),
                         drawn[i]);
    range_free(&encoder);
}

START_TEST(any_bytes_may_follow)
{
    for (int n = 1; n < 100; n++) {
        ends_before_others(n, 0);
        ends_before_others(n, 0x7f);
        ends_before_others(n, 0xff);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("range_coder");
    TCase *coder = tcase_create("coder");
    tcase_set_timeout(coder, 600);
    tcase_add_loop_test(coder, bits_come_back_at_their_price, 0, N_KINDS);
    tcase_add_loop_test(coder, short_codes_come_back, 0, N_KINDS);
    tcase_add_test(coder, no_bits_need_no_code);
    tcase_add_loop_test(coder, any_bytes_decode_to_something, 0, N_KINDS);
    tcase_add_test(coder, integers_come_back);
    tcase_add_test(coder, numbers_with_contexts_come_back);
    tcase_add_test(coder, any_bytes_may_follow);
    suite_add_tcase(suite, coder);
    return run_suite(suite);
}
