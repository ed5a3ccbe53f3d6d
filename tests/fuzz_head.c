/* fuzz_head.c -- any bytes as the head of a classifier.
 *
 * What is accepted judges a record of zeros with some words.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>

#include "classify/examples.h"
#include "classify/linear_classifier.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static const uint8_t text[] = "some words, and some \xc3\xa9\xff more words";

/* The grams of the text, of which the file decides. */
static void judge(struct head *head, float *features)
{
    static float logits[LABELS_MAX];
    struct gram_bag bag = {0};
    struct sparse grams = {0};
    gram_bag_begin(&bag);
    if (head->grams.n == 0 ||
        (grams_feed(&head->grams, &bag, text, sizeof text - 1) == OK &&
         grams_end(&head->grams, &bag) == OK &&
         grams_weigh(&head->grams, &bag, &grams) == OK))
        head_classify(head, logits, features, &grams, 0, 1);
    sparse_free(&grams);
    gram_bag_free(&bag);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct head head;
    if (head_open_memory(&head, "fuzz", bytes, n) != OK)
        return 0;
    float *features = calloc((size_t)head.n_features, sizeof *features);
    if (features)
        judge(&head, features);
    free(features);
    head_free(&head);
    return 0;
}
