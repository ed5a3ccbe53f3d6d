/* task_classify.c -- the labels of records, each as soon as the record ends.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "classify/classifier.h"
#include "cmd/json.h"
#include "cmd/task_records.h"
#include "cmd/task_io.h"

struct labels {
    struct task *task;
    struct classifier classifier;
    double *probabilities; /* [n_labels], of one record */
    int *order;            /* [n_labels], the first n_shown are shown */
    int n_shown;
};

/* The likeliest labels first: order[0 .. n_shown). */
static void find_order(struct labels *l)
{
    int n = l->classifier.n_labels;
    for (int i = 0; i < n; i++)
        l->order[i] = i;
    for (int i = 0; i < l->n_shown; i++) {
        int best = i;
        for (int j = i + 1; j < n; j++) {
            double difference = l->probabilities[l->order[j]] -
                                l->probabilities[l->order[best]];
            if (difference > 0 ||
                (difference == 0 && l->order[j] < l->order[best]))
                best = j;
        }
        int first = l->order[best];
        l->order[best] = l->order[i];
        l->order[i] = first;
    }
}

/* The i-th likeliest label, or "-" when it is not likely enough. */
static const char *shown_label(const struct labels *l, int i)
{
    double p = l->probabilities[l->order[i]];
    bool is_known = p > 0 && p >= l->task->options->threshold;
    return is_known ? l->classifier.labels[l->order[i]] : "-";
}

/* ---- a line a record ---------------------------------------------------- */

static enum status print_columns(const struct labels *l,
                                 const struct ended_record *ended)
{
    const struct options *o = l->task->options;
    struct sink *out = l->task->out;
    if (!o->whole_files)
        TRY(task_put_file(l->task, ended->file));
    for (int i = 0; i < l->n_shown; i++) {
        TRY(sink_text(out, i > 0 ? "\t" : ""));
        TRY(escape_column(out, shown_label(l, i)));
        TRY(sink_format(out, "\t%.6f", l->probabilities[l->order[i]]));
    }
    if (!o->hides_text) {
        TRY(sink_text(out, "\t"));
        TRY(o->whole_files ? escape_column(out, ended->file)
                           : sink_write(out, ended->text, ended->n_text));
    }
    return task_end_record(l->task);
}

/* A blank record has none. */
static enum status print_probabilities(const struct labels *l,
                                       const struct ended_record *ended)
{
    int n_shown = ended->record->has_text ? l->n_shown : 0;
    struct sink *out = l->task->out;
    TRY(json_open(out, "probabilities"));
    for (int i = 0; i < n_shown; i++)
        TRY(json_put_number(out, l->classifier.labels[l->order[i]],
                            l->probabilities[l->order[i]]));
    return json_close(out);
}

static enum status print_json(const struct labels *l,
                              const struct ended_record *ended)
{
    const struct options *o = l->task->options;
    struct sink *out = l->task->out;
    const char *label = shown_label(l, 0);
    TRY(json_begin(out));
    TRY(json_put_string(out, "file", ended->file, strlen(ended->file)));
    TRY(json_put_integer(out, "offset", ended->offset));
    TRY(json_put_integer(out, "bytes", ended->record->n_bytes));
    TRY(json_put_string(out, "label", label, strlen(label)));
    TRY(json_put_number(out, "probability", l->probabilities[l->order[0]]));
    if (l->n_shown > 1)
        TRY(print_probabilities(l, ended));
    if (!o->hides_text && !o->whole_files)
        TRY(json_put_string(out, "record", ended->text, ended->n_text));
    return json_end(out);
}

static enum status compute_labels(void *context)
{
    struct labels *l = context;
    return classifier_compute(&l->classifier);
}

static enum status show_labels(void *context, const struct ended_record *ended)
{
    struct labels *l = context;
    classifier_probabilities(&l->classifier, ended->index, l->probabilities);
    find_order(l);
    return l->task->options->json ? print_json(l, ended)
                                  : print_columns(l, ended);
}

/* ---- all of it ---------------------------------------------------------- */

static enum status run(struct labels *l)
{
    const struct options *o = l->task->options;
    const struct record_use use = {compute_labels, show_labels, l};
    TRY(classifier_open(&l->classifier, l->task->engine, o->classify, o->prior,
                        o->engine.n_threads));
    size_t n = (size_t)l->classifier.n_labels;
    l->n_shown = o->top < n ? (int)o->top : (int)n;
    l->probabilities = calloc(n, sizeof *l->probabilities);
    l->order = calloc(n, sizeof *l->order);
    if (!l->probabilities || !l->order)
        return fail_memory("the labels");
    return task_each_record(l->task, &l->classifier.reader, &use);
}

enum status task_classify(struct task *task)
{
    struct labels labels = {.task = task};
    enum status status = run(&labels);
    classifier_close(&labels.classifier);
    free(labels.probabilities);
    free(labels.order);
    return status;
}
