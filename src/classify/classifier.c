/* classifier.c -- which label a record has.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/classifier.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "base/threads.h"
#include "classify/examples.h"
#include "classify/regression.h"
#include "engine/snapshot.h"
#include "model/catalog.h"

enum {
    RECORDS_TO_SHARE = 16, /* from so many on threads gain */
    SENTENCE_MAX = 1024
};

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
    bool has_all = c->logits != NULL;
    for (int i = 0; i < RECORD_SETS && c->head.grams.n > 0; i++) {
        c->bags[i] = calloc(n, sizeof *c->bags[i]);
        has_all &= c->bags[i] != NULL;
    }
    return has_all ? OK : fail_memory("records");
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
    for (int k = 0; k < RECORD_SETS; k++) {
        for (int i = 0; c->bags[k] && i < c->records.n; i++)
            gram_bag_free(&c->bags[k][i]);
        free(c->bags[k]);
    }
    sparse_free(&c->grams);
    records_close(&c->records);
    for (int i = 0; i < c->n_begins; i++)
        engine_state_free(c->engine, c->begins[i]);
    for (int i = 0; c->names && i < c->n_labels; i++)
        free(c->names[i]);
    free(c->names);
    free(c->begins);
    free(c->priors);
    free(c->logits);
    head_free(&c->head);
    *c = (struct classifier){0};
}

/* ---- reading ------------------------------------------------------------ */

/* A batch of records, with others. */
struct batch {
    struct classifier *classifier;
    const struct record_part *parts;
    int n, n_ended;
    bool goes_on, is_started;
    classifier_meanwhile *meanwhile;
    void *context;
    int n_members;                    /* that work on it */
    enum status engine, bags, caller; /* when they were done */
    char sentence[SENTENCE_MAX];      /* of the engine, when it failed */
};

/* Does a batch's work: all members of the team, or, for few records and while
 * they are at other work, the caller as the only one. */
static enum status work_on(struct batch *batch, threads_work *work)
{
    struct classifier *c = batch->classifier;
    batch->n_members = 1;
    if (batch->n < RECORDS_TO_SHARE || !c->head.w || c->is_at_work) {
        work(batch, 0);
        return OK;
    }
    if (!c->team)
        TRY(threads_open(&c->team, c->n_threads));
    batch->n_members = threads_count(c->team);
    c->is_at_work = true;
    threads_run(c->team, work, batch);
    c->is_at_work = false;
    return OK;
}

static enum status fill_bags(const struct batch *batch)
{
    struct classifier *c = batch->classifier;
    struct gram_bag *bags = c->bags[c->records.next];
    for (int i = 0; bags && i < batch->n; i++) {
        const struct record_part *part = &batch->parts[i];
        struct gram_bag *bag = &bags[i];
        if (i > 0 || !batch->goes_on)
            gram_bag_begin(bag);
        TRY(grams_feed(&c->head.grams, bag, part->bytes, part->n));
        if (i < batch->n_ended)
            TRY(grams_end(&c->head.grams, bag));
    }
    return OK;
}

static void read_records(struct batch *batch)
{
    struct records *r = &batch->classifier->records;
    batch->engine =
        batch->is_started
            ? records_start(r, batch->parts, batch->n, batch->goes_on)
            : records_feed(r, batch->parts, batch->n, batch->goes_on);
    if (batch->engine != OK)
        snprintf(batch->sentence, sizeof batch->sentence, "%s",
                 status_message());
}

/* Of up to three members at work one has the engine, one the bags, and the
 * caller what is to be done meanwhile. */
static void read_share(void *context, int index)
{
    struct batch *batch = context;
    int last = batch->n_members - 1;
    if (index == 0 && batch->meanwhile)
        batch->caller = batch->meanwhile(batch->context);
    if (index == (last < 1 ? 0 : 1))
        read_records(batch);
    if (index == (last < 2 ? 0 : 2))
        batch->bags = fill_bags(batch);
}

static enum status read_batch(struct batch *batch)
{
    TRY(work_on(batch, read_share));
    TRY(batch->caller);
    if (batch->engine != OK)
        return fail(batch->engine, "%s", batch->sentence);
    return batch->bags == OK ? OK : fail_memory("a record");
}

