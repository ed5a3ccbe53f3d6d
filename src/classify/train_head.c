/* train_head.c -- a classifier from labelled records, on a model as it is.
 *
 * A tenth of the records of each label is held out: the strength of the
 * penalty, the ease of the grams and the temperature are those that predict
 * it best, and the report is on it unless there is a test set.  The head that
 * is written is then fitted to all records, and to copies that are cut short.
 * For the choice grams are those of the records that are not held out: by
 * their labels too, which would make the others look easier than they are.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/train_head.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/message.h"
#include "base/signals.h"
#include "classify/confusion.h"
#include "classify/example_sets.h"
#include "classify/examples.h"
#include "classify/gram_choice.h"
#include "classify/linear_classifier.h"
#include "classify/record_reader.h"
#include "classify/regression.h"
#include "classify/table.h"
#include "engine/engine.h"
#include "model/catalog.h"

/* The first penalty, and the only one where nothing is held out; then so many
 * times weaker, or else so many times stronger, for as long as that is
 * better, for at most so many steps. */
#define PENALTY_FIRST 0.1
#define PENALTY_STEP  0.3

enum { PENALTY_STEPS = 3 };

/* How much easier a record's grams have it than its features, where 1 would
 * make both as strong, as they are scaled; then a step more, or else a step
 * less, for as long as that is better. */
#define EASE_FIRST 1.5
#define EASE_STEP  2.0

enum { EASE_STEPS = 2 };

/* So many grams: all their weights take 1.5 MiB at most. */
enum { GRAM_WEIGHTS = 3 << 19 };

struct training {
    const struct head_options *options;
    struct model *model;
    struct engine *engine;
    struct state *start; /* of every record */
    struct record_reader reader;
    struct threads *team;
    struct examples examples;
    struct table all;
    size_t n_fit;       /* of all, the first ones */
    size_t n_held;      /* after them, held out; then come those cut short */
    struct grams grams; /* of all examples, where that of the head is of those
                         * that are not held out */
    struct head head;
    double *w, *best_w; /* [n_features + grams.n + 1][n_labels] */
    float *logits;      /* [n_held][n_labels] */
    double penalty, ease;
    double bits, best_bits; /* a held-out record, by w and by best_w */
};

static size_t n_features(const struct training *t)
{
    return sums_floats(&t->model->config);
}

static size_t n_weights(const struct training *t)
{
    return (n_features(t) + (size_t)t->head.grams.n + 1) *
           (size_t)t->examples.n_labels;
}

/* ---- examples ----------------------------------------------------------- */

static void warn(const struct training *t, size_t n, const char *text)
{
    if (n > 0)
        message_warning("%s: %zu %s", t->options->examples, n, text);
}

static void warn_rare(const struct training *t)
{
    size_t n_rare = 0;
    for (int k = 0; k < t->examples.n_labels; k++) {
        size_t n = 0;
        for (size_t i = 0; i < t->examples.n; i++)
            n += t->examples.items[i].label == k;
        n_rare += n < HELD_FIRST;
    }
    warn(t, n_rare, "labels have fewer than 5 records: none is held out");
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
    warn(t, e->n_empty, "records without text are left out");
    warn(t, e->n_duplicates, "records are there twice: left out");
    warn(t, e->n_conflicts, "texts have more than one label");
    warn_rare(t);
    TRY(sets_hold_out(e, &t->n_fit));
    t->n_held = e->n - t->n_fit;
    return OK;
}

/* ---- the fit ------------------------------------------------------------ */

static struct regression problem_of(const struct training *t, size_t n)
{
    return (struct regression){
        .x = t->all.x,
        .labels = t->all.labels,
        .weights = t->all.weights,
        .n = n,
        .n_inputs = (int)n_features(t),
        .n_classes = t->examples.n_labels,
        .penalty = t->penalty,
        .team = t->team,
        .sparse = &t->all.grams,
        .n_sparse = t->head.grams.n,
        .ease = t->ease,
    };
}

static enum status fit(struct training *t, size_t n)
{
    int n_steps = 0;
    struct regression problem = problem_of(t, n);
    message_status("%s: fitting, penalty %g", t->options->examples, t->penalty);
    TRY(regression_fit(&problem, t->w, &n_steps));
    message_note("penalty %g, ease %g: %d steps", t->penalty, t->ease, n_steps);
    return OK;
}

/* w as the floats of the head, divided by the temperature. */
static void take_weights(struct training *t)
{
    size_t k = (size_t)t->examples.n_labels, n = n_features(t) * k;
    size_t n_grams = (size_t)t->head.grams.n * k;
    double temperature = t->head.temperature;
    for (size_t i = 0; i < n; i++)
        t->head.w[i] = (float)(t->w[i] / temperature);
    for (size_t i = 0; i < n_grams; i++)
        t->head.gram_w[i] = (float)(t->ease * t->w[n + i] / temperature);
    for (size_t i = 0; i < k; i++)
        t->head.w[n + i] = (float)(t->w[n + n_grams + i] / temperature);
}

