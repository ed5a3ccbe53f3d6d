/* check_predictor.c -- log-odds and histories are right; a slice knows its
 * fields; slices that share a predictor decode as they were encoded; it learns.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "compress/predictor.h"
#include "compress/predictor_state.h"

#include "runner.h" /* last */

/* ---- log-odds ----------------------------------------------------------- */

START_TEST(stretch_is_the_logarithm_of_the_odds)
{
    logistic_init();
    for (uint32_t one = 1; one < 1u << 31; one += one / 7 + 1) {
        for (uint32_t zero = 1; zero < 1u << 31; zero += zero / 5 + 1) {
            double exact = log2((double)one / zero) * STRETCH_ONE;
            ck_assert_double_le(fabs(stretch(one, zero) - exact), 1.5);
            ck_assert_int_eq(stretch(one, zero), -stretch(zero, one));
        }
    }
}
END_TEST

START_TEST(squash_is_its_inverse)
{
    logistic_init();
    uint32_t last = 0;
    for (int x = -2 * STRETCH_MAX; x <= 2 * STRETCH_MAX; x++) {
        uint32_t p = squash(x);
        ck_assert_uint_gt(p, 0);
        ck_assert_uint_lt(p, PROBABILITY_ONE);
        ck_assert_uint_ge(p, last);
        ck_assert_uint_eq(p, PROBABILITY_ONE - squash(-x));
        last = p;
        if (abs(x) > STRETCH_MAX)
            continue;
        double exact = PROBABILITY_ONE / (1 + exp2(-(double)x / STRETCH_ONE));
        double rare = fmin(exact, PROBABILITY_ONE - exact);
        ck_assert_double_le(fabs(p - exact), 2 + 1e-4 * rare);
    }
}
END_TEST

static void check_tree(const float logits[256])
{
    struct odds_tree tree = {{0}};
    odds_tree_make(&tree, logits);
    for (int i = 1; i < 256; i++) {
        ck_assert_uint_ge(tree.weight[2 * i], 1);
        ck_assert_uint_eq(tree.weight[i],
                          tree.weight[2 * i] + tree.weight[2 * i + 1]);
    }
}

START_TEST(a_tree_holds_the_odds_of_the_bytes)
{
    float logits[256];
    struct odds_tree tree = {{0}};
    logistic_init();
    for (int i = 0; i < 256; i++)
        logits[i] = (float)(random_at(2, (uint64_t)i) >> 40) * 0x1p-21f;
    odds_tree_make(&tree, logits);
    check_tree(logits);
    for (int i = 1; i < 256; i++) {
        double odds = exp((double)logits[i] - (double)logits[0]);
        double made = (double)tree.weight[256 + i] / tree.weight[256];
        ck_assert_double_le(fabs(made / odds - 1), 2e-3);
    }
    for (int i = 0; i < 256; i++)
        logits[i] = 0; /* the sum is the largest there is */
    check_tree(logits);
    logits[3] = INFINITY;
    logits[4] = -INFINITY;
    logits[5] = NAN;
    logits[6] = 3e38f;
    logits[7] = -3e38f;
    check_tree(logits);
}
END_TEST

/* ---- histories ---------------------------------------------------------- */

START_TEST(histories_count_bits)
{
    bit_history_init();
    const struct bit_history *all = bit_histories;
    ck_assert_uint_eq(all[0].zeros + all[0].ones, 0);
    for (int i = 0; i == 0 || all[i].zeros + all[i].ones > 0; i++) {
        for (int bit = 0; bit < 2; bit++) {
            const struct bit_history *next = &all[all[i].next[bit]];
            int same = bit ? all[i].ones : all[i].zeros;
            int same_next = bit ? next->ones : next->zeros;
            int other = bit ? all[i].zeros : all[i].ones;
            int other_next = bit ? next->zeros : next->ones;
            ck_assert_int_ge(same_next, same);
            ck_assert_int_le(same_next, same + 1);
            ck_assert_int_ge(same_next, 1);
            ck_assert_int_le(other_next, other);
        }
    }
}
END_TEST

