/* check_grams.c -- grams are found, counted and weighed as promised, however a
 * record is split.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "classify/examples.h"
#include "classify/gram_counts.h"
#include "classify/gram_refine.h"
#include "classify/grams.h"
#include "classify/lower_case.h"

#include "runner.h" /* last */

enum { FOUND_MAX = 4096, N_LABELS = 3 };

/* What a scan finds, in its order. */
struct list {
    uint64_t keys[FOUND_MAX];
    size_t n;
};

static void put(void *context, uint64_t key, int kind)
{
    struct list *list = context;
    ck_assert_uint_lt(list->n, FOUND_MAX);
    ck_assert_uint_lt(key, GRAM_KEYS);
    ck_assert_int_eq(key >= GRAM_FIRST_WORD, kind >= GRAM_WORD);
    list->keys[list->n++] = key;
}

static struct list scan(const char *text)
{
    struct list list = {.n = 0};
    struct gram_scan state;
    gram_scan_begin(&state);
    gram_scan_feed(&state, (const uint8_t *)text, strlen(text), put, &list);
    gram_scan_end(&state, put, &list);
    ck_assert_uint_le(list.n, gram_scan_most(strlen(text)));
    return list;
}

static size_t count(const struct list *list, uint64_t key)
{
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++)
        n += list->keys[i] == key;
    return n;
}

/* Heads in files have the keys of words: a change of them is a change of
 * format. */
START_TEST(keys_stay_what_they_are)
{
    static const uint64_t keys[] = {
        139218884373220, 72264670546399,  55118393200429,  29195693621054,
        132380118104731, 110957421846937, 36727101968727,  72415412130526,
        124630181446377, 221721946750976, 197151210602496, 246790016204800,
        260149439627264, 18750375922899,  96351457692898,  11917192984222,
        47716437235709,  19970627827830,  62826634773075,  85233183066020,
        41711699755640,  24430891767280,  216822365290496, 159588025368576,
        277090498772992, 252999437910016, 163873896267776, 177219154477056,
        199908184293376};
    struct list list = scan("A\xc3,\xc3\xa9");
    ck_assert_uint_eq(list.n, sizeof keys / sizeof keys[0]);
    for (size_t i = 0; i < list.n; i++)
        ck_assert_uint_eq(list.keys[i], keys[i]);
}
END_TEST

START_TEST(words_and_sequences_are_found)
{
    struct list ab = scan("ab"), ab_ab = scan("ab, ab");
    ck_assert_uint_eq(ab.n, 2 + 3 + 3 + 1); /* at a, at b, at the end */
    uint64_t word = ab.keys[8];
    ck_assert_uint_ge(word, GRAM_FIRST_WORD);
    for (int i = 0; i < 8; i++)
        ck_assert_uint_lt(ab.keys[i], GRAM_FIRST_WORD);
    ck_assert_uint_eq(count(&ab_ab, word), 2);
    /* " a b " has a space inside. */
    ck_assert_uint_eq(scan("a b").n, 2 + 2 + 4 + 3 + 3);
    ck_assert_uint_eq(scan("").n, 0);
    ck_assert_uint_eq(scan(" \t\r\n ").n, 0);
}
END_TEST

/* How many shapes of a text another has too. */
static size_t count_shapes(const char *text, const char *other)
{
    struct list a = scan(text), b = scan(other);
    size_t n = 0;
    for (size_t i = 0; i < a.n; i++)
        n += a.keys[i] >= GRAM_FIRST_WORD && count(&b, a.keys[i]) > 0;
    return n;
}

