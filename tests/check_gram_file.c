/* check_gram_file.c -- a table of grams survives its way through a file, in
 * whatever order it is decoded; a damaged one does no harm.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memlimit.h"
#include "classify/examples.h"
#include "classify/gram_contexts.h"
#include "classify/gram_counts.h"
#include "classify/gram_file.h"
#include "classify/gram_pack.h"
#include "classify/gram_pairs.h"
#include "classify/gram_tree.h"
#include "classify/gram_words.h"
#include "classify/grams.h"

#include "runner.h" /* last */

enum { N_WORDS = 400, WORD_LABELS = 2 };

/* Words that have letters in common, each twice, of two labels. */
static struct examples make_words(void)
{
    static char texts[N_WORDS][16];
    static struct example items[N_WORDS];
    for (int i = 0; i < N_WORDS; i++) {
        int word = i / 2, label = word % WORD_LABELS;
        snprintf(texts[i], sizeof texts[i], "%c%c%c%c \xc3\xa9 %c",
                 'a' + word % 3, "eiou"[word % 4], 'l' + word / 4 % 7,
                 "aeiou"[word / 8 % 5], 'a' + word % 5);
        items[i] = (struct example){(const uint8_t *)texts[i], strlen(texts[i]),
                                    label, 1};
    }
    return (struct examples){
        .items = items, .n = N_WORDS, .n_labels = WORD_LABELS};
}

/* A table of them, with some corrections, and the same packed. */
static void pack_words(const struct examples *examples, struct grams *grams,
                       uint8_t **bytes, size_t *n)
{
    ck_assert_int_eq(gram_counts_make(grams, examples, examples->n, 1 << 20),
                     OK);
    for (size_t i = 0; i < grams->n_pairs; i++)
        grams->pairs[i].correction = (int8_t)(i % 9 ? 0 : (int)(i % 255) - 127);
    grams_index(grams);
    ck_assert_int_eq(grams_pack(grams, bytes, n), OK);
}

static void read_record(struct grams *grams, struct gram_bag *bag,
                        const uint8_t *record, size_t n, size_t step)
{
    gram_bag_begin(bag);
    for (size_t i = 0; i < n; i += step)
        ck_assert_int_eq(
            grams_feed(grams, bag, record + i, n - i < step ? n - i : step),
            OK);
    ck_assert_int_eq(grams_end(grams, bag), OK);
}

/* A table from a file knows the same of a record, in the same order. */
static void knows_the_same(struct grams *a, struct grams *b,
                           const uint8_t *record, size_t n, size_t step)
{
    struct gram_bag of_a = {0}, of_b = {0};
    float x[WORD_LABELS], y[WORD_LABELS];
    read_record(a, &of_a, record, n, 1000);
    read_record(b, &of_b, record, n, step);
    ck_assert_uint_eq(of_a.n, of_b.n);
    ck_assert_mem_eq(of_a.counts, of_b.counts, of_a.n * 4);
    grams_evidence(a, &of_a, -1, x);
    grams_evidence(b, &of_b, -1, y);
    ck_assert_mem_eq(x, y, (size_t)a->n_labels * sizeof *x);
    gram_bag_free(&of_a);
    gram_bag_free(&of_b);
}

/* How many grams a table from a file has decoded. */
static size_t count_decoded(const struct grams *grams)
{
    const struct gram_tree *t = grams->tree;
    return t->list.n - GRAM_TREE_FIRST + t->leaves.n - (t->list.end + 1) +
           grams->words->list.n - grams->words->first;
}

/* Whatever is decoded first. */
START_TEST(a_table_comes_back)
{
    static const char others[] = "abel \xc3\xa9\xc3\xa9 xbelo. A \xff bel";
    struct examples examples = make_words();
    struct grams grams, back;
    uint8_t *bytes;
    size_t n;
    pack_words(&examples, &grams, &bytes, &n);
    for (size_t first = 0; first < N_WORDS; first += 67) {
        ck_assert_int_eq(grams_unpack(&back, bytes, n, WORD_LABELS), OK);
        memcpy(back.shifts, grams.shifts, WORD_LABELS * sizeof *back.shifts);
        knows_the_same(&grams, &back, (const uint8_t *)others,
                       sizeof others - 1, first % 5 + 1);
        for (size_t i = 0; i < N_WORDS; i++) {
            const struct example *item = &examples.items[(first + i) % N_WORDS];
            knows_the_same(&grams, &back, item->text, item->n, i % 9 + 1);
        }
        ck_assert_uint_eq(count_decoded(&back), grams.n);
        grams_close(&back);
    }
    free(bytes);
    grams_close(&grams);
}
END_TEST