START_TEST(histories_know_the_last_bit)
{
    bit_history_init();
    const struct bit_history *all = bit_histories;
    int zero = all[0].next[0], one = all[0].next[1];
    int zero_one = all[zero].next[1], one_zero = all[one].next[0];
    ck_assert_int_eq(all[zero_one].zeros, all[one_zero].zeros);
    ck_assert_int_eq(all[zero_one].ones, all[one_zero].ones);
    ck_assert_int_ne(zero_one, one_zero);
    int history = 0;
    for (int i = 0; i < 100; i++)
        history = all[history].next[1];
    ck_assert_int_eq(all[history].ones, 40);
    ck_assert_int_eq(all[history].zeros, 0);
    history = all[history].next[0];
    ck_assert_int_eq(all[history].ones, 7);
    ck_assert_int_eq(all[history].zeros, 1);
}
END_TEST

/* ---- places in a text --------------------------------------------------- */

START_TEST(a_place_knows_what_stands_above)
{
    static const char text[] = "ab cd=e\nxyz c";
    const uint8_t *bytes = (const uint8_t *)text;
    struct text_place place = {0};
    for (uint32_t i = 0; i < sizeof text - 1; i++) {
        uint32_t above = i < 8 ? 0 : bytes[i - 8];
        ck_assert_uint_eq(text_above(&place, bytes, i), above);
        text_advance(&place, bytes[i], i + 1);
    }
    ck_assert_uint_eq(place.line, 8);
    ck_assert_uint_eq(place.field, 1);
    ck_assert_uint_eq(text_field_above(&place, bytes), 'd' | '=' << 8);
    text_advance(&place, '7', sizeof text);
    ck_assert_uint_eq(place.n_digits, 1);
    text_advance(&place, '\n', sizeof text + 1);
    ck_assert_uint_eq(place.field, 0);
    ck_assert_uint_eq(place.skeleton, 0);
}
END_TEST

/* ---- slices ------------------------------------------------------------- */

enum { SLICES_MAX = 5, STRIDE = 700 };

struct group {
    uint8_t *bytes;
    uint32_t n;
    int n_slices;
    struct predictor *predictor;
    struct predictor_slice slices[SLICES_MAX];
    struct range_coder coders[SLICES_MAX];
};

/* A prediction that both sides can make from what they know. */
static void make_logits(float logits[256], uint64_t seed)
{
    for (int i = 0; i < 256; i++)
        logits[i] = (float)(random_at(seed, (uint64_t)i) >> 40) * 0x1p-23f;
}

static void group_open(struct group *group, uint8_t *bytes, uint32_t n,
                       const struct predictor_level *level)
{
    *group = (struct group){.bytes = bytes, .n = n};
    group->n_slices = (int)((n + STRIDE - 1) / STRIDE);
    ck_assert_int_eq(predictor_new(&group->predictor, bytes, n, STRIDE), OK);
    group->predictor->level = level;
    for (int i = 0; i < group->n_slices; i++)
        group->slices[i] = predictor_slice_make((uint32_t)i * STRIDE);
}

static void group_run(struct group *group)
{
    float logits[256];
    for (uint32_t t = 0; t < STRIDE; t++) {
        for (int i = 0; i < group->n_slices; i++) {
            struct predictor_slice *slice = &group->slices[i];
            if (slice->start + t >= group->n)
                continue;
            make_logits(logits, slice->last + t);
            predictor_code(group->predictor, slice, &group->coders[i], logits);
        }
    }
}

static void encode(struct group *group)
{
    for (int i = 0; i < group->n_slices; i++)
        group->coders[i] = range_encoder();
    group_run(group);
    for (int i = 0; i < group->n_slices; i++)
        ck_assert_int_eq(range_finish(&group->coders[i]), OK);
}

static void group_close(struct group *group)
{
    for (int i = 0; i < group->n_slices; i++)
        range_free(&group->coders[i]);
    predictor_free(group->predictor);
}

/* Codes by the best level that there is, and decodes by another.  Bytes that a
 * decoder must not know yet are not zero, so that a look at them shows. */
