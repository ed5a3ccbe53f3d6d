/* check_grams.c -- grams are found and weighed as promised, however a record
 * is split, and those are chosen that tell labels apart.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "classify/examples.h"
#include "classify/gram_choice.h"
#include "classify/grams.h"

#include "runner.h" /* last */

enum { FOUND_MAX = 4096 };

/* What a scan finds, in its order. */
struct list {
    uint32_t slots[FOUND_MAX];
    size_t n;
};

static void put(void *context, uint32_t slot)
{
    struct list *list = context;
    ck_assert_uint_lt(list->n, FOUND_MAX);
    ck_assert_uint_lt(slot, GRAM_SLOTS);
    list->slots[list->n++] = slot;
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

static size_t count(const struct list *list, uint32_t slot)
{
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++)
        n += list->slots[i] == slot;
    return n;
}

/* Heads in files have these slots: a change of them is a change of format. */
START_TEST(slots_stay_what_they_are)
{
    static const uint32_t slots[] = {4307310,  5719119,  5078174,  6408007,
                                     3233800,  7428537,  12878530, 14646306,
                                     11380098, 311902,   1083280,  5933166,
                                     4307310,  16606083, 15716756};
    struct list list = scan("a\xc3,a");
    ck_assert_uint_eq(list.n, sizeof slots / sizeof slots[0]);
    for (size_t i = 0; i < list.n; i++)
        ck_assert_uint_eq(list.slots[i], slots[i]);
}
END_TEST

START_TEST(words_and_sequences_are_found)
{
    /* 2 + 1, and the word. */
    struct list ab = scan("ab"), x_ab = scan("x ab"), more = scan("ab ab,\tab");
    ck_assert_uint_eq(ab.n, 4);
    uint32_t word = ab.slots[3];
    ck_assert_uint_ge(word, GRAM_FIRST_WORD);
    for (int i = 0; i < 3; i++)
        ck_assert_uint_lt(ab.slots[i], GRAM_FIRST_WORD);
    for (size_t i = 0; i < ab.n; i++)
        ck_assert_uint_eq(count(&x_ab, ab.slots[i]), 1);
    ck_assert_uint_eq(x_ab.n, 4 + 3 + 2 + 1 + 2 + 1);
    ck_assert_uint_eq(count(&more, word), 3);
    ck_assert_uint_eq(more.n, 9 + 8 + 7 + 6 + 4 + 3);
    ck_assert_uint_eq(scan("").n, 0);
    ck_assert_uint_eq(scan("a_1\xc3\xa9").n, 5 + 4 + 3 + 2 + 1);
}
END_TEST

/* ---- bags --------------------------------------------------------------- */

static const char text[] = "int main(int argc, char **argv) { return argc; }"
                           "\xc3\xa9t\xc3\xa9 main main";

static int compare_slots(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Every other gram of the text, and some that it does not have. */
static struct grams open_some(void)
{
    static struct grams grams;
    struct list list = scan(text), other = scan("wxyz");
    uint32_t slots[FOUND_MAX];
    size_t n = 0, n_kept = 0;
    for (size_t i = 0; i < list.n; i += 2)
        slots[n++] = list.slots[i];
    for (size_t i = 0; i < other.n; i++)
        slots[n++] = other.slots[i];
    qsort(slots, n, sizeof *slots, compare_slots);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || slots[i] != slots[i - 1])
            slots[n_kept++] = slots[i];
    }
    ck_assert_int_eq(grams_open(&grams, (int)n_kept), OK);
    memcpy(grams.slots, slots, n_kept * sizeof *slots);
    for (size_t i = 0; i < n_kept; i++)
        grams.rarity[i] = 1 + 0.25f * (float)(i % 5);
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
        uint32_t slot = grams.slots[bag.columns[i]];
        ck_assert_uint_eq(bag.counts[i], count(&list, slot));
        while (list.slots[n_first] != slot) /* in the order of the text */
            ck_assert_uint_lt(++n_first, list.n);
    }
    ck_assert_uint_gt(bag.n, 80);
    ck_assert_uint_lt(bag.n, (size_t)grams.n);
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