/* Reads all of a table that may be damaged; returns how that ended. */
static enum status use(struct grams *grams, const struct examples *examples)
{
    static float evidence[LABELS_MAX];
    struct gram_bag bag = {0};
    enum status status = OK;
    for (size_t i = 0; i < examples->n && status == OK; i++) {
        const struct example *item = &examples->items[i];
        gram_bag_begin(&bag);
        status = grams_feed(grams, &bag, item->text, item->n);
        if (status == OK)
            status = grams_end(grams, &bag);
        if (status == OK)
            grams_evidence(grams, &bag, -1, evidence);
    }
    ck_assert(status == OK || status == E_MODEL);
    if (status == E_MODEL)
        ck_assert_str_eq(status_message(), GRAMS_DAMAGED);
    gram_bag_free(&bag);
    return status;
}

/* Opens what may be damaged, and uses it if it opens. */
static void try_to_use(const struct examples *examples, const uint8_t *bytes,
                       size_t n)
{
    struct grams grams;
    enum status status = grams_unpack(&grams, bytes, n, WORD_LABELS);
    ck_assert(status == OK || status == E_MODEL || status == E_LIMIT);
    if (status != OK)
        return;
    use(&grams, examples);
    grams_close(&grams);
}

START_TEST(damage_does_no_harm)
{
    struct examples examples = make_words();
    struct grams grams;
    uint8_t *bytes;
    size_t n;
    pack_words(&examples, &grams, &bytes, &n);
    examples.n = 60;
    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= 0x10;
        try_to_use(&examples, bytes, n);
        bytes[i] ^= 0x91;
        try_to_use(&examples, bytes, n);
        bytes[i] ^= 0x81;
        try_to_use(&examples, bytes, i);
    }
    free(bytes);
    grams_close(&grams);
}
END_TEST

static void is_refused(const uint8_t *bytes, size_t n, int n_labels)
{
    struct grams grams;
    ck_assert_int_eq(grams_unpack(&grams, bytes, n, n_labels), E_MODEL);
    ck_assert_ptr_nonnull(
        strstr(status_message(), "grams is not a table of grams"));
}

START_TEST(tables_of_wrong_sizes_are_refused)
{
    struct examples examples = make_words();
    struct grams grams;
    uint8_t *bytes, *longer;
    size_t n;
    pack_words(&examples, &grams, &bytes, &n);
    is_refused(bytes, n, 200); /* has other contexts */
    is_refused(bytes, 4 * GRAM_FILE_NUMBERS - 1, WORD_LABELS);
    is_refused(bytes, n - 1, WORD_LABELS);
    for (size_t i = 3; i < 24; i += 4) { /* grams and pairs */
        bytes[i] ^= 0x80;
        is_refused(bytes, n, WORD_LABELS);
        bytes[i] ^= 0x80;
    }
    for (size_t i = 24; i < 32; i++) { /* bytes of probabilities, sequences */
        bytes[i] ^= 0x21;
        is_refused(bytes, n, WORD_LABELS);
        bytes[i] ^= 0x21;
    }
    longer = calloc(n + 1, 1);
    ck_assert_ptr_nonnull(longer);
    memcpy(longer, bytes, n);
    is_refused(longer, n + 1, WORD_LABELS);
    free(bytes);
    free(longer);
    grams_close(&grams);
}
END_TEST

/* One gram or pair too few: found when there is no room for it. */
START_TEST(a_table_without_room_fails_when_it_is_used)
{
    struct examples examples = make_words();
    struct grams grams, back;
    uint8_t *bytes;
    size_t n;
    pack_words(&examples, &grams, &bytes, &n);
    for (size_t i = 0; i < 24; i += 4) {
        bytes[i]--;
        ck_assert_int_eq(grams_unpack(&back, bytes, n, WORD_LABELS), OK);
        ck_assert_int_eq(use(&back, &examples), E_MODEL);
        ck_assert_int_eq(use(&back, &examples), E_MODEL); /* and stays so */
        bytes[i]++;
        grams_close(&back);
    }
    free(bytes);
    grams_close(&grams);
}
END_TEST