START_TEST(shapes_are_of_what_words_look_like)
{
    /* A space, a word, a byte, a word and a space have 3 + 2 + 1 shapes. */
    ck_assert_uint_eq(count_shapes("ab.c", "yx.z"), 6 + 1);
    ck_assert_uint_eq(count_shapes("a_b.c", "x_y1.zz"), 6 + 1);
    ck_assert_uint_eq(count_shapes("A_B.c", "X_1.zz"), 6 + 1);
    ck_assert_uint_eq(count_shapes("A.c", "XY9.zz"), 6 + 1);
    ck_assert_uint_eq(count_shapes("Ab.c", "XyZ.zz"), 6 + 1);
    ck_assert_uint_eq(count_shapes("aB.c", "xyZ.\xc3\xa9"), 6 + 1);
    ck_assert_uint_eq(count_shapes("1.c", "2_xY.zz"), 6 + 1);
    /* The two have no token in common but these. */
    ck_assert_uint_eq(count_shapes("a(B", "Ab[c"), 0);
    ck_assert_uint_eq(count_shapes("a b c", "x y z"), 0);
}
END_TEST

static void finds_the_same(const char *one, const char *other)
{
    struct list a = scan(one), b = scan(other);
    ck_assert_uint_eq(a.n, b.n);
    ck_assert_mem_eq(a.keys, b.keys, a.n * sizeof a.keys[0]);
}

START_TEST(spaces_are_one_and_sequences_in_lower_case)
{
    struct list small = scan("\xc3\xa9t\xc3\xa9"),
                large = scan("\xc3\x89T\xc3\x89");
    finds_the_same("a b", "  a\t\r\n b\n");
    ck_assert_uint_eq(small.n, 2 + 3 + 4 + 4 + 1);
    ck_assert_mem_eq(small.keys, large.keys, 13 * sizeof small.keys[0]);
    ck_assert_uint_ne(small.keys[13], large.keys[13]);
}
END_TEST

START_TEST(bytes_that_are_no_character_are_one)
{
    ck_assert_uint_eq(scan("\xff").n, 2 + 2 + 1);
    ck_assert_uint_eq(scan("\xc3").n, 2 + 2 + 1); /* at the end */
    ck_assert_uint_eq(scan("\xe2\x82").n, scan("ab").n);
    ck_assert_uint_eq(scan("\xe2\x82\xac").n, scan("a").n);
}
END_TEST

START_TEST(letters_have_small_ones)
{
    static const uint32_t pairs[][2] = {
        {'A', 'a'},       {'Z', 'z'},          {'[', '['},
        {'z', 'z'},       {0xc9, 0xe9},        {0xd7, 0xd7},
        {0xdf, 0xdf},     {0x10c, 0x10d},      {0x10d, 0x10d},
        {0x130, 'i'},     {0x131, 0x131},      {0x141, 0x142},
        {0x178, 0xff},    {0x17d, 0x17e},      {0x1b0, 0x1b0},
        {0x218, 0x219},   {0x3a9, 0x3c9},      {0x38c, 0x3cc},
        {0x401, 0x451},   {0x42f, 0x44f},      {0x490, 0x491},
        {0x531, 0x561},   {0x1ea4, 0x1ea5},    {0x20ac, 0x20ac},
        {0x4e2d, 0x4e2d}, {0x110041, 0x110041}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        ck_assert_uint_eq(lower_case(pairs[i][0]), pairs[i][1]);
}
END_TEST

/* ---- bags --------------------------------------------------------------- */

static const char text[] = "int main(int argc, char **argv) { return argc; }"
                           "\xc3\xa9t\xc3\xa9 main main \xe2\x82\xac";

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Every other gram of the text, and some that it does not have; gram i has
 * i % 3 labels. */
static struct grams open_some(void)
{
    static struct grams grams;
    struct list list = scan(text), other = scan("wxyz");
    uint64_t keys[FOUND_MAX];
    size_t n = 0, n_kept = 0, n_pairs = 0;
    for (size_t i = 0; i < list.n; i += 2)
        keys[n++] = list.keys[i];
    for (size_t i = 0; i < other.n; i++)
        keys[n++] = other.keys[i];
    qsort(keys, n, sizeof *keys, compare_keys);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || keys[i] != keys[i - 1])
            keys[n_kept++] = keys[i];
    }
    ck_assert_int_eq(grams_open(&grams, n_kept, 2 * n_kept, N_LABELS), OK);
    for (size_t i = 0; i < n_kept; i++) {
        grams.keys[i] = keys[i];
        grams.starts[i] = (uint32_t)n_pairs;
        for (size_t j = 0; j < i % 3; j++, n_pairs++) {
            grams.pairs[n_pairs].label = (uint16_t)(j + i % 2);
            grams.times[n_pairs] = (uint32_t)(1 + i * i % 40000);
            grams.pairs[n_pairs].level = gram_level(grams.times[n_pairs]);
            grams.pairs[n_pairs].correction = (int8_t)(n_pairs % 256 - 128);
        }
    }
    grams.starts[n_kept] = (uint32_t)n_pairs;
    grams.n_pairs = n_pairs;
    grams.least = 3;
    for (int k = 0; k < N_LABELS; k++)
        grams.shifts[k] = 0.25f * (float)k;
    grams_index(&grams);
    return grams;
}

