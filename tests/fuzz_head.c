/* fuzz_head.c -- any bytes as the head of a classifier.
 *
 * What is accepted judges a record of zeros.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>

#include "examples.h"
#include "head.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static float logits[LABELS_MAX];
    struct head head;
    if (head_open_memory(&head, "fuzz", bytes, n) != OK)
        return 0;
    float *features = calloc((size_t)head.n_features, sizeof *features);
    if (features)
        head_classify(&head, logits, features, 1);
    free(features);
    head_free(&head);
    return 0;
}