/* Without characters there is nothing that sequences could grow from. */
START_TEST(sequences_without_parts_are_left_out)
{
    struct examples examples = make_words();
    struct grams grams, back;
    uint8_t *bytes;
    size_t n;
    pack_words(&examples, &grams, &bytes, &n);
    free(bytes);
    grams.n_characters = 0;
    ck_assert_int_eq(grams_pack(&grams, &bytes, &n), OK);
    ck_assert_int_eq(grams_unpack(&back, bytes, n, WORD_LABELS), OK);
    ck_assert_int_eq(use(&back, &examples), OK);
    ck_assert_uint_eq(count_decoded(&back), grams.n - grams.first_word);
    free(bytes);
    grams_close(&grams);
    grams_close(&back);
}
END_TEST

START_TEST(a_table_may_be_empty)
{
    struct grams grams, back;
    struct gram_bag bag = {0};
    uint8_t *bytes;
    size_t n;
    ck_assert_int_eq(grams_open(&grams, 0, 0, WORD_LABELS), OK);
    grams_index(&grams);
    ck_assert_int_eq(grams_pack(&grams, &bytes, &n), OK);
    ck_assert_int_eq(grams_unpack(&back, bytes, n, WORD_LABELS), OK);
    read_record(&back, &bag, (const uint8_t *)"abel", 4, 3);
    ck_assert_uint_eq(bag.n, 0);
    gram_bag_free(&bag);
    free(bytes);
    grams_close(&grams);
    grams_close(&back);
}
END_TEST

/* The contexts of many labels are memory too. */
START_TEST(labels_count_against_the_limit)
{
    struct grams grams, back;
    uint8_t *bytes;
    size_t n;
    ck_assert_int_eq(grams_open(&grams, 0, 0, LABELS_MAX), OK);
    grams_index(&grams);
    ck_assert_int_eq(grams_pack(&grams, &bytes, &n), OK);
    memlimit_set(16 << 20);
    ck_assert_int_eq(grams_unpack(&back, bytes, n, LABELS_MAX), E_LIMIT);
    memlimit_set(32 << 20);
    ck_assert_int_eq(grams_unpack(&back, bytes, n, LABELS_MAX), OK);
    memlimit_set(0);
    free(bytes);
    grams_close(&grams);
    grams_close(&back);
}
END_TEST

START_TEST(numbers_have_a_limit)
{
    static const uint32_t values[] = {
        0, 1, 2, 126, GRAM_NUMBER_MAX, GRAM_NUMBER_MAX + 1u, UINT32_MAX - 1};
    enum { N = sizeof values / sizeof values[0] };
    struct gram_contexts contexts;
    ck_assert_int_eq(gram_contexts_open(&contexts, GRAM_NUMBER_CONTEXTS, false),
                     OK);
    struct gram_coder in = {.range = range_encoder(), .contexts = &contexts};
    for (int i = 0; i < N; i++) {
        gram_number(&in, 0, values[i]);
        gram_even_number(&in, values[i]);
    }
    ck_assert_int_eq(range_finish(&in.range), OK);
    struct gram_coder out = gram_decoder(&contexts, in.range.code, in.range.n);
    for (int i = 0; i < N; i++) {
        uint32_t x =
            values[i] < GRAM_NUMBER_MAX ? values[i] : (uint32_t)GRAM_NUMBER_MAX;
        ck_assert_uint_eq(gram_number(&out, 0, 0), x);
        ck_assert_uint_eq(gram_even_number(&out, 0), x);
    }
    range_free(&in.range);
    gram_contexts_close(&contexts);
}
END_TEST

/* Decodes a gram with one pair, whose correction is of that size; all bits are
 * equally likely, so that any context does. */
