/* check_outlet.c -- stop strings and whole characters; and how words are
 * counted and powers taken.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "cmd/outlet.h"
#include "engine/scorer.h"

#include "runner.h" /* last */

static struct sink sink;
static struct outlet outlet;

static void begin(const char *const *stops, int n_stops, bool is_utf8)
{
    sink_init(&sink, -1);
    outlet = (struct outlet){
        .sink = &sink, .stops = stops, .n_stops = n_stops, .is_utf8 = is_utf8};
}

static void add(const char *text)
{
    for (; *text && !outlet.is_stopped; text++)
        ck_assert_int_eq(outlet_add(&outlet, (uint8_t)*text), OK);
}

static void written(const char *expected)
{
    ck_assert_uint_eq(sink.n, strlen(expected));
    ck_assert_mem_eq(sink.bytes, expected, sink.n);
}

START_TEST(without_filters_a_byte_goes_out_at_once)
{
    begin(NULL, 0, false);
    add("a\xff");
    written("a\xff");
    ck_assert_uint_eq(outlet.n_out, 2);
}
END_TEST

START_TEST(a_stop_string_is_held_back_and_left_out)
{
    static const char *const stops[] = {"END"};
    begin(stops, 1, false);
    add("aE");
    written("a");
    add("N");
    written("a");
    add("x");
    written("aENx");
    add("ENEND");
    ck_assert(outlet.is_stopped);
    written("aENxEN");
    ck_assert_uint_eq(outlet.n_out, 6);
    ck_assert_int_eq(outlet_finish(&outlet), OK);
    written("aENxEN");
}
END_TEST

START_TEST(the_end_lets_go)
{
    static const char *const stops[] = {"END"};
    begin(stops, 1, false);
    add("aEN");
    ck_assert_uint_eq(outlet.n_out, 1);
    ck_assert_int_eq(outlet_finish(&outlet), OK);
    written("aEN");
    ck_assert_uint_eq(outlet.n_out, 3);
}
END_TEST

START_TEST(the_first_to_be_complete_stops)
{
    static const char *const stops[] = {"bcdef", "cd", "abcd"};
    begin(stops, 3, false);
    add("xabcdefg");
    ck_assert(outlet.is_stopped);
    written("x"); /* abcd is longer than cd, and both end here */
}
END_TEST

/* Every text of a, b of up to 8 letters, against strstr. */
START_TEST(overlaps_are_found)
{
    static const char *const stops[] = {"aab", "abaa"};
    for (unsigned n = 1; n <= 8; n++) {
        for (unsigned bits = 0; bits < 1u << n; bits++) {
            char text[9] = "", expected[9];
            for (unsigned i = 0; i < n; i++)
                text[i] = bits >> i & 1 ? 'a' : 'b';
            strcpy(expected, text);
            const char *x = strstr(text, "aab"), *y = strstr(text, "abaa");
            if (x && (!y || x + 3 <= y + 4))
                expected[x - text] = '\0';
            else if (y)
                expected[y - text] = '\0';
            begin(stops, 2, false);
            add(text);
            ck_assert_int_eq(outlet_finish(&outlet), OK);
            written(expected);
            ck_assert_uint_eq(outlet.n_out, strlen(expected));
        }
    }
}
END_TEST

START_TEST(characters_go_out_whole)
{
    begin(NULL, 0, true);
    add("\xe2\x82");
    written("");
    add("\xac");
    written("\xe2\x82\xac");
    add("\xff\xe2\x82x");
    written("\xe2\x82\xac\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx");
    ck_assert_uint_eq(outlet.n_out, 7);
    add("\xf0\x9f");
    ck_assert_int_eq(outlet_finish(&outlet), OK);
    written("\xe2\x82\xac\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx");
    ck_assert_uint_eq(outlet.n_out, 7);
}
END_TEST

START_TEST(a_character_that_the_input_began_is_completed)
{
    begin(NULL, 0, true);
    outlet_after(&outlet, (const uint8_t *)"abc\xe2", 4);
    outlet_after(&outlet, (const uint8_t *)"\x82", 1);
    add("\xac!");
    written("\xac!");
    ck_assert_uint_eq(outlet.n_out, 2);

    begin(NULL, 0, true);
    outlet_after(&outlet, (const uint8_t *)"\xe2\x82", 2);
    add("x");
    written("x");

    begin(NULL, 0, true);
    outlet_after(&outlet, (const uint8_t *)"\xe2", 1);
    outlet_after(&outlet, (const uint8_t *)"done", 4);
    add("\x82");
    written("\xef\xbf\xbd");
}
END_TEST