/* The logits of the held-out records by w, and the bits that they cost. */
static void judge_held_out(struct training *t)
{
    size_t size = n_features(t), n_held = t->n_held;
    int k = t->examples.n_labels;
    take_weights(t);
    regression_logits(t->logits, t->all.x + t->n_fit * size, t->head.w, n_held,
                      (int)size, k);
    sparse_add_product(t->logits, &t->all.grams, t->n_fit, t->n_fit + n_held,
                       t->head.gram_w, k);
    t->bits =
        regression_bits(t->logits, t->all.labels + t->n_fit, n_held, k, 1);
}

/* Fits without the held-out records; true when that is the best so far. */
static enum status try_fit(struct training *t, bool *is_better)
{
    TRY(fit(t, t->n_fit));
    judge_held_out(t);
    message_note("held out: %.4f bits a record", t->bits);
    *is_better = t->bits < t->best_bits;
    if (*is_better) {
        t->best_bits = t->bits;
        memcpy(t->best_w, t->w, n_weights(t) * sizeof *t->w);
    }
    return OK;
}

/* From the best penalty on by one factor for as long as that is better. */
static enum status move_penalty(struct training *t, double factor, int n_steps)
{
    bool is_better = true;
    double best = t->penalty;
    for (int i = 0; i < n_steps && is_better; i++) {
        t->penalty = best * factor;
        TRY(try_fit(t, &is_better));
        best = is_better ? t->penalty : best;
    }
    t->penalty = best;
    memcpy(t->w, t->best_w, n_weights(t) * sizeof *t->w);
    return OK;
}

/* w such that the logits stay when the ease becomes another. */
static void change_ease(struct training *t, double ease)
{
    size_t k = (size_t)t->examples.n_labels, n = n_features(t) * k;
    for (size_t i = 0; i < (size_t)t->head.grams.n * k; i++)
        t->w[n + i] *= t->ease / ease;
    t->ease = ease;
}

static enum status move_ease(struct training *t, double factor, int n_steps)
{
    bool is_better = true;
    double best = t->ease;
    for (int i = 0; i < n_steps && is_better; i++) {
        change_ease(t, best * factor);
        TRY(try_fit(t, &is_better));
        best = is_better ? t->ease : best;
    }
    t->ease = best;
    memcpy(t->w, t->best_w, n_weights(t) * sizeof *t->w);
    return OK;
}

static enum status choose_temperature(struct training *t)
{
    judge_held_out(t);
    t->head.temperature = regression_temperature(
        t->logits, t->all.labels + t->n_fit, t->n_held, t->examples.n_labels);
    message_note("temperature %.3f", t->head.temperature);
    return OK;
}

/* Leaves the best penalty and ease, and the weights and logits they gave. */
static enum status choose(struct training *t)
{
    double penalty = t->penalty, ease = t->ease;
    bool is_better;
    t->best_bits = INFINITY;
    TRY(try_fit(t, &is_better));
    TRY(move_penalty(t, PENALTY_STEP, PENALTY_STEPS));
    if (t->penalty == penalty)
        TRY(move_penalty(t, 1 / PENALTY_STEP, PENALTY_STEPS));
    TRY(move_ease(t, EASE_STEP, EASE_STEPS));
    if (t->ease == ease)
        TRY(move_ease(t, 1 / EASE_STEP, EASE_STEPS));
    return choose_temperature(t);
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
    struct table table = {0};
    float *logits =
        malloc(examples->n * (size_t)t->examples.n_labels * sizeof *logits);
    enum status status = logits ? OK : fail_memory("the test");
    if (status == OK)
        status = table_read(&table, examples, &t->reader, t->options->test);
    if (status == OK)
        status = table_read_grams(&table, examples, &t->head.grams);
    if (status == OK) {
        head_classify(&t->head, logits, table.x, &table.grams, 0, table.n);
        status = report(t, logits, table.labels, table.n, examples, out);
    }
    free(logits);
    table_free(&table);
    return status;
}

/* ---- all of it ---------------------------------------------------------- */

static enum status choose_grams(struct training *t)
{
    int n = GRAM_WEIGHTS / t->examples.n_labels;
    n = n < GRAMS_MAX ? n : GRAMS_MAX;
    message_status("%s: choosing words", t->options->examples);
    TRY(gram_choice_make(&t->head.grams, &t->examples, t->n_fit, n));
    TRY(gram_choice_make(&t->grams, &t->examples, t->examples.n, n));
    message_note("%d grams, %d of all records", t->head.grams.n, t->grams.n);
    return OK;
}

