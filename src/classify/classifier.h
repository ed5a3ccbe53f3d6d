/* classifier.h -- which label a record has.
 *
 * By a head (head.h), on what the model says of the record; or by states,
 * one a class: the one after which the record costs the fewest bits.  Costs
 * of neighbouring bytes are far from independent, so their difference is
 * divided by the square root of the record's length before it becomes a
 * probability.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CLASSIFIER_H
#define MAMBYTE_CLASSIFIER_H

#include "base/status.h"
#include "classify/linear_classifier.h"
#include "engine/engine.h"
#include "engine/records.h"

struct classifier {
    struct engine *engine;
    const char *const *labels; /* [n_labels] */
    int n_labels;
    struct records records;

    struct head head; /* of a classifier by a head */

    char **names;          /* of one by states: their labels */
    struct state **begins; /* [n_begins]; one, by a head */
    int n_begins;
    float *priors; /* [n_labels]: log2 */

    struct gram_bag *bags[RECORD_SETS]; /* [records.n], of each set of records;
                                         * NULL where the head has no grams */
    struct sparse grams;                /* of the records that are judged */
    float *logits; /* [records.n][n_labels], of those that were judged */
    int n_threads;
    struct threads *team; /* NULL until there are records for several */
    bool is_at_work;      /* the team */
};

/* choice: a file of a head, the name of one in the catalog, or files of states
 * with commas between.  priors: "P,P,..", in the order of the states, or NULL:
 * all alike.  n_threads: as in threads_open. */
enum status classifier_open(struct classifier *classifier,
                            struct engine *engine, const char *choice,
                            const char *priors, int n_threads);
void classifier_close(struct classifier *classifier);

/* What the caller does while records are read, as with those set aside. */
typedef enum status classifier_meanwhile(void *context);

/* records_feed, and the grams too; the first n_ended parts come to the ends of
 * their records.  The caller's thread calls meanwhile, before this returns, if
 * it is not NULL. */
enum status classifier_feed(struct classifier *classifier,
                            const struct record_part *parts, int n, int n_ended,
                            bool goes_on, classifier_meanwhile *meanwhile,
                            void *context);

/* The same with records_start, where all come to their ends; records_turn and
 * records_finish go on from there. */
enum status classifier_start(struct classifier *classifier,
                             const struct record_part *parts, int n,
                             bool goes_on, classifier_meanwhile *meanwhile,
                             void *context);

/* records_set_aside, and the grams too. */
enum status classifier_set_aside(struct classifier *classifier, int n,
                                 bool one_goes_on);

/* Fills the logits of the records that are aside, once. */
enum status classifier_judge(struct classifier *classifier);

/* The probabilities of record i of those, [n_labels], which sum to 1. */
void classifier_probabilities(const struct classifier *classifier, int i,
                              double *probabilities);

#endif
