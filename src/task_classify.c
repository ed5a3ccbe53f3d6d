/* task_classify.c -- a label a record, as soon as the record ends; or what
 * the model says of it, for other tools; or how often labels are right.
 *
 * The records of a piece of input are read together, each from the begin, in
 * batches; while one is read the one before it, which was set aside, gets its
 * labels.  What the last of them left open goes on in the next piece.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "classifier.h"
#include "confusion.h"
#include "exact.h"
#include "examples.h"
#include "json.h"
#include "little_endian.h"
#include "message.h"
#include "signals.h"
#include "task_io.h"

enum { RECORD_TEXT_MAX = 1 << 18 }; /* bytes of a record that are shown */

/* What is shown of a record. */
struct text {
    uint8_t *bytes; /* [RECORD_TEXT_MAX] */
    size_t n;
};

/* A record at its end: record index of those aside. */
struct ended {
    const struct record_aside *record;
    int index;
    const uint8_t *text; /* what is shown of it */
    size_t n_text;
};

struct labels {
    struct task *task;
    int end; /* of a record; -1: that of the file */
    const char *file;
    uint64_t offset;             /* of the record in the file */
    bool is_open;                /* item 0 has read the begin of a record */
    struct text first;           /* of item 0 */
    struct text first_aside;     /* of the first record aside */
    struct record_part *parts;   /* [records->n], of the items */
    struct record_part *endings; /* [records->n], of records aside */
    bool has_aside;              /* which were not shown yet */
    struct records *records;     /* of the classifier, or for the features */

    struct classifier classifier;
    double *probabilities; /* [n_labels] */
    int *order;            /* [n_labels], the first n_shown are shown */
    int n_shown;

    struct records features; /* for --embed */
    struct state *begin;
};

/* ---- a record ----------------------------------------------------------- */

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

/* A record without a byte has no label: nothing is known of it. */
static void judge(struct labels *l, const struct ended *ended)
{
    if (ended->record->n_bytes == 0)
        memset(l->probabilities, 0,
               (size_t)l->classifier.n_labels * sizeof *l->probabilities);
    else
        classifier_probabilities(&l->classifier, ended->index,
                                 l->probabilities);
    find_order(l);
}

/* The label in place i, or "-" when it is not likely enough. */
static const char *shown_label(const struct labels *l, int i)
{
    double p = l->probabilities[l->order[i]];
    bool is_known = p > 0 && p >= l->task->options->threshold;
    return is_known ? l->classifier.labels[l->order[i]] : "-";
}

static enum status print_end(const struct labels *l)
{
    bool is_nul = l->task->options->is_null_terminated;
    return sink_write(l->task->out, is_nul ? "\0" : "\n", 1);
}

static enum status print_columns(const struct labels *l,
                                 const struct ended *ended)
{
    const struct options *o = l->task->options;
    struct sink *out = l->task->out;
    for (int i = 0; i < l->n_shown; i++) {
        TRY(sink_text(out, i > 0 ? "\t" : ""));
        TRY(sink_text(out, shown_label(l, i)));
        TRY(sink_format(out, "\t%.6f", l->probabilities[l->order[i]]));
    }
    if (!o->hides_text) {
        TRY(sink_text(out, "\t"));
        TRY(o->whole_files ? sink_text(out, l->file)
                           : sink_write(out, ended->text, ended->n_text));
    }
    return print_end(l);
}

static enum status print_probabilities(const struct labels *l)
{
    struct sink *out = l->task->out;
    TRY(json_open(out, "probabilities"));
    for (int i = 0; i < l->n_shown; i++)
        TRY(json_put_number(out, l->classifier.labels[l->order[i]],
                            l->probabilities[l->order[i]]));
    return json_close(out);
}

static enum status print_json(const struct labels *l, const struct ended *ended)
{
    const struct options *o = l->task->options;
    struct sink *out = l->task->out;
    const char *label = shown_label(l, 0);
    TRY(json_begin(out));
    TRY(json_put_string(out, "file", l->file, strlen(l->file)));
    TRY(json_put_integer(out, "offset", l->offset));
    TRY(json_put_integer(out, "bytes", ended->record->n_bytes));
    TRY(json_put_string(out, "label", label, strlen(label)));
    TRY(json_put_number(out, "probability", l->probabilities[l->order[0]]));
    if (l->n_shown > 1)
        TRY(print_probabilities(l));
    if (!o->hides_text && !o->whole_files)
        TRY(json_put_string(out, "record", ended->text, ended->n_text));
    return json_end(out);
}

static enum status print_features(const struct labels *l,
                                  const struct ended *ended)
{
    struct sink *out = l->task->out;
    size_t n = sums_floats(&l->task->model->config);
    const float *x = ended->record->sums;
    for (size_t i = 0; i < n; i++) {
        uint8_t bytes[4];
        store_le(bytes, exact_bits(x[i]), 4);
        if (l->task->options->binary)
            TRY(sink_write(out, bytes, sizeof bytes));
        else
            TRY(sink_format(out, "%s%.9g", i > 0 ? "\t" : "", (double)x[i]));
    }
    return l->task->options->binary ? OK : print_end(l);
}

