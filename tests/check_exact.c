/* check_exact.c -- exact.h against libm in double precision, and pinned.
 *
 * Errors are in units in the last place of the true result.  Each function is
 * tried on every STRIDE-th binary32 number of its range; MAMBYTE_SLOW=1 tries
 * all of them (some minutes).  A digest of the results holds every compiler
 * to the same bits.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/exact.h"

#include "runner.h" /* last */

enum { STRIDE = 1009 };

struct function {
    const char *name;
    float (*ours)(float);
    double (*truth)(double);
    float from, to; /* the range in which max_ulp holds */
    double max_ulp;
    uint64_t digest; /* of the bits of the results, in steps of STRIDE */
};

static double silu_truth(double x)
{
    return x / (1.0 + exp(-x));
}

static double softplus_truth(double x)
{
    return log1p(exp(x));
}

/* The bounds are the largest errors over all inputs, rounded up. */
static const struct function functions[] = {
    {"exp2_neg", exact_exp2_neg, exp2, -126.0f, 0.0f, 4.47,
     UINT64_C(0x3901629fbf4ffe65)},
    {"exp", exact_exp, exp, -87.0f, 88.0f, 4.69, UINT64_C(0xaa9b9627df2c5ca0)},
    {"silu", exact_silu, silu_truth, -80.0f, 3e38f, 6.57,
     UINT64_C(0x6baa6406c8b8db4a)},
    {"softplus", exact_softplus, softplus_truth, -87.0f, 3e38f, 5.76,
     UINT64_C(0xa99c4265ed5ce03f)},
    {"log2", exact_log2, log2, 0x1p-126f, 3e38f, 1.70,
     UINT64_C(0xbe94348c0c49b34a)},
};

static double ulps(float got, double want)
{
    float near = (float)want;
    float step = nextafterf(near, INFINITY) - near;
    return fabs((double)got - want) / (double)step;
}

static int is_inside(const struct function *f, float x)
{
    return x >= f->from && x <= f->to;
}

START_TEST(error_is_bounded)
{
    const struct function *f = &functions[_i];
    uint64_t stride = getenv("MAMBYTE_SLOW") ? 1 : STRIDE;
    double worst = 0.0;
    for (uint64_t u = 0; u < UINT64_C(1) << 32; u += stride) {
        float x = exact_float((uint32_t)u);
        if (!is_inside(f, x) || (f->truth == softplus_truth && x > 700.0f))
            continue;
        double e = ulps(f->ours(x), f->truth((double)x));
        if (e > worst)
            worst = e;
    }
    printf("%s: %.3f ulp\n", f->name, worst);
    ck_assert_double_gt(worst, 0.0);
    ck_assert_double_le(worst, f->max_ulp);
}
END_TEST

START_TEST(bits_are_pinned)
{
    const struct function *f = &functions[_i];
    uint64_t digest = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (uint64_t u = 0; u < UINT64_C(1) << 32; u += STRIDE) {
        float x = exact_float((uint32_t)u);
        if (!is_inside(f, x))
            continue;
        digest ^= exact_bits(f->ours(x));
        digest *= UINT64_C(0x100000001b3);
    }
    printf("%s: 0x%016llx\n", f->name, (unsigned long long)digest);
    ck_assert_uint_eq(digest, f->digest);
}
END_TEST

START_TEST(special_values)
{
    ck_assert(exact_exp2_neg(0.0f) == 1.0f);
    ck_assert(exact_exp2_neg(-1.0f) == 0.5f);
    ck_assert(exact_exp2_neg(-1e30f) == 0x1p-126f);
    ck_assert(exact_exp2_neg(-INFINITY) == 0x1p-126f);
    ck_assert(exact_exp(0.0f) == 1.0f);
    ck_assert(exact_silu(0.0f) == 0.0f);
    ck_assert(exact_softplus(100.0f) == 100.0f);
    ck_assert(exact_softplus(-1000.0f) > 0.0f);
    ck_assert(exact_log2(1.0f) == 0.0f);
    ck_assert(exact_log2(0x1p-24f) == -24.0f);
    ck_assert(exact_logit(NAN) == 0.0f);
    ck_assert(exact_logit(-INFINITY) == 0.0f);
}
END_TEST

START_TEST(quantise_rounds_to_even)
{
    ck_assert_int_eq(exact_quantise(1.0f, 127.0f), 127);
    ck_assert_int_eq(exact_quantise(-1.0f, 127.0f), -127);
    ck_assert_int_eq(exact_quantise(0.5f, 1.0f), 0);
    ck_assert_int_eq(exact_quantise(1.5f, 1.0f), 2);
    ck_assert_int_eq(exact_quantise(-2.5f, 1.0f), -2);
    for (int i = -127; i <= 127; i++)
        ck_assert_int_eq(exact_quantise((float)i / 127.0f, 127.0f), i);
}
END_TEST

START_TEST(scale_of_a_vector_that_overflows_is_zero)
{
    ck_assert(exact_scale_of(EXACT_INF_BITS).scale == 0.0f);
    ck_assert(exact_scale_of(exact_bits(NAN) & EXACT_ABS_MASK).scale == 0.0f);
    ck_assert(exact_scale_of(0).scale > 0.0f);
    struct exact_scale s = exact_scale_of(exact_bits(2.0f));
    ck_assert(s.scale == 2.0f / 127.0f && s.inverse == 63.5f);
}
END_TEST

/* Whatever the weights, frequencies never exceed the total. */
START_TEST(odds_of_extreme_weights)
{
    for (uint64_t others = 0; others <= 255; others++) {
        uint32_t top = exact_odds_weight(0.0f, 1.0f);
        ck_assert_uint_eq(top, 1u << 29);
        uint64_t sum = (others + 1) * top;
        uint64_t r = exact_odds_reciprocal(sum);
        ck_assert_uint_lt(r, UINT64_C(1) << 32);
        uint64_t total = (others + 1) * exact_odds_frequency(top, r) +
                         (255 - others) * exact_odds_frequency(0, r);
        ck_assert_uint_le(total, EXACT_TOTAL);
        ck_assert_uint_ge(total, EXACT_TOTAL - 512);
    }
}
END_TEST

int main(void)
{
    int n = (int)(sizeof functions / sizeof *functions);
    Suite *suite = suite_create("exact");
    TCase *tcase = tcase_create("exact");
    tcase_set_timeout(tcase, 3600);
    tcase_add_loop_test(tcase, error_is_bounded, 0, n);
    tcase_add_loop_test(tcase, bits_are_pinned, 0, n);
    tcase_add_test(tcase, special_values);
    tcase_add_test(tcase, quantise_rounds_to_even);
    tcase_add_test(tcase, scale_of_a_vector_that_overflows_is_zero);
    tcase_add_test(tcase, odds_of_extreme_weights);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
