/* task_classify.c -- a label a record, as soon as the record ends; or what
 * the model says of it, for other tools; or how often labels are right.
 *
 * Records are read together, each from the begin, in batches; while one is
 * read the one before it, which was set aside, gets its labels.  An engine that
 * is apart is given a batch while it still has another, and what a piece of
 * input leaves open waits for its end, unless it is long; when no more input
 * waits, all that have ended get their labels at once.  Another engine reads
 * all of a piece, and what it leaves open goes on in the next.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "base/little_endian.h"
#include "base/message.h"
#include "base/signals.h"
#include "classify/classifier.h"
#include "classify/confusion.h"
#include "classify/examples.h"
#include "cmd/json.h"
#include "cmd/task_io.h"

enum {
    RECORD_TEXT_MAX = 1 << 18, /* bytes of a record that are shown         */
    OPEN_MAX = PIECE_BYTES,    /* bytes of one that wait for its end       */
    BATCH_BYTES = OPEN_MAX + PIECE_BYTES
};

/* What is shown of a record. */
struct text {
    uint8_t *bytes; /* [RECORD_TEXT_MAX] */
    size_t n;
};

/* A record at its end: record index of those aside. */
struct ended {
    const struct record *record;
    int index;
    const uint8_t *text; /* what is shown of it */
    size_t n_text;
};

/* What belongs to a set of records: they have n parts, in their bytes, of which
 * n_ended come to the end of a record. */
struct batch {
    uint8_t *bytes; /* [BATCH_BYTES] */
    size_t n_bytes;
    struct record_part *parts; /* [records->n] */
    int n, n_ended;
    struct text head; /* of the first record, what was read before */
};

