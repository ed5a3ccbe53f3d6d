/* confusion.c -- how often records of one label were taken for another.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/confusion.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"

enum status confusion_open(struct confusion *confusion,
                           const char *const *labels, int n_labels,
                           const char *const *answers, int n_answers)
{
    *confusion = (struct confusion){
        .labels = labels,
        .n_labels = n_labels,
        .answers = answers,
        .n_answers = n_answers,
        .counts = calloc((size_t)n_labels * ((size_t)n_answers + 1),
                         sizeof *confusion->counts),
        .same = calloc((size_t)n_labels, sizeof *confusion->same),
    };
    if (!confusion->counts || !confusion->same) {
        confusion_close(confusion);
        return fail_memory("the confusion matrix");
    }
    for (int i = 0; i < n_labels; i++) {
        int j = 0;
        while (j < n_answers && strcmp(labels[i], answers[j]) != 0)
            j++;
        confusion->same[i] = j;
    }
    return OK;
}

void confusion_close(struct confusion *confusion)
{
    free(confusion->counts);
    free(confusion->same);
    confusion->counts = NULL;
    confusion->same = NULL;
}

static uint64_t *count_at(const struct confusion *c, int label, int answer)
{
    return c->counts + (size_t)label * ((size_t)c->n_answers + 1) +
           (size_t)answer;
}

void confusion_add(struct confusion *confusion, int label, int answer)
{
    ++*count_at(confusion, label, answer < 0 ? confusion->n_answers : answer);
}

/* ---- sums --------------------------------------------------------------- */

static uint64_t sum_row(const struct confusion *c, int label)
{
    uint64_t sum = 0;
    for (int j = 0; j <= c->n_answers; j++)
        sum += *count_at(c, label, j);
    return sum;
}

static uint64_t sum_column(const struct confusion *c, int answer)
{
    uint64_t sum = 0;
    for (int i = 0; i < c->n_labels; i++)
        sum += *count_at(c, i, answer);
    return sum;
}

/* 0 when no answer stands for the label. */
static uint64_t count_right(const struct confusion *c, int label)
{
    return c->same[label] < c->n_answers ? *count_at(c, label, c->same[label])
                                         : 0;
}

static double ratio(uint64_t a, uint64_t b)
{
    return b > 0 ? (double)a / (double)b : 0;
}

static uint64_t count_all(const struct confusion *c)
{
    uint64_t n = 0;
    for (int i = 0; i < c->n_labels; i++)
        n += sum_row(c, i);
    return n;
}

static double accuracy(const struct confusion *c)
{
    uint64_t n_right = 0;
    for (int i = 0; i < c->n_labels; i++)
        n_right += count_right(c, i);
    return ratio(n_right, count_all(c));
}

static uint64_t sum_answers(const struct confusion *c, int label)
{
    return c->same[label] < c->n_answers ? sum_column(c, c->same[label]) : 0;
}

/* The harmonic mean of precision and recall. */
static double f1(const struct confusion *c, int label)
{
    return ratio(2 * count_right(c, label),
                 sum_row(c, label) + sum_answers(c, label));
}

static double macro_f1(const struct confusion *c)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < c->n_labels; i++) {
        sum += f1(c, i);
        n += sum_row(c, i) > 0;
    }
    return n > 0 ? sum / n : 0;
}

/* ---- print -------------------------------------------------------------- */

static enum status print_labels(const struct confusion *c, struct sink *sink)
{
    TRY(sink_text(sink, "\nlabel\trecords\tprecision\trecall\tf1\n"));
    for (int i = 0; i < c->n_labels; i++) {
        uint64_t n_right = count_right(c, i);
        TRY(escape_column(sink, c->labels[i]));
        TRY(sink_format(sink, "\t%" PRIu64 "\t%.4f\t%.4f\t%.4f\n",
                        sum_row(c, i), ratio(n_right, sum_answers(c, i)),
                        ratio(n_right, sum_row(c, i)), f1(c, i)));
    }
    return OK;
}

static enum status print_matrix(const struct confusion *c, struct sink *sink)
{
    TRY(sink_text(sink, "\nlabel"));
    for (int j = 0; j < c->n_answers; j++) {
        TRY(sink_text(sink, "\t"));
        TRY(escape_column(sink, c->answers[j]));
    }
    TRY(sink_text(sink, "\t-\n"));
    for (int i = 0; i < c->n_labels; i++) {
        TRY(escape_column(sink, c->labels[i]));
        for (int j = 0; j <= c->n_answers; j++)
            TRY(sink_format(sink, "\t%" PRIu64, *count_at(c, i, j)));
        TRY(sink_text(sink, "\n"));
    }
    return OK;
}

enum status confusion_print(const struct confusion *confusion,
                            struct sink *sink)
{
    TRY(sink_format(sink,
                    "records\t%" PRIu64 "\naccuracy\t%.4f\n"
                    "macro_f1\t%.4f\n",
                    count_all(confusion), accuracy(confusion),
                    macro_f1(confusion)));
    TRY(print_labels(confusion, sink));
    return print_matrix(confusion, sink);
}
