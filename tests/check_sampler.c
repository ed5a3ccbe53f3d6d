/* check_sampler.c -- odds sum to the total, samplers cut and draw as they
 * should.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>

#include "base/random.h"
#include "engine/sampler.h"
#include "model/odds.h"

#include "runner.h" /* last */

/* Logits in [-range, range) from a seed. */
static void random_logits(float logits[256], float range, uint64_t seed)
{
    for (uint64_t i = 0; i < 256; i++) {
        float unit = (float)(random_at(seed, i) >> 40) * 0x1p-24f;
        logits[i] = (2.0f * unit - 1.0f) * range;
    }
}

static void assert_whole(const uint32_t frequency[256])
{
    uint64_t sum = 0;
    for (int i = 0; i < 256; i++) {
        ck_assert_uint_ge(frequency[i], 1);
        sum += frequency[i];
    }
    ck_assert_uint_eq(sum, EXACT_TOTAL);
}

START_TEST(odds_sum_to_the_total)
{
    float logits[256];
    uint32_t frequency[256];
    for (uint64_t seed = 0; seed < 2000; seed++) {
        float range = 0.01f * (float)(1u << (seed % 14));
        random_logits(logits, range, seed);
        odds_from_logits(frequency, logits, 1.0f);
        assert_whole(frequency);
        odds_from_logits(frequency, logits, 3.7f);
        assert_whole(frequency);
    }
}
END_TEST

START_TEST(odds_follow_the_softmax)
{
    float logits[256];
    uint32_t frequency[256];
    random_logits(logits, 6.0f, 7);
    odds_from_logits(frequency, logits, 1.0f);
    double sum = 0.0;
    for (int i = 0; i < 256; i++)
        sum += exp((double)logits[i]);
    for (int i = 0; i < 256; i++) {
        /* The first of the largest gets what the roundings leave. */
        double want = exp((double)logits[i]) / sum * EXACT_TOTAL;
        ck_assert_double_le(fabs(frequency[i] - want), 257.0 + 1e-6 * want);
    }
}
END_TEST

START_TEST(odds_of_odd_logits)
{
    float logits[256] = {0};
    uint32_t frequency[256];
    odds_from_logits(frequency, logits, 1.0f);
    for (int i = 0; i < 256; i++)
        ck_assert_uint_eq(frequency[i], 65536);

    logits[3] = INFINITY; /* counts as 0 */
    logits[4] = NAN;
    odds_from_logits(frequency, logits, 1.0f);
    for (int i = 0; i < 256; i++)
        ck_assert_uint_eq(frequency[i], 65536);

    logits[200] = 3e38f;
    odds_from_logits(frequency, logits, 1.0f);
    assert_whole(frequency);
    ck_assert_uint_eq(frequency[200], EXACT_TOTAL - 255);
}
END_TEST

START_TEST(zero_temperature_is_the_first_of_the_largest)
{
    struct sampler s = sampler_make(0.0f, 256, 1.0f, 0.0f, 1);
    float logits[256];
    random_logits(logits, 1.0f, 3);
    logits[77] = logits[99] = 5.0f;
    for (uint64_t i = 0; i < 50; i++)
        ck_assert_uint_eq(sampler_choose(&s, logits, i), 77);
}
END_TEST

/* Draws n bytes and counts them. */
static void draw(uint32_t count[256], const struct sampler *s,
                 const float logits[256], uint64_t n)
{
    memset(count, 0, 256 * sizeof *count);
    for (uint64_t i = 0; i < n; i++)
        count[sampler_choose(s, logits, i)]++;
}

START_TEST(draws_follow_the_odds)
{
    enum { DRAWS = 200000 };
    float logits[256];
    uint32_t frequency[256], count[256];
    random_logits(logits, 3.0f, 11);
    odds_from_logits(frequency, logits, 1.0f);
    struct sampler s = sampler_make(1.0f, 256, 1.0f, 0.0f, 42);
    draw(count, &s, logits, DRAWS);
    double chi = 0.0;
    for (int i = 0; i < 256; i++) {
        double want = (double)frequency[i] / EXACT_TOTAL * DRAWS;
        chi += (count[i] - want) * (count[i] - want) / want;
    }
    /* 255 degrees of freedom: mean 255, deviation 22.6 */
    ck_assert_double_lt(chi, 255.0 + 6.0 * 22.6);
    ck_assert_double_gt(chi, 255.0 - 6.0 * 22.6);
}
END_TEST