static void fill(struct grams *grams, struct gram_bag *bag, size_t step)
{
    size_t n = sizeof text - 1;
    gram_bag_begin(bag);
    for (size_t i = 0; i < n; i += step)
        ck_assert_int_eq(grams_feed(grams, bag, (const uint8_t *)text + i,
                                    n - i < step ? n - i : step),
                         OK);
    ck_assert_int_eq(grams_end(grams, bag), OK);
}

START_TEST(a_bag_counts_what_is_there)
{
    struct grams grams = open_some();
    struct gram_bag bag = {0};
    struct list list = scan(text);
    size_t n_first = 0;
    fill(&grams, &bag, 1000);
    for (size_t i = 0; i < bag.n; i++) {
        uint64_t key = grams.keys[bag.columns[i]];
        ck_assert_uint_eq(bag.counts[i], count(&list, key));
        while (list.keys[n_first] != key) /* in the order of the text */
            ck_assert_uint_lt(++n_first, list.n);
    }
    ck_assert_uint_gt(bag.n, 80);
    ck_assert_uint_lt(bag.n, grams.n);
    gram_bag_free(&bag);
    grams_close(&grams);
}
END_TEST

START_TEST(parts_and_company_change_nothing)
{
    struct grams grams = open_some();
    struct gram_bag whole = {0}, bag = {0}, other = {0};
    fill(&grams, &whole, 1000);
    for (size_t step = 1; step < 12; step++) {
        fill(&grams, &bag, step);
        fill(&grams, &other, 3);
        ck_assert_uint_eq(bag.n, whole.n);
        ck_assert_mem_eq(bag.columns, whole.columns, bag.n * 4);
        ck_assert_mem_eq(bag.counts, whole.counts, bag.n * 4);
    }
    gram_bag_free(&whole);
    gram_bag_free(&bag);
    gram_bag_free(&other);
    grams_close(&grams);
}
END_TEST

/* ---- evidence ----------------------------------------------------------- */

static double weigh(const struct grams *g, size_t pair, uint32_t times)
{
    return times == 0 ? 0
                      : log(1 + exp2(round(log2(times))) / 0.01) +
                            0.25 * g->pairs[pair].correction;
}

/* How often a label has a gram, without n times of the label own. */
static uint32_t times_without(const struct grams *g, size_t pair, int own,
                              uint32_t n)
{
    uint32_t times = g->times[pair], less = times > n ? times - n : 0;
    return g->pairs[pair].label == own ? less : times;
}

/* Whether a gram would be in the table without them. */
static bool is_there(const struct grams *g, uint32_t gram, int own, uint32_t n)
{
    uint32_t most = 0;
    for (size_t j = g->starts[gram]; j < g->starts[gram + 1]; j++) {
        uint32_t times = times_without(g, j, own, n);
        most = times > most ? times : most;
    }
    return own < 0 || most >= 3;
}

/* The definition in grams.h. */
static void define(const struct grams *g, const struct gram_bag *bag, int own,
                   double *evidence)
{
    double strengths = 0;
    for (size_t i = 0; i < bag->n; i++) {
        uint32_t gram = bag->columns[i], n = bag->counts[i];
        double value = 1 + log(n);
        if (!is_there(g, gram, own, n))
            continue;
        strengths += value;
        if (g->keys[gram] >= GRAM_FIRST_WORD)
            value *= 3;
        for (int k = 0; k < N_LABELS; k++)
            evidence[k] += value * (double)g->shifts[k];
        for (size_t j = g->starts[gram]; j < g->starts[gram + 1]; j++)
            evidence[g->pairs[j].label] +=
                value * weigh(g, j, times_without(g, j, own, n));
    }
    for (int k = 0; k < N_LABELS; k++)
        evidence[k] /= sqrt(strengths);
}

