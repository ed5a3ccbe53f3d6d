/* fuzz_linear_classifier.c -- any bytes as the file of one.
 *
 * What is accepted classifies a record: features of zero, and some words.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>

#include "classify/examples.h"
#include "classify/linear_classifier_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static const uint8_t text[] = "some words, and some \xc3\xa9\xff more words";

/* The file says which grams of the text count. */
static void classify(struct linear_classifier *linear, float *features)
{
    static float logits[LABELS_MAX];
    static float evidence[LABELS_MAX];
    struct gram_bag bag = {0};
    gram_bag_begin(&bag);
    if (grams_feed(&linear->grams, &bag, text, sizeof text - 1) == OK &&
        grams_end(&linear->grams, &bag) == OK) {
        grams_evidence(&linear->grams, &bag, -1, evidence);
        linear_classifier_compute(linear, logits, features, evidence, 0, 1);
    }
    gram_bag_free(&bag);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct linear_classifier linear;
    if (linear_classifier_load_memory(&linear, "fuzz", bytes, n) != OK)
        return 0;
    float *features = calloc((size_t)linear.n_features + 1, sizeof *features);
    if (features)
        classify(&linear, features);
    free(features);
    linear_classifier_free(&linear);
    return 0;
}