START_TEST(stops_and_characters_together)
{
    static const char *const stops[] = {"\x82\xac!"};
    begin(stops, 1, true);
    add("a\xe2\x82\xac?");
    written("a\xe2\x82\xac?");
    add("\xe2\x82\xac!");
    ck_assert(outlet.is_stopped);
    written("a\xe2\x82\xac?"); /* half a character before the stop */
    ck_assert_uint_eq(outlet.n_out, 5);
}
END_TEST

/* ---- UTF-8 -------------------------------------------------------------- */

static size_t encode(uint8_t bytes[4], uint32_t c)
{
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 0; c >>= 6)
        bytes[i] = (uint8_t)(i > 0 ? 0x80 | (c & 0x3f) : lead[n] | c);
    return n;
}

START_TEST(all_characters_and_no_others)
{
    uint8_t bytes[4];
    for (uint32_t c = 0; c < 0x110800; c++) {
        size_t n = encode(bytes, c);
        bool is_valid = c < 0x110000 && (c < 0xd800 || c > 0xdfff);
        int length = is_valid ? (int)n : UTF8_INVALID;
        ck_assert_int_eq(utf8_length(bytes, n), length);
        for (size_t k = 1; is_valid && k < n; k++) {
            ck_assert_int_eq(utf8_length(bytes, k), UTF8_INCOMPLETE);
            ck_assert_uint_eq(utf8_incomplete_tail(bytes, k), k);
        }
        ck_assert_uint_eq(is_valid && utf8_incomplete_tail(bytes, n), 0);
    }
    ck_assert_int_eq(utf8_length((const uint8_t *)"\xc1\xbf", 2), 0);
    ck_assert_int_eq(utf8_length((const uint8_t *)"\xe0\x9f\xbf", 3), 0);
    ck_assert_int_eq(utf8_length((const uint8_t *)"\xf0\x8f\xbf\xbf", 4), 0);
    ck_assert_int_eq(utf8_length((const uint8_t *)"\x80", 1), 0);
}
END_TEST

/* ---- words, powers ------------------------------------------------------ */

static uint64_t count(const char *text, size_t part)
{
    struct words words = {0};
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i += part)
        words_add(&words, (const uint8_t *)text + i,
                  part < n - i ? part : n - i);
    return words_count(&words);
}

START_TEST(words_are_those_of_python)
{
    static const struct {
        const char *text;
        uint64_t n;
    } cases[] = {
        {"", 0},
        {" \t\r\n\v\f\x1c\x1d\x1e\x1f", 0},
        {"one", 1},
        {" one  two\n", 2},
        {"x\xc2\xa0y\xc2\x85z", 3},
        {"w\xe1\x9a\x80x\xe3\x80\x80y\xe2\x81\x9fz", 4},
        {"w\xe2\x80\x80x\xe2\x80\x8ay\xe2\x80\xa8z\xe2\x80\xaf", 4},
        {"x\xe2\x80\x8by\xc2\xa1z\xe3\x80\x81", 1},
        {"\xc2 \xe2\x80 \xe2", 3},
        {" \xe2\x80\xc2\xa0x", 2},
        {"\xc2", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t part = 1; part <= 3; part++)
            ck_assert_uint_eq(count(cases[i].text, part), cases[i].n);
    }
}
END_TEST

START_TEST(powers_are_right)
{
    ck_assert_double_eq(score_exp2(0), 1);
    for (int i = 0; i < 1024; i++)
        ck_assert_double_eq(score_exp2(i), ldexp(1, i));
    for (double x = 0; x < 40; x += 0.001) {
        double error = score_exp2(x) / exp2(x) - 1;
        ck_assert_double_lt(fabs(error), 1e-15);
    }
    ck_assert(isinf(score_exp2(1024)));
    ck_assert(isinf(score_exp2(INFINITY)));
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("outlet");
    tcase_add_test(cases, without_filters_a_byte_goes_out_at_once);
    tcase_add_test(cases, a_stop_string_is_held_back_and_left_out);
    tcase_add_test(cases, the_end_lets_go);
    tcase_add_test(cases, the_first_to_be_complete_stops);
    tcase_add_test(cases, overlaps_are_found);
    tcase_add_test(cases, characters_go_out_whole);
    tcase_add_test(cases, a_character_that_the_input_began_is_completed);
    tcase_add_test(cases, stops_and_characters_together);
    tcase_add_test(cases, all_characters_and_no_others);
    tcase_add_test(cases, words_are_those_of_python);
    tcase_add_test(cases, powers_are_right);
    tcase_set_timeout(cases, 600);
    Suite *suite = suite_create("outlet");
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