START_TEST(values_are_those_of_the_definition)
{
    struct grams grams = open_some();
    struct gram_bag bag = {0};
    struct sparse rows = {0};
    fill(&grams, &bag, 7);
    ck_assert_int_eq(grams_weigh(&grams, &bag, &rows), OK);
    ck_assert_uint_eq(rows.n_rows, 1);
    ck_assert_uint_eq(rows.starts[1], bag.n);
    double squares[2] = {0, 0}, ones[2] = {0, 0}, raw[FOUND_MAX];
    for (size_t i = 0; i < bag.n; i++) {
        bool is_word = grams.slots[bag.columns[i]] >= GRAM_FIRST_WORD;
        raw[i] = (1 + log(bag.counts[i])) * grams.rarity[bag.columns[i]];
        squares[is_word] += raw[i] * raw[i];
        ones[is_word] += (double)rows.values[i] * (double)rows.values[i];
    }
    for (size_t i = 0; i < bag.n; i++) {
        bool is_word = grams.slots[bag.columns[i]] >= GRAM_FIRST_WORD;
        ck_assert_double_eq_tol(rows.values[i], raw[i] / sqrt(squares[is_word]),
                                1e-6);
    }
    ck_assert_double_eq_tol(ones[0], 1, 1e-5);
    ck_assert_double_eq_tol(ones[1], 1, 1e-5);
    sparse_free(&rows);
    gram_bag_free(&bag);
    grams_close(&grams);
}
END_TEST

/* ---- the choice --------------------------------------------------------- */

START_TEST(what_tells_labels_apart_is_chosen)
{
    static const char *const texts[] = {"alpha the", "the alpha", "beta the",
                                        "the beta",  "gamma the", "the delta"};
    static struct example items[6];
    struct examples examples = {.items = items, .n = 6, .n_labels = 3};
    struct grams grams, all;
    for (int i = 0; i < 6; i++)
        items[i] = (struct example){(const uint8_t *)texts[i], strlen(texts[i]),
                                    i / 2, 1};
    ck_assert_int_eq(gram_choice_make(&grams, &examples, 6, 20), OK);
    ck_assert_int_eq(grams.n, 20);
    struct list alpha = scan("alpha"), the = scan("the"), gamma = scan("gamma");
    int n_alpha = 0, n_the = 0, n_gamma = 0;
    for (int i = 0; i < grams.n; i++) {
        ck_assert(i == 0 || grams.slots[i] > grams.slots[i - 1]);
        n_alpha += grams.slots[i] == alpha.slots[alpha.n - 1];
        n_the += grams.slots[i] == the.slots[the.n - 1];
        n_gamma += grams.slots[i] == gamma.slots[gamma.n - 1];
        if (grams.slots[i] == alpha.slots[alpha.n - 1])
            ck_assert_double_eq_tol(grams.rarity[i], 1 + log(7.0 / 3), 1e-6);
    }
    ck_assert_int_eq(n_alpha, 1);
    ck_assert_int_eq(n_the, 0);   /* of all labels */
    ck_assert_int_eq(n_gamma, 0); /* of one record */
    ck_assert_int_eq(gram_choice_make(&all, &examples, 6, GRAMS_MAX), OK);
    ck_assert_int_gt(all.n, 20);
    grams_close(&grams);
    grams_close(&all);

    ck_assert_int_eq(gram_choice_make(&grams, &examples, 1, 20), OK);
    ck_assert_int_eq(grams.n, 0);
    grams_close(&grams);
}
END_TEST

/* Also where nothing has been allocated yet. */
START_TEST(a_row_without_elements_has_a_place)
{
    struct sparse sparse = {0};
    float *values = NULL;
    ck_assert_int_eq(sparse_add_row(&sparse, NULL, 0, &values), OK);
    ck_assert_ptr_nonnull(values);
    ck_assert_uint_eq(sparse.n_rows, 1);
    sparse_free(&sparse);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("grams");
    TCase *tests = tcase_create("tests");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, slots_stay_what_they_are);
    tcase_add_test(tests, words_and_sequences_are_found);
    tcase_add_test(tests, a_bag_counts_what_is_there);
    tcase_add_test(tests, a_row_without_elements_has_a_place);
    tcase_add_test(tests, parts_and_company_change_nothing);
    tcase_add_test(tests, values_are_those_of_the_definition);
    tcase_add_test(tests, what_tells_labels_apart_is_chosen);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
