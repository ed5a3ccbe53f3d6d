/* train_classifier.c -- a linear classifier from labelled records, on a model
 * that stays as it is.
 *
 * A tenth of the records of each label is held out, to choose how to fit
 * (linear_fit.h), and to report on unless there is a test set.  The classifier
 * that is written is then fitted to all records, and to copies that are cut
 * short.  While fits are compared, the grams are counted without the held-out
 * records, which would otherwise look easier than they are.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/train_classifier.h"

#include <stdlib.h>
#include <string.h>

#include "base/message.h"
#include "base/signals.h"
#include "base/text.h"
#include "classify/confusion.h"
#include "classify/example_sets.h"
#include "classify/examples.h"
#include "classify/feature_table.h"
#include "classify/gram_counts.h"
#include "classify/gram_refine.h"
#include "classify/linear_classifier_file.h"
#include "classify/linear_fit.h"
#include "classify/record_reader.h"
#include "engine/engine.h"
#include "model/catalog.h"

/* At most so many pairs of a gram and a label: some 6 MB in a file. */
enum { GRAM_PAIRS = 8000000 };
_Static_assert((int)GRAM_PAIRS <= (int)GRAMS_MAX, "a file holds their grams");

struct training {
    const struct classifier_options *options;
    struct model *model;
    struct engine *engine;
    struct state *start; /* of every record */
    struct record_reader reader;
    struct threads *team;
    struct examples examples; /* those to fit, those held out, the cut ones */
    struct feature_table table;
    struct linear_classifier classifier;
    struct linear_fit fit;
};

/* ---- examples ----------------------------------------------------------- */

/* About n of these: "left out", n, "record", " without text". */
static void warn(const struct training *t, const char *before, size_t n,
                 const char *noun, const char *after)
{
    if (n > 0)
        message_warning("%s: %s %zu %s%s%s", t->options->examples, before, n,
                        noun, text_plural(n), after);
}

static void warn_rare(const struct training *t)
{
    size_t n_each[LABELS_MAX] = {0}, n_rare = 0;
    for (size_t i = 0; i < t->examples.n; i++)
        n_each[t->examples.items[i].label]++;
    for (int k = 0; k < t->examples.n_labels; k++)
        n_rare += n_each[k] < HELD_FIRST;
    warn(t, "nothing is held out of", n_rare, "label",
         " with fewer than 5 records");
}

static enum status read_examples(struct training *t)
{
    struct examples *e = &t->examples;
    TRY(examples_read(e, t->options->examples));
    TRY(examples_drop(e));
    if (e->n_labels < 2)
        return fail(E_FORMAT,
                    "%s: all records have the label '%s': there is "
                    "nothing to tell apart",
                    t->options->examples, e->labels[0]);
    warn(t, "left out", e->n_empty, "record", " without text");
    warn(t, "left out", e->n_duplicates, "repeated record", "");
    warn(t, "kept", e->n_conflicts, "text", " with more than one label");
    warn_rare(t);
    TRY(sets_hold_out(e, &t->fit.n_fit));
    t->fit.n_held = e->n - t->fit.n_fit;
    return OK;
}

/* NULL: the classifier has no features. */
static struct record_reader *find_reader(struct training *t)
{
    return t->options->has_no_features ? NULL : &t->reader;
}

/* ---- the report --------------------------------------------------------- */

static int best_answer(const float *logits, int n)
{
    int best = 0;
    for (int k = 1; k < n; k++) {
        if (logits[k] > logits[best])
            best = k;
    }
    return best;
}

/* labels: [n], the true ones, of names. */
static enum status report(const struct training *t, const float *logits,
                          const int *labels, size_t n,
                          const struct examples *names, struct sink *out)
{
    struct confusion confusion;
    int k = t->examples.n_labels;
    TRY(confusion_open(&confusion, names->labels, names->n_labels,
                       t->examples.labels, k));
    for (size_t i = 0; i < n; i++)
        confusion_add(&confusion, labels[i],
                      best_answer(logits + i * (size_t)k, k));
    message_progress_end();
    enum status status = confusion_print(&confusion, out);
    confusion_close(&confusion);
    return status;
}

/* examples: those of the test set. */
static enum status report_test(struct training *t,
                               const struct examples *examples,
                               struct sink *out)
{
    struct feature_table table = {0};
    float *logits =
        malloc(examples->n * (size_t)t->examples.n_labels * sizeof *logits);
    enum status status = logits ? OK : fail_memory("the test");
    if (status == OK)
        status = feature_table_read(&table, examples, find_reader(t),
                                    t->options->test);
    if (status == OK)
        status = feature_table_weigh_grams(&table, examples, examples->n,
                                           &t->classifier.grams, 0);
    if (status == OK) {
        linear_classifier_compute(&t->classifier, logits, table.x,
                                  table.evidence, 0, table.n);
        status = report(t, logits, table.labels, table.n, examples, out);
    }
    free(logits);
    feature_table_free(&table);
    return status;
}

/* ---- all of it ---------------------------------------------------------- */

/* Only for a classifier without features: weights of features would be fitted
 * to the same examples that the corrections were learnt from. */
