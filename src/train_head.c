/* train_head.c -- a classifier from labelled records, on a model as it is.
 *
 * A tenth of the records of each label is held out: the strength of the
 * penalty and the temperature are those that predict it best, and the report
 * is on it unless there is a test set.  The head that is written is then
 * fitted to all records.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train_head.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "catalog.h"
#include "confusion.h"
#include "engine.h"
#include "examples.h"
#include "head.h"
#include "message.h"
#include "records.h"
#include "regression.h"
#include "signals.h"

/* Of the records of a label one in HELD_OUT is held out, the HELD_FIRST-th
 * and every one HELD_OUT after it: none where there are fewer. */
enum { HELD_OUT = 10, HELD_FIRST = 5 };

/* Tried from the strongest down, until the held-out part gets worse. */
static const double penalties[] = {1, 0.3, 0.1, 0.03, 0.01, 0.003};

enum { N_PENALTIES = sizeof penalties / sizeof penalties[0] };

#define PENALTY_DEFAULT 0.1  /* where nothing is held out */
#define SMALLEST_SPREAD 1e-6 /* of a feature that says anything */

/* Features and labels of records. */
struct table {
    float *x;    /* [n][n_features] */
    int *labels; /* [n] */
    size_t n;
};

struct training {
    const struct train_options *options;
    struct model *model;
    struct engine *engine;
    struct state *begin;
    struct records records;
    struct threads *team;
    struct examples examples;
    struct table all;
    size_t n_fit; /* of all, the first ones; the rest are held out */
    struct head head;
    double *w, *best_w; /* [n_features + 1][n_labels] */
    float *logits;      /* [held-out][n_labels] */
    double penalty;
};

static size_t n_features(const struct training *t)
{
    return sums_floats(&t->model->config);
}

static size_t n_weights(const struct training *t)
{
    return (n_features(t) + 1) * (size_t)t->examples.n_labels;
}

/* ---- examples ----------------------------------------------------------- */

static void warn(const struct training *t, size_t n, const char *text)
{
    if (n > 0 && t->options->verbosity > SILENT)
        message_error("warning: %s: %zu %s", t->options->head, n, text);
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
    TRY(examples_read(e, t->options->head));
    TRY(examples_drop(e));
    if (e->n_labels < 2)
        return fail(E_FORMAT,
                    "%s: all records have the label '%s': there is "
                    "nothing to tell apart",
                    t->options->head, e->labels[0]);
    warn(t, e->n_empty, "records without text are left out");
    warn(t, e->n_duplicates, "records are there twice: left out");
    warn(t, e->n_conflicts, "texts have more than one label");
    warn_rare(t);
    return OK;
}

/* The held-out records go to the end; the order stays otherwise. */
static enum status hold_out(struct training *t)
{
    struct examples *e = &t->examples;
    size_t *n_seen = calloc((size_t)e->n_labels, sizeof *n_seen);
    struct example *held = malloc(e->n * sizeof *held);
    size_t n_held = 0;
    t->n_fit = 0;
    for (size_t i = 0; n_seen && held && i < e->n; i++) {
        if (n_seen[e->items[i].label]++ % HELD_OUT == HELD_FIRST - 1)
            held[n_held++] = e->items[i];
        else
            e->items[t->n_fit++] = e->items[i];
    }
    bool is_done = n_seen && held;
    if (is_done)
        memcpy(e->items + t->n_fit, held, n_held * sizeof *held);
    free(held);
    free(n_seen);
    return is_done ? OK : fail_memory("the examples");
}

/* ---- features ----------------------------------------------------------- */

static void free_table(struct table *table)
{
    free(table->x);
    free(table->labels);
}

