/* confusion.h -- how often records of one label were taken for another.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CONFUSION_H
#define MAMBYTE_CONFUSION_H

#include <stddef.h>
#include <stdint.h>

#include "base/byteio.h"
#include "base/status.h"

struct confusion {
    const char *const *labels; /* [n_labels], the true ones */
    int n_labels;
    const char *const *answers; /* [n_answers], those of a classifier */
    int n_answers;
    uint64_t *counts; /* owned: [n_labels][n_answers + 1], last: no answer */
    int *same;        /* owned: [n_labels], the answer that is the label, or
                       * n_answers */
};

/* All counts are 0.  The labels stay the caller's. */
enum status confusion_open(struct confusion *confusion,
                           const char *const *labels, int n_labels,
                           const char *const *answers, int n_answers);
void confusion_close(struct confusion *confusion);

/* answer: -1 when there is none. */
void confusion_add(struct confusion *confusion, int label, int answer);

/* Tab-separated: records, accuracy (the share that was right) and macro-F1
 * (the mean over the labels of F1); a table of the labels; and the matrix, with
 * a row for each label and a column for each answer. */
enum status confusion_print(const struct confusion *confusion,
                            struct sink *sink);

#endif
