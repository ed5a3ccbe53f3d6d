/* classifier.h -- which label a record has.
 *
 * Either a linear classifier decides, by the features and the grams of the
 * record (linear_classifier.h); or states do, one for each label: a record gets
 * the label of the state after which it costs the fewest bits.  The bits of
 * neighbouring bytes are far from independent, so a difference of costs is
 * divided by the square root of the record's length before it becomes a
 * probability.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CLASSIFIER_H
#define MAMBYTE_CLASSIFIER_H

#include <stdbool.h>

#include "base/status.h"
#include "classify/linear_classifier.h"
#include "classify/record_reader.h"
#include "engine/engine.h"

struct classifier {
    struct engine *engine;     /* or NULL */
    const char *const *labels; /* [n_labels] */
    int n_labels;
    struct record_reader reader;

    struct linear_classifier linear; /* all zero when states decide */

    char **names;          /* of states: their labels */
    struct state **starts; /* [n_starts]: the states; else one, at the start of
                            * a stream, for a classifier with features */
    int n_starts;
    float *priors; /* [n_labels]: log2 */

    float *evidence; /* [records.n][n_labels]: of the grams of records */
    float *logits;   /* [records.n][n_labels] */
};

/* Whether that choice needs an engine: states do, and a linear classifier with
 * features.  Only the start of its file is read. */
enum status classifier_needs_engine(const char *choice, bool *needs);

/* choice: the file of a linear classifier, its name in the catalog, or the
 * files of states with commas between.  priors: "P,P,..", in the order of the
 * states, or NULL: all alike.  n_threads: as in threads_open.  engine: NULL
 * where none is needed. */
enum status classifier_open(struct classifier *classifier,
                            struct engine *engine, const char *choice,
                            const char *priors, int n_threads);
void classifier_close(struct classifier *classifier);

/* Computes the logits of the records that are aside, once for each. */
enum status classifier_compute(struct classifier *classifier);

/* The probabilities of record i of those, [n_labels].  They sum to 1; for a
 * blank record, of which nothing is known, all are 0. */
void classifier_probabilities(const struct classifier *classifier, int i,
                              double *probabilities);

#endif