/* Reads items i and up, as many as go together; n: how many. */
static enum status read_some(struct training *t, const struct examples *e,
                             size_t i, float *x, int *n)
{
    size_t size = n_features(t), left = e->n - i;
    *n = left < (size_t)t->records.n ? (int)left : t->records.n;
    struct record_part *parts = calloc((size_t)*n, sizeof *parts);
    if (!parts)
        return fail_memory("the examples");
    for (int j = 0; j < *n; j++)
        parts[j] = (struct record_part){e->items[i + (size_t)j].text,
                                        e->items[i + (size_t)j].n};
    enum status status = records_feed(&t->records, parts, *n, false);
    for (int j = 0; j < *n && status == OK; j++) {
        records_average(&t->records, j);
        memcpy(x + (size_t)j * size, t->records.items[j].sums,
               size * sizeof *x);
    }
    free(parts);
    return status;
}

static enum status make_table(struct training *t, const struct examples *e,
                              const char *path, struct table *table)
{
    size_t size = n_features(t);
    table->n = e->n;
    table->x = malloc(e->n * size * sizeof *table->x);
    table->labels = malloc(e->n * sizeof *table->labels);
    if (!table->x || !table->labels)
        return fail_memory("the features");
    for (size_t i = 0; i < e->n; i++)
        table->labels[i] = e->items[i].label;
    int n = 0;
    for (size_t i = 0; i < e->n; i += (size_t)n) {
        TRY(signals_check());
        message_status("%s: %zu of %zu records read", path, i, e->n);
        TRY(read_some(t, e, i, table->x + i * size, &n));
    }
    return OK;
}

/* The mean and the spread of every feature. */
static enum status measure_features(struct training *t)
{
    size_t size = n_features(t);
    double n = (double)t->all.n;
    double *sums = calloc(2 * size, sizeof *sums), *squares;
    if (!sums)
        return fail_memory("the features");
    squares = sums + size;
    for (size_t i = 0; i < t->all.n; i++) {
        for (size_t j = 0; j < size; j++) {
            double x = (double)t->all.x[i * size + j];
            sums[j] += x;
            squares[j] += x * x;
        }
    }
    for (size_t j = 0; j < size; j++) {
        double mean = sums[j] / n, variance = squares[j] / n - mean * mean;
        double spread = variance > 0 ? sqrt(variance) : 0;
        t->head.mean[j] = (float)mean;
        t->head.inverse[j] =
            spread > SMALLEST_SPREAD ? (float)(1 / spread) : 0.0f;
    }
    free(sums);
    return OK;
}

/* ---- the fit ------------------------------------------------------------ */

static struct regression problem_of(const struct training *t, size_t n)
{
    return (struct regression){
        .x = t->all.x,
        .labels = t->all.labels,
        .n = n,
        .n_inputs = (int)n_features(t),
        .n_classes = t->examples.n_labels,
        .penalty = t->penalty,
        .team = t->team,
    };
}

static enum status fit(struct training *t, size_t n)
{
    int n_steps = 0;
    struct regression problem = problem_of(t, n);
    message_status("%s: fitting, penalty %g", t->options->head, t->penalty);
    TRY(regression_fit(&problem, t->w, &n_steps));
    message_note("penalty %g: %d steps", t->penalty, n_steps);
    return OK;
}

/* The weights as floats, and the logits of the held-out records by them. */
static void judge_held_out(struct training *t)
{
    size_t size = n_features(t);
    for (size_t i = 0; i < n_weights(t); i++)
        t->head.w[i] = (float)t->w[i];
    regression_logits(t->logits, t->all.x + t->n_fit * size, t->head.w,
                      t->all.n - t->n_fit, (int)size, t->examples.n_labels);
}