static enum status end_record(struct labels *l, const struct ended *ended)
{
    if (l->task->options->mode == MODE_EMBED) {
        TRY(print_features(l, ended));
    } else {
        judge(l, ended);
        TRY(l->task->options->json ? print_json(l, ended)
                                   : print_columns(l, ended));
    }
    l->offset += ended->record->n_bytes + (l->end >= 0);
    return OK;
}

/* ---- pieces of input ---------------------------------------------------- */

static void hold_text(struct text *text, const struct record_part *part)
{
    size_t room = RECORD_TEXT_MAX - text->n;
    size_t n = part->n < room ? part->n : room;
    memcpy(text->bytes + text->n, part->bytes, n);
    text->n += n;
}

static enum status judge_aside(struct labels *l)
{
    if (l->task->options->mode != MODE_EMBED)
        return classifier_judge(&l->classifier);
    records_average(l->records, 0, l->records->n_aside);
    return OK;
}

/* Shows what is to be said of the records aside. */
static enum status show_aside(void *context)
{
    struct labels *l = context;
    if (!l->has_aside)
        return OK;
    l->has_aside = false;
    TRY(judge_aside(l));
    for (int i = 0; i < l->records->n_aside; i++) {
        const struct record_part *part = &l->endings[i];
        struct ended ended = {&l->records->aside[i], i, part->bytes,
                              part->n < RECORD_TEXT_MAX ? part->n
                                                        : RECORD_TEXT_MAX};
        if (i == 0) {
            ended.text = l->first_aside.bytes;
            ended.n_text = l->first_aside.n;
        }
        TRY(end_record(l, &ended));
    }
    return sink_flush(l->task->out);
}

/* Items [0, n) have come to their ends; item n goes on when one_goes_on. */
static enum status set_aside(struct labels *l, int n, bool one_goes_on)
{
    struct record_part *endings = l->endings;
    struct text text = l->first_aside;
    TRY(l->task->options->mode == MODE_EMBED
            ? records_set_aside(l->records, n, one_goes_on)
            : classifier_set_aside(&l->classifier, n, one_goes_on));
    l->endings = l->parts;
    l->parts = endings;
    l->first_aside = l->first;
    l->first = text;
    l->first.n = 0;
    l->has_aside = true;
    return OK;
}

/* Of how many records a batch of the piece should be: all that bytes [n] hold,
 * or, where those are too many, equal parts of them. */
static int batch_size(const struct labels *l, const uint8_t *bytes, size_t n)
{
    const uint8_t *end = bytes + n;
    size_t n_records = 1, most = (size_t)l->records->n;
    while (l->end >= 0 &&
           (bytes = memchr(bytes, l->end, (size_t)(end - bytes))))
        n_records += ++bytes < end;
    size_t n_batches = (n_records + most - 1) / most;
    return (int)((n_records + n_batches - 1) / n_batches);
}

/* Cuts up to `size` records from the piece, from offset *i on; n_parts: how
 * many, of which n_ended have come to their ends. */
static void cut_records(struct labels *l, const uint8_t *bytes, size_t n,
                        int size, size_t *i, int *n_parts, int *n_ended)
{
    *n_parts = *n_ended = 0;
    while (*n_parts < size && *i < n) {
        const uint8_t *begin = bytes + *i;
        const uint8_t *end = l->end >= 0 ? memchr(begin, l->end, n - *i) : NULL;
        size_t length = end ? (size_t)(end - begin) : n - *i;
        l->parts[(*n_parts)++] = (struct record_part){begin, length};
        *n_ended += end != NULL;
        *i += length + (end != NULL);
    }
}

/* The items read their parts, of which n_ended end a record; meanwhile, what is
 * aside is shown. */
static enum status feed(struct labels *l, int n, int n_ended)
{
    if (l->task->options->mode != MODE_EMBED)
        return classifier_feed(&l->classifier, l->parts, n, n_ended, l->is_open,
                               show_aside, l);
    TRY(show_aside(l));
    return records_feed(l->records, l->parts, n, l->is_open);
}

/* Reads up to `size` records of the piece. */
static enum status feed_some(struct labels *l, struct reader *reader, size_t *i,
                             size_t n, int size)
{
    int n_parts, n_ended;
    size_t begin = *i;
    cut_records(l, reader->bytes, n, size, i, &n_parts, &n_ended);
    pace_begin(&reader->pace);
    TRY(feed(l, n_parts, n_ended));
    pace_end(&reader->pace, *i - begin);
    l->task->n_read += *i - begin;

    hold_text(&l->first, &l->parts[0]);
    if (n_ended == 0) {
        l->is_open = true;
        return OK;
    }
    l->is_open = n_ended < n_parts;
    TRY(set_aside(l, n_ended, l->is_open));
    if (l->is_open)
        hold_text(&l->first, &l->endings[n_ended]);
    return OK;
}