static enum status refine(struct training *t, size_t n)
{
    message_status("%s: weighing words", t->options->examples);
    return gram_refine(&t->classifier.grams, &t->examples, n);
}

/* Counts those of the first n examples, and weighs them for the first
 * n_weighed; n_counted: see feature_table_weigh_grams(). */
static enum status count_grams(struct training *t, size_t n, size_t n_weighed,
                               size_t n_counted)
{
    struct grams *grams = &t->classifier.grams;
    message_status("%s: counting words", t->options->examples);
    grams_close(grams);
    TRY(gram_counts_make(grams, &t->examples, n, GRAM_PAIRS));
    message_note("%zu grams, %zu pairs of a gram and a label", grams->n,
                 grams->n_pairs);
    if (t->options->has_no_features)
        TRY(refine(t, n));
    return feature_table_weigh_grams(&t->table, &t->examples, n_weighed, grams,
                                     n_counted);
}

static enum status copy_labels(struct linear_classifier *c,
                               const struct examples *examples)
{
    c->labels = (char **)calloc((size_t)examples->n_labels, sizeof(char *));
    for (int i = 0; c->labels && i < examples->n_labels; i++) {
        c->labels[i] = strdup(examples->labels[i]);
        if (!c->labels[i])
            break;
        c->n_labels++;
    }
    return c->n_labels == examples->n_labels ? OK : fail_memory("the labels");
}

/* With labels, and room for weights. */
static enum status open_classifier(struct training *t)
{
    struct linear_classifier *c = &t->classifier;
    TRY(copy_labels(c, &t->examples));
    c->n_features = (int)t->table.n_features;
    if (t->model)
        linear_classifier_name_model(c, t->model);
    return linear_classifier_make_room(c);
}

/* Reads the examples, and standardises their features. */
static enum status make_table(struct training *t)
{
    struct linear_classifier *c = &t->classifier;
    TRY(sets_add_cuts(&t->examples));
    TRY(feature_table_read(&t->table, &t->examples, find_reader(t),
                           t->options->examples));
    TRY(open_classifier(t));
    TRY(feature_table_measure(&t->table, c->mean, c->inverse));
    linear_classifier_standardise(c, t->table.x, t->table.n);
    return OK;
}

/* The classifier that is written is fitted to all examples, with the grams of
 * all; a cut copy is treated as part of its original. */
static enum status fit_all(struct training *t)
{
    size_t n_whole = t->fit.n_fit + t->fit.n_held, n = t->examples.n;
    TRY(count_grams(t, n_whole, n, n));
    return linear_fit_all(&t->fit);
}

/* test: of the test set, or NULL. */
static enum status make_classifier(struct training *t,
                                   const struct examples *test,
                                   struct sink *out)
{
    struct linear_fit *f = &t->fit;
    f->classifier = &t->classifier;
    f->table = &t->table;
    f->team = t->team;
    f->path = t->options->examples;
    TRY(make_table(t));
    TRY(count_grams(t, f->n_fit, f->n_fit + f->n_held, f->n_fit));
    TRY(linear_fit_choose(f));
    if (f->n_held > 0 && !test)
        TRY(report(t, f->logits, t->table.labels + f->n_fit, f->n_held,
                   &t->examples, out));
    TRY(fit_all(t));
    if (test)
        TRY(report_test(t, test, out));
    message_progress_end();
    return linear_classifier_save(&t->classifier, t->options->output);
}

static enum status open_model(struct training *t, const char *model)
{
    const struct classifier_options *o = t->options;
    char text[160];
    signals_guard_mapping(model);
    TRY(model_open(&t->model, model));
    TRY(model_needs_int8(t->model, "a head"));
    TRY(engine_open(&t->engine, t->model, &o->engine));
    engine_describe(t->engine, text);
    message_note("model %s, device %s", model, text);
    TRY(engine_state_new(t->engine, &t->start));
    return record_reader_open(&t->reader, t->engine, &t->start, 1, true, NULL,
                              1);
}

static void close_all(struct training *t)
{
    threads_close(t->team);
    record_reader_close(&t->reader);
    engine_state_free(t->engine, t->start);
    engine_close(t->engine);
    model_close(t->model);
    feature_table_free(&t->table);
    linear_fit_free(&t->fit);
    linear_classifier_free(&t->classifier);
    examples_free(&t->examples);
}

static enum status open_all(struct training *t)
{
    char *model;
    TRY(threads_open(&t->team, t->options->engine.n_threads));
    if (t->options->has_no_features)
        return OK;
    TRY(catalog_find(&model, t->options->model));
    enum status status = open_model(t, model);
    free(model);
    return status;
}

/* Reads the files first: errors in them show before any work. */
static enum status run(struct training *t, struct examples *test,
                       struct sink *out)
{
    TRY(read_examples(t));
    if (t->options->test)
        TRY(examples_read(test, t->options->test));
    TRY(open_all(t));
    return make_classifier(t, t->options->test ? test : NULL, out);
}

enum status train_classifier(const struct classifier_options *options,
                             struct sink *out)
{
    struct training training = {.options = options};
    struct examples test = {0};
    enum status status = run(&training, &test, out);
    message_progress_end();
    close_all(&training);
    examples_free(&test);
    return status;
}