START_TEST(evidence_is_that_of_the_definition)
{
    struct grams grams = open_some();
    struct gram_bag bag = {0};
    fill(&grams, &bag, 7);
    for (int own = -1; own < N_LABELS; own++) {
        double expected[N_LABELS] = {0};
        float evidence[N_LABELS];
        grams_evidence(&grams, &bag, own, evidence);
        define(&grams, &bag, own, expected);
        for (int k = 0; k < N_LABELS; k++)
            ck_assert_double_eq_tol(evidence[k], expected[k], 1e-2);
    }
    gram_bag_begin(&bag);
    float none[N_LABELS] = {1, 1, 1};
    grams_evidence(&grams, &bag, -1, none);
    ck_assert(none[0] == 0 && none[1] == 0 && none[2] == 0);
    gram_bag_free(&bag);
    grams_close(&grams);
}
END_TEST

/* ---- counts ------------------------------------------------------------- */

/* How often the examples of a label have a gram, by the table. */
static uint32_t find_times(const struct grams *g, uint64_t key, int label)
{
    for (size_t i = 0; i < g->n; i++) {
        for (size_t j = g->starts[i]; j < g->starts[i + 1]; j++) {
            if (g->keys[i] == key && g->pairs[j].label == label)
                return g->times[j];
        }
    }
    return 0;
}

START_TEST(what_examples_have_often_is_counted)
{
    static const char *const texts[] = {"alpha the", "the alpha", "beta the",
                                        "the beta",  "gamma the", "the delta"};
    static struct example items[6];
    struct examples examples = {.items = items, .n = 6, .n_labels = N_LABELS};
    struct grams grams, few, one;
    for (int i = 0; i < 6; i++)
        items[i] = (struct example){(const uint8_t *)texts[i], strlen(texts[i]),
                                    i / 2, 1};
    ck_assert_int_eq(gram_counts_make(&grams, &examples, 6, 1000), OK);
    struct list alpha = scan("alpha"), the = scan("the"), gamma = scan("gamma");
    for (int k = 0; k < N_LABELS; k++)
        ck_assert_uint_eq(find_times(&grams, the.keys[the.n - 1], k), 2);
    ck_assert_uint_eq(find_times(&grams, alpha.keys[alpha.n - 1], 0), 2);
    ck_assert_uint_eq(find_times(&grams, alpha.keys[alpha.n - 1], 1), 0);
    ck_assert_uint_eq(find_times(&grams, gamma.keys[gamma.n - 1], 2), 0);
    ck_assert_uint_eq(find_times(&grams, alpha.keys[1], 0), 4); /* a */
    for (size_t i = 1; i < grams.n; i++)
        ck_assert_uint_gt(grams.keys[i], grams.keys[i - 1]);
    ck_assert_uint_eq(grams.starts[grams.n], grams.n_pairs);

    /* Fewer: those that some label has more often. */
    ck_assert_int_eq(gram_counts_make(&few, &examples, 6, 30), OK);
    ck_assert_uint_le(few.n_pairs, 30);
    ck_assert_uint_eq(find_times(&few, alpha.keys[1], 0), 4);
    ck_assert_uint_eq(find_times(&few, the.keys[the.n - 1], 0), 0);

    ck_assert_int_eq(gram_counts_make(&one, &examples, 0, 1000), OK);
    ck_assert_uint_eq(one.n, 0);
    grams_close(&grams);
    grams_close(&few);
    grams_close(&one);
}
END_TEST

/* ---- corrections -------------------------------------------------------- */

enum { N_LEARNT = 120 };

/* Examples of two labels: the last word tells them apart, the others are more
 * frequent under the wrong one. */