/* What no end of a record came after, or a file without a byte. */
static enum status end_file(struct labels *l)
{
    if (!l->is_open && !l->task->options->whole_files)
        return OK;
    l->parts[0] = (struct record_part){l->first.bytes, 0};
    TRY(feed(l, 1, 1));
    TRY(set_aside(l, 1, false));
    l->is_open = false;
    return show_aside(l);
}

static enum status label_file(void *context, struct reader *reader,
                              struct stream *stream)
{
    struct labels *l = context;
    (void)stream;
    l->file = reader->source.path;
    l->offset = 0;
    l->is_open = false;
    l->first.n = 0;
    for (size_t n;;) {
        TRY(reader_next(reader, &n));
        if (n == 0)
            return end_file(l);
        int size = batch_size(l, reader->bytes, n);
        for (size_t i = 0; i < n;)
            TRY(feed_some(l, reader, &i, n, size));
        TRY(show_aside(l)); /* its text is in the piece */
    }
}

/* ---- evaluation --------------------------------------------------------- */

/* Reads examples from i on, as many as go together, and counts the answers. */
static enum status evaluate_some(struct labels *l, const struct examples *e,
                                 size_t i, int n, struct confusion *confusion)
{
    for (int j = 0; j < n; j++)
        l->parts[j] = (struct record_part){e->items[i + (size_t)j].text,
                                           e->items[i + (size_t)j].n};
    TRY(classifier_feed(&l->classifier, l->parts, n, n, false, NULL, NULL));
    TRY(classifier_set_aside(&l->classifier, n, false));
    TRY(classifier_judge(&l->classifier));
    for (int j = 0; j < n; j++) {
        struct ended ended = {.record = &l->records->aside[j], .index = j};
        judge(l, &ended);
        bool is_known =
            l->probabilities[l->order[0]] >= l->task->options->threshold;
        confusion_add(confusion, e->items[i + (size_t)j].label,
                      is_known ? l->order[0] : -1);
        l->task->n_read += ended.record->n_bytes;
    }
    return OK;
}

static enum status evaluate_all(struct labels *l, const struct examples *e,
                                struct confusion *confusion)
{
    for (size_t i = 0; i < e->n;) {
        int n =
            e->n - i < (size_t)l->records->n ? (int)(e->n - i) : l->records->n;
        TRY(signals_check());
        message_status("%s: %zu of %zu records", l->task->options->files[0], i,
                       e->n);
        TRY(evaluate_some(l, e, i, n, confusion));
        i += (size_t)n;
    }
    message_progress_end();
    return confusion_print(confusion, l->task->out);
}

static enum status evaluate(struct labels *l)
{
    struct examples examples;
    struct confusion confusion;
    const struct classifier *c = &l->classifier;
    TRY(examples_read(&examples, l->task->options->files[0]));
    enum status status = confusion_open(
        &confusion, examples.labels, examples.n_labels, c->labels, c->n_labels);
    if (status == OK)
        status = evaluate_all(l, &examples, &confusion);
    confusion_close(&confusion);
    examples_free(&examples);
    return status;
}

/* ---- all of it ---------------------------------------------------------- */

static enum status open_classifier(struct labels *l)
{
    const struct options *o = l->task->options;
    TRY(classifier_open(&l->classifier, l->task->engine, o->classify, o->prior,
                        o->engine.n_threads));
    size_t n = (size_t)l->classifier.n_labels;
    l->n_shown = o->top < n ? (int)o->top : (int)n;
    l->probabilities = calloc(n, sizeof *l->probabilities);
    l->order = calloc(n, sizeof *l->order);
    l->records = &l->classifier.records;
    return l->probabilities && l->order ? OK : fail_memory("the labels");
}

static enum status open_features(struct labels *l)
{
    TRY(engine_state_new(l->task->engine, &l->begin));
    TRY(records_open(&l->features, l->task->engine, &l->begin, 1, true));
    l->records = &l->features;
    return OK;
}

static enum status run(struct labels *l)
{
    TRY(l->task->options->mode == MODE_EMBED ? open_features(l)
                                             : open_classifier(l));
    size_t n = (size_t)l->records->n;
    l->first.bytes = malloc(RECORD_TEXT_MAX);
    l->first_aside.bytes = malloc(RECORD_TEXT_MAX);
    l->parts = calloc(n, sizeof *l->parts);
    l->endings = calloc(n, sizeof *l->endings);
    if (!l->first.bytes || !l->first_aside.bytes || !l->parts || !l->endings)
        return fail_memory("a record");
    if (l->task->options->eval)
        return evaluate(l);
    return task_each_file(l->task, label_file, l);
}

enum status task_classify(struct task *task)
{
    const struct options *o = task->options;
    struct labels labels = {
        .task = task,
        .end = o->whole_files          ? -1
               : o->is_null_terminated ? '\0'
                                       : '\n',
    };
    enum status status = run(&labels);
    classifier_close(&labels.classifier);
    records_close(&labels.features);
    engine_state_free(task->engine, labels.begin);
    free(labels.probabilities);
    free(labels.order);
    free(labels.first.bytes);
    free(labels.first_aside.bytes);
    free(labels.parts);
    free(labels.endings);
    return status;
}