/* Leaves the best penalty, and the weights and logits that it gave. */
static enum status choose_penalty(struct training *t)
{
    size_t n_held = t->all.n - t->n_fit;
    const int *labels = t->all.labels + t->n_fit;
    double best = INFINITY, best_penalty = PENALTY_DEFAULT;
    for (int i = 0; i < N_PENALTIES; i++) {
        t->penalty = penalties[i];
        TRY(fit(t, t->n_fit));
        judge_held_out(t);
        double bits =
            regression_bits(t->logits, labels, n_held, t->examples.n_labels, 1);
        message_note("held out: %.4f bits a record", bits);
        if (bits >= best)
            break;
        best = bits;
        best_penalty = t->penalty;
        memcpy(t->best_w, t->w, n_weights(t) * sizeof *t->w);
    }
    t->penalty = best_penalty;
    memcpy(t->w, t->best_w, n_weights(t) * sizeof *t->w);
    judge_held_out(t);
    t->head.temperature =
        regression_temperature(t->logits, labels, n_held, t->examples.n_labels);
    message_note("temperature %.3f", t->head.temperature);
    return OK;
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
        status = make_table(t, examples, t->options->test, &table);
    if (status == OK) {
        head_classify(&t->head, logits, table.x, table.n);
        status = report(t, logits, table.labels, table.n, examples, out);
    }
    free(logits);
    free_table(&table);
    return status;
}

/* ---- all of it ---------------------------------------------------------- */

static enum status open_head(struct training *t)
{
    size_t size = n_features(t), k = (size_t)t->examples.n_labels;
    size_t n_held = t->examples.n - t->n_fit;
    t->head.labels = (char **)calloc(k, sizeof(char *));
    t->head.mean = calloc(size, sizeof(float));
    t->head.inverse = calloc(size, sizeof(float));
    t->head.w = calloc(n_weights(t), sizeof(float));
    t->w = calloc(n_weights(t), sizeof(double));
    t->best_w = calloc(n_weights(t), sizeof(double));
    t->logits = calloc((n_held + 1) * k, sizeof(float));
    if (!t->head.labels || !t->head.mean || !t->head.inverse || !t->head.w ||
        !t->w || !t->best_w || !t->logits)
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
    return OK;
}

/* The weights of the fit to all records, at the temperature. */
static enum status finish_head(struct training *t)
{
    TRY(fit(t, t->all.n));
    for (size_t i = 0; i < n_weights(t); i++)
        t->head.w[i] = (float)(t->w[i] / t->head.temperature);
    return OK;
}

/* test: of the test set, or NULL. */
static enum status make_head(struct training *t, const struct examples *test,
                             struct sink *out)
{
    size_t n_held = t->examples.n - t->n_fit;
    TRY(open_head(t));
    TRY(make_table(t, &t->examples, t->options->head, &t->all));
    TRY(measure_features(t));
    head_standardise(&t->head, t->all.x, t->all.n);
    t->penalty = PENALTY_DEFAULT;
    if (n_held > 0)
        TRY(choose_penalty(t));
    if (n_held > 0 && !test)
        TRY(report(t, t->logits, t->all.labels + t->n_fit, n_held, &t->examples,
                   out));
    TRY(finish_head(t));
    if (test)
        TRY(report_test(t, test, out));
    message_progress_end();
    return head_save(&t->head, t->options->output);
}

static enum status open_all(struct training *t, const char *model)
{
    const struct train_options *o = t->options;
    const struct engine_options engine = {
        .device = o->device,
        .cuda_index = o->cuda_index,
        .n_threads = (int)o->n_threads,
    };
    char text[160];
    signals_guard_mapping(model);
    TRY(model_open(&t->model, model));
    TRY(model_needs_int8(t->model, "a head"));
    TRY(engine_open(&t->engine, t->model, &engine));
    engine_describe(t->engine, text);
    message_note("model %s, device %s", model, text);
    TRY(engine_state_new(t->engine, &t->begin));
    TRY(records_open(&t->records, t->engine, &t->begin, 1, true));
    return threads_open(&t->team, (int)o->n_threads);
}

static void close_all(struct training *t)
{
    threads_close(t->team);
    records_close(&t->records);
    engine_state_free(t->engine, t->begin);
    engine_close(t->engine);
    model_close(t->model);
    free_table(&t->all);
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
    TRY(hold_out(t));
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

enum status train_head(const struct train_options *options, struct sink *out)
{
    struct training training = {.options = options};
    struct examples test = {0};
    enum status status = run(&training, &test, out);
    message_progress_end();
    examples_free(&training.examples);
    examples_free(&test);
    return status;
}
