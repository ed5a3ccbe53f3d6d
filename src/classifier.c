/* classifier.c -- which label a record has.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classifier.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "catalog.h"
#include "exact.h"
#include "examples.h"
#include "regression.h"
#include "snapshot.h"
#include "threads.h"

enum { RECORDS_TO_SHARE = 16 }; /* from so many on threads gain */

#define SUFFIX ".state"
#define LN2    0x1.62e42fefa39efp-1

/* ---- states ------------------------------------------------------------- */

static int count_states(const char *choice)
{
    int n = 1;
    for (; *choice; choice++)
        n += *choice == ',';
    return n;
}

static bool is_state(const char *path)
{
    size_t n = strlen(path), n_suffix = strlen(SUFFIX);
    return n > n_suffix && strcmp(path + n - n_suffix, SUFFIX) == 0;
}

/* "spam" from "folder/spam.state". */
static enum status name_state(char **label, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t n = strlen(name) - (is_state(name) ? strlen(SUFFIX) : 0);
    *label = strndup(name, n);
    if (!*label)
        return fail_memory("the labels");
    return label_check(*label) == OK ? OK : status_prefix(E_USAGE, path);
}

static enum status load_state(struct classifier *c, const char *path)
{
    const struct model *model = c->engine->model;
    struct fingerprint fingerprint;
    struct snapshot snapshot;
    int i = c->n_labels;
    TRY(name_state(&c->names[i], path));
    c->n_labels++;
    for (int j = 0; j < i; j++) {
        if (strcmp(c->names[j], c->names[i]) == 0)
            return fail(E_USAGE, "two states have the label '%s'", c->names[i]);
    }
    TRY(engine_state_new(c->engine, &c->begins[i]));
    c->n_begins++;
    model_fingerprint(model, &fingerprint);
    TRY(snapshot_load(&snapshot, path, &fingerprint,
                      model_state_floats(&model->config)));
    enum status status =
        engine_state_set(c->engine, c->begins[i], snapshot.floats);
    snapshot_free(&snapshot);
    return status;
}

/* paths: a copy of the choice, to be cut. */
static enum status load_states(struct classifier *c, char *paths)
{
    for (char *next; (next = strsep(&paths, ","));)
        TRY(load_state(c, next));
    return OK;
}

static enum status bad_priors(int n)
{
    return fail(E_USAGE, "--prior needs %d numbers above 0 with commas between",
                n);
}

static enum status read_priors(struct classifier *c, const char *text)
{
    double sum = 0;
    for (int i = 0; i < c->n_labels && text; i++) {
        char *end;
        double p = strtod(text, &end);
        bool is_last = i == c->n_labels - 1;
        if (end == text || *end != (is_last ? '\0' : ',') ||
            !(p > 1e-30 && p < 1e30))
            return bad_priors(c->n_labels);
        c->priors[i] = (float)p;
        sum += p;
        text = end + 1;
    }
    for (int i = 0; i < c->n_labels && text; i++)
        c->priors[i] = exact_log2((float)((double)c->priors[i] / sum));
    return OK;
}

static enum status open_states(struct classifier *c, const char *choice,
                               const char *priors)
{
    size_t n = (size_t)count_states(choice);
    if (n > LABELS_MAX)
        return fail(E_USAGE, "more than %d states", LABELS_MAX);
    c->names = (char **)calloc(n, sizeof(char *));
    c->begins = (struct state **)calloc(n, sizeof(struct state *));
    c->priors = calloc(n, sizeof *c->priors);
    char *paths = strdup(choice);
    enum status status = c->names && c->begins && c->priors && paths
                             ? load_states(c, paths)
                             : fail_memory("the states");
    free(paths);
    c->labels = (const char *const *)c->names;
    return status == OK ? read_priors(c, priors) : status;
}

/* ---- a head ------------------------------------------------------------- */

static enum status open_head(struct classifier *c, const char *choice)
{
    char *path;
    TRY(catalog_find_head(&path, choice));
    enum status status = head_open(&c->head, path);
    if (status == OK)
        status = head_check_model(&c->head, path, c->engine->model);
    free(path);
    TRY(status);
    c->labels = (const char *const *)c->head.labels;
    c->n_labels = c->head.n_labels;
    c->begins = (struct state **)calloc(1, sizeof(struct state *));
    if (!c->begins)
        return fail_memory("a head");
    TRY(engine_state_new(c->engine, &c->begins[0]));
    c->n_begins = 1;
    return OK;
}

/* ---- both --------------------------------------------------------------- */

static enum status open_records(struct classifier *c)
{
    TRY(records_open(&c->records, c->engine, c->begins, c->n_begins,
                     c->head.w != NULL));
    size_t n = (size_t)c->records.n;
    c->logits = calloc(n * (size_t)c->n_labels, sizeof *c->logits);
    c->features = calloc(n * (size_t)c->head.n_features + 1, sizeof(float));
    if (c->head.grams.n > 0)
        c->bags = calloc(n, sizeof *c->bags);
    bool has_bags = c->bags || c->head.grams.n == 0;
    return c->logits && c->features && has_bags ? OK : fail_memory("records");
}

enum status classifier_open(struct classifier *classifier,
                            struct engine *engine, const char *choice,
                            const char *priors, int n_threads)
{
    *classifier = (struct classifier){.engine = engine, .n_threads = n_threads};
    enum status status;
    if (strchr(choice, ','))
        status = open_states(classifier, choice, priors);
    else if (is_state(choice))
        status = fail(E_USAGE,
                      "%s: one state alone is no choice: name several, with "
                      "commas between",
                      choice);
    else if (priors)
        status = fail(E_USAGE, "--prior is for states, and a head is one file");
    else
        status = open_head(classifier, choice);
    if (status == OK)
        status = open_records(classifier);
    if (status != OK)
        classifier_close(classifier);
    return status;
}