static size_t check_decoding(const uint8_t *bytes, uint32_t n,
                             const struct predictor_level *level)
{
    static uint8_t plain[SLICES_MAX * STRIDE], decoded[SLICES_MAX * STRIDE];
    struct group encoder, decoder;
    size_t n_code = 0;
    memcpy(plain, bytes, n);
    memset(decoded, 0xa5, n);
    group_open(&encoder, plain, n, predictor_levels()[0]);
    group_open(&decoder, decoded, n, level);
    encode(&encoder);
    for (int i = 0; i < encoder.n_slices; i++) {
        n_code += encoder.coders[i].n;
        decoder.coders[i] =
            range_decoder(encoder.coders[i].code, encoder.coders[i].n);
    }
    group_run(&decoder);
    ck_assert_mem_eq(decoded, bytes, n);
    ck_assert_mem_eq(plain, bytes, n);
    group_close(&encoder);
    predictor_free(decoder.predictor);
    return n_code;
}

static size_t check_round_trip(const uint8_t *bytes, uint32_t n)
{
    const struct predictor_level *const *level = predictor_levels();
    size_t n_code = 0;
    for (; *level; level++)
        n_code = check_decoding(bytes, n, *level);
    return n_code;
}

static const uint32_t sizes[] = {
    1,          5,          6,
    31,         STRIDE - 1, STRIDE,
    STRIDE + 1, 3 * STRIDE, SLICES_MAX *STRIDE - 3};

enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

START_TEST(random_bytes_come_back)
{
    uint8_t bytes[SLICES_MAX * STRIDE] = {0};
    uint32_t n = sizes[_i];
    for (uint32_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)random_at(3, i);
    ck_assert_uint_le(check_round_trip(bytes, n), n + n / 4 + 30);
}
END_TEST

/* The same sentence everywhere: slices learn from one another. */
START_TEST(what_repeats_becomes_cheap)
{
    static const char sentence[] = "The quick brown fox, once more, jumps. ";
    uint8_t bytes[SLICES_MAX * STRIDE] = {0};
    uint32_t n = sizes[_i];
    for (uint32_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)sentence[i % (sizeof sentence - 1)];
    size_t n_code = check_round_trip(bytes, n);
    if (n >= 3 * STRIDE)
        ck_assert_uint_le(n_code, n / 8);
}
END_TEST

/* Lines that differ in their numbers only. */
START_TEST(a_log_becomes_cheap)
{
    char text[SLICES_MAX * STRIDE + 64] = "";
    size_t n = 0;
    for (uint64_t i = 0; n < SLICES_MAX * STRIDE; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "12:00:%02u host unit[%u]: state changed to %u\n",
                              (unsigned)(i / 4 % 60),
                              (unsigned)(random_at(5, i) % 9000),
                              (unsigned)(random_at(6, i) % 2));
    size_t n_code =
        check_round_trip((const uint8_t *)text, SLICES_MAX * STRIDE);
    ck_assert_uint_le(n_code, SLICES_MAX * STRIDE / 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("predictor");
    TCase *odds = tcase_create("odds");
    tcase_add_test(odds, stretch_is_the_logarithm_of_the_odds);
    tcase_add_test(odds, squash_is_its_inverse);
    tcase_add_test(odds, a_tree_holds_the_odds_of_the_bytes);
    suite_add_tcase(suite, odds);
    TCase *contexts = tcase_create("contexts");
    tcase_add_test(contexts, histories_count_bits);
    tcase_add_test(contexts, histories_know_the_last_bit);
    tcase_add_test(contexts, a_place_knows_what_stands_above);
    suite_add_tcase(suite, contexts);
    TCase *slices = tcase_create("slices");
    tcase_set_timeout(slices, 60);
    tcase_add_loop_test(slices, random_bytes_come_back, 0, N_SIZES);
    tcase_add_loop_test(slices, what_repeats_becomes_cheap, 0, N_SIZES);
    tcase_add_test(slices, a_log_becomes_cheap);
    suite_add_tcase(suite, slices);
    return run_suite(suite);
}