struct labels {
    struct task *task;
    int end; /* of a record; -1: that of the file */
    const char *file;
    uint64_t offset; /* of the record in the file */
    bool is_open;    /* item 0 has read the begin of a record */
    bool has_aside;  /* records that were not shown yet */
    struct batch batches[RECORD_SETS];
    struct records *records; /* of the classifier, or for the features */

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

/* ---- batches ------------------------------------------------------------ */

static struct batch *next_batch(struct labels *l)
{
    return &l->batches[l->records->next];
}

static void hold_text(struct text *text, const struct record_part *part)
{
    size_t room = RECORD_TEXT_MAX - text->n;
    size_t n = part->n < room ? part->n : room;
    memcpy(text->bytes + text->n, part->bytes, n);
    text->n += n;
}

static void empty_batch(struct batch *b)
{
    b->n_bytes = 0;
    b->n = b->n_ended = 0;
}

/* Adds bytes to the next batch, up to the end of a record or all; returns how
 * many, that end included. */
static size_t add_part(struct labels *l, const uint8_t *bytes, size_t n)
{
    struct batch *b = next_batch(l);
    const uint8_t *end = l->end >= 0 ? memchr(bytes, l->end, n) : NULL;
    size_t length = end ? (size_t)(end - bytes) : n;
    if (b->n == b->n_ended)
        b->parts[b->n++] = (struct record_part){b->bytes + b->n_bytes, 0};
    memcpy(b->bytes + b->n_bytes, bytes, length);
    b->n_bytes += length;
    b->parts[b->n - 1].n += length;
    b->n_ended += end != NULL;
    return length + (end != NULL);
}

static enum status judge_aside(struct labels *l)
{
    if (l->task->options->mode != MODE_EMBED)
        return classifier_judge(&l->classifier);
    records_average(l->records, 0, l->records->sets[l->records->aside].n);
    return OK;
}

/* Shows what is to be said of the records aside. */
static enum status show_aside(void *context)
{
    struct labels *l = context;
    const struct record_set *set = &l->records->sets[l->records->aside];
    struct batch *b = &l->batches[l->records->aside];
    if (!l->has_aside)
        return OK;
    l->has_aside = false;
    TRY(judge_aside(l));
    for (int i = 0; i < set->n; i++) {
        const struct record_part *part = &b->parts[i];
        struct ended ended = {&set->items[i], i, part->bytes,
                              part->n < RECORD_TEXT_MAX ? part->n
                                                        : RECORD_TEXT_MAX};
        if (i == 0 && b->head.n > 0) {
            hold_text(&b->head, part);
            ended.text = b->head.bytes;
            ended.n_text = b->head.n;
        }
        TRY(end_record(l, &ended));
    }
    return sink_flush(l->task->out);
}

/* All that was begun is read and shown. */
static enum status show_all(struct labels *l)
{
    TRY(show_aside(l));
    TRY(records_finish(l->records));
    l->has_aside = true;
    return show_aside(l);
}

/* The next batch is read; meanwhile, what is aside is shown. */
static enum status feed(struct labels *l)
{
    const struct batch *b = next_batch(l);
    if (l->task->options->mode != MODE_EMBED)
        return classifier_feed(&l->classifier, b->parts, b->n, b->n_ended,
                               l->is_open, show_aside, l);
    TRY(show_aside(l));
    return records_feed(l->records, b->parts, b->n, l->is_open);
}

/* The same, but it is only begun, with n records. */
static enum status start(struct labels *l, int n)
{
    const struct batch *b = next_batch(l);
    if (l->task->options->mode != MODE_EMBED)
        return classifier_start(&l->classifier, b->parts, n, l->is_open,
                                show_aside, l);
    TRY(show_aside(l));
    return records_start(l->records, b->parts, n, l->is_open);
}

static enum status set_aside(struct labels *l, int n, bool one_goes_on)
{
    return l->task->options->mode == MODE_EMBED
               ? records_set_aside(l->records, n, one_goes_on)
               : classifier_set_aside(&l->classifier, n, one_goes_on);
}

/* Reads all of the next batch.  Those that ended are set aside. */
static enum status read_batch(struct labels *l)
{
    struct batch *b = next_batch(l);
    TRY(feed(l));
    l->is_open = b->n_ended < b->n;
    if (b->n_ended > 0) {
        TRY(set_aside(l, b->n_ended, l->is_open));
        l->has_aside = true;
        next_batch(l)->head.n = 0;
    }
    if (l->is_open)
        hold_text(&next_batch(l)->head, &b->parts[b->n - 1]);
    empty_batch(next_batch(l));
    return OK;
}

/* Begins to read the records of the next batch that have ended; another that
 * has not moves to the batch after it. */
static enum status begin_batch(struct labels *l)
{
    struct batch *b = next_batch(l);
    const struct record_part *open = &b->parts[b->n_ended];
    bool has_open = b->n_ended < b->n;
    TRY(start(l, b->n_ended));
    records_turn(l->records);
    l->has_aside = true;
    l->is_open = false;
    next_batch(l)->head.n = 0;
    empty_batch(next_batch(l));
    if (has_open)
        add_part(l, open->bytes, open->n);
    return OK;
}

/* ---- pieces of input ---------------------------------------------------- */

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

static bool is_ahead(const struct labels *l)
{
    return l->task->engine->is_apart;
}

static enum status take_batch(struct labels *l)
{
    return is_ahead(l) ? begin_batch(l) : read_batch(l);
}

/* What the piece leaves in the next batch. */
static enum status take_rest(struct labels *l)
{
    const struct batch *b = next_batch(l);
    bool is_long = b->n > b->n_ended && b->parts[b->n_ended].n > OPEN_MAX;
    if (is_ahead(l) && is_long) {
        TRY(show_all(l));
        return read_batch(l);
    }
    return b->n_ended > 0 || (b->n > 0 && !is_ahead(l)) ? take_batch(l) : OK;
}

static enum status read_piece(struct labels *l, struct reader *reader, size_t n)
{
    const uint8_t *bytes = reader->bytes;
    int size = batch_size(l, bytes, n);
    pace_begin(&reader->pace);
    for (size_t i = 0; i < n;) {
        i += add_part(l, bytes + i, n - i);
        if (next_batch(l)->n_ended == size)
            TRY(take_batch(l));
    }
    TRY(take_rest(l));
    pace_end(&reader->pace, n);
    l->task->n_read += n;
    return is_ahead(l) && source_is_ready(&reader->source) ? OK : show_all(l);
}

/* What no end of a record came after, or a file without a byte. */
static enum status end_file(struct labels *l)
{
    struct batch *b = next_batch(l);
    if (b->n == 0 && (l->is_open || l->task->options->whole_files))
        b->parts[b->n++] = (struct record_part){b->bytes, 0};
    b->n_ended = b->n;
    if (b->n > 0)
        TRY(take_batch(l));
    return show_all(l);
}

/* A file that cannot be read to its end has labels up to there. */
static enum status give_up(struct labels *l, struct reader *reader,
                           enum status status)
{
    enum status shown = show_all(l);
    reader->has_failed &= shown == OK;
    return shown == OK ? status : shown;
}

static enum status label_file(void *context, struct reader *reader,
                              struct stream *stream)
{
    struct labels *l = context;
    (void)stream;
    l->file = reader->source.path;
    l->offset = 0;
    l->is_open = false;
    empty_batch(next_batch(l));
    next_batch(l)->head.n = 0;
    for (size_t n;;) {
        enum status status = reader_next(reader, &n);
        if (status != OK)
            return give_up(l, reader, status);
        if (n == 0)
            return end_file(l);
        TRY(read_piece(l, reader, n));
    }
}

/* ---- evaluation --------------------------------------------------------- */

/* Of labelled records, n are counted so far. */
struct evaluation {
    struct labels *labels;
    const struct examples *examples;
    struct confusion *confusion;
    size_t n;
};

/* Counts the answers for the records aside. */
static enum status count_aside(void *context)
{
    struct evaluation *e = context;
    struct labels *l = e->labels;
    const struct record_set *set = &l->records->sets[l->records->aside];
    TRY(classifier_judge(&l->classifier));
    for (int i = 0; i < set->n; i++, e->n++) {
        struct ended ended = {.record = &set->items[i], .index = i};
        judge(l, &ended);
        bool is_known =
            l->probabilities[l->order[0]] >= l->task->options->threshold;
        confusion_add(e->confusion, e->examples->items[e->n].label,
                      is_known ? l->order[0] : -1);
        l->task->n_read += ended.record->n_bytes;
    }
    return OK;
}

/* Begins to read examples from i on, n of them. */
static enum status start_some(struct evaluation *e, size_t i, int n)
{
    struct labels *l = e->labels;
    struct record_part *parts = next_batch(l)->parts;
    for (int j = 0; j < n; j++) {
        const struct example *item = &e->examples->items[i + (size_t)j];
        parts[j] = (struct record_part){item->text, item->n};
    }
    return classifier_start(&l->classifier, parts, n, false, count_aside, e);
}

static enum status evaluate_all(struct evaluation *e)
{
    struct labels *l = e->labels;
    size_t n = e->examples->n, most = (size_t)l->records->n;
    for (size_t i = 0; i < n;) {
        size_t some = n - i < most ? n - i : most;
        TRY(signals_check());
        message_status("%s: %zu of %zu records", l->task->options->files[0], i,
                       n);
        TRY(start_some(e, i, (int)some));
        records_turn(l->records);
        i += some;
    }
    TRY(count_aside(e));
    TRY(records_finish(l->records));
    TRY(count_aside(e));
    message_progress_end();
    return confusion_print(e->confusion, l->task->out);
}

static enum status evaluate(struct labels *l)
{
    struct examples examples;
    struct confusion confusion;
    const struct classifier *c = &l->classifier;
    TRY(examples_read(&examples, l->task->options->files[0]));
    enum status status = confusion_open(
        &confusion, examples.labels, examples.n_labels, c->labels, c->n_labels);
    struct evaluation evaluation = {l, &examples, &confusion, 0};
    if (status == OK)
        status = evaluate_all(&evaluation);
    engine_feed_finish(l->task->engine); /* that has the examples */
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

static enum status open_batch(struct batch *b, size_t n)
{
    b->bytes = malloc(BATCH_BYTES);
    b->parts = calloc(n, sizeof *b->parts);
    b->head.bytes = malloc(RECORD_TEXT_MAX);
    return b->bytes && b->parts && b->head.bytes ? OK : fail_memory("a record");
}

static void close_batch(struct batch *b)
{
    free(b->bytes);
    free(b->parts);
    free(b->head.bytes);
}

static enum status run(struct labels *l)
{
    TRY(l->task->options->mode == MODE_EMBED ? open_features(l)
                                             : open_classifier(l));
    for (int i = 0; i < RECORD_SETS; i++)
        TRY(open_batch(&l->batches[i], (size_t)l->records->n));
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
    for (int i = 0; i < RECORD_SETS; i++)
        close_batch(&labels.batches[i]);
    return status;
}