void classifier_close(struct classifier *classifier)
{
    struct classifier *c = classifier;
    threads_close(c->team);
    for (int i = 0; c->bags && i < c->records.n; i++)
        gram_bag_free(&c->bags[i]);
    free(c->bags);
    sparse_free(&c->grams);
    records_close(&c->records);
    for (int i = 0; i < c->n_begins; i++)
        engine_state_free(c->engine, c->begins[i]);
    for (int i = 0; c->names && i < c->n_labels; i++)
        free(c->names[i]);
    free(c->names);
    free(c->begins);
    free(c->priors);
    free(c->features);
    free(c->logits);
    head_free(&c->head);
    *c = (struct classifier){0};
}

static void judge_by_bits(struct classifier *c, int i)
{
    const struct record *item = &c->records.items[i];
    float *logits = c->logits + (size_t)i * (size_t)c->n_labels;
    double length = item->n_bytes > 0 ? sqrt((double)item->n_bytes) : 1;
    double least = item->bits[0];
    for (int k = 1; k < c->n_labels; k++)
        least = item->bits[k] < least ? item->bits[k] : least;
    for (int k = 0; k < c->n_labels; k++)
        logits[k] =
            (float)(((double)c->priors[k] - (item->bits[k] - least) / length) *
                    LN2);
}

/* ---- a batch of records, with others ------------------------------------- */

struct batch {
    struct classifier *classifier;
    const struct record_part *parts;
    int n;
    bool goes_on;
    int n_members;            /* that work on it      */
    enum status engine, bags; /* when they were read */
};

/* Does a batch's work: all members of the team, or, for few records, the
 * caller as the only one. */
static enum status work_on(struct batch *batch, threads_work *work)
{
    struct classifier *c = batch->classifier;
    batch->n_members = 1;
    if (batch->n < RECORDS_TO_SHARE || !c->head.w) {
        work(batch, 0);
        return OK;
    }
    if (!c->team)
        TRY(threads_open(&c->team, c->n_threads));
    batch->n_members = threads_count(c->team);
    threads_run(c->team, work, batch);
    return OK;
}

static enum status fill_bags(const struct batch *batch)
{
    struct classifier *c = batch->classifier;
    for (int i = 0; c->bags && i < batch->n; i++) {
        const struct record_part *part = &batch->parts[i];
        if (i > 0 || !batch->goes_on)
            gram_bag_begin(&c->bags[i]);
        TRY(grams_feed(&c->head.grams, &c->bags[i], part->bytes, part->n));
    }
    return OK;
}

/* The caller waits for the engine, and another member fills the bags. */
static void read_share(void *context, int index)
{
    struct batch *batch = context;
    if (index == 0)
        batch->engine = records_feed(&batch->classifier->records, batch->parts,
                                     batch->n, batch->goes_on);
    if (index == batch->n_members - 1)
        batch->bags = fill_bags(batch);
}

enum status classifier_feed(struct classifier *classifier,
                            const struct record_part *parts, int n,
                            bool goes_on)
{
    struct batch batch = {
        .classifier = classifier, .parts = parts, .n = n, .goes_on = goes_on};
    TRY(work_on(&batch, read_share));
    TRY(batch.engine);
    return batch.bags == OK ? OK : fail_memory("a record");
}

void classifier_keep(struct classifier *classifier, int i)
{
    records_keep(&classifier->records, i);
    if (classifier->bags) {
        struct gram_bag kept = classifier->bags[i];
        classifier->bags[i] = classifier->bags[0];
        classifier->bags[0] = kept;
    }
}

/* Rows for the grams of n records, whose values are still to come. */
static enum status end_bags(struct classifier *c, int n)
{
    sparse_clear(&c->grams);
    for (int i = 0; c->bags && i < n; i++) {
        struct gram_bag *bag = &c->bags[i];
        float *values;
        TRY(grams_end(&c->head.grams, bag));
        TRY(sparse_add_row(&c->grams, bag->columns, bag->n, &values));
    }
    return OK;
}

/* A member's share of the records, by the head; their grams have rows. */
static void judge_share(void *context, int index)
{
    const struct batch *batch = context;
    struct classifier *c = batch->classifier;
    size_t size = (size_t)c->head.n_features;
    int begin, end;
    threads_split(&begin, &end, batch->n, index, batch->n_members);
    for (int i = begin; i < end; i++) {
        if (c->bags)
            grams_values(&c->head.grams, &c->bags[i],
                         c->grams.values + c->grams.begins[i]);
        records_average(&c->records, i);
        memcpy(c->features + (size_t)i * size, c->records.items[i].sums,
               size * sizeof(float));
    }
    head_classify(&c->head, c->logits, c->features, &c->grams, (size_t)begin,
                  (size_t)end);
}

enum status classifier_judge(struct classifier *classifier, int n)
{
    struct classifier *c = classifier;
    struct batch batch = {.classifier = c, .n = n};
    if (!c->head.w) {
        for (int i = 0; i < n; i++)
            judge_by_bits(c, i);
        return OK;
    }
    TRY(end_bags(c, n));
    return work_on(&batch, judge_share);
}

void classifier_probabilities(const struct classifier *classifier, int i,
                              double *probabilities)
{
    const struct classifier *c = classifier;
    softmax(probabilities, c->logits + (size_t)i * (size_t)c->n_labels,
            c->n_labels, 1);
}