/* Logits for frequencies 1/2, 1/4, 1/8, .. of the bytes 10, 9, 8, .. */
static void halving_logits(float logits[256])
{
    for (int i = 0; i < 256; i++)
        logits[i] = i <= 10 ? (float)(i - 10) * 0.6931472f : -80.0f;
}

START_TEST(top_k_keeps_k)
{
    float logits[256];
    uint32_t count[256];
    halving_logits(logits);
    for (int k = 1; k <= 4; k++) {
        struct sampler s = sampler_make(1.0f, k, 1.0f, 0.0f, 5);
        draw(count, &s, logits, 1000);
        for (int i = 0; i < 256; i++)
            ck_assert_int_eq(count[i] > 0, i <= 10 && i > 10 - k);
    }
}
END_TEST

START_TEST(top_p_keeps_the_mass)
{
    float logits[256];
    uint32_t count[256];
    halving_logits(logits);
    struct sampler s = sampler_make(1.0f, 256, 0.7f, 0.0f, 5);
    draw(count, &s, logits, 1000); /* 1/2 < 0.7 <= 1/2 + 1/4 */
    for (int i = 0; i < 256; i++)
        ck_assert_int_eq(count[i] > 0, i == 10 || i == 9);
    s = sampler_make(1.0f, 256, 0.01f, 0.0f, 5);
    draw(count, &s, logits, 100);
    ck_assert_uint_eq(count[10], 100);
}
END_TEST

START_TEST(min_p_keeps_the_likely)
{
    float logits[256];
    uint32_t count[256];
    halving_logits(logits);
    struct sampler s = sampler_make(1.0f, 256, 1.0f, 0.2f, 5);
    draw(count, &s, logits, 1000); /* 1/2, 1/4 and 1/8 are >= 0.2 * 1/2 */
    for (int i = 0; i < 256; i++)
        ck_assert_int_eq(count[i] > 0, i >= 8 && i <= 10);
}
END_TEST

START_TEST(ties_go_to_the_lower_byte)
{
    float logits[256] = {0};
    uint32_t count[256];
    struct sampler s = sampler_make(1.0f, 2, 1.0f, 0.0f, 5);
    draw(count, &s, logits, 200);
    ck_assert_uint_eq(count[0] + count[1], 200);
    ck_assert_uint_gt(count[0], 0);
    ck_assert_uint_gt(count[1], 0);
}
END_TEST

START_TEST(low_temperature_sharpens)
{
    float logits[256];
    uint32_t count[256];
    halving_logits(logits);
    struct sampler s = sampler_make(0.1f, 256, 1.0f, 0.0f, 5);
    draw(count, &s, logits, 1000); /* 1/2^10 for the second */
    ck_assert_uint_gt(count[10], 980);
}
END_TEST

START_TEST(random_numbers_are_pinned)
{
    ck_assert_uint_eq(random_at(0, 0), UINT64_C(0xe220a8397b1dcdaf));
    ck_assert_uint_eq(random_at(0, 1), UINT64_C(0x6e789e6aa1b965f4));
    ck_assert_uint_eq(random_below(UINT64_MAX, 10), 9);
    ck_assert_uint_eq(random_below(0, 10), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sampler");
    TCase *tcase = tcase_create("sampler");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, odds_sum_to_the_total);
    tcase_add_test(tcase, odds_follow_the_softmax);
    tcase_add_test(tcase, odds_of_odd_logits);
    tcase_add_test(tcase, zero_temperature_is_the_first_of_the_largest);
    tcase_add_test(tcase, draws_follow_the_odds);
    tcase_add_test(tcase, top_k_keeps_k);
    tcase_add_test(tcase, top_p_keeps_the_mass);
    tcase_add_test(tcase, min_p_keeps_the_likely);
    tcase_add_test(tcase, ties_go_to_the_lower_byte);
    tcase_add_test(tcase, low_temperature_sharpens);
    tcase_add_test(tcase, random_numbers_are_pinned);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