/* All of its records come to their ends. */
static struct batch make_batch(struct classifier *classifier,
                               const struct record_part *parts, int n,
                               bool goes_on, classifier_meanwhile *meanwhile,
                               void *context)
{
    return (struct batch){
        .classifier = classifier,
        .parts = parts,
        .n = n,
        .n_ended = n,
        .goes_on = goes_on,
        .meanwhile = meanwhile,
        .context = context,
    };
}

enum status classifier_feed(struct classifier *classifier,
                            const struct record_part *parts, int n, int n_ended,
                            bool goes_on, classifier_meanwhile *meanwhile,
                            void *context)
{
    struct batch batch =
        make_batch(classifier, parts, n, goes_on, meanwhile, context);
    batch.n_ended = n_ended;
    return read_batch(&batch);
}

enum status classifier_start(struct classifier *classifier,
                             const struct record_part *parts, int n,
                             bool goes_on, classifier_meanwhile *meanwhile,
                             void *context)
{
    struct batch batch =
        make_batch(classifier, parts, n, goes_on, meanwhile, context);
    batch.is_started = true;
    return read_batch(&batch);
}

enum status classifier_set_aside(struct classifier *classifier, int n,
                                 bool one_goes_on)
{
    struct classifier *c = classifier;
    TRY(records_set_aside(&c->records, n, one_goes_on));
    struct gram_bag *ended = c->bags[c->records.aside];
    struct gram_bag *bags = c->bags[c->records.next];
    if (ended && one_goes_on) {
        struct gram_bag kept = ended[n];
        ended[n] = bags[0];
        bags[0] = kept;
    }
    return OK;
}

/* ---- judging ------------------------------------------------------------ */

static struct record_set *set_aside(struct classifier *c)
{
    return &c->records.sets[c->records.aside];
}

static void judge_by_bits(struct classifier *c, int i)
{
    const struct record *record = &set_aside(c)->items[i];
    float *logits = c->logits + (size_t)i * (size_t)c->n_labels;
    double length = record->n_bytes > 0 ? sqrt((double)record->n_bytes) : 1;
    double least = record->bits[0];
    for (int k = 1; k < c->n_labels; k++)
        least = record->bits[k] < least ? record->bits[k] : least;
    for (int k = 0; k < c->n_labels; k++)
        logits[k] = (float)(((double)c->priors[k] -
                             (record->bits[k] - least) / length) *
                            LN2);
}

/* Rows for the grams of the records aside, whose values are still to come. */
static enum status add_rows(struct classifier *c)
{
    const struct gram_bag *bags = c->bags[c->records.aside];
    sparse_clear(&c->grams);
    for (int i = 0; bags && i < set_aside(c)->n; i++) {
        const struct gram_bag *bag = &bags[i];
        float *values;
        TRY(sparse_add_row(&c->grams, bag->columns, bag->n, &values));
    }
    return OK;
}

/* A member's share of the records, by the head; their grams have rows. */
static void judge_share(void *context, int index)
{
    const struct batch *batch = context;
    struct classifier *c = batch->classifier;
    struct gram_bag *bags = c->bags[c->records.aside];
    int begin, end;
    threads_split(&begin, &end, batch->n, index, batch->n_members);
    for (int i = begin; i < end && bags; i++)
        grams_values(&c->head.grams, &bags[i],
                     c->grams.values + c->grams.begins[i]);
    records_average(&c->records, begin, end);
    head_classify(&c->head, c->logits, set_aside(c)->sums, &c->grams,
                  (size_t)begin, (size_t)end);
}

enum status classifier_judge(struct classifier *classifier)
{
    struct classifier *c = classifier;
    struct batch batch = {.classifier = c, .n = set_aside(c)->n};
    for (int i = 0; i < batch.n && !c->head.w; i++)
        judge_by_bits(c, i);
    if (batch.n == 0 || !c->head.w)
        return OK;
    TRY(add_rows(c));
    return work_on(&batch, judge_share);
}

void classifier_probabilities(const struct classifier *classifier, int i,
                              double *probabilities)
{
    const struct classifier *c = classifier;
    softmax(probabilities, c->logits + (size_t)i * (size_t)c->n_labels,
            c->n_labels, 1);
}