static struct examples make_examples(void)
{
    static char texts[N_LEARNT][64];
    static struct example items[N_LEARNT];
    for (int i = 0; i < N_LEARNT; i++) {
        bool is_odd = i % 6 == 0;
        int label = i / 6 % 2;
        snprintf(texts[i], sizeof texts[i], "%s %s",
                 label == (int)is_odd ? "red green blue" : "one two three",
                 label ? "yes" : "no");
        items[i] = (struct example){(const uint8_t *)texts[i], strlen(texts[i]),
                                    label, 1};
    }
    return (struct examples){.items = items, .n = N_LEARNT, .n_labels = 2};
}

/* How many examples are told right, each left out of the counts. */
static int count_right(struct grams *grams, const struct examples *examples)
{
    struct gram_bag bag = {0};
    int n = 0;
    for (size_t i = 0; i < examples->n; i++) {
        const struct example *item = &examples->items[i];
        float evidence[2];
        gram_bag_begin(&bag);
        ck_assert_int_eq(grams_feed(grams, &bag, item->text, item->n), OK);
        ck_assert_int_eq(grams_end(grams, &bag), OK);
        grams_evidence(grams, &bag, item->label, evidence);
        n += (evidence[1] > evidence[0]) == (item->label == 1);
    }
    gram_bag_free(&bag);
    return n;
}

START_TEST(corrections_are_learnt)
{
    struct examples examples = make_examples();
    struct grams grams, again;
    ck_assert_int_eq(gram_counts_make(&grams, &examples, N_LEARNT, 1000), OK);
    ck_assert_int_eq(gram_counts_make(&again, &examples, N_LEARNT, 1000), OK);
    int n_right = count_right(&grams, &examples);
    ck_assert_int_eq(gram_refine(&grams, &examples, N_LEARNT), OK);
    ck_assert_int_gt(count_right(&grams, &examples), n_right);
    ck_assert_int_eq(count_right(&grams, &examples), N_LEARNT);

    /* They are as a file holds them, and the same each time. */
    ck_assert_int_eq(gram_refine(&again, &examples, N_LEARNT), OK);
    ck_assert_mem_eq(again.pairs, grams.pairs, grams.n_pairs * 4);
    grams_index(&again);
    ck_assert_mem_eq(again.weights, grams.weights, grams.n_pairs * 4);
    grams_close(&grams);
    grams_close(&again);
}
END_TEST

/* Room for what a record may have in common with a large table, when it has
 * nothing. */
START_TEST(a_bag_takes_room_as_it_grows)
{
    enum { N_GRAMS = 1 << 20, N_BYTES = 1 << 20 };
    struct grams grams;
    struct gram_bag bag = {0};
    uint8_t *record = calloc(N_BYTES, 1);
    ck_assert_ptr_nonnull(record);
    ck_assert_int_eq(grams_open(&grams, N_GRAMS, 0, N_LABELS), OK);
    grams_index(&grams);
    gram_bag_begin(&bag);
    ck_assert_int_eq(grams_feed(&grams, &bag, record, N_BYTES), OK);
    ck_assert_int_eq(grams_end(&grams, &bag), OK);
    ck_assert_uint_eq(bag.n, 0);
    ck_assert_uint_lt(bag.room, N_GRAMS / 8);
    gram_bag_free(&bag);
    free(record);
    grams_close(&grams);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("grams");
    TCase *tests = tcase_create("tests");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, keys_stay_what_they_are);
    tcase_add_test(tests, words_and_sequences_are_found);
    tcase_add_test(tests, shapes_are_of_what_words_look_like);
    tcase_add_test(tests, spaces_are_one_and_sequences_in_lower_case);
    tcase_add_test(tests, bytes_that_are_no_character_are_one);
    tcase_add_test(tests, letters_have_small_ones);
    tcase_add_test(tests, a_bag_counts_what_is_there);
    tcase_add_test(tests, parts_and_company_change_nothing);
    tcase_add_test(tests, evidence_is_that_of_the_definition);
    tcase_add_test(tests, what_examples_have_often_is_counted);
    tcase_add_test(tests, corrections_are_learnt);
    tcase_add_test(tests, a_bag_takes_room_as_it_grows);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