/* Room for weights of the grams that the head has; all begin at zero. */
static enum status open_weights(struct training *t)
{
    size_t k = (size_t)t->examples.n_labels;
    free(t->head.gram_w);
    free(t->w);
    free(t->best_w);
    t->head.gram_w = calloc((size_t)t->head.grams.n * k + 1, sizeof(float));
    t->w = calloc(n_weights(t), sizeof(double));
    t->best_w = calloc(n_weights(t), sizeof(double));
    return t->head.gram_w && t->w && t->best_w ? OK : fail_memory("a head");
}

static enum status open_head(struct training *t)
{
    size_t size = n_features(t), k = (size_t)t->examples.n_labels;
    t->head.labels = (char **)calloc(k, sizeof(char *));
    t->head.mean = calloc(size, sizeof(float));
    t->head.inverse = calloc(size, sizeof(float));
    t->head.w = calloc((size + 1) * k, sizeof(float));
    t->logits = calloc((t->n_held + 1) * k, sizeof(float));
    if (!t->head.labels || !t->head.mean || !t->head.inverse || !t->head.w ||
        !t->logits)
        return fail_memory("a head");
    for (; t->head.n_labels < t->examples.n_labels; t->head.n_labels++) {
        const char *label = t->examples.labels[t->head.n_labels];
        t->head.labels[t->head.n_labels] = strdup(label);
        if (!t->head.labels[t->head.n_labels])
            return fail_memory("the labels");
    }
    t->head.n_features = (int)size;
    t->head.temperature = 1;
    head_name_model(&t->head, t->model);
    return open_weights(t);
}

/* The weights of the fit to all records, by the grams of all, at the
 * temperature. */
static enum status finish_head(struct training *t)
{
    grams_close(&t->head.grams);
    t->head.grams = t->grams;
    t->grams = (struct grams){0};
    TRY(open_weights(t));
    TRY(table_read_grams(&t->all, &t->examples, &t->head.grams));
    TRY(fit(t, t->all.n));
    take_weights(t);
    return OK;
}

/* test: of the test set, or NULL. */
static enum status make_head(struct training *t, const struct examples *test,
                             struct sink *out)
{
    TRY(choose_grams(t));
    TRY(sets_add_cuts(&t->examples));
    TRY(open_head(t));
    TRY(table_read(&t->all, &t->examples, &t->reader, t->options->examples));
    TRY(table_read_grams(&t->all, &t->examples, &t->head.grams));
    TRY(table_measure(&t->all, t->head.mean, t->head.inverse));
    head_standardise(&t->head, t->all.x, t->all.n);
    t->penalty = PENALTY_FIRST;
    t->ease = EASE_FIRST * sqrt((double)n_features(t));
    if (t->n_held > 0)
        TRY(choose(t));
    if (t->n_held > 0 && !test)
        TRY(report(t, t->logits, t->all.labels + t->n_fit, t->n_held,
                   &t->examples, out));
    TRY(finish_head(t));
    if (test)
        TRY(report_test(t, test, out));
    message_progress_end();
    return head_save(&t->head, t->options->output);
}

static enum status open_all(struct training *t, const char *model)
{
    const struct head_options *o = t->options;
    char text[160];
    signals_guard_mapping(model);
    TRY(model_open(&t->model, model));
    TRY(model_needs_int8(t->model, "a head"));
    TRY(engine_open(&t->engine, t->model, &o->engine));
    engine_describe(t->engine, text);
    message_note("model %s, device %s", model, text);
    TRY(engine_state_new(t->engine, &t->start));
    TRY(record_reader_open(&t->reader, t->engine, &t->start, 1, true, NULL, 1));
    return threads_open(&t->team, o->engine.n_threads);
}

static void close_all(struct training *t)
{
    threads_close(t->team);
    record_reader_close(&t->reader);
    engine_state_free(t->engine, t->start);
    engine_close(t->engine);
    model_close(t->model);
    table_free(&t->all);
    grams_close(&t->grams);
    free(t->w);
    free(t->best_w);
    free(t->logits);
    head_free(&t->head);
    examples_free(&t->examples);
}

/* What can be wrong with the files is found before any work. */
static enum status run(struct training *t, struct examples *test,
                       struct sink *out)
{
    char *model;
    TRY(read_examples(t));
    if (t->options->test)
        TRY(examples_read(test, t->options->test));
    TRY(catalog_find(&model, t->options->model));
    enum status status = open_all(t, model);
    if (status == OK)
        status = make_head(t, t->options->test ? test : NULL, out);
    close_all(t);
    free(model);
    return status;
}

enum status train_head(const struct head_options *options, struct sink *out)
{
    struct training training = {.options = options};
    struct examples test = {0};
    enum status status = run(&training, &test, out);
    message_progress_end();
    examples_free(&training.examples);
    examples_free(&test);
    return status;
}