static enum status decode_correction(struct grams *grams, int is_below,
                                     uint32_t size)
{
    static const int before[] = {1, 0, 0, 0, 0, 0}; /* one pair: 0, at 0 */
    struct gram_contexts *contexts = &grams->contexts;
    struct gram_coder in = {.range = range_encoder(), .contexts = contexts};
    for (size_t i = 0; i < sizeof before / sizeof before[0]; i++)
        gram_bit(&in, 0, before[i]);
    gram_bit(&in, 0, is_below);
    gram_number(&in, CONTEXTS_SIZE, size);
    ck_assert_int_eq(range_finish(&in.range), OK);
    struct gram_coder out = gram_decoder(contexts, in.range.code, in.range.n);
    enum status status = pairs_code_alone(&out, grams, 0, 1, false);
    range_free(&in.range);
    return status;
}

START_TEST(corrections_are_in_range)
{
    static const uint32_t large[] = {128, GRAM_NUMBER_MAX, INT32_MAX,
                                     UINT32_MAX - 1};
    struct grams grams;
    ck_assert_int_eq(grams_open_packed(&grams, 1, 1, WORD_LABELS), OK);
    ck_assert_int_eq(
        gram_contexts_open(&grams.contexts, contexts_count(WORD_LABELS), false),
        OK);
    ck_assert_int_eq(decode_correction(&grams, 0, 126), OK);
    ck_assert_int_eq(grams.pairs[0].correction, 127);
    ck_assert_int_eq(decode_correction(&grams, 1, 127), OK);
    ck_assert_int_eq(grams.pairs[0].correction, -128);
    ck_assert_int_eq(decode_correction(&grams, 0, 127), E_MODEL);
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        ck_assert_int_eq(decode_correction(&grams, 0, large[i]), E_MODEL);
        ck_assert_int_eq(decode_correction(&grams, 1, large[i]), E_MODEL);
    }
    grams_close(&grams);
}
END_TEST

/* Of what a byte can stand for, the nearest. */
START_TEST(probabilities_are_learnt)
{
    static const uint32_t seen[][2] = {
        {0, 0},    {1, 1},    {3, 5},     {1, 1000},
        {999, 20}, {0, 5000}, {60000, 1}, {4000000000u, 3000000000u}};
    enum { N = sizeof seen / sizeof seen[0] };
    struct gram_contexts contexts, back;
    uint8_t bytes[N];
    ck_assert_int_eq(gram_contexts_open(&contexts, N, true), OK);
    ck_assert_int_eq(gram_contexts_open(&back, N, false), OK);
    memcpy(contexts.seen, seen, sizeof seen);
    gram_contexts_learn(&contexts, bytes);
    ck_assert(gram_contexts_read(&back, bytes));
    ck_assert_mem_eq(back.p, contexts.p, N * sizeof *back.p);
    ck_assert_uint_eq(contexts.p[0], PROBABILITY_ONE / 2);
    for (int i = 1; i < N; i++) {
        double p = (seen[i][1] + 0.5) / ((double)seen[i][0] + seen[i][1] + 1);
        double is = (double)contexts.p[i] / PROBABILITY_ONE;
        ck_assert_double_ge(fmin(is, 1 - is), 0.93 * fmin(p, 1 - p));
        ck_assert_double_le(fmin(is, 1 - is), 1.1 * fmin(p, 1 - p));
        ck_assert(p == 0.5 || (is < 0.5) == (p < 0.5));
    }
    bytes[1] = 255;
    ck_assert(!gram_contexts_read(&back, bytes));
    gram_contexts_close(&contexts);
    gram_contexts_close(&back);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gram_file");
    TCase *tests = tcase_create("tests");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_table_comes_back);
    tcase_add_test(tests, damage_does_no_harm);
    tcase_add_test(tests, tables_of_wrong_sizes_are_refused);
    tcase_add_test(tests, a_table_without_room_fails_when_it_is_used);
    tcase_add_test(tests, sequences_without_parts_are_left_out);
    tcase_add_test(tests, a_table_may_be_empty);
    tcase_add_test(tests, labels_count_against_the_limit);
    tcase_add_test(tests, numbers_have_a_limit);
    tcase_add_test(tests, corrections_are_in_range);
    tcase_add_test(tests, probabilities_are_learnt);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
