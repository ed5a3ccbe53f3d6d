/* task_evaluate.c -- how often a classifier's labels are right (--eval).
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>

#include "base/message.h"
#include "classify/classifier.h"
#include "classify/confusion.h"
#include "classify/examples.h"
#include "cmd/task.h"

struct evaluation {
    struct task *task;
    struct classifier classifier;
    double *probabilities; /* [n_labels], of one record */
    struct examples examples;
    struct confusion confusion;
    size_t n; /* examples that are counted so far */
};

/* The likeliest label; -1 when it is not likely enough. */
static int best_label(const struct evaluation *e)
{
    int best = 0;
    for (int i = 1; i < e->classifier.n_labels; i++) {
        if (e->probabilities[i] > e->probabilities[best])
            best = i;
    }
    return e->probabilities[best] >= e->task->options->threshold ? best : -1;
}

/* Counts the answers for the records aside. */
static enum status count_aside(void *context)
{
    struct evaluation *e = context;
    struct classifier *c = &e->classifier;
    const struct record_set *set = record_reader_aside(&c->reader);
    message_status("%s: %zu of %zu records", e->task->options->files[0], e->n,
                   e->examples.n);
    TRY(classifier_compute(c));
    for (int i = 0; i < set->n; i++, e->n++) {
        classifier_probabilities(c, i, e->probabilities);
        confusion_add(&e->confusion, e->examples.items[e->n].label,
                      best_label(e));
        e->task->n_read += set->items[i].n_bytes;
    }
    return OK;
}

static enum status run(struct evaluation *e)
{
    const struct options *o = e->task->options;
    struct classifier *c = &e->classifier;
    TRY(classifier_open(c, e->task->engine, o->classify, o->prior,
                        o->engine.n_threads));
    e->probabilities = calloc((size_t)c->n_labels, sizeof *e->probabilities);
    if (!e->probabilities)
        return fail_memory("the labels");
    TRY(examples_read(&e->examples, o->files[0]));
    TRY(confusion_open(&e->confusion, e->examples.labels, e->examples.n_labels,
                       c->labels, c->n_labels));
    TRY(record_reader_read(&c->reader, &e->examples, count_aside, e));
    message_progress_end();
    return confusion_print(&e->confusion, e->task->out);
}

enum status task_evaluate(struct task *task)
{
    struct evaluation evaluation = {.task = task};
    enum status status = run(&evaluation);
    confusion_close(&evaluation.confusion);
    examples_free(&evaluation.examples);
    classifier_close(&evaluation.classifier);
    free(evaluation.probabilities);
    return status;
}
