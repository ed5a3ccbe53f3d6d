/* classifier.c -- which label a record has.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/classifier.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "base/number.h"
#include "base/text.h"
#include "classify/examples.h"
#include "classify/linear_classifier_file.h"
#include "classify/regression.h"
#include "engine/snapshot.h"
#include "model/catalog.h"

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
    const char *tail = text_find_tail(path, SUFFIX);
    return tail && tail > path;
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
    const struct model *model = engine_model(c->engine);
    struct fingerprint fingerprint;
    struct snapshot snapshot;
    int i = c->n_labels;
    TRY(name_state(&c->names[i], path));
    c->n_labels++;
    for (int j = 0; j < i; j++) {
        if (strcmp(c->names[j], c->names[i]) == 0)
            return fail(E_USAGE, "two states have the label '%s'", c->names[i]);
    }
    TRY(engine_state_new(c->engine, &c->starts[i]));
    c->n_starts++;
    model_fingerprint(model, &fingerprint);
    TRY(snapshot_load(&snapshot, path, &fingerprint,
                      model_state_floats(&model->config),
                      model_state_int8s(&model->config)));
    enum status status =
        engine_state_set(c->engine, c->starts[i], snapshot.floats);
    snapshot_free(&snapshot);
    return status;
}

/* paths: a copy of the choice, to be cut. */
static enum status load_states(struct classifier *c, char *paths)
{
    for (char *next; (next = strsep(&paths, ","));) {
        if (*next == '\0')
            return fail(E_USAGE, "a name of a state is empty");
        TRY(load_state(c, next));
    }
    return OK;
}

static enum status bad_priors(int n)
{
    return fail(E_USAGE,
                "--prior needs %d numbers from 1e-30 to 1e30, with commas "
                "between",
                n);
}

static enum status read_priors(struct classifier *c, const char *text)
{
    double sum = 0;
    for (int i = 0; i < c->n_labels && text; i++) {
        double p;
        const char *end = number_parse_real(text, &p);
        bool is_last = i == c->n_labels - 1;
        if (!end || *end != (is_last ? '\0' : ',') ||
            !(p >= 1e-30 && p <= 1e30))
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
    c->starts = (struct state **)calloc(n, sizeof(struct state *));
    c->priors = calloc(n, sizeof *c->priors);
    char *paths = strdup(choice);
    enum status status = c->names && c->starts && c->priors && paths
                             ? load_states(c, paths)
                             : fail_memory("the states");
    free(paths);
    c->labels = (const char *const *)c->names;
    return status == OK ? read_priors(c, priors) : status;
}

/* ---- a linear classifier ------------------------------------------------ */

static enum status check_model(const struct classifier *c, const char *path)
{
    if (c->linear.n_features == 0)
        return OK;
    if (!c->engine)
        return fail(E_MODEL, "%s: has changed while it was read", path);
    return linear_classifier_check_model(&c->linear, path,
                                         engine_model(c->engine));
}

static enum status open_linear(struct classifier *c, const char *choice)
{
    char *path;
    TRY(catalog_find_head(&path, choice));
    enum status status = linear_classifier_load(&c->linear, path);
    if (status == OK)
        status = check_model(c, path);
    free(path);
    TRY(status);
    c->labels = (const char *const *)c->linear.labels;
    c->n_labels = c->linear.n_labels;
    if (c->linear.n_features == 0)
        return OK;
    c->starts = (struct state **)calloc(1, sizeof(struct state *));
    if (!c->starts)
        return fail_memory("a head");
    TRY(engine_state_new(c->engine, &c->starts[0]));
    c->n_starts = 1;
    return OK;
}

/* ---- both --------------------------------------------------------------- */

static bool are_states(const char *choice)
{
    return strchr(choice, ',') || is_state(choice);
}

enum status classifier_needs_engine(const char *choice, bool *needs)
{
    char *path;
    *needs = true;
    if (are_states(choice))
        return OK;
    TRY(catalog_find_head(&path, choice));
    enum status status = linear_classifier_has_features(path, needs);
    free(path);
    return status;
}

static enum status open_records(struct classifier *c, int n_threads)
{
    bool is_linear = c->linear.w != NULL;
    TRY(record_reader_open(
        &c->reader, c->engine, c->starts, c->n_starts, c->linear.n_features > 0,
        is_linear ? &c->linear.grams : NULL, is_linear ? n_threads : 1));
    size_t n = (size_t)c->reader.records.n * (size_t)c->n_labels;
    c->logits = calloc(n, sizeof *c->logits);
    c->evidence = calloc(n, sizeof *c->evidence);
    return c->logits && c->evidence ? OK : fail_memory("records");
}

enum status classifier_open(struct classifier *classifier,
                            struct engine *engine, const char *choice,
                            const char *priors, int n_threads)
{
    *classifier = (struct classifier){.engine = engine};
    enum status status;
    if (strchr(choice, ','))
        status = open_states(classifier, choice, priors);
    else if (is_state(choice))
        status = fail(E_USAGE,
                      "%s: a single state leaves no choice: name several, "
                      "with commas between",
                      choice);
    else if (priors)
        status = fail(E_USAGE, "--prior is for states, not for a head");
    else
        status = open_linear(classifier, choice);
    if (status == OK)
        status = open_records(classifier, n_threads);
    if (status != OK)
        classifier_close(classifier);
    return status;
}

void classifier_close(struct classifier *classifier)
{
    struct classifier *c = classifier;
    record_reader_close(&c->reader);
    free(c->evidence);
    for (int i = 0; i < c->n_starts; i++)
        engine_state_free(c->engine, c->starts[i]);
    for (int i = 0; c->names && i < c->n_labels; i++)
        free(c->names[i]);
    free(c->names);
    free(c->starts);
    free(c->priors);
    free(c->logits);
    linear_classifier_free(&c->linear);
    *c = (struct classifier){0};
}

/* ---- logits ------------------------------------------------------------- */

static void compute_by_bits(struct classifier *c, int i)
{
    const struct record *record = &record_reader_aside(&c->reader)->items[i];
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

/* A member's share of the records. */
static void compute_share(void *context, int index, int n_members)
{
    struct classifier *c = context;
    struct record_set *set = record_reader_aside(&c->reader);
    const struct gram_bag *bags = record_reader_bags(&c->reader);
    struct range mine = threads_split(set->n, index, n_members);
    for (int i = mine.begin; i < mine.end; i++)
        grams_evidence(&c->linear.grams, &bags[i], -1,
                       c->evidence + (size_t)i * (size_t)c->n_labels);
    if (c->linear.n_features > 0)
        records_average(&c->reader.records, mine.begin, mine.end);
    linear_classifier_compute(&c->linear, c->logits, set->pooled, c->evidence,
                              (size_t)mine.begin, (size_t)mine.end);
}

enum status classifier_compute(struct classifier *classifier)
{
    struct classifier *c = classifier;
    int n = record_reader_aside(&c->reader)->n;
    for (int i = 0; i < n && !c->linear.w; i++)
        compute_by_bits(c, i);
    if (n == 0 || !c->linear.w)
        return OK;
    return record_reader_share(&c->reader, n, compute_share, c);
}

void classifier_probabilities(const struct classifier *classifier, int i,
                              double *probabilities)
{
    const struct records *r = &classifier->reader.records;
    int n = classifier->n_labels;
    if (r->sets[r->aside].items[i].has_text)
        softmax(probabilities, classifier->logits + (size_t)i * (size_t)n, n,
                1);
    else
        memset(probabilities, 0, (size_t)n * sizeof *probabilities);
}
